"""How the next generation's training text is put together: (lineage, rng, options) -> Recipe.

A regime sees sizes, origins and a generator.  It never sees text, and never held-out data.
With no synthetic text every regime is the human rows: that is generation 0, computed once for all of them.
Options are keyword arguments, given in a study as `{mix: {human: 0.25}}`.
To add one, write a function like these and give it a row in REGIMES, or name it "package.module:function".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lab.errors import InputError
from lab.lookup import check_options, lookup
from lab.recipe import Lineage, Part, Recipe, Source
from lab.seeds import derive_seed, generator

DRIFT = 0.01
"""A share of rows may differ by so much from what was asked."""


class NoChance(np.random.Generator):
    """Stands in for chance where only the number of rows is asked: the lab's regimes then take the first ones."""

    def __init__(self) -> None:
        super().__init__(np.random.Philox(key=0))


def human(lineage: Lineage, *, rng: np.random.Generator) -> Recipe:
    """The control: the human rows again, so that only chance in training differs between generations."""
    return Recipe((Part.whole(lineage.human),))


def replace(lineage: Lineage, *, rng: np.random.Generator) -> Recipe:
    """The newest sample only (Shumailov et al. 2023)."""
    newest = lineage.samples[-1] if lineage.samples else lineage.human
    return Recipe((Part.whole(newest),))


def accumulate(lineage: Lineage, *, rng: np.random.Generator) -> Recipe:
    """The human rows and every sample so far (Gerstgrasser et al. 2024).  Grows by a sample each generation."""
    return Recipe(tuple(Part.whole(source) for source in (lineage.human, *lineage.samples)))


def accumulate_subsample(lineage: Lineage, *, rng: np.random.Generator) -> Recipe:
    """As many rows as human ones, drawn from the accumulated pool without replacement (Kazdan et al. 2024)."""
    if not lineage.samples:
        return human(lineage, rng=rng)
    return Recipe(tuple(_subsample((lineage.human, *lineage.samples), lineage.human.rows, rng)))


def last_k(lineage: Lineage, *, rng: np.random.Generator, k: int) -> Recipe:
    """The newest k samples, all of them whole; fewer while there are fewer (Seddik et al. 2024)."""
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
    """As many rows as there are human ones: a share of human rows, one of older samples, the rest from the newest.

    human : newest : older is alpha : beta : gamma of Drayson et al. 2025; newest = 1 - human - older.  All rows are
    drawn without replacement.  Human rows are a draw from the seed's own (replayed: over the generations they come
    again), or `fresh` ones from the archive, where each generation takes the next rows and none comes twice; when the
    archive is used up `repeat_human` begins it again, and without it that is an error.  While only one sample exists
    the older share goes to the newest.
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


def _subsample(sources: tuple[Source, ...], rows: int, rng: np.random.Generator) -> list[Part]:
    """So many rows of these corpora together, drawn uniformly without replacement."""
    bounds = np.cumsum([0, *(source.rows for source in sources)])
    _need(rows <= bounds[-1], f"{rows:,} rows were asked for of {bounds[-1]:,}; raise sample.tokens or lower the share")
    if rows == bounds[-1]:
        return [Part.whole(source) for source in sources if source.rows]
    if isinstance(rng, NoChance):
        cut = np.minimum(bounds, rows)
        return [Part(s.origin, 0, int(n)) for s, n in zip(sources, np.diff(cut), strict=True) if n]
    # Small numbers move faster than int64 in a shuffle, which draws the same.
    order = np.arange(bounds[-1], dtype=np.uint32 if bounds[-1] < 2**32 else np.int64)
    rng.shuffle(order)
    drawn = np.sort(order[:rows])
    cut = np.searchsorted(drawn, bounds)
    chosen = [drawn[cut[i] : cut[i + 1]] - bounds[i] for i in range(len(sources))]
    return [Part.some(source.origin, rows) for source, rows in zip(sources, chosen, strict=True) if len(rows)]


def _fresh(lineage: Lineage, rows: int, repeat: bool) -> list[Part]:
    """The archive's next rows: generation 1 takes the first `rows`, generation 2 the next."""
    archive, used = lineage.archive, lineage.samples[-1].origin * rows
    have = archive.rows if archive else 0
    if archive is None or have < rows or (have < used + rows and not repeat):
        raise InputError(
            f"mix: generation {lineage.samples[-1].origin + 1} needs {rows:,} fresh human rows after the {used:,} used "
            f"before it, and the archive has {have:,}: raise corpus.archive_tokens to "
            f"{used + rows:,} x model.n_positions, or set repeat_human: true, or fresh: false to replay"
        )
    first = used % have
    parts = [Part(archive.origin, first, min(first + rows, have))]
    return parts + ([Part(archive.origin, 0, first + rows - have)] if first + rows > have else [])


