#!/usr/bin/env bash
# One run of dfx on a Cloud TPU, from a laptop: create, install, data, start, logs, collect, delete.
#
#   scripts/tpu.sh [--dry-run] create             ask for the TPU (a queued resource), wait for it
#   scripts/tpu.sh [--dry-run] install            copy this commit to all hosts and install it
#   scripts/tpu.sh [--dry-run] data               copy $DATA from the bucket to every host
#   scripts/tpu.sh [--dry-run] start WORDS...     dfx run WORDS on all hosts; again: go on with it
#   scripts/tpu.sh [--dry-run] keep WORDS...      all of these, again after every preemption
#   scripts/tpu.sh [--dry-run] logs | status | stop | collect | delete
#
# --dry-run prints the commands and does nothing. Settings are variables of the environment:
#   TPU      its name (dfx)                       TYPE     accelerator type (v5litepod-256)
#   ZONE     (us-west4-a)                         VERSION  of the runtime (v2-alpha-tpuv5-lite)
#   SPOT     1 for a preemptible one (1)          SHARE    host:/path of an NFS disk, for runs
#   DATA     gs://bucket/folder with the sets     RUN      name of the run folder (run)
# The project is that of `gcloud config`. See docs/tpu.md.
set -euo pipefail

TPU=${TPU:-dfx} ZONE=${ZONE:-us-west4-a} TYPE=${TYPE:-v5litepod-256}
VERSION=${VERSION:-v2-alpha-tpuv5-lite} SPOT=${SPOT:-1} RUN=${RUN:-run}
SHARE=${SHARE:-} DATA=${DATA:-}
MOUNT=/mnt/runs DRY=
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

run() { # a command, or in a dry run its words
  if [ -n "$DRY" ]; then printf '%q ' "$@" && echo; else "$@"; fi
}

fail() {
  echo "tpu.sh: $*" >&2
  exit 2
}

on() { # WORKER COMMAND: on one host, or on "all"
  run gcloud compute tpus tpu-vm ssh "$TPU" "--zone=$ZONE" "--worker=$1" "--command=$2"
}

state() { # of the queued resource; NONE if there is none, UNKNOWN if nobody could say
  local all
  all=$(gcloud compute tpus queued-resources list "--zone=$ZONE" \
    "--format=value(name.basename(),state.state)" 2>/dev/null) || { echo UNKNOWN && return; }
  awk -v name="$TPU" '$1 == name { found = $2 } END { print found ? found : "NONE" }' <<<"$all"
}

create() {
  local spot=()
  [ "$SPOT" = 1 ] && spot=(--spot)
  run gcloud compute tpus queued-resources create "$TPU" "--node-id=$TPU" "--zone=$ZONE" \
    "--accelerator-type=$TYPE" "--runtime-version=$VERSION" "${spot[@]}" || return 1
  [ -n "$DRY" ] && return
  local now
  while true; do
    now=$(state)
    case $now in
      ACTIVE) return ;;
      FAILED | SUSPENDED | NONE) echo "tpu.sh: the queued resource is $now" >&2 && return 1 ;;
    esac
    sleep 30
  done
}

install() {
  [ -n "$SHARE" ] || fail "SHARE is not set: checkpoints need an NFS disk that all hosts see"
  local archive=/tmp/dfx-$TPU.tar.gz
  run git -C "$HERE" archive --format=tar.gz --output="$archive" HEAD || return 1
  run gcloud compute tpus tpu-vm scp "$archive" "$TPU:dfx.tar.gz" "--zone=$ZONE" --worker=all ||
    return 1
  # The image has Python 3.10; uv brings its own 3.12.
  on all "mkdir -p dfx && tar -xzf dfx.tar.gz -C dfx && python3 -m pip install --user --quiet uv && \
~/.local/bin/uv venv --quiet --allow-existing --python 3.12 dfx/.venv && \
~/.local/bin/uv pip install --quiet --python dfx/.venv/bin/python -e './dfx[tpu,images]'" || return 1
  on all "sudo apt-get -qq install -y nfs-common tmux && sudo mkdir -p $MOUNT && \
(mountpoint -q $MOUNT || sudo mount -t nfs -o rw,hard $SHARE $MOUNT) && \
sudo chown \"\$USER\" $MOUNT"
}

data() {
  [ -n "$DATA" ] || fail "DATA is not set: DATA=gs://bucket/folder"
  on all "mkdir -p data && gcloud storage rsync --recursive $DATA data"
}

start() {
  [ $# -gt 0 ] || fail "start needs the words after dfx run, such as images:imagenet64_edm"
  case $* in *\'*) fail "a word with a quote in it cannot be passed on: $*" ;; esac
  local words
  words=$(printf '%q ' "$@")
  on all "tmux kill-session -t dfx 2>/dev/null; tmux new-session -d -s dfx \
'DFX_DATA=~/data bash ~/dfx/scripts/tpu_host.sh $words--workdir=$MOUNT/$RUN'"
}

delete() {
  run gcloud compute tpus queued-resources delete "$TPU" "--zone=$ZONE" --force --quiet
}

equip() { # all that a new TPU needs; in the lists of && and || below, set -e is off
  install && { [ -z "$DATA" ] || data; } && start "$@"
}

keep() {
  [ $# -gt 0 ] || fail "keep needs the words after dfx run, such as images:imagenet64_edm"
  if [ -n "$DRY" ]; then
    create && equip "$@" && delete
    return
  fi
  local started= now # started: by us, so that an end in the log is not that of an earlier run
  while true; do
    now=$(state)
    if [ "$now" = ACTIVE ]; then now=$(progress); fi
    case $started:$now in
      *:finished) break ;;
      *:NONE) create && equip "$@" && started=1 || sleep 60 ;;
      *:SUSPENDED | *:FAILED) delete || sleep 60 ;; # it has to go before it can come back
      *:idle | :ended*) equip "$@" && started=1 || sleep 60 ;;
      1:ended\ 143) sleep 60 ;; # the notice of a preemption, which follows
      1:ended*) fail "the run has $now and would do so again: scripts/tpu.sh logs" ;;
      *) sleep 60 ;;
    esac
  done
  echo "the run is finished: scripts/tpu.sh collect, then delete"
}

progress() { # "finished", "running", "ended STATUS" or "idle"; nothing if the host does not answer
  on 0 "if grep -qs '\"finished\": \"' $MOUNT/$RUN/provenance.json; then echo finished; \
elif tmux has-session -t dfx 2>/dev/null; then echo running; \
else tail -n 1 dfx.log 2>/dev/null | sed -n 's/^tpu_host.sh: status /ended /p' | grep . || \
echo idle; fi" 2>/dev/null || true
}

[ "${1:-}" = --dry-run ] && DRY=1 && shift
action=${1:-}
[ $# -gt 0 ] && shift
case $action in
  create | install | data | delete) $action ;;
  start | keep) $action "$@" ;;
  logs) on 0 "tail -n 50 -f dfx.log" ;;
  status) on all "tail -n 1 dfx.log; tmux has-session -t dfx" ;;
  stop) on all "pkill -TERM -f '[e]xperiments.cli'" ;;
  collect)
    on 0 "tar -C $MOUNT -czf dfx-$RUN.tar.gz --exclude=checkpoints $RUN"
    run gcloud compute tpus tpu-vm scp "$TPU:dfx-$RUN.tar.gz" . "--zone=$ZONE" --worker=0
    ;;
  *) fail "unknown action '$action'; allowed: create, install, data, start, keep, logs, status," \
    "stop, collect, delete" ;;
esac
