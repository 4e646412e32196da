"""Laws that hold for every regime, and the size and order of each by hand."""

import copy
import inspect
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import chi2

from lab.errors import InputError
from lab.models.feed import RecipeRows, load_recipe, save_recipe
from lab.recipe import ARCHIVE, HUMAN, Lineage, OnTable, Part, Recipe
from lab.regimes import REGIMES, Regime, check_regime, recipe, regime, visible
from lab.seeds import generator

LINEAGES = [
    Lineage(OnTable(HUMAN, human), tuple(OnTable(t, rows) for t, rows in enumerate(samples)), OnTable(ARCHIVE, 40))
    for human, samples in [(10, ()), (10, (10,)), (10, (20, 12)), (8, (9, 9, 9)), (4, (4, 4, 4, 4, 4))]
]
Sizes = list[int]
CASES: dict[str, tuple[str, dict[str, Any], Callable[[int, Sizes], int]]] = {
    "human": ("human", {}, lambda human, samples: human),
    "replace": ("replace", {}, lambda human, samples: samples[-1] if samples else human),
    "accumulate": ("accumulate", {}, lambda human, samples: human + sum(samples)),
    "accumulate_subsample": ("accumulate_subsample", {}, lambda human, samples: human),
    "augment": ("augment", {}, lambda human, samples: human + sum(samples[-1:])),
    "last_1": ("last_k", {"k": 1}, lambda human, samples: samples[-1] if samples else human),
    "last_2": ("last_k", {"k": 2}, lambda human, samples: sum(samples[-2:]) or human),
    "mix": ("mix", {"human": 0.5}, lambda human, samples: human),
    "mix older": ("mix", {"human": 0.5, "older": 0.5}, lambda human, samples: human),
    "mix none": ("mix", {"human": 0.0}, lambda human, samples: human),
    "mix all": ("mix", {"human": 1.0}, lambda human, samples: human),
    "mix fresh": ("mix", {"human": 0.5, "fresh": True}, lambda human, samples: human),
    "web": ("web", {"machine": 0.5}, lambda human, samples: human),
    "web older": (
        "web",
        {"machine": 1.0, "size": 0.5, "older": 0.5, "repeat_human": True},
        lambda human, samples: round(human / 2) if samples else human,
    ),
    "mix repeats": ("mix", {"human": 1.0, "fresh": True, "repeat_human": True}, lambda human, samples: human),
}
"""A regime with options, and the rows of its recipe.  A new regime states its law here."""

cases = pytest.mark.parametrize("case", CASES)
lineages = pytest.mark.parametrize("lineage", LINEAGES, ids=lambda line: f"{line.human.rows}+{len(line.samples)}")


def pool(case: str, lineage: Lineage, seed: int = 0) -> Recipe:
    name, options, _ = CASES[case]
    return regime(name).pool(lineage, rng=generator(seed), **options)


def test_every_regime_has_its_laws() -> None:
    assert {name for name, _, _ in CASES.values()} == set(REGIMES)


@cases
def test_without_synthetic_text_only_human_rows(case: str) -> None:
    """This is what lets generation 0 be computed once for all regimes."""
    for rows in (2, 10, 1000):
        assert pool(case, Lineage(OnTable(HUMAN, rows))) == Recipe((Part(HUMAN, 0, rows),))


@cases
@lineages
def test_only_rows_of_the_lineage_and_none_twice(case: str, lineage: Lineage) -> None:
    recipe = pool(case, lineage)
    rows = {source.origin: source.rows for source in (lineage.human, *lineage.samples)} | {ARCHIVE: 40}
    for part in recipe.parts:
        assert 0 <= part.start < part.stop <= rows[part.origin]
    assert recipe.unique_rows == recipe.rows


@cases
@lineages
def test_same_generator_same_recipe_and_inputs_unchanged(case: str, lineage: Lineage) -> None:
    before = copy.deepcopy(lineage)
    assert pool(case, lineage, seed=4) == pool(case, lineage, seed=4)
    assert lineage == before


@cases
@lineages
def test_the_stated_size(case: str, lineage: Lineage) -> None:
    size = CASES[case][2](lineage.human.rows, [source.rows for source in lineage.samples])
    assert pool(case, lineage).rows == size


