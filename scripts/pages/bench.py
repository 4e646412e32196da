"""What the benchmarks wrote with --json, as tables (scripts/bench/bench_table.py)."""

from __future__ import annotations

import sys

from pages.writing import BENCH, ROOT

sys.path.append(str(ROOT / "scripts" / "bench"))

import bench_table

PARTS = {
    "machines": lambda: "; ".join(bench_table.machines(BENCH)) + ".",
    "fastest": lambda: bench_table.table(BENCH, everything=False),
    "curves": lambda: bench_table.curves(BENCH),
    "settings": lambda: bench_table.table(BENCH, everything=True),
    "profile": lambda: bench_table.profile(BENCH),
    "growth": lambda: bench_table.growth(BENCH),
}
