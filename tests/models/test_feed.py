"""The rows of a recipe: which, how often, in which share, which tokens are learned, and the check of shares."""

from pathlib import Path

import numpy as np
import pytest

from lab.models.feed import RecipeRows, before_end, load_weights, save_recipe
from lab.recipe import ARCHIVE, HUMAN, Part, Recipe

T = 4
EOS = 9


def corpus(first: int, rows: int) -> np.ndarray:
    """Return rows [first + r] * T for r = 0, 1, ..., so that each row shows where it comes from."""
    return np.repeat(np.arange(first, first + rows, dtype=np.uint16)[:, None], T, axis=1)


CORPORA = {HUMAN: corpus(100, 10), ARCHIVE: corpus(200, 10), 0: corpus(300, 10), 1: corpus(400, 10)}


def names(rows: RecipeRows) -> list[int]:
    return rows.take(np.arange(len(rows)))[:, 0].tolist()


def test_rows_come_as_the_recipe_names_them() -> None:
    """A range, single rows, an empty part, and a part twice over: 3 + 2 + 0 + 2 x 2 rows."""
    recipe = Recipe(
        (Part(HUMAN, 2, 5), Part.some(1, [7, 0]), Part(0, 4, 4), Part(ARCHIVE, 3, 9, repeat=2, chosen=(3, 8)))
    )
    rows = RecipeRows(recipe, CORPORA)
    assert len(rows) == recipe.rows == 9
    assert names(rows) == [102, 103, 104, 400, 407, 203, 208, 203, 208]
    assert rows.take(np.array([8, 3, 0, 3]))[:, 0].tolist() == [208, 400, 102, 400]


def test_weights_go_with_their_rows(tmp_path: Path) -> None:
    """One for each distinct row of the parts in order, again where a part is repeated, and in shares."""
    recipe = Recipe((Part.some(1, [7, 0]), Part(0, 0, 2, repeat=2)))
    save_recipe(recipe, tmp_path, np.array([0.5, 1, 1.5, 2]))
    weights = load_weights(tmp_path)
    rows = RecipeRows(recipe, CORPORA, weights=weights)
    assert rows.weights(np.array([5, 0, 1, 2, 4])).tolist() == [2, 0.5, 1, 1.5, 1.5]
    assert names(rows) == [400, 407, 300, 301, 300, 301]
    share = RecipeRows(recipe, CORPORA, weights=weights, share=(0, 2), seed=1)
    by_row = {400: 0.5, 407: 1.0, 300: 1.5, 301: 2.0}
    assert share.weights(np.arange(len(share))).tolist() == [by_row[row] for row in names(share)]
    assert RecipeRows(recipe, CORPORA).weights(np.arange(2)) is None
    save_recipe(recipe, tmp_path / "..")
    assert load_weights(tmp_path / "..") is None


def test_tokens_are_counted_in_the_text_alone() -> None:
    ended = np.array([[1, 2, EOS, EOS], [2, 2, 2, EOS]], dtype=np.uint16)
    rows = RecipeRows(Recipe((Part(HUMAN, 0, 2), Part(HUMAN, 1, 2))), {HUMAN: ended}, eos=EOS)
    assert rows.token_counts(10).tolist() == [0, 1, 7, 0, 0, 0, 0, 0, 0, 3]
    assert not rows.fed.any()


def test_what_was_fed_is_counted() -> None:
    rows = RecipeRows(Recipe((Part(HUMAN, 0, 3), Part(0, 0, 2, repeat=2))), CORPORA)
    assert rows.fed_by_origin() == {"-1": 0, "0": 0}
    rows.take(np.array([0, 1, 3, 5]))
    rows.take(np.array([6]))
    assert rows.fed_by_origin() == {"-1": 2, "0": 3}
    assert rows.fed_tokens == 5 * T
    assert rows.unique_tokens() == 5 * T, "3 human rows and 2 synthetic ones, however often these come"


def test_before_end_by_hand() -> None:
    rows = np.array([[1, 2, EOS, EOS], [1, 2, 3, 4], [EOS, 1, EOS, 2], [1, 2, 3, EOS]])
    assert before_end(rows, EOS).astype(int).tolist() == [[1, 1, 1, 0], [1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 1, 1]]


HAND = {
    HUMAN: np.array([[1, 2, EOS, EOS], [1, 2, 3, 4]], np.uint16),
    ARCHIVE: np.array([[5, EOS, EOS, EOS]], np.uint16),
    0: np.array([[1, 2, EOS, EOS], [5, 6, 7, 8]], np.uint16),
}
ALL = Recipe((Part(0, 0, 2), Part(HUMAN, 0, 2), Part(ARCHIVE, 0, 1)))


