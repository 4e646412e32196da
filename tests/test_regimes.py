"""Laws that hold for every regime, and the size and order of each by hand."""

import copy
import inspect

import pytest

from lab.regimes import REGIMES, Regime, regime, visible
from lab.seeds import generator
from lab.types import HUMAN, InputError, Lineage, Part, Recipe, Source

LINEAGES = [
    Lineage(Source(HUMAN, human), tuple(Source(t, rows) for t, rows in enumerate(samples)))
    for human, samples in [(10, ()), (10, (7,)), (10, (7, 5)), (3, (9, 9, 9)), (1, (1, 1, 1, 1, 1))]
]
SIZES = {
    "human": lambda human, samples: human,
    "replace": lambda human, samples: samples[-1] if samples else human,
    "accumulate": lambda human, samples: human + sum(samples),
}
"""Rows of the recipe.  A new regime states its law here."""

names = pytest.mark.parametrize("name", REGIMES)
lineages = pytest.mark.parametrize("lineage", LINEAGES, ids=lambda line: f"{line.human.rows}+{len(line.samples)}")


def pool(name: str, lineage: Lineage, seed: int = 0) -> Recipe:
    return regime(name).pool(lineage, rng=generator(seed))


@names
def test_without_synthetic_text_only_human_rows(name: str) -> None:
    """This is what lets generation 0 be computed once for all regimes."""
    for rows in (1, 10, 1000):
        assert pool(name, Lineage(Source(HUMAN, rows))) == Recipe((Part(HUMAN, 0, rows),))


@names
@lineages
def test_only_rows_of_the_lineage(name: str, lineage: Lineage) -> None:
    rows = {source.origin: source.rows for source in (lineage.human, *lineage.samples)}
    for part in pool(name, lineage).parts:
        assert 0 <= part.start < part.stop <= rows[part.origin]


@names
@lineages
def test_same_generator_same_recipe_and_inputs_unchanged(name: str, lineage: Lineage) -> None:
    before = copy.deepcopy(lineage)
    assert pool(name, lineage, seed=4) == pool(name, lineage, seed=4)
    assert lineage == before


@names
@lineages
def test_the_stated_size(name: str, lineage: Lineage) -> None:
    assert pool(name, lineage).rows == SIZES[name](lineage.human.rows, [source.rows for source in lineage.samples])


@names
@lineages
def test_visible_is_all_that_a_regime_reads(name: str, lineage: Lineage) -> None:
    """The graph shows it human rows and the visible samples only; its recipe must be the same as if it saw them all."""
    seen = visible(name, len(lineage.samples))
    assert list(seen) == sorted(set(seen) & set(range(len(lineage.samples))))
    shown = Lineage(lineage.human, tuple(lineage.samples[t] for t in seen))
    recipe = pool(name, shown)
    assert recipe == pool(name, lineage)
    assert {part.origin for part in recipe.parts} <= {HUMAN, *seen}


@names
def test_no_regime_takes_more_than_sizes_and_a_generator(name: str) -> None:
    assert list(inspect.signature(REGIMES[name].pool).parameters) == ["lineage", "rng"]
    assert REGIMES[name].pool.__doc__


def test_regimes_by_hand() -> None:
    lineage = Lineage(Source(HUMAN, 4), (Source(0, 5), Source(1, 6)))
    assert pool("human", lineage) == Recipe((Part(HUMAN, 0, 4),))
    assert pool("replace", lineage) == Recipe((Part(1, 0, 6),))
    assert pool("accumulate", lineage) == Recipe((Part(HUMAN, 0, 4), Part(0, 0, 5), Part(1, 0, 6)))


def test_visible_by_hand() -> None:
    assert [list(visible(name, 3)) for name in ("human", "replace", "accumulate")] == [[], [2], [0, 1, 2]]
    assert [list(visible(name, 0)) for name in ("human", "replace", "accumulate")] == [[], [], []]


def test_a_function_of_the_users_own_reads_everything() -> None:
    found = regime("lab.regimes:replace")
    assert found == Regime(REGIMES["replace"].pool, reads=None)
    assert list(visible("lab.regimes:replace", 3)) == [0, 1, 2]


def test_an_unknown_regime() -> None:
    with pytest.raises(InputError, match='unknown regime "accumlate" - did you mean "accumulate"'):
        regime("accumlate")


def test_a_recipe_counts_repeats_and_reads_back() -> None:
    """Rows 2, 3, 4 of the human corpus three times over, and row 0 of sample 1: 10 rows, 4 of them distinct."""
    recipe = Recipe((Part(HUMAN, 2, 5, repeat=3), Part(1, 0, 1)))
    assert (recipe.rows, recipe.unique_rows) == (10, 4)
    assert Recipe.from_json(recipe.to_json()) == recipe
