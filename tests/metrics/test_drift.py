"""Drift at independent loci: by hand, and unbiased by enumeration of every possible sample."""

import math
from collections.abc import Iterator
from itertools import product

import numpy as np
import pytest

from lab.metrics import drift as loci

LAW = np.array([0.5, 0.3, 0.2])
OTHER = np.array([0.1, 0.1, 0.8])


def samples(law: np.ndarray, n: int) -> Iterator[tuple[float, np.ndarray]]:
    """Every sample of n rows at one locus, with its chance."""
    for rows in product(range(len(law)), repeat=n):
        yield float(np.prod(law[list(rows)])), loci.locus_counts(np.array(rows)[:, None], len(law))


def test_counts_by_hand() -> None:
    """3 rows, 2 loci: the first has 0 0 2, the second 1 1 1."""
    counts = loci.locus_counts(np.array([[0, 1], [0, 1], [2, 1]], dtype=np.uint16), 3)
    assert counts.tolist() == [[2, 0, 1], [0, 3, 0]]


def test_counts_of_many_loci_and_types() -> None:
    """Places are beyond the 16 bits of the tokens: 300 loci x 400 types."""
    rows = np.full((2, 300), 399, dtype=np.uint16)
    counts = loci.locus_counts(rows, 400)
    assert counts.shape == (300, 400) and (counts[:, 399] == 2).all() and counts.sum() == 600


def test_heterozygosity_by_hand() -> None:
    """0 0 2: of 3 pairs 2 differ; 1 1 1: none; 4 different: all."""
    assert loci.heterozygosity(np.array([[2, 0, 1], [0, 3, 0]])) == pytest.approx([2 / 3, 0])
    assert loci.heterozygosity(np.array([[1, 1, 1, 1]])).tolist() == [1]


def test_squared_distance_by_hand() -> None:
    """0 0 2 against .5 .3 .2: 1/3 - 2 (1/3 + 0 + .2/3) + .38; a sample of the law itself may be nearer than 0."""
    found = loci.squared_distance(np.array([[2, 0, 1]]), LAW)[0]
    assert found == pytest.approx(1 / 3 - 2 * (1 / 3 + 0.2 / 3) + 0.38)
    assert loci.squared_distance(np.array([[1, 1]]), np.array([0.5, 0.5]))[0] == pytest.approx(-0.5)


def test_types_seen_by_hand() -> None:
    assert loci.types_seen(np.array([[2, 0, 1], [0, 3, 0]])).tolist() == [2, 1]


def test_share_lost_by_hand() -> None:
    """Counts of 1 at (locus 0, type 1), (1, 0), (1, 2); the other rows lack the first two."""
    human, other = np.array([[2, 1, 0], [1, 1, 1]]), np.array([[3, 0, 0], [0, 1, 2]])
    assert loci.share_lost(human, other, 1) == pytest.approx(2 / 4)
    assert loci.share_lost(human, other, 2) == 0
    assert math.isnan(loci.share_lost(human, other, 3))
    assert loci.share_lost(human, human, 1) == 0


@pytest.mark.parametrize("n", [2, 3, 5])
def test_unbiased_for_the_law_that_was_drawn_from(n: int) -> None:
    """All 3^n samples of OTHER, weighted by their chance: exact expectations, no interval."""
    het = sum(chance * loci.heterozygosity(counts)[0] for chance, counts in samples(OTHER, n))
    assert het == pytest.approx(1 - (OTHER**2).sum(), abs=1e-12)
    far = sum(chance * loci.squared_distance(counts, LAW)[0] for chance, counts in samples(OTHER, n))
    assert far == pytest.approx(((OTHER - LAW) ** 2).sum(), abs=1e-12)
    none = sum(chance * loci.squared_distance(counts, OTHER)[0] for chance, counts in samples(OTHER, n))
    assert none == pytest.approx(0, abs=1e-12)
    types = sum(chance * loci.types_seen(counts)[0] for chance, counts in samples(OTHER, n))
    assert types == pytest.approx((1 - (1 - OTHER) ** n).sum(), abs=1e-12)


def test_errors() -> None:
    with pytest.raises(ValueError, match="token 3 is none of the 3 types"):
        loci.locus_counts(np.array([[0, 3]]), 3)
    with pytest.raises(ValueError, match="pairs need at least 2 rows; given 1"):
        loci.heterozygosity(np.array([[1, 1], [0, 1]]))
    with pytest.raises(ValueError, match="at least 2 rows"):
        loci.squared_distance(np.array([[0, 1]]), np.array([0.5, 0.5]))
