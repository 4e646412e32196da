"""Where the time of sampling and of training goes, by kind of operation: torch's profiler over the lab's own loops.

    python scripts/bench_profile.py                       # under a minute
    python scripts/bench_profile.py --json profile.json

One process of one thread, as `lab run` has them, on the shapes of bench_sample.py and bench_train.py.  An operation's
time is its own, without what it calls; the profiler's cost, some microseconds an operation, is in it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
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
from lab.worker import set_arithmetic

GROUPS = {
    "products with weights": ("mkldnn::", "aten::mm", "aten::addmm", "aten::mkldnn_linear"),
    "attention's products": ("aten::_embedding_bag", "aten::bmm", "aten::baddbmm", "aten::_scaled_dot_product"),
    "softmax and loss": ("aten::_softmax", "aten::_log_softmax", "aten::softmax", "aten::exp", "_CrossEntropy"),
    "GELU": ("aten::gelu",),
    "norms": ("aten::native_layer_norm",),
    "the draw": ("aten::cumsum", "aten::searchsorted", "aten::multinomial", "aten::uniform", "aten::gather"),
    "optimizer, clipping": ("aten::_fused_adamw", "aten::_foreach", "aten::linalg_vector_norm", "Optimizer."),
    "copies, casts": ("aten::copy_", "aten::cat", "aten::index", "aten::fill_", "aten::zero_", "aten::embedding"),
}
"""Group -> how its operations' names begin; the first group that fits.  All others are `REST`."""
REST = "rest"


def group_of(operation: str) -> str:
    return next((group for group, starts in GROUPS.items() if operation.startswith(starts)), REST)


def shares(spent: Mapping[str, float]) -> dict[str, float]:
    """Of all time, by group, from each operation's seconds."""
    found: Counter[str] = Counter()
    for operation, seconds in spent.items():
        found[group_of(operation)] += seconds
    return {group: found[group] / sum(spent.values()) for group in (*GROUPS, REST)}


def profiled(setup: bench.Setup) -> dict[str, float]:
    """Microseconds of each operation, in the second of two turns."""
    bench.pin(1)
    machine.keep_memory()
    os.environ["KINETO_LOG_LEVEL"] = "99"  # the profiler says to stderr when it starts and stops
    work = setup()
    work()
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        work()
    return {event.key: event.self_cpu_time_total for event in profiler.key_averages()}


def training(batch_rows: int) -> Callable[[], Any]:
    set_arithmetic({"threads": 1, "device": "cpu"}, strict=True)
    shape, chance = bench_train.QUICK, np.random.default_rng(0)
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
    for rows in bench_train.QUICK_BATCHES:
        found[f"train {bench_train.QUICK.name}, batch {rows}, bfloat16"] = partial(training, rows)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=bench.new_file, help="write the shares")
    options = parser.parse_args()
    found = []
    for name, setup in works().items():
        spent = bench.apart(partial(profiled, setup))
        largest = dict(sorted(spent.items(), key=lambda pair: -pair[1])[:12])
        found.append({"name": name, "seconds": sum(spent.values()) / 1e6, "shares": shares(spent)})
        print(f"{name}: {found[-1]['seconds']:.2f} s")
        print("   " + ", ".join(f"{group} {share:.0%}" for group, share in shares(spent).items() if share >= 0.005))
        print("   " + ", ".join(f"{key.split('::')[-1]} {time / 1e6:.2f} s" for key, time in largest.items()))
    if options.json:
        machine_ = bench.describe("cpu", 1)
        options.json.write_text(json.dumps([{**row, "machine": machine_} for row in found], indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
