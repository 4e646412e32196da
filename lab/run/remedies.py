"""What remedies bring in a run: every arm against the plain human control, at the last generation, from the store.

A remedy is whatever an arm of a sweep does to a pool, or to training, that the arm without it does not.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from lab.collapse.chains import Chains, Point
from lab.collapse.verbatim import overlap
from lab.config.profile import ProfileConfig
from lab.config.study import StudyConfig
from lab.config.sweep import Arm
from lab.definitions import Finding, findings
from lab.errors import InputError
from lab.loop import CONTROL, Generation, Study
from lab.metrics.stats import Interval, mean_interval, paired_interval
from lab.models.feed import load_recipe
from lab.recipe import ARCHIVE, HUMAN
from lab.run.folder import RunFolder
from lab.run.profile import points
from lab.run.records import read_curation, read_record
from lab.steps.curation.curate import CURATE, DECISIONS
from lab.steps.pool import POOL
from lab.store.step import Step
from lab.store.store import Store

RANDOM = "random"
ROLES = {HUMAN: "human", ARCHIVE: "archive"}
"""Number of a human corpus -> its role among the inputs of a recipe."""
GRAM = 8
"""Tokens of a copy."""


@dataclass(frozen=True)
class Remedy:
    """One regime in one arm, against the human control without any remedy that has the same decoding."""

    arm: Arm
    regime: str
    chains: Chains
    curation: Mapping[int, Mapping[int, Mapping[str, float]]]
    """Seed -> generation -> what curators did (lab/metrics/columns_curation.py); NaN where nothing is curated."""
    human_rows: float
    """Different human rows in the recipes of generations 1 to the last, a mean over seeds."""
    seconds: float
    """Seconds of workers, for a generation and seed, in steps that only curators need."""
    dropped: Mapping[str, tuple[int, int]]
    """Domain -> human rows on offer and human rows dropped, over all seeds and generations; {} where nothing is."""
    copied: float
    """Share of the 8-grams of the last sample that stand in human rows it descends from, less that of held-out rows."""
    alone: bool
    """Whether its arm has no other regime but the control."""

    @property
    def bare(self) -> bool:
        """Whether nothing is curated, marked or weighted."""
        return is_bare(self.arm.config)

    @cached_property
    def above(self) -> Interval:
        """Held-out loss above the control's, nats per token, paired by seed."""
        return paired_interval(self.chains.gaps(self.chains.last))

    def findings(self, asked: ProfileConfig) -> list[Finding]:
        """Return what the eight definitions say of this arm, under the thresholds of a study."""
        return findings(self.chains, asked.thresholds)

    def against(self, other: Remedy) -> Interval:
        """Return how far the held-out loss lies above another arm's: below 0 the remedy helps.

        At the last generation that both have.  NaN where they share no seed.
        """
        t = min(self.chains.last, other.chains.last)
        mine, theirs = (
            {s: each.points[s][t].columns["nll"] for s in each.seeds} for each in (self.chains, other.chains)
        )
        seeds = sorted(mine.keys() & theirs.keys())
        if not seeds:
            return Interval(math.nan, math.nan, math.nan)
        return paired_interval([mine[seed] - theirs[seed] for seed in seeds])

    def mean(self, name: str, t: int | None = None) -> Interval:
        """Return the mean over seeds of a column of a generation, by default the last; NaN where a seed has none."""
        t = self.chains.last if t is None else t
        values = [_value(self.chains.points[s][t], self.curation[s][t], name) for s in self.chains.seeds]
        return mean_interval(values) if np.isfinite(values).all() else Interval(math.nan, math.nan, math.nan)


def _value(point: Point, curation: Mapping[str, float], name: str) -> float:
    return float(curation[name] if name in curation else point.columns[name])


def is_bare(study: StudyConfig) -> bool:
    """Return whether a study curates, marks and weights nothing."""
    learned = study.train and (study.train.truncate is not None or study.train.token_weights is not None)
    return not (study.curators or study.sample.watermark or learned)


