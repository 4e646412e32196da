"""The columns of results.csv where a study names curators: what they did to the pool (lab/curators/outcome.py)."""

from __future__ import annotations

from lab.metrics.column import Column

MISSING = "the pool was not curated, or holds no row of this kind"


def _share(name: str, title: str, definition: str) -> Column:
    return Column(name, title, "share, 0 to 1", None, definition, kinds=(), missing=MISSING)


COLUMNS = (
    _share("human_pool", "human share of the rows on offer", "Share of human rows in the pool before any curator."),
    _share(
        "human_curated",
        "human share of the rows kept",
        "Share of human rows in the recipe that curators left, each row as often as it is trained on, by its weight.",
    ),
    _share("kept", "share of the rows on offer that curators kept", "Rows kept, each once, divided by rows on offer."),
    _share(
        "tpr",
        "share of machine rows that curators dropped",
        "Machine rows dropped, or drawn never, divided by machine rows on offer: the true positive rate.",
    ),
    _share(
        "fpr",
        "share of human rows that curators dropped",
        "Human rows dropped, or drawn never, divided by human rows on offer: the false positive rate.",
    ),
    Column(
        "edited",
        "share of the recipe's tokens that editors changed",
        "share, 0 to 1",
        None,
        "Tokens of the recipe that an editor replaced by another, divided by its tokens of text.",
        kinds=(),
        missing="no editor worked on the pool",
    ),
    Column(
        "largest_repeat",
        "most times that one row is in the recipe",
        "times",
        None,
        "The largest number of times that a resampler has drawn one row.",
        kinds=(),
        digits=0,
        missing=MISSING,
    ),
    Column(
        "detector_auc",
        "area under the ROC of the last curator with a score",
        "chance, 0 to 1",
        None,
        "The chance that a machine row on offer has a higher score than a human one; 0.5 is blind, and below it the "
        "score points the other way.",
        kinds=(),
        missing="the pool has rows of one kind, or no curator has a score",
    ),
    Column(
        "passes",
        "passes over the rows of the recipe",
        "times",
        None,
        "Tokens seen in training divided by the tokens of the recipe, each row once: how often a row was read.",
        kinds=(),
        digits=2,
        missing="the recipe holds no token",
    ),
)
NAMES = tuple(column.name for column in COLUMNS)
