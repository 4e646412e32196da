"""What a study will do, and how long it will take.  Nothing runs, nothing is written."""

from __future__ import annotations

import contextlib
import json
import statistics
from collections import Counter, defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lab.config.cost import operations
from lab.config.study import StudyConfig
from lab.config.sweep import arms
from lab.loop import Study
from lab.run.walk import lacking
from lab.steps import STEPS, job_of
from lab.store.manifest import MANIFEST
from lab.store.step import Step, in_order
from lab.store.store import Store

OVERHEAD = 0.3
"""Seconds of a step besides its operations: reading, measuring, writing."""
LIGHT = 0.03
"""Seconds of a step with hardly any operations."""
ENOUGH = 3
"""Timings of each expensive kind before a run says how long it will take: the first ones are often slow."""
RECENT = 50
"""Past timings that an estimate looks at, for each kind of step."""


class Estimator:
    """Seconds of a step: from the timings in the store's manifests, else from the guess in the table of steps."""

    def __init__(self, store: Store, device: str, workers: int = 0) -> None:
        """Read the timings in a store.  `workers`: those of a run, each of whose first steps of a kind are slow."""
        self.device, self.cold = device, 0
        self.first: dict[str, list[float]] = defaultdict(list)
        """Kind of step -> the first timings of a run: with imports and warm-up, they say too much of the others."""
        self.past: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=RECENT))
        for name in STEPS:
            for path in sorted((store.root / name).glob(f"*/{MANIFEST}"))[:RECENT]:
                with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # damaged, or just being replaced
                    timing = json.loads(path.read_text())["environment"]["timing"]
                    self.learn(name, timing["work"], timing["seconds"])
        self.cold = workers

    def knows(self, kinds: Mapping[str, int]) -> bool:
        """Return whether each expensive kind was timed ENOUGH times, or as often as it occurs: name -> number."""
        expensive = {name: count for name, count in kinds.items() if STEPS[name].cost is not None}
        return all(
            len(self.past[name]) + len(self.first[name]) >= min(ENOUGH + self.cold, count)
            for name, count in expensive.items()
        )

    @property
    def measured(self) -> bool:
        """Whether a training was timed."""
        return any(self.past[name] or self.first[name] for name, kind in STEPS.items() if kind.trains)

    def learn(self, name: str, work: float, seconds: float) -> None:
        """Keep the ratio of the measured to the guessed time."""
        cold = len(self.first[name]) < self.cold
        (self.first if cold else self.past)[name].append(seconds / self._guess(name, work))

    def seconds(self, step: Step) -> float:
        """Estimate the seconds of a step."""
        return self.of(step.name, step.work)

    def of(self, name: str, work: float) -> float:
        """Estimate the seconds of a step of this kind with so many operations."""
        known = self.past[name] or self.first[name]
        ratio = statistics.median(known) if known else 1.0
        return self._guess(name, work) * ratio

    def _guess(self, name: str, work: float) -> float:
        cost = STEPS[name].cost
        return OVERHEAD + work / getattr(cost, self.device) if work and cost else LIGHT


@dataclass(frozen=True)
class PlanLine:
    """What is planned for one kind of step."""

    step: str
    uses: int
    """How often the chains need it; `uses - unique` are shared between chains."""
    unique: int
    done: int
    tokens: int
    """Tokens still to process."""
    disk: int
    """Bytes still to write, about."""
    seconds: float
    """Time of one worker still to spend, about."""


@dataclass(frozen=True)
class Plan:
    """What is planned for a study."""

    lines: list[PlanLine]
    workers: int
    measured: bool
    """Whether the times come from timings on this machine or from a guess."""
    chains: int
    generations: int
    """Generations of the longest chain."""
    longest: float
    """Seconds of the longest chain of steps that wait for each other: more workers cannot beat it."""
    scratch: int
    """Bytes of checkpoints besides, about, if each worker has a step that leaves some."""

    @property
    def seconds(self) -> float:
        """Seconds until the study is complete, about."""
        return max(self.longest, sum(line.seconds for line in self.lines) / max(1, self.workers))

    @property
    def disk(self) -> int:
        """Bytes still to write, about."""
        return sum(line.disk for line in self.lines)

    def to_json(self) -> dict[str, Any]:
        """Return all fields as JSON values."""
        lines = [line.__dict__ for line in self.lines]
        return {**self.__dict__, "lines": lines, "seconds": self.seconds, "disk": self.disk}


def guess_seconds(config: StudyConfig, workers: int) -> float:
    """Guess the time of a study from its sizes alone, without its graph, for a list of studies."""
    seconds = 0.0
    for study in (arm.config for arm in arms(config)):
        models = len(study.seeds) * (1 + len(study.regimes) * (study.generations - 1))
        train, row = study.train, study.model.n_positions
        trained = train.rows(study.rows(study.corpus.tokens), row) * row if train else 0
        sizes = {"train": (trained, 3), "sample": (study.sample_rows * row, study.sample.beams or 1)}
        sizes["heldout"] = (study.metrics.test_tokens, 1)
        for name, (tokens, passes) in sizes.items():
            cost = STEPS[name].cost
            assert cost is not None
            work = operations(study, tokens, passes, drawn=name == "sample")
            seconds += models * (OVERHEAD + work / cost.cpu if work else LIGHT)
    return seconds / workers


def make_plan(study: Study, store: Store, workers: int, fresh: frozenset[str] = frozenset()) -> Plan:
    """Plan a study with so many workers.  `fresh`: kinds of steps to run again if their code has changed."""
    estimator = Estimator(store, study.machine.device)
    order = study.steps
    uses = Counter(step.name for generation in study.generations for step in generation.steps)
    chains = [generation for generation in study.generations if generation.t == 0]
    for first in chains:  # the human text of a chain too, and the base if there is one
        own = set(first.steps)
        uses.update(step.name for step in in_order([first.profile or first.record]) if step not in own)
    todo = to_do(order, store, fresh)
    lines = []
    for name in STEPS:
        unique = sum(step.name == name for step in order)
        left = [step for step in todo if step.name == name]
        tokens, disk = sum(step.tokens for step in left), sum(step.disk for step in left)
        seconds = sum(estimator.seconds(step) for step in left)
        lines.append(PlanLine(name, uses[name], unique, unique - len(left), tokens, disk, seconds))
    longest_chain = max(generation.t for generation in study.generations) + 1
    longest = _longest(todo, estimator)
    scratch = sum(sorted(step.scratch for step in todo)[-max(1, workers) :])
    return Plan(lines, workers, estimator.measured, len(chains), longest_chain, longest, scratch)


def to_do(order: Sequence[Step], store: Store, fresh: frozenset[str] = frozenset()) -> list[Step]:
    """Return the steps that are not in the store, and those whose dropped weights these need, in order."""
    todo: set[Step] = set()
    for step in reversed(order):
        job = job_of(step)
        if step in todo or not store.whole(job) or (step.name in fresh and store.edited(job)):
            todo |= {step, *lacking(store, step)}
    return [step for step in order if step in todo]


def _longest(todo: Sequence[Step], estimator: Estimator) -> float:
    """Return the seconds of the longest chain of these steps."""
    ends: dict[Step, float] = {}
    for step in todo:
        begins = max((ends.get(parent, 0.0) for parent in step.inputs.values()), default=0.0)
        ends[step] = begins + estimator.seconds(step)
    return max(ends.values(), default=0.0)
