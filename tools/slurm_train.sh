#!/usr/bin/env bash
# Train on a Slurm cluster, on one node or many:
#   GPUS=16 GPUS_PER_NODE=8 tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [options]
# CPUS_PER_TASK is num_workers of the config + 1, by default 9; SRUN_ARGS holds further
# options of srun.
. "$(dirname "$0")/launch.sh"
[ $# -ge 4 ] || fail "usage: $0 PARTITION JOB_NAME CONFIG WORK_DIR [options of mmcim train]"
submit "$1" "$2" train.py "$3" --work-dir="$4" "${@:5}"