@pytest.mark.parametrize(
    ("context", "eos", "learned"),
    [
        (0, None, None),
        (2, None, ["0011", "0011", "1111", "1111", "1111"]),
        (0, EOS, ["1110", "1111", "1110", "1111", "1100"]),
        (2, EOS, ["0010", "0011", "1110", "1111", "1100"]),
    ],
)
def test_learned_by_hand(context: int, eos: int | None, learned: list[str] | None) -> None:
    """A prompt is context in synthetic rows alone; nothing after the end of a document is learned."""
    rows = RecipeRows(ALL, HAND, context=context, eos=eos)
    got = rows.learned(np.arange(5), rows.take(np.arange(5)))
    assert (None if got is None else ["".join(map(str, row.astype(int))) for row in got]) == learned
    if got is not None:
        mixed = np.array([4, 1, 3, 0])
        assert np.array_equal(rows.learned(mixed, rows.take(mixed)), got[mixed])


def test_text_is_counted_up_to_the_end_of_a_document() -> None:
    rows = RecipeRows(ALL, HAND, eos=EOS)
    assert rows.lengths().tolist() == [3, 4, 3, 4, 2]
    rows.take(np.array([0, 4, 4]))
    assert rows.fed_tokens == 3 + 2 + 2
    assert rows.unique_tokens() == 16
    assert RecipeRows(ALL, HAND).lengths().tolist() == [4] * 5


RECIPES = {
    "two origins": Recipe((Part(HUMAN, 0, 7), Part(0, 0, 9))),
    "fewer than members": Recipe((Part(HUMAN, 0, 2), Part(0, 0, 9))),
    "repeated": Recipe((Part(HUMAN, 0, 6, repeat=3), Part(0, 0, 6))),
    "overlapping": Recipe((Part(HUMAN, 0, 6), Part.some(HUMAN, [1, 5, 8]), Part(1, 2, 8))),
}


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
@pytest.mark.parametrize("members", [2, 3])
def test_shares_are_disjoint_and_cover_the_recipe(recipe: Recipe, members: int) -> None:
    """No row is in two shares, all shares together are the recipe, and they have equal numbers of each origin, +- 1."""
    whole = names(RecipeRows(recipe, CORPORA))
    shares = [names(RecipeRows(recipe, CORPORA, share=(m, members), seed=5)) for m in range(members)]
    assert sorted(name for share in shares for name in share) == sorted(whole)
    for a in range(members):
        for b in range(a):
            assert not set(shares[a]) & set(shares[b])
    for origin in {name // 100 for name in whole}:
        sizes = [len({name for name in share if name // 100 == origin}) for share in shares]
        assert max(sizes) - min(sizes) <= 1, "each member has its part of each origin"


def test_shares_are_chance_that_the_seed_decides() -> None:
    recipe = Recipe((Part(HUMAN, 0, 10), Part(0, 0, 10)))
    a, again, other = (names(RecipeRows(recipe, CORPORA, share=(0, 2), seed=seed)) for seed in (5, 5, 6))
    assert a == again != other
    assert a != sorted(names(RecipeRows(recipe, CORPORA)))[::2]


def test_a_share_masks_its_own_rows() -> None:
    """`learned` takes the origin of the share's rows, not of the recipe's rows with the same indices."""
    recipe = Recipe((Part(HUMAN, 0, 10), Part(0, 0, 10)))
    for m in range(2):
        rows = RecipeRows(recipe, CORPORA, context=1, share=(m, 2), seed=5)
        taken = rows.take(np.arange(10))
        learned = rows.learned(np.arange(10), taken)
        assert learned is not None and np.array_equal(learned[:, 0], taken[:, 0] < 300) and learned[:, 1:].all()


MANY = {HUMAN: corpus(0, 100), 0: corpus(100, 100)}
HALF = Recipe((Part(HUMAN, 0, 100), Part(0, 0, 100)))


def fed(human: int, synthetic: int) -> RecipeRows:
    rows = RecipeRows(HALF, MANY)
    rows.take(np.arange(human) % 100)
    rows.take(100 + np.arange(synthetic) % 100)
    return rows


def test_a_whole_pass_has_no_chance_to_drift() -> None:
    """200 of 200 rows: 50.5 % human passes, 51.5 % does not."""
    fed(100, 100).check_shares()
    fed(101, 99).check_shares()
    with pytest.raises(RuntimeError, match=r"51\.5% of the rows fed have origin -1, but 50\.0% were asked for"):
        fed(103, 97).check_shares()


def test_half_a_pass_may_drift_by_chance() -> None:
    """100 of 200 rows without replacement: sd = sqrt(100 x 0.25 x 100 / 199) / 100 = 0.0354; 0.01 + 5 sd = 0.187."""
    fed(68, 32).check_shares()
    with pytest.raises(RuntimeError, match="more than 1% apart"):
        fed(69, 31).check_shares()


def test_chance_has_its_part_in_the_last_pass_only() -> None:
    """10.5 passes, 2,100 rows: the 0.0354 of the last 100 rows weighs 1 / 21: 0.01 + 5 x 0.0354 / 21 = 0.0184."""
    fed(1050 + 38, 1050 - 38).check_shares()
    with pytest.raises(RuntimeError):
        fed(1050 + 39, 1050 - 39).check_shares()


def test_a_share_is_held_against_its_own_rows() -> None:
    rows = RecipeRows(Recipe((Part(HUMAN, 0, 7), Part(0, 0, 8))), CORPORA, share=(1, 2), seed=1)
    for _ in range(3):
        rows.take(np.arange(len(rows)))
    rows.check_shares()