@cases
@lineages
def test_visible_is_all_that_a_regime_reads(case: str, lineage: Lineage) -> None:
    """The graph shows it human rows and the visible samples only; its recipe must be the same as if it saw them all."""
    name, options, _ = CASES[case]
    seen = visible(name, options, len(lineage.samples))
    assert list(seen) == sorted(set(seen) & set(range(len(lineage.samples))))
    archive = lineage.archive if regime(name).archive(options) else None
    shown = Lineage(lineage.human, tuple(lineage.samples[t] for t in seen), archive)
    recipe = pool(case, shown)
    assert recipe == pool(case, lineage)
    assert {part.origin for part in recipe.parts} <= {HUMAN, ARCHIVE, *seen}


@pytest.mark.parametrize("name", REGIMES)
def test_no_regime_takes_more_than_sizes_a_generator_and_options(name: str) -> None:
    kinds = [(p.name, p.kind) for p in inspect.signature(REGIMES[name].pool).parameters.values()]
    assert kinds[0][0] == "lineage" and kinds[1] == ("rng", inspect.Parameter.KEYWORD_ONLY)
    assert {kind for _, kind in kinds[1:]} == {inspect.Parameter.KEYWORD_ONLY}
    assert REGIMES[name].pool.__doc__


@pytest.mark.parametrize("older", [0.0, 0.25])
@pytest.mark.parametrize("fresh", [False, True])
def test_the_shares_of_mix(older: float, fresh: bool) -> None:
    lineage = Lineage(OnTable(HUMAN, 100), tuple(OnTable(t, 100) for t in range(3)), OnTable(ARCHIVE, 300))
    recipe = regime("mix").pool(lineage, rng=generator(0), human=0.25, older=older, fresh=fresh)
    rows = Counter[int]()
    for part in recipe.parts:
        rows[part.origin] += part.rows
    assert rows[ARCHIVE if fresh else HUMAN] == 25
    assert rows[2] == 75 - 100 * older and rows[0] + rows[1] == 100 * older


def test_fresh_rows_are_taken_once_and_then_run_out() -> None:
    human, archive = OnTable(HUMAN, 10), OnTable(ARCHIVE, 12)
    taken = [
        regime("mix").pool(
            Lineage(human, tuple(OnTable(t, 10) for t in range(past)), archive), rng=generator(0), human=0.5, fresh=True
        )
        for past in (1, 2)
    ]
    fresh = [[part for part in recipe.parts if part.origin == ARCHIVE] for recipe in taken]
    assert fresh == [[Part(ARCHIVE, 0, 5)], [Part(ARCHIVE, 5, 10)]]
    third = Lineage(human, tuple(OnTable(t, 10) for t in range(3)), archive)
    with pytest.raises(InputError, match=r"generation 3 needs 5 fresh human rows after the 10 used .* has 12: .* 15 x"):
        regime("mix").pool(third, rng=generator(0), human=0.5, fresh=True)
    again = regime("mix").pool(third, rng=generator(0), human=0.5, fresh=True, repeat_human=True)
    assert [part for part in again.parts if part.origin == ARCHIVE] == [Part(ARCHIVE, 10, 12), Part(ARCHIVE, 0, 3)]
    with pytest.raises(InputError, match="the archive has 0"):
        regime("mix").pool(Lineage(human, (OnTable(0, 10),)), rng=generator(0), human=0.5, fresh=True)


