#!/usr/bin/env bash
# Test on a Slurm cluster, on one node or many:
#   GPUS=8 tools/slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [options of mmcim test]
# SRUN_ARGS holds further options of srun.
. "$(dirname "$0")/launch.sh"
[ $# -ge 4 ] || fail "usage: $0 PARTITION JOB_NAME CONFIG CHECKPOINT [options of mmcim test]"
submit "$1" "$2" test.py "$3" "$4" "${@:5}"
