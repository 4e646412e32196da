"""The training benchmark compares like with like: transformers' Trainer and the lab follow one learning curve."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from support.scripts import load

bench = load("bench/bench_train.py")
torch.set_num_threads(1)


def test_both_sides_of_the_benchmark_learn_the_same(tmp_path: Path) -> None:
    """Same weights, rows, order, schedule and clipping: after each quarter the same loss, but for bfloat16's noise."""
    shape = bench.Shape(n_layer=1, n_embd=32, n_head=2, vocab=40, positions=16)
    rows = ((np.arange(50)[:, None] * 7 + np.arange(16)) % 40).astype(np.uint16)
    work = bench.Work(shape, 4, 40, "cpu", tmp_path, 10)
    ours = bench._lab(bench.LAB, work, rows[:-10], rows[-10:], curve=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = bench._peer(bench.FLOAT32, work, rows[:-10], rows[-10:], curve=True, folder=str(tmp_path))
    assert len(ours) == 5 and ours[0] == theirs[0] and ours[-1] < ours[0] - 1
    assert np.allclose(ours, theirs, rtol=5e-3)


@pytest.mark.full  # tests/project/test_bench_common.py has one of each kind of death
def test_a_contestant_that_dies_is_named(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """It has no rows to read, and says so itself."""
    work = bench.Work(bench.QUICK, 4, 5, "cpu", tmp_path / "gone.npy", 1)
    with (
        pytest.raises(SystemExit, match="error: the process of lab, bfloat16 ended"),
        bench.Contestants([bench.LAB], 1, "cpu") as contestants,
    ):
        contestants.ask(work, curve=False)
    assert "FileNotFoundError" in capfd.readouterr().err
