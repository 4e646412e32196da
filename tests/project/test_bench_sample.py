"""The sampling benchmark: its roofline by hand, and which settings of the peers its goals speak of."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.scripts import load

from lab import machine

bench = load("bench/bench_common.py")
bench_sample = load("bench/bench_sample.py")
BFLOAT16, FLOAT32, Peer = bench_sample.BFLOAT16, bench_sample.FLOAT32, bench_sample.Peer
SIZE = bench_sample.Size(layers=2, width=8, heads=2, vocabulary=100, positions=9)
OPTIONS = SimpleNamespace(device="cpu", threads=2, repetitions=3, fast=False)
SLOW, FAST, HALF = (
    Peer(name, setting, 64, lambda: lambda: None, dtype)
    for name, setting, dtype in (
        ("HF generate", "batch 64", FLOAT32),
        ("HF generate", "batch 256", FLOAT32),
        ("HF generate", "batch 256", BFLOAT16),
    )
)
ABSENT = Peer("CTranslate2", "not installed", 0, None)


@pytest.mark.parametrize(
    ("dtype", "device", "seconds"),
    [
        # blocks 12 x 2 x 64 = 1,536 weights, vocabulary product 800, mean position 5, cache 2 x 8 x 2 x 5 = 160 numbers
        (FLOAT32, "cpu", (2 * 1536 + 320) / 10 + 1600 / 10 + 640 / 100),
        (BFLOAT16, "cpu", (2 * 1536 + 320) / 40 + 1600 / 10 + 320 / 100),
        (BFLOAT16, "cuda", (2 * 1536 + 320) / 40 + 1600 / 40 + (320 + 2 * 2336 / 4) / 100),
    ],
)
def test_the_roofline_by_hand(dtype: str, device: str, seconds: float) -> None:
    peaks = bench.Peaks(float32=10.0, bfloat16=40.0, bandwidth=100.0)
    assert SIZE.best_speed(peaks, 4, device, dtype) == pytest.approx(1 / seconds)


def test_a_goal_stands_beside_the_setting_with_the_least_ratio() -> None:
    """Not the highest speed: the hour in which SLOW was tried was twice as fast."""
    taken = {SLOW: ([38.0, 40, 42], [10.0, 10, 10]), FAST: ([18.0, 20, 22], [8.0, 8, 8]), HALF: ([20.0], [1.0])}
    found = bench_sample.compared(bench_sample.QUICK, BFLOAT16, taken, [ABSENT], 80.0, OPTIONS)
    assert [(record.peer, record.best, record.goal) for record in found] == [
        (str(SLOW), False, None),
        (str(FAST), True, 5.0),
        (str(HALF), False, None),
        ("CTranslate2, not installed", True, 3.0),
    ]
    assert [record.ratio and record.ratio.median for record in found] == [4, 2.5, 20, None]
    assert {record.roofline for record in found} == {22 / 80}, "of the median of all seven turns"


def test_tokens_are_those_of_all_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two workers of 400 rows of 128 tokens each in 2 s, beside 64 rows in 4 s."""
    clock(monkeypatch, {SLOW: 4.0}, 2.0)
    found = bench_sample.turns(bench_sample.QUICK, [FLOAT32], [SLOW], OPTIONS)
    assert found == {(FLOAT32, SLOW): ([2 * 400 * 128 / 2.0] * 3, [64 * 128 / 4.0] * 3)}


def test_all_settings_have_their_turns_and_the_highest_peaks_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    clock(monkeypatch, {}, 1.0)
    low, high = bench.Peaks(1e12, 2e12, 1e10), bench.Peaks(2e12, 1e12, 4e10)
    monkeypatch.setattr(bench, "peaks", lambda device, threads: high)
    seen = list(bench_sample.measure(bench_sample.QUICK, OPTIONS, low, tmp_path))
    assert [peaks for _, peaks in seen[:-1]] == [low] * (len(seen) - 1) and len(seen) > 2
    records, peaks = seen[-1]
    assert peaks == bench.Peaks(2e12, 2e12, 4e10)
    wanted = list(bench_sample.hf_peers(bench_sample.QUICK, "cpu", 2, fast=False))
    assert len(set(map(str, wanted))) == len(wanted) >= 14
    half = machine.resolve_dtype("auto", "cpu")
    for dtype in {FLOAT32, half}:
        found = [record for record in records if record.name.endswith(dtype)]
        expected = [str(peer) for peer in wanted if peer.dtype in (FLOAT32, dtype)]
        assert [record.peer for record in found] == [*expected, "CTranslate2, not installed"]
        assert found[-1].theirs is None and found[-1].goal == 3.0


def clock(monkeypatch: pytest.MonkeyPatch, seconds: Mapping[Any, float], usual: float) -> None:
    """Contestants that need so long, without their work."""

    def alternate(setups: Mapping[Any, bench.Setup], count: int, *_: Any) -> dict[Any, list[float]]:
        return {who: [seconds.get(who, usual)] * count for who in setups}

    monkeypatch.setattr(bench, "alternate", alternate)
