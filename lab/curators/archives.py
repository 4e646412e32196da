"""The archive: human rows that a study reserves, and that join the pools of later generations until they are used up.

Whoever keeps an archive knows that it is human, because he laid it down himself.  Nothing here reads a pool.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lab.errors import InputError

RELEASES = ("random", "oldest", "need")


@dataclass(frozen=True)
class Held:
    """What an archive holds before a generation."""

    left: NDArray[np.int64]
    """Numbers of the rows that no generation has had yet, in the archive's order: [L]."""
    modes: Sequence[str] = ()
    """The mode (domain) of each of them, where the release reads it."""
    need: Mapping[str, float] = field(default_factory=dict)
    """Mode -> how much it is needed (`needs_by_mode`).  A mode without an entry is not needed."""


@dataclass(frozen=True)
class Released:
    """What a generation gets of an archive."""

    rows: NDArray[np.int64]
    """Numbers of rows of the archive."""
    facts: Mapping[str, float]
    """Rows released and left, and by mode its need and its rows."""


def archive(held: Held, *, rng: np.random.Generator, rows: int, budget: int, release: str = "random") -> Released:
    """Add `rows` human rows of the archive to the pool of each generation, each row once, until `budget` rows are used.

    release random draws them; oldest takes the archive's order, first in, first out, which is no order of dates; need
    takes more of the domains whose validation loss has risen more since generation 0, in proportion to
    (loss - loss_0) / loss_0 between 0 and 1, and draws where none has.  The rows are the last ones of
    corpus.archive_tokens, and no regime is given them.  Rules that follow see them as any other rows.  It comes first.

    Raises:
        InputError: an option is impossible.
    """
    for name, value in (("rows", rows), ("budget", budget)):
        if type(value) is not int or value < 1:
            raise InputError(f"archive: {name} is {value}; it is a whole number of rows, at least 1")
    if rows > budget:
        raise InputError(f"archive: rows is {rows:,} per generation, more than its budget of {budget:,} in all")
    if release not in RELEASES:
        raise InputError(f"archive: release is {release}; allowed: {', '.join(RELEASES)}")
    count, facts = min(rows, len(held.left)), dict[str, float]()
    if release == "oldest":
        chosen = held.left[:count]
    elif release == "random":
        chosen = rng.permutation(held.left)[:count]
    else:
        chosen = _by_need(held, count, rng)
        given = Counter(np.array(held.modes)[np.isin(held.left, chosen)].tolist())
        facts |= {f"need {mode}": need for mode, need in held.need.items()}
        facts |= {f"rows {mode}": float(given[mode]) for mode in sorted({*held.modes, *held.need})}
    return Released(np.sort(chosen), {"released": float(count), "left": float(len(held.left) - count), **facts})


def needs_by_mode(now: NDArray[np.float64], first: NDArray[np.float64], modes: Sequence[str]) -> dict[str, float]:
    """Return mode -> (loss now - loss in generation 0) / loss in generation 0, between 0 and 1.

    Args:
        now: the loss of each validation row, summed over its tokens, under the newest models: [N].
        first: the same under the models of generation 0.
        modes: the mode of each row.

    A loss that has become infinite is a need of 1.
    """
    names = np.array(modes)
    found = {}
    for mode in sorted(set(modes)):
        then = first[names == mode].sum()
        with np.errstate(invalid="ignore"):
            found[mode] = float(np.clip(np.nan_to_num((now[names == mode].sum() - then) / then, posinf=1.0), 0, 1))
    return found


def _by_need(held: Held, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return rows of the modes in proportion to their need, as far as a mode has rows; others drawn from all."""
    order = rng.permutation(len(held.left))
    modes = np.array(held.modes)[order]
    quota = shared_out({m: held.need.get(m, 0.0) for m in set(held.modes)}, Counter(held.modes), count)
    taken = np.zeros(len(order), np.bool_)
    for mode, rows in quota.items():
        taken[np.flatnonzero(modes == mode)[:rows]] = True
    taken[np.flatnonzero(~taken)[: count - int(taken.sum())]] = True
    return np.asarray(held.left[order[taken]])


def shared_out(need: Mapping[str, float], free: Mapping[str, int], count: int) -> dict[str, int]:
    """Return mode -> rows in proportion to its need, at most those that are free; in all `count`, or fewer.

    Each next row goes to the mode with free rows that lacks the most of its share, the first by name among equals.
    shared_out({"a": 0.2, "b": 0.1}, {"a": 9, "b": 9}, 6) -> {"a": 4, "b": 2}
    """
    quota = dict.fromkeys(sorted(need), 0)
    for _ in range(count):
        able = [mode for mode in quota if need[mode] > 0 and quota[mode] < free[mode]]
        if not able:
            break
        whole = sum(need[mode] for mode in able)
        done = sum(quota[mode] for mode in able)
        lack = {mode: need[mode] / whole * (done + 1) - quota[mode] for mode in able}
        quota[max(able, key=lambda mode: lack[mode])] += 1
    return quota
