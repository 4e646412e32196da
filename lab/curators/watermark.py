"""The detection of watermarks: z of rows and corpora, power by row length, and the rule that drops marked rows.

Everything is counted over distinct pairs of context and token.  A pair that comes again says nothing new, and with
all pairs the z of a human corpus has a standard deviation of 7 over keys instead of 1.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from lab.config.watermark import WatermarkConfig
from lab.curators.evaluation import auc, threshold
from lab.curators.marks import NGRAM, TournamentBits, context_hashes, green_lists, green_size, layer_keys
from lab.curators.table import Dropped, Table, needs
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


def counted(texts: Sequence[NDArray[np.integer]], settings: Mapping[str, Any], vocabulary: int) -> Counts:
    """Count texts under the settings of a mark (`WatermarkConfig.settings`)."""
    if settings["scheme"] == "kgw":
        return count_green(texts, vocabulary=vocabulary, ratio=settings["ratio"], key=settings["key"])
    return count_bits(texts, layers=settings["layers"], key=settings["key"])


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
    human: NDArray[np.integer],
    marked: NDArray[np.integer],
    lengths: Sequence[int],
    fpr: float,
    *,
    settings: Mapping[str, Any],
    vocabulary: int,
) -> list[dict[str, float]]:
    """Return, for rows cut to each length, the threshold on human rows at this FPR and the share of marked rows found.

    `settings` are those of the mark: `WatermarkConfig.settings`.
    """
    found = []
    for length in lengths:
        ours, theirs = (counted(rows_as_texts(rows[:, :length]), settings, vocabulary).z for rows in (human, marked))
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


@needs("trusted", "mark")
def watermarked(
    table: Table,
    *,
    rng: np.random.Generator,
    fpr: float | None = None,
    z: float | None = None,
    scheme: str | None = None,
    key: int | None = None,
    ratio: float | None = None,
    layers: int | None = None,
) -> Dropped:
    """Drop a row whose z under a key is above that of all but a share `fpr` (0.01) of trusted rows, or above `z`.

    Scheme, key, ratio and layers are those of the study's own mark where none are given.  Rows of documents are
    compared with trusted rows of their length (see `thresholds`).

    Raises:
        InputError: there is no key, both fpr and z are given, or an option is outside its range.
    """
    settings = _settings(table, scheme=scheme, key=key, ratio=ratio, layers=layers)
    level = _level(fpr, z)
    texts, trusted = (rows_as_texts(rows.tokens, rows.lengths) for rows in (table, table.own))
    if not trusted:
        raise InputError("watermarked has no trusted row to compare with: raise corpus.tokens, or add text")

    def scored(some: Sequence[NDArray[np.integer]]) -> Floats:
        return counted(some, settings, table.vocabulary).z

    sizes = {size_of(text) for text in (*texts, *trusted)}
    cuts = dict.fromkeys(sizes, float(z)) if z is not None else thresholds(trusted, sizes, level, scored)
    mine, human = scored(texts), scored(trusted)
    above = [x > cuts[size_of(text)] for x, text in zip(human, trusted, strict=True)]
    facts = {"trusted_rows": len(trusted), "trusted_above": float(np.mean(above)), **_named(cuts)}
    reasons = [
        f"z > {cuts[size_of(text)]:.2f}" if x > cuts[size_of(text)] else None  # z itself is the score of the row
        for x, text in zip(mine, texts, strict=True)
    ]
    return Dropped(reasons, facts if z is not None else {"fpr": level, **facts}, mine)


def size_of(text: NDArray[np.integer]) -> int:
    """Return the largest power of 2 that is at most the length of a text; 1 for an empty one."""
    return 1 << (max(1, len(text)).bit_length() - 1)


def thresholds(
    human: Sequence[NDArray[np.integer]],
    sizes: Iterable[int],
    fpr: float,
    scored: Callable[[Sequence[NDArray[np.integer]]], Floats],
) -> dict[int, float]:
    """Return the threshold of texts of each size (see `size_of`), from the human texts of that size.

    The luck of a key with human text grows with its length, so that one threshold for all lengths would drop long
    human texts and keep short marked ones.  Where fewer than 1 / fpr human texts are of a size, longer ones are cut to
    it; a size beyond the longest human text gets the threshold of the longest.  If there are still fewer than 1 / fpr,
    the threshold is the highest of them, whose rate on other human text is about 1 / (texts + 1).
    """
    longest = max(map(size_of, human))
    found = {}
    for size in sorted(sizes):
        own = min(size, longest)
        same = [text for text in human if size_of(text) == own]
        if len(same) < 1 / fpr:
            same = [text[: 2 * own - 1] for text in human if size_of(text) >= own]
        scores = scored(same)
        scores = scores[np.isfinite(scores)]
        found[size] = threshold(scores, fpr) if len(scores) else math.inf
    return found


def _named(cuts: Mapping[int, float]) -> dict[str, float]:
    """Return thresholds by name: threshold where all rows are of one size, else threshold_64 for 64 to 127 tokens."""
    finite = {size: cut for size, cut in cuts.items() if math.isfinite(cut)}
    return {"threshold" if len(cuts) == 1 else f"threshold_{size}": cut for size, cut in sorted(finite.items())}


def _settings(table: Table, **given: Any) -> dict[str, Any]:
    """Return the settings by which rows are scored: those given, and the rest as the study marks its own text."""
    given = {name: value for name, value in given.items() if value is not None}
    scheme = given.get("scheme", table.mark.get("scheme", "kgw"))
    own = table.mark if table.mark.get("scheme") == scheme else {}
    fields = {name: own[name] for name in ("key", "ratio", "layers") if name in own} | given | {"scheme": scheme}
    if "key" not in fields:
        raise InputError(
            f"watermarked has no key: sample.watermark {'is of another scheme' if table.mark else 'marks no text'}; "
            "write {watermarked: {scheme: kgw, key: 15485863}} with the key of the mark"
        )
    try:
        settings = WatermarkConfig.model_validate(fields).settings
    except ValidationError as error:
        fault = error.errors()[0]
        value = f"{fault['loc'][0]} is {fault['input']}: " if fault["loc"] else ""
        raise InputError(f"watermarked: {value}{fault['msg'].removeprefix('Value error, ')}") from error
    if scheme == "kgw" and not green_size(table.vocabulary, settings["ratio"]):
        raise InputError(
            f"watermarked: ratio {settings['ratio']:g} of a vocabulary of {table.vocabulary} is a list of no token"
        )
    return settings


def _level(fpr: float | None, z: float | None) -> float:
    """Return the share of trusted rows that may lie above the threshold.  InputError for both fpr and z."""
    for name, value in (("fpr", fpr), ("z", z)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise InputError(f"watermarked: {name} is {value}; it is a number")
    if fpr is not None and z is not None:
        raise InputError(f"watermarked: fpr is {fpr:g} and z is {z:g}; give one of them: fpr finds z on trusted rows")
    if not math.isfinite(z or 0) or not 0 < (0.01 if fpr is None else fpr) < 1:
        raise InputError(f"watermarked: fpr is {fpr} and z is {z}; fpr is above 0 and below 1, z is finite")
    return 0.01 if fpr is None else float(fpr)