REMEDIAL: dict[str, Any] = {"curators": True, "regimes": True, "generations": True, "note": True, "sweep": True}
REMEDIAL |= {"sample": {"watermark"}, "corpus": {"archive_tokens"}}
"""Fields that arms may differ in and still be compared: what a remedy is, and what it needs."""
TAIL_KEEPERS = {"truncate", "token_weights"}


def likeness(study: StudyConfig) -> str:
    """Return all that two arms must share to be compared, as text."""
    excluded: Any = {**REMEDIAL, "train": TAIL_KEEPERS} if study.train else REMEDIAL
    return study.model_dump_json(exclude=excluded)


def remedies(study: Study, folder: RunFolder) -> tuple[list[Remedy], list[str]]:
    """Return every regime of every arm that is measured, but the controls, in the order of the study.

    Then the names of what is left out, because no control is like it in all but the remedy.

    Raises:
        InputError: no arm without a remedy has the regime human, or nothing beside it is measured yet.
    """
    arms = {each.arm.label: each.arm for each in study.generations}
    of: dict[tuple[str, str], list[Generation]] = {}
    for each in study.generations:
        of.setdefault((each.arm.label, each.regime), []).append(each)
    controls = {
        likeness(arms[label].config): of[label, regime]
        for label, regime in reversed(of)
        if regime == CONTROL and is_bare(arms[label].config)
    }
    found: list[Remedy] = []
    left: list[str] = []
    for (label, regime), generations in of.items():
        control = controls.get(likeness(arms[label].config))
        if regime != CONTROL and control is None:
            left.append(f"{regime}{label}")
        elif regime != CONTROL and control is not None:
            several = sum(each == label and name != CONTROL for each, name in of) > 1
            found += _remedy(folder.store, generations, control, alone=not several)
    if not found:
        raise InputError(
            f"{folder.path} has no measured arm beside a human control: remedies are compared with the regime human of "
            "an arm without curators, watermark and weights, such as {arm: none, regimes: [human, replace]}"
        )
    return found, left


def _remedy(
    store: Store, generations: Sequence[Generation], control: Sequence[Generation], *, alone: bool
) -> Iterator[Remedy]:
    """Yield one regime of one arm, if a generation after the first is measured of it and of its control."""
    regime, arm = generations[0].regime, generations[0].arm
    own = points(generations, regime, store)
    if not own:
        return
    chains = Chains(regime, own, points(control, CONTROL, store))
    if not chains.seeds or not chains.last:
        return
    done = [each for each in generations if each.t <= chains.last and each.seed in chains.seeds]
    curation = {seed: {e.t: _curation(store, e) for e in done if e.seed == seed} for seed in chains.seeds}
    later = [each for each in done if each.t]
    fed = {seed: _human_rows(store, [each for each in later if each.seed == seed]) for seed in chains.seeds}
    rows = float(np.mean([sum(map(len, each.values())) for each in fed.values()]))
    copied = []
    for last in (each for each in done if each.t == chains.last):
        before = [each for each in done if each.seed == last.seed]
        copied.append(_copied(store, last, _human_rows(store, before)))
    curators = _seconds(store, later), _dropped(store, later)
    yield Remedy(arm, regime, chains, curation, rows, *curators, float(np.mean(copied)), alone)


def _curation(store: Store, generation: Generation) -> dict[str, float]:
    record = read_record(store, generation)
    assert record is not None  # `points` has found it
    return read_curation(store, generation, record["columns"])


def _human_rows(store: Store, generations: Sequence[Generation]) -> dict[Step, NDArray[np.int64]]:
    """Return corpus -> the numbers of the human rows of it that the recipes of these generations name."""
    rows: dict[Step, list[NDArray[Any]]] = {}
    for step in (each.recipe for each in generations):
        if store.manifest(step.name, step.key) is not None:
            for part in load_recipe(store.folder(step.name, step.key)).parts:
                if part.origin in ROLES and ROLES[part.corpus] in step.inputs:
                    rows.setdefault(step.inputs[ROLES[part.corpus]], []).append(
                        part.numbers(np.arange(part.distinct_rows))
                    )
    return {corpus: np.unique(np.concatenate(several)) for corpus, several in rows.items()}


