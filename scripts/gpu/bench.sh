#!/usr/bin/env bash
# All benchmarks on a GPU, in under ten minutes, and one table: scripts/gpu/bench.sh [FOLDER]
# FOLDER (default checkpoints/bench-gpu) gets a JSON file and a log of each, and table.md.  One that fails or outlasts
# its limit is named, the others go on, and the exit status is 1.  FAST=1 takes their short forms.  Without a GPU the
# same, short, as a check of this script: DEVICE=cpu FAST=1 scripts/gpu/bench.sh checkpoints/bench-cpu
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$root"
source scripts/bootstrap.sh
device=${DEVICE:-cuda}
case $device in
  cuda) "$lab_python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' || lab_fail \
    'torch sees no GPU here; install a CUDA build of torch (README, "On a GPU") or check on the CPU: DEVICE=cpu FAST=1' ;;
  cpu) ;;
  *) lab_fail "DEVICE=$device: it is cuda or cpu" ;;
esac
folder=${1:-checkpoints/bench-$([ "$device" = cuda ] && echo gpu || echo cpu)}
mkdir -p "$folder"
export HF_HUB_OFFLINE=1
failed=()

# A step, its limit in seconds, and what to run.  The sum of the limits is 570.
step() {
  local name=$1 limit=$2
  shift 2
  echo "$name ..." >&2
  timeout --kill-after=5 "$limit" "$lab_python" "$@" >"$folder/$name.log" 2>&1 || {
    echo "$name did not finish (status $?, limit $limit s): see $folder/$name.log" >&2
    failed+=("$name")
  }
}

# What an earlier call wrote must not stand in for what fails now.
rm -f "$folder"/{sample,train,evaluate,study}.json "$folder/table.md"
short=()
[ "${FAST:-0}" = 0 ] || short=(--fast)
on=(--device "$device" --repetitions 3)
compiled=()
[ "$device" = cpu ] || compiled=(--compiled) # what a GPU is for; on a CPU it is slower and takes minutes
[ "$device" = cpu ] || step tests 35 -m pytest -q tests/models/test_cuda.py tests/models/test_checkpoints.py tests/models/test_train.py -k "cuda or replay"
step sample 170 scripts/bench/bench_sample.py --device "$device" --repetitions 2 ${short[@]+"${short[@]}"} --json "$folder/sample.json"
step train 195 scripts/bench/bench_train.py "${on[@]}" ${short[@]+"${short[@]}"} ${compiled[@]+"${compiled[@]}"} --json "$folder/train.json"
# On a GPU its scoring alone; metrics are a CPU's work, and whole studies take longer than there is time.
step evaluate 60 scripts/bench/bench_evaluate.py --device "$device" --fast --json "$folder/evaluate.json"
step study 110 scripts/bench/bench_study.py --device "$device" --fast --json "$folder/study.json"
"$lab_python" scripts/bench/bench_table.py "$folder" | tee "$folder/table.md"
[ ${#failed[@]} = 0 ] || { echo "error: did not finish: ${failed[*]}" >&2; exit 1; }
