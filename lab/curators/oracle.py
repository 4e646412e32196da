"""The oracle: a curator that is told who wrote what, and errs as often as it is asked to.

It bounds what any filter can do.  It is the only one that is told; the list of these is lab.curators.TOLD.
"""

from __future__ import annotations

import numpy as np

from lab.curators.table import Labelled
from lab.errors import InputError


def oracle(table: Labelled, *, rng: np.random.Generator, human: float, machine: float) -> list[str | None]:
    """Keep exactly these shares of the human rows and of the machine's, drawn at random.

    Of a crawl with a human share h the human share of what is kept is h human / (h human + (1 - h) machine).

    Raises:
        InputError: a share is not from 0 to 1, or both are 0.
    """
    kept: set[int] = set()
    for name, share, mine in (("human", human, table.human), ("machine", machine, ~table.human)):
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
            raise InputError(f"oracle: {name} is {share}; it is the share of {name} rows that stay, from 0 to 1")
        if not human and not machine:
            raise InputError("oracle: human and machine are both 0, so that no row stays; raise one of them")
        rows = rng.permutation(np.flatnonzero(mine))
        kept.update(rows[: round(share * len(rows))].tolist())
    return [None if row in kept else "dropped by the oracle" for row in range(len(table))]


def check_shares(human: float, machine: float) -> None:
    """Raise InputError if no row would stay.  It is asked when a study is planned; see `lab.curators.check_curator`."""
    if not human and not machine:
        raise InputError("oracle: human and machine are both 0, so that no row stays; raise one of them")
