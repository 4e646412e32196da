"""What the steps of a generation have measured, read from the store."""

from __future__ import annotations

import json
from typing import Any

from lab.loop import Generation
from lab.steps.evidence.profile import load_profile
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
