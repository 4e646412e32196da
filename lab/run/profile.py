"""The profile of a run: which of its steps can be done without training a generation again, and what they found."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lab.collapse.chains import Chains, Point
from lab.config.profile import ProfileConfig
from lab.definitions import Finding, findings
from lab.errors import InputError
from lab.loop import Generation, Study, build
from lab.run.folder import RunFolder
from lab.run.records import read_profile, read_record
from lab.steps import STEPS
from lab.steps.evidence.profile import PROFILE
from lab.store.step import Step, in_order
from lab.store.store import Store

CONTROL = "human"


@dataclass(frozen=True)
class Profile:
    """The findings of one regime, in one arm of a sweep."""

    regime: str
    axes: Mapping[str, Any]
    """The swept fields and their values."""
    chains: Chains
    findings: list[Finding]


def profiled_study(folder: RunFolder, asked: ProfileConfig | None) -> Study:
    """Build the study of a run with what its profile needs: what is asked for, or else what the study says.

    Models whose weights were deleted are not trained again: what needs them is then left out.
    """
    config = folder.config()
    section = asked or config.profile or ProfileConfig()
    without = {"extraction": False, "telephone": False}
    most: Study | None = None
    covered = 0
    for left_out in ({}, without, {**without, "entropy": False}, {**without, "entropy": False, "scaling": False}):
        wanted = section.model_copy(update=left_out)
        study = build(config.model_copy(update={"profile": wanted}), folder.machine(), folder.content())
        generations = sum(step.name == PROFILE.name for step in affordable(study, folder.store))
        if generations > covered:  # the growth of a loss needs every generation, and none is trained again
            most, covered = study, generations
    if most is None:
        raise InputError(f"{folder.path} has no generation measured yet; lab run continues it")
    return most


def affordable(study: Study, store: Store) -> list[Step]:
    """Return the steps of the profile that need no training of a generation, inputs first."""
    known: dict[Step, bool] = {}
    models = {model for generation in study.generations for model in generation.models}
    for step in study.steps:
        whole = store.manifest(step.name, step.key) is not None
        weights = STEPS[step.name].reads_weights and any(
            store.dropped(parent.name, parent.key) for parent in step.inputs.values() if parent in models
        )
        known[step] = whole or (step not in models and not weights and all(map(known.get, step.inputs.values())))
    # The record too: a run of before may have been measured by other code, and its numbers are needed.
    made = [each for each in study.generations if each.profile and known[each.profile] and known[each.record]]
    return in_order(step for each in made for step in (each.record, each.profile) if step)


def profiles(study: Study, store: Store) -> list[Profile]:
    """Return the profile of each regime but the control, in each arm, from what is in the store."""
    config = study.config.profile
    assert config is not None
    chains = dict.fromkeys((each.arm.label, each.regime) for each in study.generations)
    found = []
    for arm, regime in chains:
        if regime == CONTROL:
            continue
        of_arm = [each for each in study.generations if each.arm.label == arm]
        own, control = (points(of_arm, name, store) for name in (regime, CONTROL))
        if own:
            pair = Chains(regime, own, control)
            axes = next(each.arm.axes for each in of_arm)
            found.append(Profile(regime, axes, pair, findings(pair, config.thresholds)))
    return found


def points(generations: Sequence[Generation], regime: str, store: Store) -> dict[int, dict[int, Point]]:
    """Return seed -> generation -> what was measured, of generations up to the first that is not measured."""
    chains: dict[int, dict[int, Point]] = {}
    for generation in sorted((each for each in generations if each.regime == regime), key=lambda each: each.t):
        record = read_record(store, generation)
        by = chains.setdefault(generation.seed, {})
        if record is not None and len(by) == generation.t:
            by[generation.t] = _point(record, read_profile(store, generation))
    return {seed: by for seed, by in chains.items() if by}


def _point(record: Mapping[str, Any], profiled: Mapping[str, Any]) -> Point:
    numbers = {name: math.nan if value is None else value for name, value in record["columns"].items()}
    columns = _Columns(numbers | profiled.get("columns", {}))
    names = ("groups", "written", "documents", "rare_words", "losses", "telephone", "untold")
    facts = {name: profiled[name] for name in names if name in profiled}
    return Point(columns, **facts)


class _Columns(dict[str, float]):
    """Columns of a generation: NaN for one that was not measured."""

    def __missing__(self, name: str) -> float:
        return math.nan
