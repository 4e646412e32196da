"""Where the time of sampling and of training goes, by kind of operation: torch's profiler over the lab's own loops.

    python scripts/bench/bench_profile.py                       # under a minute
    python scripts/bench/bench_profile.py --json profile.json

One process of one thread, as `lab run` has them, on the shapes of bench_sample.py and bench_train.py (a training with
its new model and two validations).  An operation's time is its own, without what it calls.  What the clock shows beyond
all operations went by between them: Python, numpy, and the profiler, which costs some microseconds an operation.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import bench_common as bench
import bench_sample
import bench_train
import numpy as np
from torch.profiler import ProfilerActivity, profile

from lab import machine
from lab.run.worker import set_arithmetic

GROUPS = {
    "products with weights": ("mkldnn::", "aten::mm", "aten::addmm", "aten::mkldnn_linear"),
    "attention's products": ("aten::_embedding_bag", "aten::bmm", "aten::baddbmm", "aten::_scaled_dot_product"),
    "softmax and loss": ("aten::_softmax", "aten::_log_softmax", "aten::softmax", "aten::exp_", "_CrossEntropy"),
    "GELU": ("aten::gelu",),
    "norms": ("aten::native_layer_norm",),
    "the draw": ("aten::cumsum", "aten::searchsorted", "aten::sum", "aten::gather", "aten::index"),
    "optimizer, clipping": ("aten::_fused_adamw", "aten::_foreach", "aten::linalg_vector_norm", "Optimizer."),
    "copies, casts": ("aten::copy_", "aten::cat", "aten::index", "aten::fill_", "aten::zero_", "aten::embedding"),
}
"""Group -> how its operations' names begin; the first group that fits.  All others are `REST`."""
ONLY = {"the draw": "sample", "optimizer, clipping": "train"}
"""Groups of one kind of loop: in training sums and gathers are the loss's and the gradients'."""
REST, BETWEEN = "other operations", "between operations"


def group_of(operation: str, loop: str) -> str:
    """`loop` begins with "sample" or "train"."""
    mine = (group for group in GROUPS if loop.startswith(ONLY.get(group, "")))
    return next((group for group in mine if operation.startswith(GROUPS[group])), REST)


def shares(spent: Mapping[str, float], whole: float, loop: str) -> dict[str, float]:
    """Of the `whole` time, by group, from the time of each operation."""
    found: Counter[str] = Counter()
    for operation, time_ in spent.items():
        found[group_of(operation, loop)] += time_
    found[BETWEEN] = whole - sum(spent.values())
    return {group: found[group] / whole for group in (*GROUPS, REST, BETWEEN)}


def profiled(setup: bench.Setup) -> tuple[dict[str, float], float]:
    """Seconds of each operation in the second of two turns, and of all of it by the clock."""
    bench.pin(1)
    machine.keep_memory()
    os.environ["KINETO_LOG_LEVEL"] = "99"  # the profiler says to stderr when it starts and stops
    work = setup()
    work()
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        start = time.perf_counter()
        work()
        whole = time.perf_counter() - start
    return {event.key: event.self_cpu_time_total / 1e6 for event in profiler.key_averages()}, whole


def training(shape: bench_train.Shape, batch_rows: int) -> Callable[[], Any]:
    set_arithmetic({"threads": 1, "device": "cpu"}, strict=True)
    chance = np.random.default_rng(0)
    tokens = chance.integers(0, shape.vocab, (2_000, shape.positions)).astype(np.uint16)
    steps = bench_train.TIMED[shape] // (batch_rows * shape.positions)
    work = bench_train.Work(shape, batch_rows, steps, "cpu", Path("unused"), 1)
    return lambda: bench_train._lab(bench_train.LAB, work, tokens[:-1], tokens[-1:], curve=False)


def works() -> dict[str, bench.Setup]:
    found: dict[str, bench.Setup] = {
        f"{size}, {dtype}": partial(bench_sample.ours, size, bench_sample.ROWS[size], "cpu", dtype)
        for size in (bench_sample.QUICK, bench_sample.LARGER)
        for dtype in (bench_sample.FLOAT32, bench_sample.BFLOAT16)
    }
    for shape, rows in [(bench_train.QUICK, rows) for rows in bench_train.QUICK_BATCHES] + [(bench_train.LARGER, 16)]:
        found[f"train {shape.name}, batch {rows}, bfloat16"] = partial(training, shape, rows)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=bench.new_file, help="write the shares")
    options = parser.parse_args()
    found = []
    for name, setup in works().items():
        spent, whole = bench.apart(partial(profiled, setup))
        largest = dict(sorted(spent.items(), key=lambda pair: -pair[1])[:12])
        parts = shares(spent, whole, name)
        found.append({"name": name, "seconds": whole, "shares": parts})
        print(f"{name}: {whole:.2f} s")
        print("   " + ", ".join(f"{group} {share:.0%}" for group, share in parts.items() if share >= 0.005))
        print("   " + ", ".join(f"{key.split('::')[-1]} {one:.2f} s" for key, one in largest.items()))
    if options.json:
        machine_ = bench.describe("cpu", 1)
        bench.replace(options.json, [{**row, "machine": machine_} for row in found])
    return 0


if __name__ == "__main__":
    sys.exit(main())
