"""Curators that read the judge: a model of their own, fitted to human text that no generation is trained on.

The judge's loss is no mark of the machine by itself.  At temperature 1 the text of a small model costs the judge more
than human text does; at low temperatures it costs less; in between there is a temperature at which it is blind.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lab.curators.table import Dropped, Table, nats_of, needs
from lab.errors import InputError


@needs("trusted", "judge")
def band(table: Table, *, rng: np.random.Generator, low: float = 0.01, high: float = 0.99) -> Dropped:
    """Drop a row that costs the judge less per token than the share `low` of trusted rows do, or more than `high` do.

    With low: 0 only costly rows are dropped, with high: 1 only cheap ones.

    Raises:
        InputError: the quantiles are not 0 <= low < high <= 1.
    """
    if any(isinstance(q, bool) or not isinstance(q, int | float) for q in (low, high)) or not 0 <= low < high <= 1:
        raise InputError(f"band: low is {low} and high is {high}; quantiles of trusted text, 0 <= low < high <= 1")
    trusted, mine = table.own.mean("nats"), table.mean("nats")
    least = -np.inf if low == 0 else np.quantile(trusted, low)
    most = np.inf if high == 1 else np.quantile(trusted, high)
    reasons = [f"loss < {least:.2f}" if x < least else f"loss > {most:.2f}" if x > most else None for x in mine]
    bounds = {name: float(value) for name, value in (("low", least), ("high", most)) if np.isfinite(value)}
    return Dropped(reasons, bounds, mine)


@needs("judge")
def best(table: Table, *, rng: np.random.Generator, keep: float, register: str = "") -> Dropped:
    """Keep the share of rows that cost the judge least per token: best of 1 / keep, by a verifier.

    What the verifier prefers is what the next generations become (Yi et al. 2026): text near its own centre.  With
    register, the name of a domain, it is a narrow verifier: its judge is fitted to human rows of that domain alone.

    Raises:
        InputError: keep is not above 0 and at most 1, or register is no name.
    """
    if not isinstance(register, str):
        raise InputError(f"best: register is {register}; it is the name of a domain of the corpus")
    if isinstance(keep, bool) or not isinstance(keep, int | float) or not 0 < keep <= 1:
        raise InputError(f"best: keep is {keep}; it is the share of rows that stay, above 0 and at most 1")
    mine = table.mean(nats_of(register))
    kept = _first(mine, max(1, round(keep * len(table))))
    most = float(mine[kept].max())
    return Dropped(
        [None if stays else f"loss > {most:.2f}" for stays in kept],
        {"most": most},
        mine,
    )


def _first(scores: NDArray[np.float64], count: int) -> NDArray[np.bool_]:
    """Return which are the `count` lowest; of equal ones the first."""
    chosen = np.zeros(len(scores), np.bool_)
    chosen[np.argsort(scores, kind="stable")[:count]] = True
    return chosen
