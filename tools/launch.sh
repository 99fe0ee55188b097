# What dist_*.sh and slurm_*.sh have in common; sourced by them.
set -euo pipefail
TOOLS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PYTHON=${PYTHON:-python}
export PYTHONPATH="$TOOLS/..${PYTHONPATH:+:$PYTHONPATH}"
# torchrun without its warnings and tracebacks, and with the exit code of a signal.
TORCHRUN='import logging, sys
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.run import get_args_parser, main
logging.disable("WARNING")
sys.tracebacklimit = 0
if "--signals-to-handle" in get_args_parser().format_help():
    sys.argv.insert(1, "--signals-to-handle=SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1")
try:
    main()
except SignalException as error:
    sys.exit(128 + error.sigval)'

fail() {
    echo "$1" >&2
    exit 2
}

# positive NAME VALUE
positive() {
    [[ $2 =~ ^[1-9][0-9]*$ ]] || fail "error: $1 must be a number of at least 1, got '$2'"
}

# distribute PROCESSES TOOL [arguments]: on the GPUs of this machine, or on its CPUs.
distribute() {
    positive PROCESSES "$1"
    positive NNODES "${NNODES:-1}"
    if [ "${NNODES:-1}" -gt 1 ]; then
        [ -n "${MASTER_ADDR:-}" ] ||
            fail "error: NNODES=$NNODES needs MASTER_ADDR, the address of the first node"
        [[ ${NODE_RANK:-} =~ ^[0-9]+$ && $NODE_RANK -lt $NNODES ]] ||
            fail "error: NNODES=$NNODES needs NODE_RANK, from 0 to $((NNODES - 1)), another one on each node; got '${NODE_RANK:-}'"
    fi
    "$PYTHON" -c 'from importlib.util import find_spec as f; exit(not f("torch"))' 2>/dev/null ||
        fail "error: '$PYTHON' has no torch; activate the environment of mmcim, e.g. . .venv/bin/activate"
    # On one machine torchrun finds a free port, so that several runs need none.
    local meet=(--standalone)
    if [ -n "${PORT:-}" ] || [ "${NNODES:-1}" -gt 1 ]; then
        meet=(--nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}")
        meet+=(--master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}")
    fi
    exec "$PYTHON" -c "$TORCHRUN" "${meet[@]}" \
        --nproc_per_node="$1" \
        "$TOOLS/$2" "${@:3}" --launcher=pytorch
}

# submit PARTITION JOB_NAME TOOL [arguments]: on GPUS GPUs of a Slurm cluster.
submit() {
    local gpus=${GPUS:-8}
    positive GPUS "$gpus"
    local per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
    positive GPUS_PER_NODE "$per_node"
    # The configs have at most 8 loader workers, beside the training itself.
    local cpus=${CPUS_PER_TASK:-9}
    positive CPUS_PER_TASK "$cpus"
    # SRUN_ARGS is split into words on purpose.
    exec srun -p "$1" \
        --job-name="$2" \
        --gres="gpu:$per_node" \
        --ntasks="$gpus" \
        --ntasks-per-node="${TASKS_PER_NODE:-$per_node}" \
        --cpus-per-task="$cpus" \
        --kill-on-bad-exit=1 \
        ${SRUN_ARGS:-} \
        "$PYTHON" -u "$TOOLS/$3" "${@:4}" --launcher=slurm
}
