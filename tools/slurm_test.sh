#!/usr/bin/env bash
# Test on a Slurm cluster, on one node or many:
#   GPUS=8 tools/slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [options of test.py]
# SRUN_ARGS holds further options of srun. GPUS_PER_NODE=0 asks for no GPU.
set -euo pipefail

if [ $# -lt 4 ]; then
    echo "usage: $0 PARTITION JOB_NAME CONFIG CHECKPOINT [options of test.py]" >&2
    exit 2
fi
PARTITION=$1
JOB_NAME=$2
CONFIG=$3
CHECKPOINT=$4
GPUS=${GPUS:-8}
GPUS_PER_NODE=${GPUS_PER_NODE:-$((GPUS < 8 ? GPUS : 8))}
TASKS_PER_NODE=${TASKS_PER_NODE:-$((GPUS_PER_NODE ? GPUS_PER_NODE : GPUS))}
TOOLS=$(cd "$(dirname "$0")" && pwd)
GRES=()
[ "$GPUS_PER_NODE" -eq 0 ] || GRES=(--gres="gpu:$GPUS_PER_NODE")

# SRUN_ARGS is split into words on purpose.
PYTHONPATH="$TOOLS/..${PYTHONPATH:+:$PYTHONPATH}" exec srun -p "$PARTITION" \
    --job-name="$JOB_NAME" \
    "${GRES[@]}" \
    --ntasks="$GPUS" \
    --ntasks-per-node="$TASKS_PER_NODE" \
    --cpus-per-task="${CPUS_PER_TASK:-5}" \
    --kill-on-bad-exit=1 \
    ${SRUN_ARGS:-} \
    "${PYTHON:-python}" -u "$TOOLS/test.py" "$CONFIG" "$CHECKPOINT" \
    --launcher=slurm "${@:5}"
