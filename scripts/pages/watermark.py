"""The price of a watermark and what it leaves behind: each arm of watermark-mini against the chain without a mark."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from lab.metrics.stats import paired_interval
from lab.run.folder import RunFolder
from pages.writing import RESULTS, table

STUDY, PLAIN = "watermark-mini", "none"
COLUMNS = {"nll": 3, "radioactivity_closed_z": 1, "radioactivity_reading_z": 1}
"""Column -> decimals of its difference."""


def price() -> str:
    """Return the difference of every marked chain from the chain without a mark, seed by seed, in each generation."""
    head = [
        "regime",
        "arm",
        "generation",
        "price, nats per token",
        "closed z above its pair",
        "reading z above its pair",
    ]
    return table(head, _rows(RunFolder(RESULTS / STUDY).results()))


def _rows(rows: list[dict[str, Any]]) -> Iterator[list[str]]:
    at = {(row["regime"], row["arm"], row["generation"], row["seed"]): row for row in rows}
    for regime, arm, generation in dict.fromkeys(key[:3] for key in at):
        seeds = [key[3] for key in at if key[:3] == (regime, arm, generation)]
        pairs = [(at[regime, arm, generation, seed], at.get((regime, PLAIN, generation, seed))) for seed in seeds]
        if arm == PLAIN or not generation or not all(plain for _, plain in pairs):
            continue
        shown = [
            _interval([row[name] - plain[name] for row, plain in pairs if plain], digits)
            for name, digits in COLUMNS.items()
        ]
        yield [regime, arm, str(generation), *shown]


def _interval(differences: list[float], digits: int) -> str:
    found = paired_interval(differences)
    mean = f"{found.mean:+.{digits}f}"
    return mean if math.isnan(found.low) else f"{mean} [{found.low:+.{digits}f}, {found.high:+.{digits}f}]"


PARTS = {"watermark-price": price}