def _need(condition: bool, message: str) -> None:
    if not condition:
        raise InputError(message)


RegimeFunction = Callable[..., Recipe]


@dataclass(frozen=True)
class Regime:
    """A regime and the newest samples it reads: what it does not read, its training does not wait for."""

    pool: RegimeFunction
    reads: Callable[[Mapping[str, Any]], int | None]
    """From its options, how many of the newest samples it looks at; None: all."""
    archive: Callable[[Mapping[str, Any]], bool] = lambda options: False
    """From its options, whether it takes rows of the archive."""


REGIMES = {
    "human": Regime(human, reads=lambda options: 0),
    "replace": Regime(replace, reads=lambda options: 1),
    "accumulate": Regime(accumulate, reads=lambda options: None),
    "accumulate_subsample": Regime(accumulate_subsample, reads=lambda options: None),
    "mix": Regime(
        mix,
        reads=lambda options: None if options.get("older") else 1,
        archive=lambda options: bool(options.get("fresh")),
    ),
    "last_k": Regime(last_k, reads=lambda options: options["k"]),
}


def regime(name: str) -> Regime:
    """The named regime; a function of the user's own is taken to read every sample and the archive."""
    found = lookup("regime", name, REGIMES)
    if isinstance(found, Regime):
        return found
    return Regime(found, reads=lambda options: None, archive=lambda options: True)


def check_regime(name: str, options: Mapping[str, Any]) -> None:
    """Check a regime's options.  InputError for an unknown one, or one that is needed and not given."""
    check_options("regime", name, regime(name).pool, options, leading="lineage")


def visible(name: str, options: Mapping[str, Any], samples: int) -> range:
    """Generations whose samples it reads, of `samples` that exist: visible("replace", {}, 3) == range(2, 3)."""
    reads = regime(name).reads(options)
    return range(samples if reads == 0 else 0 if reads is None else max(0, samples - reads), samples)


def recipe_rows(name: str, options: Mapping[str, Any], lineage: Lineage, seed: int, t: int) -> int:
    """Rows of the recipe of generation t, without drawing them for one of the lab's regimes; InputError as `recipe`."""
    if name in REGIMES:
        return _looked_over(name, options, lineage, NoChance()).rows
    return recipe(name, options, lineage, seed, t).rows


def recipe(name: str, options: Mapping[str, Any], lineage: Lineage, seed: int, t: int) -> Recipe:
    """What generation t is trained on: the regime's answer, looked over.  InputError when it is none."""
    return _looked_over(name, options, lineage, generator(derive_seed(seed, t, "pool")))


def _looked_over(name: str, options: Mapping[str, Any], lineage: Lineage, rng: np.random.Generator) -> Recipe:
    found = regime(name).pool(lineage, rng=rng, **options)
    if not isinstance(found, Recipe) or found.rows == 0:
        raise InputError(f'regime "{name}" returned {found!r:.80}, not a Recipe with at least one row')
    sources = (lineage.human, *lineage.samples, *([lineage.archive] if lineage.archive else []))
    rows = {source.origin: source.rows for source in sources}
    for part in found.parts:
        if part.stop > rows.get(part.origin, 0):
            raise InputError(f'regime "{name}" asks for {part}, but the rows there are {rows} by origin')
    return found
