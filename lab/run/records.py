"""What the steps of a generation have measured, read from the store."""

from __future__ import annotations

import json
import math
from typing import Any

from lab.loop import Generation
from lab.metrics.columns_curation import NAMES
from lab.metrics.columns_radioactivity import NAMES as RADIOACTIVITY
from lab.steps.curation.curate import CURATE, FILE
from lab.steps.evidence.profile import load_profile
from lab.steps.evidence.radioactivity import load_radioactivity
from lab.steps.extra import load_extra
from lab.store.store import Store


def read_record(store: Store, generation: Generation) -> dict[str, Any] | None:
    """Return the record of a generation; None if it is not in the store."""
    step = generation.record
    if store.manifest(step.name, step.key) is None:
        return None
    record: dict[str, Any] = json.loads((store.folder(step.name, step.key) / "record.json").read_text())
    return record


def read_profile(store: Store, generation: Generation) -> dict[str, Any]:
    """Return what the profile of a generation holds; an empty dictionary if it is not asked for or not in the store."""
    step = generation.profile
    if step is None or store.manifest(step.name, step.key) is None:
        return {}
    return load_profile(store.folder(step.name, step.key))


def read_curation(store: Store, generation: Generation, numbers: dict[str, float]) -> dict[str, float]:
    """Return the columns of a curated recipe; NaN where a generation has none.  `numbers`: those of its record."""
    step, passes = generation.recipe, numbers["train_tokens"] / numbers["unique_tokens"]
    columns = dict.fromkeys(NAMES, math.nan) | {"passes": passes}
    if step.name != CURATE.name or store.manifest(step.name, step.key) is None:
        return columns
    found = json.loads((store.folder(step.name, step.key) / FILE).read_text(encoding="utf-8"))["columns"]
    return columns | {name: math.nan if value is None else value for name, value in found.items()}


def read_traces(store: Store, generation: Generation) -> dict[str, float]:
    """Return the columns of radioactivity; NaN where a generation is not asked for it or it is not in the store."""
    step = generation.radioactivity
    if step is None or store.manifest(step.name, step.key) is None:
        return dict.fromkeys(RADIOACTIVITY, math.nan)
    return load_radioactivity(store.folder(step.name, step.key))


def read_extras(store: Store, generation: Generation) -> dict[str, dict[str, float]]:
    """Return the numbers of the user's own metrics, by metric; none where its step failed or has not run."""
    made = [step for step in generation.extras if store.manifest(step.name, step.key) is not None]
    return {step.params["metric"]: load_extra(store.folder(step.name, step.key)) for step in made}
