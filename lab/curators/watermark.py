"""The detection of watermarks: z of rows and corpora, power by row length, and the rule that drops marked rows.

Everything is counted over distinct pairs of context and token.  A pair that comes again says nothing new, and with
all pairs the z of a human corpus has a standard deviation of 7 over keys instead of 1.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lab.curators.evaluation import auc, threshold
from lab.curators.marks import NGRAM, TournamentBits, context_hashes, green_lists, layer_keys
from lab.curators.table import Table
from lab.errors import InputError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Counts:
    """What a key finds in some texts, one entry a text."""

    scored: NDArray[np.int64]
    """Distinct pairs, times layers for SynthID."""
    found: NDArray[np.int64]
    """Those that are green, or whose bit is 1."""
    share: float
    """Share of `found` that unmarked text has on average over keys."""

    @property
    def z(self) -> Floats:
        """Return how many standard deviations each text lies above unmarked text; NaN where nothing is scored."""
        with np.errstate(invalid="ignore", divide="ignore"):
            spread = np.sqrt(self.scored * self.share * (1 - self.share))
            return np.asarray((self.found - self.share * self.scored) / spread)


def count_green(texts: Sequence[NDArray[np.integer]], *, vocabulary: int, ratio: float, key: int) -> Counts:
    """Count the green tokens of texts under KGW, each text an array of tokens, over its distinct pairs.

    The first token of a text has no context that the text shows, and is not scored.  The share is that of the green
    list, int(vocabulary x ratio) / vocabulary, which is less than the ratio.
    """
    lists = green_lists(vocabulary, ratio, key)
    pairs = [np.unique(text[:-1].astype(np.int64) * vocabulary + text[1:]) for text in texts]
    codes, which = np.unique(np.concatenate([np.empty(0, np.int64), *pairs]), return_inverse=True)
    green = lists.holds(codes // vocabulary, codes % vocabulary)[which]
    ends = np.cumsum([0, *map(len, pairs)])
    found = [int(green[start:stop].sum()) for start, stop in itertools.pairwise(ends)]
    return Counts(np.diff(ends), np.array(found, np.int64), lists.share)


def count_bits(texts: Sequence[NDArray[np.integer]], *, layers: int, key: int) -> Counts:
    """Count the bits of SynthID in texts, over the distinct windows of five tokens of each.

    The layers are shifts of one table, so that z has a spread near 1 and not 1: calibrate it on human rows.
    """
    bits = TournamentBits(layer_keys(key, layers))
    scored, found = [], []
    for text in texts:
        long = np.pad(text, (0, max(0, NGRAM - len(text))))
        windows = np.unique(np.lib.stride_tricks.sliding_window_view(long, NGRAM), axis=0)
        if len(text) < NGRAM:
            windows = windows[:0]
        scored.append(layers * len(windows))
        found.append(int(bits.of(context_hashes(windows[:, :-1]), windows[:, -1]).sum()))
    return Counts(np.array(scored, np.int64), np.array(found, np.int64), bits.mean)


def rows_as_texts(rows: NDArray[np.integer], lengths: NDArray[np.integer] | None = None) -> list[NDArray[np.integer]]:
    """Return the text of each row: its first tokens."""
    return [row if lengths is None else row[: lengths[number]] for number, row in enumerate(rows)]


def corpus_z(rows: NDArray[np.integer], *, vocabulary: int, ratio: float, key: int) -> float:
    """Return KGW's z of a whole corpus [N, T], over the distinct pairs of all its rows.

    Radioactivity (Sander et al. 2024) is this number of unmarked samples of a model, beside that of the paired chain
    that never saw a mark.  Never leave out pairs that stand in the marked text: it holds the green ones.
    """
    first, second = rows[:, :-1].astype(np.int64).ravel(), rows[:, 1:].astype(np.int64).ravel()
    codes = np.unique(first * vocabulary + second)
    lists = green_lists(vocabulary, ratio, key)
    found = int(lists.holds(codes // vocabulary, codes % vocabulary).sum())
    return float(Counts(np.array([len(codes)]), np.array([found]), lists.share).z[0])


def power(
    human: NDArray[np.integer], marked: NDArray[np.integer], lengths: Sequence[int], fpr: float, **settings: Any
) -> list[dict[str, float]]:
    """Return, for rows cut to each length, the threshold on human rows at this FPR and the share of marked rows found.

    `settings` are those of `count_green`.
    """
    found = []
    for length in lengths:
        ours, theirs = (count_green(rows_as_texts(rows[:, :length]), **settings).z for rows in (human, marked))
        cut = threshold(ours, fpr)
        found.append(
            {"length": length, "threshold": cut, "tpr": float((theirs > cut).mean()), "auc": auc(ours, theirs)}
        )
    return found


def edited(rows: NDArray[np.integer], share: float, vocabulary: int, rng: np.random.Generator) -> NDArray[np.integer]:
    """Return rows in which this share of all tokens, drawn at random, is replaced by uniform tokens.

    Of a mark's pairs about (1 - share)^2 stay: an edit breaks the pair that ends in it and the one that begins in it.
    """
    replaced = rng.random(rows.shape) < share
    return np.where(replaced, rng.integers(0, vocabulary, rows.shape), rows).astype(rows.dtype)


def watermarked(
    table: Table,
    *,
    rng: np.random.Generator,
    z: float,
    vocabulary: int = 0,
    scheme: str = "kgw",
    ratio: float = 0.25,
    layers: int = 9,
    key: int = 15485863,
) -> list[str | None]:
    """Drop rows whose z under a key is above a threshold, which is best calibrated on human rows of that key.

    kgw needs the size of the model's vocabulary.

    Raises:
        InputError: an option is outside its range, or a token lies outside the vocabulary.
    """
    _check(table, z, vocabulary, scheme, ratio, layers, key)
    texts = rows_as_texts(table.tokens, table.lengths)
    if scheme == "kgw":
        counts = count_green(texts, vocabulary=vocabulary, ratio=ratio, key=key)
    else:
        counts = count_bits(texts, layers=layers, key=key)
    return [f"z {score:.2f} > {z:g}" if score > z else None for score in counts.z]


def _check(table: Table, z: float, vocabulary: int, scheme: str, ratio: float, layers: int, key: int) -> None:
    """Check the options of `watermarked`."""
    numbers = {"z": z, "vocabulary": vocabulary, "ratio": ratio, "layers": layers, "key": key}
    if wrong := [
        name for name, value in numbers.items() if isinstance(value, bool) or not isinstance(value, int | float)
    ]:
        raise InputError(f"watermarked: {wrong[0]} is {numbers[wrong[0]]}; it is a number")
    if scheme not in ("kgw", "synthid"):
        raise InputError(f'watermarked: scheme is "{scheme}"; it is kgw or synthid')
    for name, (least, most) in {"key": (1, 2**32 - 1), "layers": (1, 30)}.items():
        if not isinstance(numbers[name], int) or not least <= numbers[name] <= most:
            raise InputError(f"watermarked: {name} is {numbers[name]}; it is a whole number from {least} to {most:,}")
    if not math.isfinite(z) or not 0.01 <= ratio <= 0.99:
        raise InputError(f"watermarked: z is {z} and ratio {ratio}; z is finite and ratio from 0.01 to 0.99")
    if scheme == "kgw" and (not isinstance(vocabulary, int) or int(vocabulary * ratio) < 1):
        raise InputError(
            f"watermarked: vocabulary is {vocabulary}; kgw needs the entries of the model's vocabulary, as a whole "
            "number, and ratio of them at least one"
        )
    if scheme == "kgw" and len(table) and (most := int(table.tokens.max())) >= vocabulary:
        raise InputError(
            f"watermarked: a token is {most}, outside vocabulary {vocabulary:,}: give the model's own size"
        )
