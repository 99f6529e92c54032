#!/usr/bin/env bash
# All that a run on a cloud's VM takes, step by step. cloud/sky.yaml and cloud/cloud-init.yaml call it; by hand, on any
# machine, it does the same without shutting anything down:
#
#   ZCB_TARGET=s3://my-bucket/zarr-cloud-bench cloud/run.sh               all steps
#   ZCB_TARGET=s3://my-bucket/zarr-cloud-bench cloud/run.sh install check  some of them
#   ZCB_TARGET=s3://my-bucket/zarr-cloud-bench cloud/run.sh --dry-run      prints steps and settings, does nothing
#
#   arm       the machine goes down after ZCB_HOURS, whatever becomes of this script
#   install   what is missing of the system's tools, Rust, Python; the environment and the Rust programs
#   check     zcb doctor: the bucket's region, credentials, clock, interface, memory, disk
#   cost      what this may cost and take; no start above ZCB_DOLLARS, or where asv alone takes longer than ZCB_HOURS.
#             Where nothing is shut down and no price is known: a warning
#   data      writes the data sets, or goes on with them; those that are finished are used as they are
#   warm      reads with more and more requests in flight, so that the store has seen the prefixes under load
#   bench     asv, and the dollars per TiB of what it measured
#   throughput  a long read of `large` with many requests in flight, which can fill a fast link as asv's cases cannot
#   home      copies results, pages and the log to ZCB_HOME; a full run ends with it, failed or not
#
# shellcheck disable=SC2329 # steps are called by their names
#
# Settings, with their defaults:
: "${ZCB_TARGET:?where are the data sets, or where shall they be written? e.g. s3://my-bucket/zarr-cloud-bench}"
: "${ZCB_PRESET:=cloud}"                       # which data sets (docs/data.md)
: "${ZCB_ALSO=headline}"                       # a preset beside it: what the pattern headline_3004 reads; empty: none
: "${AWS_REGION:=${AWS_DEFAULT_REGION:-us-east-1}}" # of a bucket at AWS: by it every reader finds the bucket
: "${ZCB_HOURS:=3}"                            # for arm and cost
: "${ZCB_DOLLARS:=60}"                         # for cost
: "${ZCB_VM:=}"                                # type of the VM, for its price; empty: asked of the metadata service
: "${ZCB_RELEASES:=latest}"                    # of zarr, where ZCB_CONFIG measures releases
: "${ZCB_CONFIG:=asv.releases.conf.json}"      # what asv measures
: "${ZCB_WARM:=10 30 100}"                      # requests in flight for warm, one after the other
: "${ZCB_SAMPLES:=21}"                         # per workload, in seven processes
: "${ZCB_SECONDS:=20}"                         # no new round of a workload after so long, but one in each process
: "${ZCB_STREAM_DATASET:=large}"                # of throughput
: "${ZCB_STREAM_GIB:=64}"                     # GiB of it that an execution reads
: "${ZCB_STREAM_WINDOW_MIB:=}"                 # decoded at once; empty: 6144, or a fifth of the memory
: "${ZCB_STREAM_IN_FLIGHT:=400}"               # requests: 100 of 90 MB/s each carry no more than 72 Gbit/s
: "${ZCB_STREAM_READERS:=network-limit,zarrs-planned,tensorstore,zarrs,zarr-python+obstore+fused}"
: "${ZCB_STREAM_SAMPLES:=3}"
: "${ZCB_SWEEP_READERS:=network-limit,zarrs-planned}" # of throughput: over ZCB_SWEEP_VALUES requests in flight
: "${ZCB_SWEEP_VALUES:=100,200,400,800}"
: "${ZCB_HOME:=}"                              # a folder, or a URL as of a target; empty: beside the data sets
: "${ZCB_SHUTDOWN:=no}"                        # no; late: after ZCB_HOURS; yes: also at the end. Only where the machine
                                               # is yours to lose

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export ZCB_TARGET ZCB_PRESET AWS_REGION

STATE=${ZCB_STATE_DIR:-.zcb}/cloud
STEPS=(arm install check cost data warm bench throughput)
STEP=none
FULL=
FAILED= # the step that failed without ending the run, and its exit code
CODE=0

