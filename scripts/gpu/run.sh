#!/usr/bin/env bash
# The gpu study on one GPU: builds the large corpus on first use, then runs the study.  Arguments go to `lab run gpu`
# (scripts/gpu/run.sh --set seeds=[0] --run gpu-one-seed).  Killed or out of time: run it again, it goes on.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$root"
source scripts/bootstrap.sh
"$lab_python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' || {
  echo "error: torch sees no GPU here; install a CUDA build of torch (README, \"On a GPU\") or run: scripts/lab run quick" >&2
  exit 2
}
if [ ! -f data/human-large.parquet ]; then
  "$lab_python" -c 'import rdata' 2>/dev/null || {
    [ -z "${LAB_PYTHON:-}" ] || lab_fail "building the large corpus needs rdata: $lab_python -m pip install 'rdata>=0.11'"
    "$lab_python" -m pip install --quiet 'rdata>=0.11'
  }
  "$lab_python" scripts/corpus/build_corpus.py --large
fi
exec "$lab_python" -m lab run gpu "$@"
