#!/usr/bin/env bash
# Train on the GPUs (or with as many CPU processes) of one machine or of several:
#   tools/dist_train.sh CONFIG PROCESSES [options of mmcim train]
#   NNODES=2 NODE_RANK=0 MASTER_ADDR=10.0.0.1 tools/dist_train.sh CONFIG 8
. "$(dirname "$0")/launch.sh"
[ $# -ge 2 ] || fail "usage: $0 CONFIG PROCESSES [options of mmcim train]"
distribute "$2" train.py "$1" "${@:3}"