def _copied(store: Store, generation: Generation, fed: Mapping[Step, NDArray[np.int64]]) -> float:
    """Return how many more 8-grams a sample shares with the human rows that its chain was fed than held-out rows do.

    NaN where it was fed no human row, or the text is none.
    """
    test = generation.record.inputs["test"]
    if not fed or not (store.folder(test.name, test.key) / "document.npy").exists():
        return math.nan
    training = np.concatenate([_tokens(store, corpus)[rows] for corpus, rows in fed.items()])
    sample, held = _tokens(store, generation.synthetic), _tokens(store, test)
    return overlap(np.asarray(sample), training, GRAM) - overlap(np.asarray(held), training, GRAM)


def _tokens(store: Store, corpus: Step) -> NDArray[np.integer[Any]]:
    tokens: NDArray[np.integer[Any]] = np.load(store.folder(corpus.name, corpus.key) / "tokens.npy", mmap_mode="r")
    return tokens


def _seconds(store: Store, generations: Sequence[Generation]) -> float:
    """Return the mean seconds that curators add to a generation: their models, decoys, scores, edits and decisions.

    What a step took stands in its manifest.  What two seeds or generations share counts once.
    """
    curated = [each for each in generations if each.recipe.name == CURATE.name]
    own = {step for each in curated for step in (*each.curation, each.recipe) if step.name != POOL.name}
    found = [store.manifest(step.name, step.key) for step in own]
    if any(each is None for each in found):
        return math.nan
    return float(sum(each.environment["timing"]["seconds"] for each in found if each)) / len(generations)


def _dropped(store: Store, generations: Sequence[Generation]) -> dict[str, tuple[int, int]]:
    """Return domain -> human rows on offer to curators, and human rows that they dropped."""
    offered: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    for step in (each.recipe for each in generations if each.recipe.name == CURATE.name):
        if store.manifest(step.name, step.key) is None:
            continue
        found = pq.read_table(store.folder(step.name, step.key) / DECISIONS, columns=["origin", "row", "times"])
        origin, row, times = (column.to_numpy() for column in found.columns)
        for number, role in ROLES.items():
            mine = origin == number
            if role in step.inputs and mine.any():
                rows = store.folder(step.inputs[role].name, step.inputs[role].key) / "rows.parquet"
                if "domain" not in pq.read_schema(rows).names:  # a known source has none
                    continue
                domains = np.array(pq.read_table(rows, columns=["domain"])["domain"].to_pylist(), object)
                if not all(domains):
                    continue
                offered.update(map(str, domains[row[mine]]))
                lost.update(map(str, domains[row[mine & (times == 0)]]))
    return {domain: (count, lost[domain]) for domain, count in sorted(offered.items())}


def baselines(found: Sequence[Remedy], of: Remedy) -> dict[str, Remedy]:
    """Return what a remedy is read against: "none", the same pool untouched, and "random", rows drawn at random.

    Of several arms with random rows it is the one that keeps a share nearest to the remedy's.  An arm that changes the
    decoding alone is read against the first arm that changes nothing.
    """
    if of.bare:
        first = next(each for each in found if each.bare and each.regime == of.regime)
        return {} if first is of else {"none": first}
    like = likeness(of.arm.config)
    alike = (each for each in found if each.regime == of.regime and likeness(each.arm.config) == like)
    beside = [each for each in alike if each is not of]
    none = next((each for each in beside if each.bare), None)
    kept = of.mean("kept").mean
    randoms = [each for each in beside if [c.name for c in each.arm.config.curators] == [RANDOM]]
    drawn = min(randoms, key=lambda each: abs(each.mean("kept").mean - kept), default=None)
    return {name: each for name, each in (("none", none), (RANDOM, drawn)) if each is not None}
