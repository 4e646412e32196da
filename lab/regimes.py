"""Regimes: functions (lineage, rng, options) -> Recipe that decide what the next generation is trained on.

A regime sees sizes, origins and a generator of random numbers.  It never sees text, and never held-out data.
Without synthetic text every regime gives the human rows.  That is generation 0, computed once for all regimes.
Options are keyword arguments, which a study gives as `{mix: {human: 0.25}}`.
To add a regime, write a function like these and give it a row in REGIMES, or name it "package.module:function".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lab.errors import InputError
from lab.lookup import check_options, lookup
from lab.recipe import ARCHIVE, Lineage, OnTable, Part, Recipe
from lab.seeds import derive_seed, generator

DRIFT = 0.01
"""Largest difference between the share of rows that was asked for and the share in whole rows."""


class NoChance(np.random.Generator):
    """A generator in place of chance, for calls that need the number of rows only: regimes then take the first rows."""

    def __init__(self) -> None:
        super().__init__(np.random.Philox(key=0))


def human(lineage: Lineage, *, rng: np.random.Generator) -> Recipe:
    """Return the human rows again: the control, in which only chance in training differs between generations."""
    return Recipe((Part.whole(lineage.human),))


def replace(lineage: Lineage, *, rng: np.random.Generator) -> Recipe:
    """Return the newest sample only (Shumailov et al. 2023)."""
    newest = lineage.samples[-1] if lineage.samples else lineage.human
    return Recipe((Part.whole(newest),))


def accumulate(lineage: Lineage, *, rng: np.random.Generator) -> Recipe:
    """Return the human rows and every sample so far, one sample more per generation (Gerstgrasser et al. 2024)."""
    return Recipe(tuple(map(Part.whole, (lineage.human, *lineage.samples))))


def accumulate_subsample(lineage: Lineage, *, rng: np.random.Generator) -> Recipe:
    """Return as many rows as there are human ones, drawn without replacement from all so far (Kazdan et al. 2024)."""
    if not lineage.samples:
        return human(lineage, rng=rng)
    return Recipe(tuple(_subsample((lineage.human, *lineage.samples), lineage.human.rows, rng)))


def augment(lineage: Lineage, *, rng: np.random.Generator) -> Recipe:
    """Return all human rows and the newest sample, a size that grows no further (Alemohammad et al. 2023).

    They call it the synthetic augmentation loop.  Drayson et al. 2025 train on this too.
    """
    return Recipe(tuple(map(Part.whole, (lineage.human, *lineage.samples[-1:]))))


def last_k(lineage: Lineage, *, rng: np.random.Generator, k: int) -> Recipe:
    """Return the newest k samples, each of them whole, or all while there are fewer (Seddik et al. 2024)."""
    _need(type(k) is int and k >= 1, f"last_k: k is {k}; it must be a whole number of at least 1")
    return Recipe(tuple(map(Part.whole, lineage.samples[-k:] or (lineage.human,))))


def mix(
    lineage: Lineage,
    *,
    rng: np.random.Generator,
    human: float,
    older: float = 0.0,
    fresh: bool = False,
    repeat_human: bool = False,
) -> Recipe:
    """Return as many rows as there are human ones: shares of human rows and of older samples, the rest from the newest.

    human : newest : older is alpha : beta : gamma of Drayson et al. 2025, with newest = 1 - human - older.  All rows
    are drawn without replacement.  While only one sample exists, the older share is taken from the newest.

    Args:
        lineage: All text so far.
        rng: The generator of random numbers.
        human: The share of human rows, drawn from the seed's own, so that the same rows return over the generations.
        older: The share of rows from all samples except the newest.
        fresh: Take human rows from the archive instead.  Each generation takes the next rows, and none comes twice.
        repeat_human: Begin the archive again when it is used up, which is an error otherwise.

    Raises:
        InputError: the shares are impossible, or the archive is used up.
    """
    numbers = all(type(share) in (int, float) for share in (human, older))
    newest = 1 - human - older if numbers else -1
    _need(type(fresh) is type(repeat_human) is bool, "mix: fresh and repeat_human are true or false")
    _need(
        numbers and min(human, older) >= 0 and newest >= -1e-9,
        f"mix: human {human} and older {older} are shares of at least 0 with a sum of at most 1",
    )
    if not lineage.samples:
        return Recipe((Part.whole(lineage.human),))
    total, samples = lineage.human.rows, lineage.samples
    from_human = round(human * total)
    # Two halves that both round up are one row too many.
    from_older = min(round(older * total), total - from_human) if len(samples) > 1 else 0
    for kind, asked, rows in (("human", human, from_human), ("older", older, round(older * total))):
        _need(
            abs(rows / total - asked) <= DRIFT,
            f"mix: {asked:.1%} {kind} of {total} rows is {rows / total:.1%} in whole rows; raise corpus.tokens",
        )
    parts = _fresh(lineage, from_human, repeat_human) if fresh else _subsample((lineage.human,), from_human, rng)
    parts += _subsample(samples[-1:], total - from_human - from_older, rng)
    return Recipe(tuple(parts + _subsample(samples[:-1], from_older, rng)))


def web(
    lineage: Lineage,
    *,
    rng: np.random.Generator,
    machine: float,
    ramp: int = 1,
    size: float = 1.0,
    older: float = 0.0,
    repeat_human: bool = False,
) -> Recipe:
    """Return a crawl of an unlabelled web: machine text whose share grows over the generations, and fresh human text.

    The crawl of generation t has size x (human rows) rows.  A share machine x min(1, t / ramp) of them is generated.
    The rest are the archive's next human rows.  Whoever curates the crawl does not learn which is which.

    Args:
        lineage: All text so far.
        rng: The generator of random numbers.
        machine: The share of generated rows once the ramp is over.
        ramp: The number of generations over which the share grows from 0.
        size: Rows of a crawl per human row of generation 0.
        older: The part of the generated rows that comes from all samples except the newest, while there are any.
        repeat_human: Begin the archive again when it is used up, which is an error otherwise.

    Raises:
        InputError: an option is impossible, or the archive or the samples are too small.
    """
    for name, share in (("machine", machine), ("older", older)):
        _need(type(share) in (int, float) and 0 <= share <= 1, f"web: {name} is {share}; it is a share from 0 to 1")
    _need(type(size) in (int, float) and 0 < size <= 1000, f"web: size is {size}; it is above 0 and at most 1000")
    _need(type(ramp) is int and ramp >= 1, f"web: ramp is {ramp}; it is a whole number of generations, at least 1")
    _need(type(repeat_human) is bool, "web: repeat_human is true or false")
    if not lineage.samples:
        return Recipe((Part.whole(lineage.human),))
    t, total = lineage.samples[-1].corpus + 1, max(1, round(size * lineage.human.rows))
    generated = [round(machine * min(1, s / ramp) * total) for s in range(1, t + 1)]
    asked = machine * min(1, t / ramp)
    _need(
        abs(generated[-1] / total - asked) <= DRIFT,
        f"web: {asked:.1%} machine text of {total} rows is {generated[-1] / total:.1%} in whole rows; raise "
        "corpus.tokens, or shorten the ramp",
    )
    used, rows = sum(total - each for each in generated[:-1]), total - generated[-1]
    have = lineage.archive.rows if lineage.archive else 0
    _need(
        rows <= have and (repeat_human or used + rows <= have),
        f"web: generation {t} needs {rows:,} fresh human rows after the {used:,} used before it, and the archive has "
        f"{have:,}: raise corpus.archive_tokens to {used + rows:,} x model.n_positions"
        + (", or set repeat_human: true" if rows <= have else ""),
    )
    old = round(older * generated[-1]) if len(lineage.samples) > 1 else 0
    parts = _subsample(lineage.samples[-1:], generated[-1] - old, rng) + _subsample(lineage.samples[:-1], old, rng)
    first = used % have if have else 0
    pieces = ((first, min(first + rows, have)), (0, first + rows - have))
    return Recipe(tuple(parts + [Part(ARCHIVE, start, stop) for start, stop in pieces if start < stop]))


def _subsample(table: tuple[OnTable, ...], rows: int, rng: np.random.Generator) -> list[Part]:
    """Return so many rows of these corpora together, drawn uniformly without replacement."""
    bounds = np.cumsum([0, *(each.rows for each in table)])
    _need(rows <= bounds[-1], f"{rows:,} rows were asked for of {bounds[-1]:,}; raise sample.tokens or lower the share")
    if rows == bounds[-1]:
        return [Part.whole(each) for each in table if each.rows]
    if isinstance(rng, NoChance):
        cut = np.minimum(bounds, rows)
        return [Part(each.corpus, 0, int(n)) for each, n in zip(table, np.diff(cut), strict=True) if n]
    # Small numbers move faster than int64 in a shuffle, which draws the same.
    order = np.arange(bounds[-1], dtype=np.uint32 if bounds[-1] < 2**32 else np.int64)
    rng.shuffle(order)
    drawn = np.sort(order[:rows])
    cut = np.searchsorted(drawn, bounds)
    chosen = [drawn[cut[i] : cut[i + 1]] - bounds[i] for i in range(len(table))]
    return [Part.some(each.corpus, rows) for each, rows in zip(table, chosen, strict=True) if len(rows)]


def _fresh(lineage: Lineage, rows: int, repeat: bool) -> list[Part]:
    """Return the archive's next rows: generation 1 takes the first `rows`, generation 2 the next."""
    newest = lineage.samples[-1].corpus
    archive, used = lineage.archive, newest * rows
    have = archive.rows if archive else 0
    if archive is None or have < rows or (have < used + rows and not repeat):
        raise InputError(
            f"mix: generation {newest + 1} needs {rows:,} fresh human rows after the {used:,} used "
            f"before it, and the archive has {have:,}: raise corpus.archive_tokens to "
            f"{used + rows:,} x model.n_positions, or set repeat_human: true, or fresh: false to replay"
        )
    first = used % have
    parts = [Part(archive.corpus, first, min(first + rows, have))]
    return parts + ([Part(archive.corpus, 0, first + rows - have)] if first + rows > have else [])


