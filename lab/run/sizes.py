"""What a store takes on the disk, by what is in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from lab.steps import STEPS
from lab.store.space import size_of

GROUPS = ("models", "samples", "evidence", "other")


def by_kind(root: Path, artifacts: Iterable[tuple[str, str]] | None = None) -> dict[str, int]:
    """Return the bytes of a store by group, with what crashed writers left under "leftovers".

    `artifacts`: count only these, (kind of step, key) each, and no leftovers.
    """
    sizes = Counter(dict.fromkeys(GROUPS, 0))
    if artifacts is not None:
        for name, key in artifacts:
            sizes[STEPS[name].takes] += size_of(root / name / key)
        return dict(sizes)
    sizes["leftovers"] = 0
    for entry in sorted(root.glob("*/*")):
        hidden = entry.name.startswith(".") or entry.parent.name.startswith(".")
        kind = STEPS.get(entry.parent.name)
        sizes["leftovers" if hidden else kind.takes if kind else "other"] += size_of(entry)
    return dict(sizes)
