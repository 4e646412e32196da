"""The oracle: exact counts, by name alone, and a chain behind it that follows the closed form of `mix`."""

import numpy as np
import pytest

from lab.curators import CURATORS, TOLD, curate
from lab.curators.table import Table
from lab.seeds import generator
from lab.theory import mix_distance_exact


def table(rows: np.ndarray) -> Table:
    return Table(rows, np.full(len(rows), rows.shape[1]), lambda some: [""] * len(some))


@pytest.mark.parametrize(("human", "machine", "kept"), [(0.9, 0.1, (18, 8)), (1, 0, (20, 0)), (0.33, 1, (7, 80))])
def test_counts_are_exact(human: float, machine: float, kept: tuple[int, int]) -> None:
    mine = np.arange(100) % 5 == 0
    options = {"human": human, "machine": machine}
    found = curate(table(np.arange(200).reshape(100, 2)), [("oracle", options)], generator(3), mine)
    assert (found.kept[mine].sum(), found.kept[~mine].sum()) == kept


def test_the_oracle_alone_is_told() -> None:
    assert {"oracle"} == TOLD and set(CURATORS) >= TOLD


def test_a_chain_behind_the_oracle_is_mix_at_the_effective_share() -> None:
    """A crawl of 40 rows, h = .25, of which .8 and .4 stay: 20 rows, L = h .8 / (h .8 + (1 - h) .4) = .4.

    The loci of a row are independent, so 20,000 loci are as many chains of one curator.
    """
    share, human, machine, last, loci = 0.25, 0.8, 0.4, 5, 20_000
    effective = share * human / (share * human + (1 - share) * machine)
    law, rng = np.arange(6, 0, -1) / 21, np.random.default_rng(5)
    rows = rng.choice(6, (20, loci), p=law)
    for _ in range(last - 1):
        crawl = np.concatenate(
            [rng.choice(6, (10, loci), p=law), np.take_along_axis(rows, rng.integers(0, 20, (30, loci)), axis=0)]
        )
        kept = curate(table(crawl), [("oracle", {"human": human, "machine": machine})], rng, np.arange(40) < 10).kept
        rows = crawl[kept]
    distances = sum(((rows == kind).mean(axis=0) - p) ** 2 for kind, p in enumerate(law))
    expected = mix_distance_exact(law.tolist(), 20, round(effective * 20), last)
    assert len(rows) == 20 and effective == pytest.approx(0.4)
    assert np.mean(distances) == pytest.approx(expected, abs=4 * float(np.std(distances)) / loci**0.5)