def _need(condition: bool, message: str) -> None:
    """Raise InputError with this message unless the condition holds."""
    if not condition:
        raise InputError(message)


@dataclass(frozen=True)
class Regime:
    """A regime, with the samples that it reads.  Training does not wait for samples that the regime does not read."""

    pool: Callable[..., Recipe]
    """The regime's function: (lineage, *, rng, **options) -> Recipe."""
    reads: Callable[[Mapping[str, Any]], int | None]
    """A function of the options: how many of the newest samples the regime reads.  None: all."""
    archive: Callable[[Mapping[str, Any]], bool] = lambda options: False
    """A function of the options: whether the regime takes rows of the archive."""


REGIMES = {
    "human": Regime(human, reads=lambda options: 0),
    "replace": Regime(replace, reads=lambda options: 1),
    "accumulate": Regime(accumulate, reads=lambda options: None),
    "accumulate_subsample": Regime(accumulate_subsample, reads=lambda options: None),
    "augment": Regime(augment, reads=lambda options: 1),
    "mix": Regime(
        mix,
        reads=lambda options: None if options.get("older") else 1,
        archive=lambda options: bool(options.get("fresh")),
    ),
    "last_k": Regime(last_k, reads=lambda options: options["k"]),
    "web": Regime(
        web,
        reads=lambda options: None if options.get("older") else 1,
        archive=lambda options: True,
    ),
}


