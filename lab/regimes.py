"""How the next generation's training text is put together: (lineage, rng) -> Recipe.

A regime sees sizes, origins and a generator.  It never sees text, and never held-out data.
With no synthetic text every regime is the human rows: that is generation 0, computed once for all of them.
To add one, write a function like these and give it a row in REGIMES, or name it "package.module:function".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lab.lookup import lookup
from lab.types import Lineage, Part, Recipe


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


RegimeFunction = Callable[..., Recipe]


@dataclass(frozen=True)
class Regime:
    """A regime and the newest samples it reads: what it does not read, its training does not wait for."""

    pool: RegimeFunction
    reads: int | None
    """How many of the newest samples it looks at; None: all."""


REGIMES = {
    "human": Regime(human, reads=0),
    "replace": Regime(replace, reads=1),
    "accumulate": Regime(accumulate, reads=None),
}


def regime(name: str) -> Regime:
    """The named regime; a function of the user's own is taken to read every sample."""
    found = lookup("regime", name, REGIMES)
    return found if isinstance(found, Regime) else Regime(found, reads=None)


def visible(name: str, samples: int) -> range:
    """Generations whose samples the regime reads, of `samples` that exist: visible("replace", 3) == range(2, 3)."""
    reads = regime(name).reads
    return range(samples if reads == 0 else 0 if reads is None else max(0, samples - reads), samples)
