"""Curators: functions that decide which rows of a pool are trained on.  They see text, and never who wrote it.

A curator is a function (table, *, rng, **options).  A rule returns a reason for each row, or None to keep it, in a list
or in Dropped.  A resampler returns Drawn: rows of the table, with repeats.  Weighted says how much each row counts in
the loss of training.  A curator says by `needs` what it reads beside the rows.  To add one, write a function like those
in filters.py and give it a row in CURATORS, or name it "module:function".  The oracle alone, a bound and no remedy, is
told who wrote what.

Two stages come before these and see no table: the archive (archives.py), whose human rows join the pool, and editors
(edits.py), which need "candidates" and return the tokens of a row anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from lab.curators import archives, detectors, edits, filters, judged, minhash, oracle, repetition, watermark, weighting
from lab.curators.table import NEEDS, SCORES, CopyOf, Drawn, Dropped, Labelled, Table, Weighted, nats_of, needs
from lab.errors import InputError, brief
from lab.lookup import check_options, lookup
from lab.seeds import generator

__all__ = [
    "CURATORS",
    "NEEDS",
    "CopyOf",
    "Drawn",
    "Dropped",
    "Table",
    "Weighted",
    "curate",
    "curator",
    "needs",
    "needs_of",
    "register_of",
]
Answer = str | CopyOf | None
"""Why a row is dropped; None keeps it."""
Curator = Callable[..., Any]
"""A rule returns a sequence of Answer or Dropped, a resampler Drawn, one that weighs rows Weighted, an editor an array,
and the archive Released."""
CURATORS: dict[str, Curator] = {
    "duplicates": filters.duplicates,
    "near_duplicates": minhash.near_duplicates,
    "repetition": repetition.repetition,
    "stop_words": repetition.stop_words,
    "random": filters.uniform,
    "band": judged.band,
    "best": judged.best,
    "detected": detectors.detected,
    "importance": detectors.importance,
    "dsir": detectors.dsir,
    "watermarked": watermark.watermarked,
    "weights": weighting.weights,
    "toedit": edits.toedit,
    "archive": archives.archive,
    "oracle": oracle.oracle,
}
TOLD = frozenset({"oracle"})
"""Curators that learn who wrote each row, by name: they are bounds, and no user's own is among them."""


RELEASED = frozenset({"archive"})
"""Curators that add human rows to a pool, by name."""
STAGES = ("archive", "editor", "rule or resampler")
"""The stages of curation, in order."""


def curator(name: str) -> Curator:
    """Return the curator of this name, or the user's own that "module:function" names.  InputError where none is."""
    found: Curator = lookup("curator", name, CURATORS)
    return found