main() {
  local dry=
  if [ "${1:-}" = --dry-run ]; then dry=yes && shift; fi
  if [ $# -eq 0 ]; then FULL=yes; else STEPS=("$@"); fi
  for step in "${STEPS[@]}"; do
    declare -F "step_$step" >/dev/null || fail "no step is called $step: see the top of cloud/run.sh"
  done
  case $ZCB_SHUTDOWN in no | late | yes) ;; *) fail "ZCB_SHUTDOWN is no, late or yes, not $ZCB_SHUTDOWN" ;; esac
  if [ -n "$dry" ]; then plan && exit 0; fi
  mkdir -p "$STATE"
  # A signal to all processes must leave the log's writer, or the script would die of it before it has ended the machine.
  exec > >(trap '' INT TERM HUP; exec tee -a "$STATE/log.txt") 2>&1
  trap finish EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
  activate
  for STEP in "${STEPS[@]}"; do
    say "step $STEP"
    "step_$STEP"
  done
  STEP=${FAILED:-none}
  exit "$CODE" # here, so that nothing more is read of a file that somebody has changed meanwhile
}

# Whatever happened: results come home first, and then a disposable machine goes down.
finish() {
  local code=$?
  trap - EXIT
  trap '' INT TERM HUP PIPE
  set +e
  if [ "$code" -eq 0 ]; then say "done"; else say "FAILED in step $STEP (exit code $code)"; fi
  if [ -n "$FULL" ]; then step_home || say "results stay in $STATE: they could not be brought home"; fi
  if [ "$ZCB_SHUTDOWN" = yes ]; then
    say "this machine goes down now"
    as_root shutdown -P now
  fi
  exit "$code"
}

step_arm() {
  if [ "$ZCB_SHUTDOWN" = no ]; then
    say "this machine stays up: ZCB_SHUTDOWN is no"
    return
  fi
  local minutes
  minutes=$(awk -v hours="$ZCB_HOURS" 'BEGIN { printf "%d", hours * 60 }')
  [ "$minutes" -ge 1 ] || fail "ZCB_HOURS is a number of hours, not $ZCB_HOURS"
  as_root shutdown -P "+$minutes"
}