def test_the_web_fills_with_machine_text() -> None:
    """12 rows a crawl, machine .5 with a ramp of 3: 2, 4, 6, 6 generated rows, and 10, 8, 6, 6 fresh human ones."""
    samples = tuple(OnTable(t, 8) for t in range(4))
    options = {"machine": 0.5, "ramp": 3, "size": 1.5}
    found = []
    for t in range(1, 5):
        lineage = Lineage(OnTable(HUMAN, 8), samples[:t], OnTable(ARCHIVE, 30))
        found.append(regime("web").pool(lineage, rng=generator(t), **options).parts)
    assert [parts[0].rows for parts in found] == [2, 4, 6, 6]
    assert [parts[0].origin for parts in found] == [0, 1, 2, 3]
    assert [parts[1:] for parts in found] == [
        (Part(ARCHIVE, 0, 10),),
        (Part(ARCHIVE, 10, 18),),
        (Part(ARCHIVE, 18, 24),),
        (Part(ARCHIVE, 24, 30),),
    ]
    short = Lineage(OnTable(HUMAN, 8), samples, OnTable(ARCHIVE, 29))
    with pytest.raises(InputError, match=r"generation 4 needs 6 fresh human rows after the 24 used .* has 29: .* 30 x"):
        regime("web").pool(short, rng=generator(0), **options)
    again = regime("web").pool(short, rng=generator(0), **options, repeat_human=True)
    assert again.parts[1:] == (Part(ARCHIVE, 24, 29), Part(ARCHIVE, 0, 1))
    with pytest.raises(InputError, match="the archive has 0"):
        regime("web").pool(Lineage(OnTable(HUMAN, 8), samples[:1]), rng=generator(0), machine=0.5)
    old = Lineage(OnTable(HUMAN, 8), samples[:3], OnTable(ARCHIVE, 30))
    drawn = Counter[int]()
    for part in regime("web").pool(old, rng=generator(0), machine=1.0, older=0.25).parts:
        drawn[part.origin] += part.rows
    assert drawn[2] == 6 and drawn[0] + drawn[1] == 2 and drawn[ARCHIVE] == 0


