#!/usr/bin/env bash
# All benchmarks that speak of a GPU, in under ten minutes, and one table: scripts/gpu/bench.sh [FOLDER]
# FOLDER (default checkpoints/bench-gpu) gets a JSON file and a log of each, and table.md.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$root"
source scripts/bootstrap.sh
"$lab_python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' || {
  echo "error: torch sees no GPU here; install a CUDA build of torch (README, \"On a GPU\") or run the benchmarks on the CPU" >&2
  exit 2
}
folder=${1:-checkpoints/bench-gpu}
mkdir -p "$folder"
export HF_HUB_OFFLINE=1
"$lab_python" -m pytest -q tests/test_graphs.py tests/test_checkpoints.py -k "cuda or gpu or replay" || true
for kind in sample train; do
  timeout 270 "$lab_python" "scripts/bench_$kind.py" --device cuda --repetitions 3 --json "$folder/$kind.json" \
    > "$folder/$kind.log" 2>&1 || echo "bench_$kind.py did not finish: see $folder/$kind.log" >&2
done
"$lab_python" scripts/bench_table.py "$folder" | tee "$folder/table.md"
