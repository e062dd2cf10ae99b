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

state() {
  gcloud compute tpus queued-resources describe "$TPU" "--zone=$ZONE" \
    "--format=value(state.state)" 2>/dev/null || echo NONE
}

create() {
  local spot=()
  [ "$SPOT" = 1 ] && spot=(--spot)
  run gcloud compute tpus queued-resources create "$TPU" "--node-id=$TPU" "--zone=$ZONE" \
    "--accelerator-type=$TYPE" "--runtime-version=$VERSION" "${spot[@]}"
  [ -n "$DRY" ] && return
  until [ "$(state)" = ACTIVE ]; do
    case $(state) in FAILED | SUSPENDED | NONE) fail "the queued resource is $(state)" ;; esac
    sleep 30
  done
}

install() {
  [ -n "$SHARE" ] || fail "SHARE is not set: checkpoints need an NFS disk that all hosts see"
  local archive=/tmp/dfx-$TPU.tar.gz
  run git -C "$HERE" archive --format=tar.gz --output="$archive" HEAD
  run gcloud compute tpus tpu-vm scp "$archive" "$TPU:dfx.tar.gz" "--zone=$ZONE" --worker=all
  # The image has Python 3.10; uv brings its own 3.12.
  on all "mkdir -p dfx && tar -xzf dfx.tar.gz -C dfx && python3 -m pip install --user --quiet uv && \
~/.local/bin/uv venv --quiet --allow-existing --python 3.12 dfx/.venv && \
~/.local/bin/uv pip install --quiet --python dfx/.venv/bin/python -e './dfx[tpu,images]'"
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

begin() { # all that a new TPU needs
  create && install
  if [ -n "$DATA" ]; then data; fi
  start "$@"
}

keep() {
  [ $# -gt 0 ] || fail "keep needs the words after dfx run, such as images:imagenet64_edm"
  if [ -n "$DRY" ]; then
    begin "$@"
    delete
    return
  fi
  until is_finished; do
    case $(state) in
      NONE) begin "$@" || sleep 60 ;;
      SUSPENDED | FAILED) delete || sleep 60 ;; # preempted: it has to go before it can come back
      *) sleep 60 ;;
    esac
  done
  echo "the run is finished: scripts/tpu.sh collect, then delete"
}

is_finished() {
  [ "$(state)" = ACTIVE ] && on 0 "grep -q '\"finished\": \"' $MOUNT/$RUN/provenance.json" 2>/dev/null
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