def test_a_subsample_is_uniform() -> None:
    """Every row of the pool is drawn equally often: chi-square over 4,000 draws of 6 of 24 rows, 99.9 % limit."""
    lineage = Lineage(OnTable(HUMAN, 6), (OnTable(0, 10), OnTable(1, 8)))
    drawn = Counter[tuple[int, int]]()
    for seed in range(4000):
        for part in regime("accumulate_subsample").pool(lineage, rng=generator(seed)).parts:
            drawn.update((part.origin, row) for row in part.chosen or range(part.start, part.stop))
    assert len(drawn) == 24 and sum(drawn.values()) == 24_000
    # Without replacement the counts vary less than a multinomial's: by the factor 1 - 6/24.
    statistic = sum((count - 1000) ** 2 / 1000 for count in drawn.values()) / (1 - 6 / 24)
    assert chi2.ppf(0.0005, 23) < statistic < chi2.ppf(0.9995, 23)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("mix", {}, "regime mix needs human"),
        ("mix", {"humn": 0.5, "human": 0.5}, 'no option "humn" - did you mean "human"'),
        ("replace", {"k": 3}, 'replace has no option "k"; it takes none'),
    ],
)
def test_options_are_checked(name: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        check_regime(name, options)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("mix", {"human": 0.7, "older": 0.5}, "shares of at least 0 with a sum of at most 1"),
        ("mix", {"human": 0.33}, "33.0% human of 10 rows is 30.0%"),
        ("last_k", {"k": 0}, "k is 0"),
        ("web", {"machine": 1.5}, "machine is 1.5; it is a share from 0 to 1"),
        ("web", {"machine": 0.5, "older": -1}, "older is -1; it is a share"),
        ("web", {"machine": True}, "machine is True"),
        ("web", {"machine": 0.5, "ramp": 20}, "2.5% machine text of 10 rows is 0.0% in whole rows"),
        ("web", {"machine": 0.5, "ramp": 0}, "ramp is 0"),
        ("web", {"machine": 0.5, "size": 0}, "size is 0"),
        ("web", {"machine": 1.0, "size": 2.0}, "20 rows were asked for of 10; raise sample.tokens"),
    ],
)
def test_values_of_options_are_checked(name: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        regime(name).pool(Lineage(OnTable(HUMAN, 10), (OnTable(0, 10),)), rng=generator(0), **options)


def test_regimes_by_hand() -> None:
    lineage = Lineage(OnTable(HUMAN, 4), (OnTable(0, 5), OnTable(1, 6)))
    assert pool("human", lineage) == Recipe((Part(HUMAN, 0, 4),))
    assert pool("replace", lineage) == Recipe((Part(1, 0, 6),))
    assert pool("accumulate", lineage) == Recipe((Part(HUMAN, 0, 4), Part(0, 0, 5), Part(1, 0, 6)))
    assert pool("augment", lineage) == Recipe((Part(HUMAN, 0, 4), Part(1, 0, 6)))
    assert pool("last_2", lineage) == Recipe((Part(0, 0, 5), Part(1, 0, 6)))


def test_visible_by_hand() -> None:
    seen = [list(visible(name, options, 3)) for name, options, _ in CASES.values()]
    assert seen == [[], [2], [0, 1, 2], [0, 1, 2], [2], [2], [1, 2], [2], [0, 1, 2], [2], [2], [2], [2], [0, 1, 2], [2]]
    assert not any(visible(name, options, 0) for name, options, _ in CASES.values())


def test_a_function_of_the_users_own_reads_everything() -> None:
    found = regime("lab.regimes:replace")
    assert found.pool is REGIMES["replace"].pool and found.archive({})
    assert list(visible("lab.regimes:replace", {}, 3)) == [0, 1, 2]


def test_an_unknown_regime() -> None:
    with pytest.raises(InputError, match='unknown regime "accumlate" - did you mean "accumulate"'):
        regime("accumlate")


def read_back(recipe: Recipe, folder: Path) -> Recipe:
    save_recipe(recipe, folder)
    return load_recipe(folder)


def test_a_recipe_counts_repeats_and_reads_back(tmp_path: Path) -> None:
    """Rows 2, 3, 4 of the human corpus three times over, and row 0 of sample 1: 10 rows, 4 of them distinct."""
    recipe = Recipe((Part(HUMAN, 2, 5, repeat=3), Part(1, 0, 1)))
    assert (recipe.rows, recipe.unique_rows) == (10, 4)
    assert read_back(recipe, tmp_path) == recipe


def test_single_rows_count_once_and_read_back(tmp_path: Path) -> None:
    """Rows 3, 5, 9 of the human corpus and the range 4 .. 6, which holds row 5 again."""
    recipe = Recipe((Part.some(HUMAN, [9, 3, 5]), Part(HUMAN, 4, 7)))
    assert recipe.parts[0] == Part(HUMAN, 3, 10, chosen=(3, 5, 9))
    assert (recipe.rows, recipe.unique_rows) == (6, 5)
    two = Recipe((*recipe.parts, Part(0, 1, 9, repeat=2, chosen=[1, 8]), Part.some(2, [])))
    assert read_back(two, tmp_path) == two != recipe
    with pytest.raises(AssertionError):
        Part(HUMAN, 0, 10, chosen=(3, 3))


def test_where_rows_lie_and_who_wrote_them_are_two_fields(tmp_path: Path) -> None:
    """Corpora 0 and 1, both written by generation 0: their rows are different rows of one origin."""
    lineage = Lineage(OnTable(HUMAN, 4), (OnTable(0, 5), OnTable(1, 5, origin=0)))
    made = recipe("accumulate", {}, lineage, 0, 2)
    assert [(part.corpus, part.origin) for part in made.parts] == [(HUMAN, HUMAN), (0, 0), (1, 0)]
    assert made.unique_rows == 14 and read_back(made, tmp_path) == made
    rows = RecipeRows(made, {c: np.full((5, 2), c + 1, np.uint16) for c in (HUMAN, 0, 1)})
    assert rows.take(np.arange(14))[:, 0].tolist() == [0] * 4 + [1] * 5 + [2] * 5
    assert rows.fed_by_origin() == {"-1": 4, "0": 10}


def test_who_wrote_a_row_is_taken_from_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """A regime that calls synthetic rows human changes no accounting."""
    lying = Regime(lambda lineage, rng: Recipe((Part(0, 1, 3, origin=HUMAN),)), reads=lambda options: None)
    monkeypatch.setitem(REGIMES, "lying", lying)
    made = recipe("lying", {}, Lineage(OnTable(HUMAN, 4), (OnTable(0, 5),)), 0, 1)
    assert made.parts == (Part(0, 1, 3),) and made.parts[0].origin == 0