def needs_of(name: str, options: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what a curator with these options reads beside the rows, some of NEEDS."""
    asked = getattr(curator(name), "needs", None)
    return tuple(asked(options)) if asked else ()


def register_of(name: str, options: Mapping[str, Any]) -> str:
    """Return the domain to which the judge of a curator is to be fitted; "" for all, or where it needs no judge."""
    return str(options.get("register", "")) if "judge" in needs_of(name, options) else ""


def stage_of(name: str) -> str:
    """Return the stage of a curator, one of STAGES."""
    return STAGES[0] if name in RELEASED else STAGES[1] if "candidates" in needs_of(name, {}) else STAGES[2]


def check_order(names: Sequence[str]) -> None:
    """Check that curators stand in the order of their stages.  InputError names the first that does not."""
    before = ""
    for name in names:
        if before and STAGES.index(stage_of(name)) < STAGES.index(stage_of(before)):
            order = ", then ".join(f"every {stage}" for stage in STAGES[1:])
            raise InputError(f'curators: "{name}" stands after "{before}"; the order is the archive, then {order}')
        before = name
    if (archives := sum(name in RELEASED for name in names)) > 1:
        raise InputError(f'curators: "archive" is named {archives} times; name it once')


@dataclass(frozen=True)
class Decisions:
    """What curators decided about the rows of a table."""

    times: np.ndarray
    """How often each row is trained on: int64 [N], 0 where it was dropped."""
    reasons: list[str]
    """Why a row was dropped, as "curator: reason"; empty where it was kept."""
    copies: np.ndarray
    """The row of the table that a dropped row is a copy of: int64 [N], -1 where its reason names none."""
    facts: tuple[Mapping[str, Any], ...] = ()
    """What each curator that says so has found: its name as "curator", and numbers by name."""
    weights: np.ndarray | None = None
    """How much each row counts in the loss: float64 [N], 0 where it was dropped.  None: all count the same."""
    scores: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Curator -> the score by which it decided: float64 [N], NaN for rows that it did not see."""

    @property
    def kept(self) -> np.ndarray:
        """Return whether each row is kept: bool [N]."""
        return self.times > 0

    def back(self, order: np.ndarray) -> Decisions:
        """Return the same decisions about rows as they stood before `order` shuffled them: row order[i] was row i."""
        place = np.argsort(order)
        scores = {name: values[place] for name, values in self.scores.items()}
        copies = np.where(self.copies < 0, -1, order[self.copies])[place]
        weights = None if self.weights is None else self.weights[place]
        return Decisions(self.times[place], [self.reasons[i] for i in place], copies, self.facts, weights, scores)


def check_curator(name: str, options: Mapping[str, Any], mark: Mapping[str, Any] | None = None) -> None:
    """Check a curator's options.  InputError for an unknown or missing one, or a value that the lab's own refuses.

    `mark` holds the settings of the study's watermark, if it has one.
    """
    check_options("curator", name, curator(name), options, leading="table")
    if name in CURATORS:
        sample = replace(_sample(register_of(name, options)), mark=mark or {})
        stage, shown = stage_of(name), _shown(name, options, sample, np.arange(100) < 50)
        before: dict[str, Any] = {STAGES[0]: archives.Held(np.arange(1), ["a mode"]), STAGES[1]: _row()}
        curator(name)(before.get(stage, shown), rng=generator(0), **options)
    if name == "oracle":  # not in the oracle itself: its code is in the keys of what is trained behind it
        oracle.check_shares(**options)


def _sample(register: str) -> Table:
    """Return a hundred rows, with all that a curator may need, on which options are tried."""
    rows = np.arange(200).reshape(100, 2) % 2  # tokens that every vocabulary has
    scores = {name: np.linspace(1, 2, 100) for name in (*SCORES, nats_of(register))}
    alone = Table(rows, np.full(100, 2), lambda some: [""] * len(some), scores, vocabulary=1024)
    return replace(alone, trusted=alone, decoy=alone)


def _row() -> edits.Row:
    """Return a row on which the options of an editor are tried."""
    candidates = np.arange(2).repeat(4).reshape(2, 4).T  # the row of tokens 0, 0, 0, 0, and two candidates at each
    return edits.Row(candidates[:, 0], np.zeros(4), candidates, np.log([[0.9, 0.1]] * 4))


def curate(
    table: Table, wanted: Sequence[tuple[str, Mapping[str, Any]]], rng: np.random.Generator, human: np.ndarray
) -> Decisions:
    """Apply curators one after another, each to the rows that the ones before it have kept.

    `wanted` holds the name and the options of each, in order.  `human` [N] says which rows a human wrote: it goes
    to the curators of TOLD alone.

    Raises:
        InputError: a curator answers with anything but what rules and resamplers return, or no row is kept.
    """
    times, reasons, copies = np.ones(len(table), np.int64), [""] * len(table), np.full(len(table), -1)
    facts: list[Mapping[str, Any]] = []
    scores: dict[str, np.ndarray] = {}
    weights: np.ndarray | None = None
    for name, options in wanted:
        kept = np.flatnonzero(times)
        answer = _answer(name, _shown(name, options, table.take(kept), human[kept]), rng, options)
        if isinstance(answer, Drawn):
            drawn = np.bincount(answer.rows, minlength=len(kept))
            times[kept] *= drawn
            why: Sequence[Answer] = ["not drawn" if not count else None for count in drawn]
        elif isinstance(answer, Weighted):
            weights, why = np.ones(len(table)) if weights is None else weights, [None] * len(kept)
            weights[kept] *= answer.weights
        else:
            why = answer.reasons
        for row, reason in zip(kept, why, strict=True):
            if reason is not None:
                times[row] = 0
                reasons[row] = f"{name}: {reason.reason if isinstance(reason, CopyOf) else reason}"
            if isinstance(reason, CopyOf):
                copies[row] = kept[reason.row]
        if answer.facts:
            facts.append({"curator": name, **answer.facts})
        if answer.scores is not None:
            own = scores[_column(name, scores)] = np.full(len(table), np.nan)
            own[kept] = answer.scores
        if not times.any():
            raise InputError(f'curator "{name}" dropped every row that was left of {len(table):,}: loosen its options')
    return Decisions(times, reasons, copies, tuple(facts), _scaled(weights, times), scores)


def _scaled(weights: np.ndarray | None, times: np.ndarray) -> np.ndarray | None:
    """Return weights with a mean of 1 over all rows as often as they are trained on.  InputError where all are 0."""
    if weights is None:
        return None
    if not (total := float((weights * times).sum())):
        raise InputError("curators gave every row that is left the weight 0: loosen their options")
    return np.asarray(weights * (times > 0) * (times.sum() / total))


def _column(name: str, taken: Mapping[str, np.ndarray]) -> str:
    """Return the name of a curator's column of scores: its own, or name_2 for the second of a name."""
    again = sum(each.rpartition("_")[0] == name or each == name for each in taken)
    return f"{name}_{again + 1}" if again else name


def _shown(name: str, options: Mapping[str, Any], table: Table, human: np.ndarray) -> Table:
    """Return what the curator of this name is shown: what it needs, and who wrote the rows if it is in TOLD."""
    needed = needs_of(name, options)
    scored = {"judge", "observer"} & set(needed)
    scores = {k: v for k, v in table.scores.items() if scored and (k != "cross" or "observer" in needed)}
    trusted, decoy = (getattr(table, part) if part in needed else None for part in ("trusted", "decoy"))
    mark, vocabulary = (table.mark, table.vocabulary) if "mark" in needed else ({}, 0)
    shown = replace(table, scores=scores, trusted=trusted, decoy=decoy, mark=mark, vocabulary=vocabulary)
    if name not in TOLD:
        return shown
    human.flags.writeable = False
    return Labelled(**vars(shown), human=human)


def _answer(
    name: str, table: Table, rng: np.random.Generator, options: Mapping[str, Any]
) -> Dropped | Drawn | Weighted:
    """Ask one curator.  InputError where it fails, or answers with anything but what it may."""
    try:
        answer: Sequence[Answer] | Dropped | Drawn | Weighted = curator(name)(table, rng=rng, **options)
    except InputError as error:
        raise error if name in CURATORS else InputError(f'curator "{name}": {error}') from error
    except Exception as error:  # a user's own function may raise anything
        raise InputError(f'curator "{name}" failed: {type(error).__name__}: {brief(error, 200)}') from error
    if not isinstance(answer, Dropped | Drawn | Weighted):
        answer = Dropped(answer)
    _check_answer(name, answer, len(table))
    return answer


def _check_answer(name: str, answer: Dropped | Drawn | Weighted, rows: int) -> None:
    if answer.scores is not None and np.shape(answer.scores) != (rows,):
        raise InputError(f'curator "{name}" must give one score for each of {rows:,} rows, or none')
    if isinstance(answer, Weighted):
        given = np.asarray(answer.weights)
        if given.shape != (rows,) or given.dtype.kind != "f" or not (np.isfinite(given) & (given >= 0)).all():
            raise InputError(f'curator "{name}" must give one finite weight of at least 0 for each of {rows:,} rows')
        return
    if isinstance(answer, Drawn):
        drawn = np.asarray(answer.rows)
        if drawn.ndim != 1 or drawn.dtype.kind not in "iu" or not ((drawn >= 0) & (drawn < rows)).all():
            raise InputError(f'curator "{name}" must draw rows by whole numbers from 0 to {rows - 1:,}')
        return
    why = answer.reasons
    several = isinstance(why, Sequence) and not isinstance(why, str) and len(why) == rows
    if not several or not all(each is None or isinstance(each, str | CopyOf) for each in why):
        raise InputError(
            f'curator "{name}" must return one reason or None for each of {rows:,} rows, or Drawn(rows) to draw some'
        )
    if not all(0 <= each.row < rows for each in why if isinstance(each, CopyOf)):
        raise InputError(f'curator "{name}" names a copy of a row that is none of the {rows:,} of the table')
