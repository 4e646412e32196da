"""The columns of results.csv where a study asks for radioactivity (lab/curators/radioactivity.py)."""

from __future__ import annotations

from lab.metrics.column import Column

MISSING = "there is no pair to count"
MODES = {
    "closed": ("an unmarked sample", "the text that the generation's models write without a mark"),
    "reading": ("readings of human text", "the models' likeliest next tokens after held-out text"),
}
"""Mode -> its name in titles, and what is counted."""


def _columns(mode: str) -> tuple[Column, ...]:
    name, counted = MODES[mode]
    return tuple(
        Column(
            f"radioactivity_{mode}_{short}",
            f"{title} in {name}",
            unit,
            None,
            f"{definition.format(counted=counted)}, over distinct pairs under the study's key.",
            "Sander et al. 2024",
            kinds=(),
            digits=digits,
            missing=MISSING,
        )
        for short, title, unit, definition, digits in (
            ("z", "z of green tokens", "standard deviations", "z of the green tokens in {counted}", 2),
            ("p", "p of green tokens", "probability", "Chance that another key finds as many in {counted}", 4),
            ("green", "share of green tokens", "share, 0 to 1", "Share of green tokens in {counted}", 4),
        )
    )


COLUMNS = (*_columns("closed"), *_columns("reading"))
NAMES = tuple(column.name for column in COLUMNS)
