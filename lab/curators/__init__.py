"""Curators: rules that decide which rows of a pool are trained on.  They see text, and never who wrote it.

A rule is a function (table, *, rng, **options) that returns a reason for each row, or None to keep it.
To add one, write a function like those in filters.py and give it a row in CURATORS, or name it "module:function".
The oracle alone, a bound and no remedy, is told who wrote what.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lab.curators import filters, minhash, oracle, repetition, watermark
from lab.curators.table import CopyOf, Labelled, Table
from lab.errors import InputError, brief
from lab.lookup import check_options, lookup
from lab.seeds import generator

Answer = str | CopyOf | None
"""Why a row is dropped; None keeps it."""
Rule = Callable[..., Sequence[Answer]]
CURATORS: dict[str, Rule] = {
    "duplicates": filters.duplicates,
    "near_duplicates": minhash.near_duplicates,
    "repetition": repetition.repetition,
    "stop_words": repetition.stop_words,
    "random": filters.uniform,
    "watermarked": watermark.watermarked,
    "oracle": oracle.oracle,
}
TOLD = frozenset({"oracle"})
"""Curators that learn who wrote each row, by name: they are bounds, and no user's own is among them."""


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
    copies: np.ndarray
    """The row of the table that a dropped row is a copy of: int64 [N], -1 where its reason names none."""


def check_curator(name: str, options: Mapping[str, Any]) -> None:
    """Check a curator's options.  InputError for an unknown or missing one, or a value that the lab's own refuses."""
    check_options("curator", name, curator(name), options, leading="table")
    if name in CURATORS:
        rows = np.arange(200).reshape(100, 2) % 2  # tokens that every vocabulary has
        sample = Table(rows, np.full(100, 2), lambda some: [""] * len(some))
        curator(name)(_shown(name, sample, np.arange(100) < 50), rng=generator(0), **options)


def curate(
    table: Table, wanted: Sequence[tuple[str, Mapping[str, Any]]], rng: np.random.Generator, human: np.ndarray
) -> Decisions:
    """Apply rules one after another, each to the rows that the ones before it have kept.

    `wanted` holds the name and the options of each rule, in order.  `human` [N] says which rows a human wrote: it goes
    to the curators of TOLD alone.

    Raises:
        InputError: a rule answers with anything but one reason or None per row, or no row is kept.
    """
    kept = np.arange(len(table))
    reasons, copies = [""] * len(table), np.full(len(table), -1)
    for name, options in wanted:
        answers = _answers(name, _shown(name, table.take(kept), human[kept]), rng, options)
        for row, answer in zip(kept, answers, strict=True):
            if answer is not None:
                reasons[row] = f"{name}: {answer.reason if isinstance(answer, CopyOf) else answer}"
            if isinstance(answer, CopyOf):
                copies[row] = kept[answer.row]
        kept = kept[[answer is None for answer in answers]]
        if not len(kept):
            raise InputError(f'curator "{name}" dropped every row that was left of {len(table):,}: loosen its options')
    chosen = np.zeros(len(table), np.bool_)
    chosen[kept] = True
    return Decisions(chosen, reasons, copies)


def _shown(name: str, table: Table, human: np.ndarray) -> Table:
    """Return what the curator of this name is shown: the table, and who wrote its rows if the curator is in TOLD."""
    if name not in TOLD:
        return table
    human.flags.writeable = False
    return Labelled(table.tokens, table.lengths, table.spell, human)


def _answers(name: str, table: Table, rng: np.random.Generator, options: Mapping[str, Any]) -> Sequence[Answer]:
    """Ask one rule.  InputError where it fails, or answers with anything but one reason or None for each row."""
    try:
        answers = curator(name)(table, rng=rng, **options)
    except InputError:
        raise
    except Exception as error:  # a user's own function may raise anything
        raise InputError(f'curator "{name}" failed: {type(error).__name__}: {brief(error, 200)}') from error
    several = isinstance(answers, Sequence) and not isinstance(answers, str) and len(answers) == len(table)
    if not several or not all(answer is None or isinstance(answer, str | CopyOf) for answer in answers):
        raise InputError(f'curator "{name}" must return one reason or None for each of {len(table):,} rows')
    if not all(0 <= answer.row < len(table) for answer in answers if isinstance(answer, CopyOf)):
        raise InputError(f'curator "{name}" names a copy of a row that is none of the {len(table):,} of the table')
    return answers
