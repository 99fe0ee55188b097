#!/usr/bin/env bash
# Test on the GPUs (or with as many CPU processes) of one machine or of several:
#   tools/dist_test.sh CONFIG CHECKPOINT PROCESSES [options of mmcim test]
. "$(dirname "$0")/launch.sh"
[ $# -ge 3 ] || fail "usage: $0 CONFIG CHECKPOINT PROCESSES [options of mmcim test]"
distribute "$3" test.py "$1" "$2" "${@:4}"
