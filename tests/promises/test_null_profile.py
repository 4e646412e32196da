"""The null test of the profile: controls that differ only in their seed have seldom collapsed by any definition.

scripts/checks/null_profile.py tests this on human text with 2,000 chains.  Here it runs end to end on a few tiny
chains, and its comparison on drawn evidence: normal noise with the deviations between seeds of the study `quick`.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import ndtr
from support.controls import command
from support.scripts import load

from lab import definitions
from lab.collapse.chains import Chains, Point
from lab.seeds import generator

null = load("checks/null_profile.py")

PAIRS, SEEDS, DOCUMENTS = 200, 5, 67
DEVIATIONS = {"nll": 0.0056, "unigram_nll": 0.0006, "next_entropy": 0.024, "new_survival": 0.003, "above_human": 0.0085}
"""Between seeds, of the human control of the study `quick`; unigram_nll in the same units."""
MEANS = {"nll": 4.67, "unigram_nll": 6.386, "next_entropy": 4.82, "new_survival": 0.125, "above_human": 0.06}
MODES = {"novel": (450, 45.0), "sermon": (264, 31.0), "sotu": (804, 29.0), "commentary": (75, 16.0)}
"""Rows of a mode in the control's sample, and their deviation between seeds."""


def control(seed: int) -> Point:
    """Draw a control: its own noise, and losses of documents that are as hard for all controls."""
    rng, documents = generator(seed), generator(10**6)
    columns = {name: MEANS[name] + deviation * rng.normal() for name, deviation in DEVIATIONS.items()}
    tokens = np.round(np.exp(documents.normal(7.0, 1.0, DOCUMENTS)))
    hard = documents.normal(0, 0.3, DOCUMENTS)
    own = rng.normal(0, 0.026, DOCUMENTS)
    nats = tokens * (columns["nll"] + hard - tokens @ hard / tokens.sum() + own)
    columns["nll"] = float(nats.sum() / tokens.sum())
    groups = [
        {"column": "domain", "group": name, "rows": max(0, round(rng.normal(mean, deviation)))}
        for name, (mean, deviation) in MODES.items()
    ]
    return Point(columns, groups, documents=np.stack([nats, tokens], axis=1), rare_words=6000)


@pytest.fixture(scope="module")
def drawn() -> dict[int, Point]:
    return {seed: control(seed) for seed in range(2 * PAIRS * SEEDS)}


def of_size(drawn: dict[int, Point], seeds: int) -> Sequence[Chains]:
    found: Sequence[Chains] = null.paired(drawn, PAIRS, SEEDS, seeds)
    return found


@pytest.mark.parametrize("seeds", [5, 3])
def test_controls_have_collapsed_in_five_of_a_hundred_pairs_at_most(drawn: dict[int, Point], seeds: int) -> None:
    """At zero thresholds 2 to 21 of 200 pairs; with those of the lab hardly one, and never more than 21."""
    pairs = of_size(drawn, seeds)
    zero, shipped = null.held(pairs, "at zero"), null.held(pairs, "shipped")
    print(null.table([zero, shipped]))
    assert zero.within and 2 <= zero.any <= 21, zero
    assert sum(zero.by.values()) >= zero.any and list(zero.by) == [1, 2, 4, 6, 7, 8]
    assert shipped.within and shipped.any <= zero.any
    assert all(not count for number, count in shipped.by.items() if number not in (1, 2))


def without_correction(p: Sequence[float]) -> list[bool]:
    return [value <= 0.05 for value in p]


def normal_p(values: Sequence[float], threshold: float, side: str) -> float:
    """z in the place of t."""
    shift = (np.mean(values) - threshold) * (1 if side == "above" else -1)
    return float(ndtr(-shift / np.std(values, ddof=1) * np.sqrt(len(values))))


def verdict_of_mean(interval: Any, threshold: float, near: float, side: str) -> str:
    """A verdict of the mean alone: half of all controls are beyond zero."""
    beyond = interval.mean > threshold if side == "above" else interval.mean < threshold
    return definitions.COLLAPSED if beyond else definitions.NOT


@pytest.mark.parametrize("broken", ["no correction", "z for t, no interval", "control worse by one deviation"])
def test_broken_machinery_fails(drawn: dict[int, Point], monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    pairs = of_size(drawn, 3)
    if broken == "no correction":
        monkeypatch.setattr(definitions, "holm", without_correction)
    elif broken == "z for t, no interval":
        monkeypatch.setattr(definitions, "one_sided_p", normal_p)
        monkeypatch.setattr(definitions, "verdict_of", verdict_of_mean)
    else:
        worse = [{s: {1: shifted(by[1])} for s, by in pair.points.items()} for pair in pairs]
        pairs = [Chains("other", points, pair.control) for points, pair in zip(worse, pairs, strict=True)]
    zero = null.held(pairs, "at zero")
    assert not zero.within and zero.any > 21, zero


def shifted(point: Point) -> Point:
    columns = {**point.columns, "above_human": point.columns["above_human"] + 0.05}
    return Point(columns, point.groups, documents=point.documents, rare_words=point.rare_words)


def test_of_nothing_found_the_machinery_is_blind(drawn: dict[int, Point]) -> None:
    same = [Chains("other", pair.control, pair.control) for pair in of_size(drawn, 5)]
    blind = null.held(same, "at zero")
    assert blind.any == 0 and not blind.within and null.held(same, "shipped").within


def test_pairs_share_no_seed(drawn: dict[int, Point]) -> None:
    few = {seed: drawn[seed] for seed in range(12)}
    pairs = null.paired(few, 2, 3, 2)
    used = [[point[1] for point in by.values()] for pair in pairs for by in (pair.points, pair.control)]
    expected = [[0, 1], [3, 4], [6, 7], [9, 10]]
    assert all(
        a is few[seed]
        for group, seeds in zip(used, expected, strict=True)
        for a, seed in zip(group, seeds, strict=True)
    )
    with pytest.raises(ValueError, match="16 chains were wanted"):
        null.paired(few, 2, 4, 2)


def test_a_few_chains_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Counts of a source: 1, 2, 4 and 8 are measured, and the same command goes on without a step."""
    words, out = command(tmp_path, 2, 2), tmp_path / "null.json"
    assert null.main(words) == 0
    found = json.loads(out.read_text())
    assert [(each["thresholds"], each["seeds"]) for each in found["counts"]] == [("at zero", 2), ("shipped", 2)]
    assert set(found["counts"][0]["by"]) == {"1", "2", "4", "8"} and found["made"]["steps"] > 0
    assert "| any of them |" in capsys.readouterr().out
    assert null.main(words) == 0 and json.loads(out.read_text())["made"]["steps"] == 0
    assert null.main([*words, "--set", "regimes=[human,replace]"]) == 2
    shown = load("readme.py").validity.null_profile(out)
    assert "| definition | at zero, 2 against 2 seeds | shipped, 2 against 2 seeds |" in shown
    assert all(f"({number}) | " in shown for number in (1, 2, 4, 8)) and "(3) | " not in shown
    assert f"| any of them | {found['counts'][0]['any']}: " in shown and "of 2 pairs of controls" in shown
