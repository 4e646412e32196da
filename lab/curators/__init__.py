"""Curators: rules that decide which rows of a pool are trained on.  They see text, and never who wrote it.

A rule is a function (table, *, rng, **options) that returns a reason for each row, or None to keep it.
To add one, write a function like those in filters.py and give it a row in CURATORS, or name it "module:function".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lab.curators import filters, watermark
from lab.curators.table import Table
from lab.errors import InputError, brief
from lab.lookup import check_options, lookup
from lab.seeds import generator

Rule = Callable[..., Sequence[str | None]]
CURATORS: dict[str, Rule] = {
    "duplicates": filters.duplicates,
    "random": filters.uniform,
    "watermarked": watermark.watermarked,
}


def curator(name: str) -> Rule:
    """Return the rule of this name, or the user's own that "module:function" names.  InputError where none is."""
    rule: Rule = lookup("curator", name, CURATORS)
    return rule


@dataclass(frozen=True)
class Decisions:
    """What curators decided about the rows of a table."""

    kept: np.ndarray
    """Whether each row is kept: bool [N]."""
    reasons: list[str]
    """Why a row was dropped, as "curator: reason"; empty where it was kept."""


def check_curator(name: str, options: Mapping[str, Any]) -> None:
    """Check a curator's options.  InputError for an unknown or missing one, or a value that the lab's own refuses."""
    check_options("curator", name, curator(name), options, leading="table")
    if name in CURATORS:
        rows = np.arange(200).reshape(100, 2) % 2  # tokens that every vocabulary has
        sample = Table(rows, np.full(100, 2), lambda some: [""] * len(some))
        curator(name)(sample, rng=generator(0), **options)


def curate(table: Table, wanted: Sequence[tuple[str, Mapping[str, Any]]], rng: np.random.Generator) -> Decisions:
    """Apply rules one after another, each to the rows that the ones before it have kept.

    `wanted` holds the name and the options of each rule, in order.

    Raises:
        InputError: a rule answers with anything but one reason or None per row, or no row is kept.
    """
    kept = np.arange(len(table))
    reasons = [""] * len(table)
    for name, options in wanted:
        try:
            answers = curator(name)(table.take(kept), rng=rng, **options)
        except InputError:
            raise
        except Exception as error:  # a user's own function may raise anything
            raise InputError(f'curator "{name}" failed: {type(error).__name__}: {brief(error, 200)}') from error
        several = isinstance(answers, Sequence) and not isinstance(answers, str) and len(answers) == len(kept)
        if not several or not all(answer is None or isinstance(answer, str) for answer in answers):
            raise InputError(f'curator "{name}" must return one reason or None for each of {len(kept):,} rows')
        for row, answer in zip(kept, answers, strict=True):
            if answer is not None:
                reasons[row] = f"{name}: {answer}"
        kept = kept[[answer is None for answer in answers]]
        if not len(kept):
            raise InputError(f'curator "{name}" dropped every row that was left of {len(table):,}: loosen its options')
    chosen = np.zeros(len(table), np.bool_)
    chosen[kept] = True
    return Decisions(chosen, reasons)