step_install() {
  local tool missing=()
  for tool in git make cc curl; do command -v "$tool" >/dev/null || missing+=("$tool"); done
  if [ ${#missing[@]} -gt 0 ]; then
    say "installing ${missing[*]}"
    if command -v apt-get >/dev/null; then
      as_root apt-get update -q
      as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q git make gcc g++ curl ethtool python3-venv
    else
      as_root dnf install -y -q git make gcc gcc-c++ curl ethtool
    fi
  fi
  if ! command -v cargo >/dev/null; then
    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y -q --profile minimal
    activate
  fi
  if ! python3 -c 'import sys, venv; sys.exit(sys.version_info < (3, 12))' 2>/dev/null; then
    curl --proto '=https' --tlsv1.2 -sSf https://astral.sh/uv/install.sh | sh
    activate
    uv python install 3.13
    PATH=$(dirname "$(uv python find 3.13)"):$PATH
  fi
  make .venv/.ready rust
  activate
}

step_check() {
  ulimit -n "$(ulimit -Hn)"
  zcb doctor --target "$ZCB_TARGET" --preset "$ZCB_PRESET"
}

# A machine that is no VM, or of a type without a price, is measured all the same where it is not ours to shut down.
step_cost() {
  local code=0 at_most=()
  if [ "$ZCB_SHUTDOWN" != no ]; then at_most=(--at-most "$ZCB_HOURS"); fi
  if is_of_releases; then
    ZCB_SAMPLES=$ZCB_SAMPLES ZCB_WORKLOAD_SECONDS=$ZCB_SECONDS zcb cloud hours "$ZCB_RELEASES" "${at_most[@]}"
  fi
  zcb cost ${ZCB_VM:+--vm "$ZCB_VM"} --preset "$ZCB_PRESET" --hours "$ZCB_HOURS" --at-most "$ZCB_DOLLARS" || code=$?
  if [ "$code" -eq 2 ] && [ -z "$ZCB_VM" ] && [ "$ZCB_SHUTDOWN" = no ]; then
    say "WARNING: what this may cost cannot be told; ZCB_VM names the type of VM whose price is meant"
    return
  fi
  return "$code"
}

# Not verified as a whole, which would read it all: every chunk that a sample read is.
step_data() {
  local preset
  for preset in "$ZCB_PRESET" $ZCB_ALSO; do
    zcb data create --target "$ZCB_TARGET" --preset "$preset"
  done
}

step_warm() {
  local in_flight workload
  for in_flight in $ZCB_WARM; do
    for workload in "small --shards 64" "large --shards 4"; do
      # shellcheck disable=SC2086 # a name and an option
      zcb workload chunks_of_many_shards --target "$ZCB_TARGET" --in-flight "$in_flight" \
        -o "$STATE/warm.json" --dataset $workload
      zcb read network-limit "$STATE/warm.json" --samples 5
    done
  done
}

# A row that failed makes the run fail at its end, but must not cost the other rows their pages and figures.
step_bench() {
  local code=0
  if is_of_releases; then
    zcb history --releases "$ZCB_RELEASES" -o .zcb/history
  fi
  zcb cloud config "$ZCB_CONFIG" -o "$STATE/asv.conf.json"
  make measure CONFIG="$STATE/asv.conf.json" SAMPLES="$ZCB_SAMPLES" SECONDS="$ZCB_SECONDS" || code=$?
  if [ "$code" -ne 0 ]; then asv publish --config "$STATE/asv.conf.json" || say "there are no pages"; fi
  zcb cost ${ZCB_VM:+--vm "$ZCB_VM"} "$STATE/asv.conf.json" | tee "$STATE/cost.txt" ||
    say "WARNING: what reading a TiB cost cannot be told"
  later "$code"
}

# Each part can fail by itself: the others are measured all the same, and the run fails at its end.
step_throughput() {
  local code=0 work=$STATE/throughput.json
  mkdir -p "$STATE/throughput"
  zcb workload stream --target "$ZCB_TARGET" --dataset "$ZCB_STREAM_DATASET" --gib "$ZCB_STREAM_GIB" --seconds 0 \
    --window-mib "${ZCB_STREAM_WINDOW_MIB:-$(window_mib)}" --in-flight "$ZCB_STREAM_IN_FLIGHT" -o "$work" || {
    later $?
    return
  }
  zcb read "$ZCB_STREAM_READERS" "$work" --samples "$ZCB_STREAM_SAMPLES" --json > "$STATE/throughput/read.json" ||
    code=$?
  zcb sweep in-flight "$work" --readers "$ZCB_SWEEP_READERS" --values "$ZCB_SWEEP_VALUES" \
    --samples "$ZCB_STREAM_SAMPLES" --json -o "$STATE/throughput/sweep.svg" > "$STATE/throughput/sweep.json" || code=$?
  later "$code"
}

# A window is refused from 4 GiB as stored on, and above a quarter of the memory.
window_mib() { awk '/^MemTotal/ { fifth = int($2 / 1024 / 5); print fifth < 6144 ? fifth : 6144 }' /proc/meminfo; }

step_home() {
  local to=$ZCB_HOME
  if [ -z "$to" ]; then
    case $ZCB_TARGET in *://*) to=${ZCB_TARGET%/}/home ;; *) to=$STATE/home ;; esac
  fi
  zcb cloud home "$to/$(date -u +%Y-%m-%dT%H-%M-%SZ)" "$STATE"/{results,html,throughput,log.txt,cost.txt}
}

# What was installed by this script or before is on the path; tests put their own programs before it.
activate() {
  local folder
  for folder in "$HOME/.local/bin" "$HOME/.cargo/bin"; do
    case :$PATH: in *:$folder:*) ;; *) PATH=$PATH:$folder ;; esac
  done
  # shellcheck source=/dev/null
  if [ -f .venv/bin/activate ]; then . .venv/bin/activate; fi
}

# A step that failed lets those after it run: the first of them is what the run ends with.
later() {
  if [ "$1" -eq 0 ] || [ "$CODE" -ne 0 ]; then return; fi
  say "step $STEP failed (exit code $1): going on, and failing at the end"
  FAILED=$STEP CODE=$1
}

# Both come from the lines at the top of this file.
plan() {
  local step setting
  echo "Steps:"
  for step in "${STEPS[@]}" ${FULL:+home}; do sed -n "s/^#   $step  */  $step: /p" cloud/run.sh; done
  echo "Settings:"
  while read -r setting; do echo "  $setting=${!setting}"; done < <(sed -n 's/^: "${\([A-Z_]*\)[:=?].*/\1/p' cloud/run.sh)
}

is_of_releases() { grep -q '"\.zcb/history"' "$ZCB_CONFIG"; }
as_root() { if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n "$@"; fi; }
say() { echo "[cloud $(date -u +%H:%M:%S)] $*"; }
fail() { say "$*" >&2; exit 2; }

main "$@"
