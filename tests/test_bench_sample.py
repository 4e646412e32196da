"""The sampling benchmark: its roofline by hand, and which settings of the peers its goals speak of."""

from __future__ import annotations

from types import SimpleNamespace

import bench_common as bench
import bench_sample
import pytest
from bench_sample import BFLOAT16, FLOAT32, Peer, Size

SIZE = Size(layers=2, width=8, heads=2, vocabulary=100, positions=9)
OPTIONS = SimpleNamespace(device="cpu", threads=2)
SLOW, FAST, HALF, OTHER = (
    Peer(name, setting, 64, lambda: lambda: None, dtype)
    for name, setting, dtype in (
        ("HF generate", "batch 64", FLOAT32),
        ("HF generate", "batch 256", FLOAT32),
        ("HF generate", "batch 256", BFLOAT16),
        ("CTranslate2", "batch 64", FLOAT32),
    )
)
PEERS = [SLOW, FAST, HALF, OTHER]


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


def test_the_fastest_setting_of_each_peer_and_dtype_goes_on() -> None:
    """By the ratio to the lab in the same turns: the hour in which SLOW was tried was twice as fast."""
    taken = {(FLOAT32, SLOW): ([40, 40], [9, 9]), (FLOAT32, FAST): ([20, 20], [8, 8])}
    taken |= {(FLOAT32, HALF): ([20, 20], [1, 1]), (FLOAT32, OTHER): ([20, 20], [15, 16])}
    assert set(bench_sample.finalists(PEERS, FLOAT32, taken)) == {FAST, HALF, OTHER}
    assert bench_sample.finalists(PEERS, FLOAT32, {}) == PEERS, "nothing to choose from"


def test_a_goal_stands_beside_the_fastest_of_the_last_round() -> None:
    """SLOW looks faster by its few turns, but was not in the last round."""
    taken = {SLOW: ([30.0], [15.0]), FAST: ([10.0, 20, 30], [5.0, 5, 5]), HALF: ([10.0, 20, 30], [1.0, 2, 3])}
    size = bench_sample.QUICK
    found = bench_sample.compared(size, BFLOAT16, taken, [FAST, HALF, OTHER], 80.0, OPTIONS)
    assert [(record.peer, record.best, record.goal) for record in found] == [
        (str(SLOW), False, None),
        (str(FAST), True, 5.0),
        (str(HALF), False, None),
    ]
    assert [record.ratio.median for record in found if record.ratio] == [2, 4, 10]
    assert found[1].ratio == bench.Spread(4, 2, 6) and {record.roofline for record in found} == {20 / 80}
    assert found[0].note == "the lab: shards of 400 rows; 1 turn each"