def regime(name: str) -> Regime:
    """Return the named regime.  A function of the user's own is assumed to read every sample and the archive."""
    entry = lookup("regime", name, REGIMES)
    if isinstance(entry, Regime):
        return entry
    return Regime(entry, reads=lambda options: None, archive=lambda options: True)


def check_regime(name: str, options: Mapping[str, Any]) -> None:
    """Check a regime's options.  InputError for an unknown one, or one that is needed and not given."""
    check_options("regime", name, regime(name).pool, options, leading="lineage")


def visible(name: str, options: Mapping[str, Any], samples: int) -> range:
    """Return the generations whose samples a regime reads, of `samples` that exist.

    visible("replace", {}, 3) == range(2, 3)
    """
    reads = regime(name).reads(options)
    return range(samples if reads == 0 else 0 if reads is None else max(0, samples - reads), samples)


def recipe_rows(name: str, options: Mapping[str, Any], lineage: Lineage, seed: int, t: int) -> int:
    """Return the number of rows in the recipe of generation t.  Only a user's own regime has to draw them for that.

    Raises:
        InputError: the regime gives no valid recipe.
    """
    if name in REGIMES:
        return _checked(name, options, lineage, NoChance()).rows
    return recipe(name, options, lineage, seed, t).rows


def recipe(name: str, options: Mapping[str, Any], lineage: Lineage, seed: int, t: int) -> Recipe:
    """Return the recipe of generation t, checked.

    Raises:
        InputError: the regime gives no valid recipe.
    """
    return _checked(name, options, lineage, generator(derive_seed(seed, t, "pool")))


def _checked(name: str, options: Mapping[str, Any], lineage: Lineage, rng: np.random.Generator) -> Recipe:
    """Call a regime, and refuse an answer that is no recipe or names rows that no corpus on the table has.

    Who wrote the rows of a part is taken from the table: a regime has no say in it.
    """
    try:
        recipe = regime(name).pool(lineage, rng=rng, **options)
    except Exception as error:
        if name in REGIMES or isinstance(error, InputError):
            raise
        raise InputError(f'regime "{name}" fails: {type(error).__name__}: {error}') from error
    if not isinstance(recipe, Recipe) or recipe.rows == 0:
        raise InputError(f'regime "{name}" returned {recipe!r:.80}, not a Recipe with at least one row')
    table = {each.corpus: each for each in (lineage.human, *lineage.samples, lineage.archive) if each is not None}
    rows = {number: each.rows for number, each in table.items()}
    for part in recipe.parts:
        if part.stop > rows.get(part.corpus, 0):
            raise InputError(f'regime "{name}" asks for {part}, but the rows there are {rows} by corpus')
    return Recipe(tuple(part.written_by(table[part.corpus].origin) for part in recipe.parts))
