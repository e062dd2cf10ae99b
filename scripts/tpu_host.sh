#!/usr/bin/env bash
# What runs on each host of a TPU: dfx run, again when it was ended by the death of another host.
#
#   tpu_host.sh STUDY:SIZE [options of dfx run]
#
# Done (0), mistakes in what was asked (2), runs that ended themselves (3) and stops by a person or
# by preemption (130, 143) end it; anything else starts it again. All hosts do so within the minutes for which a process waits for the others.
set -uo pipefail

PYTHON=${PYTHON:-$HOME/dfx/.venv/bin/python}
LOG=${LOG:-$HOME/dfx.log}
PROCESSES=${PROCESSES---processes=auto} # empty for a single host without neighbours
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

for attempt in $(seq 1 "${ATTEMPTS:-20}"); do
  echo "tpu_host.sh: attempt $attempt, $(date -u +%FT%TZ)" >>"$LOG"
  "$PYTHON" -m experiments.cli run "$@" ${PROCESSES:+"$PROCESSES"} >>"$LOG" 2>&1
  status=$?
  echo "tpu_host.sh: status $status" >>"$LOG"
  case $status in 0 | 2 | 3 | 130 | 143) exit "$status" ;; esac
  sleep "${PAUSE:-20}"
done
exit "$status"
