"""Watermarks: the power of detection, and each arm of watermark-mini against the chain without a mark."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

from lab.metrics.stats import paired_interval
from lab.run.folder import RunFolder
from pages.writing import RESULTS, filled, table

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


def power() -> str:
    """Return the share of marked rows found, by mark, length of the row and share of edited tokens."""
    facts = json.loads((RESULTS / "watermark-power.json").read_text(encoding="utf-8"))
    shares = list(dict.fromkeys(each["edits"] for each in facts["power"]))
    at = {(each["mark"], each["length"], each["edits"]): each for each in facts["power"]}
    rows = []
    for mark, length in dict.fromkeys(key[:2] for key in at):
        found = [at[mark, length, share] for share in shares]
        cells = [f"{each['tpr']:.3f}" for each in found]
        rows.append([mark, str(length), f"{found[0]['threshold']:.2f}", f"{found[0]['auc']:.3f}", *cells])
    head = ["mark", "tokens", "threshold", "AUC", *(f"{share:.0%} edited" for share in shares)]
    caption = f"""{facts["rows"]} marked rows of a trigram model for each mark against {facts["human_rows"]:,} human
        rows; AUC without edits."""
    return f"{table(head, rows, right=range(1, len(head)))}\n\n{filled(caption)}"


PARTS = {"watermark-power": power, "watermark-price": price}
