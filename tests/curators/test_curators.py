"""Curators by hand: what they drop and why, what they see, and what they are refused for."""

from typing import Any

import numpy as np
import pytest

import lab.curators
from lab.curators import Decisions, check_curator
from lab.curators.table import CopyOf, Table
from lab.errors import InputError
from lab.seeds import generator


def table(rows: list[list[int]]) -> Table:
    tokens = np.array(rows, np.uint16)
    return Table(tokens, np.full(len(tokens), tokens.shape[1]), lambda some: [str(row.tolist()) for row in some])


def curate(table: Table, wanted: list[tuple[str, dict[str, Any]]], rng: np.random.Generator) -> Decisions:
    """Curate rows of which all are the machine's."""
    return lab.curators.curate(table, wanted, rng, np.zeros(len(table), np.bool_))


def test_duplicates_keep_the_first_copy() -> None:
    found = curate(table([[1, 2], [3, 4], [1, 2], [1, 3], [3, 4]]), [("duplicates", {})], generator(0))
    assert found.kept.tolist() == [True, True, False, True, False]
    assert found.reasons[2] == "duplicates: a copy of another row" and found.reasons[0] == ""
    assert found.copies.tolist() == [-1, -1, 0, -1, 1]


def test_duplicates_may_all_be_dropped() -> None:
    rows = [[1, 2], [3, 4], [1, 2], [1, 3], [1, 2]]
    found = curate(table(rows), [("duplicates", {"drop_all": True})], generator(0))
    assert found.copies.tolist() == [2, -1, 0, -1, 0] and found.kept.tolist() == [False, True, False, True, False]


def test_a_copy_is_named_by_its_row_of_the_whole_table() -> None:
    """The second curator sees rows 2, 3, 4 alone as 0, 1, 2."""
    wanted = [(f"{__name__}:first_two", {}), ("duplicates", {})]
    assert curate(table([[1, 1], [2, 2], [3, 3], [4, 4], [4, 4]]), wanted, generator(0)).copies[4] == 3


def first_two(table: Table, *, rng: np.random.Generator) -> list[str | None]:
    return ["among the first two", "among the first two", *[None] * (len(table) - 2)]


@pytest.mark.parametrize(("keep", "rows"), [(1, 8), (0.5, 4), (0.01, 1)])
def test_random_keeps_a_share(keep: float, rows: int) -> None:
    found = curate(table([[i, i] for i in range(8)]), [("random", {"keep": keep})], generator(0))
    assert found.kept.sum() == rows
    again = curate(table([[i, i] for i in range(8)]), [("random", {"keep": keep})], generator(0))
    assert (found.kept == again.kept).all()


def test_a_curator_sees_only_what_the_ones_before_it_kept() -> None:
    found = curate(
        table([[1, 1]] * 6 + [[2, 2], [3, 3]]), [("duplicates", {}), ("random", {"keep": 0.7})], generator(1)
    )
    assert found.kept.sum() == 2  # 3 distinct rows, 0.7 of them
    assert sum(reason.startswith("duplicates") for reason in found.reasons) == 5
    assert sum(reason.startswith("random") for reason in found.reasons) == 1


def test_a_table_is_read_only_and_names_no_origin() -> None:
    shown = table([[1, 2], [3, 4]]).take(np.array([1, 0]))
    assert shown.text(0) == "[3, 4]"
    with pytest.raises(ValueError, match="read-only"):
        shown.tokens[0, 0] = 9
    assert set(Table.__dataclass_fields__) == {"tokens", "lengths", "spell", "scores", "trusted", "decoy"}


def nothing(table: Table, *, rng: np.random.Generator) -> list[str | None]:
    return ["no"] * len(table)


def nowhere(table: Table, *, rng: np.random.Generator) -> list[CopyOf | None]:
    return [None, CopyOf(2, "a copy")]


def number(table: Table, *, rng: np.random.Generator) -> Any:
    return 3


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("random", {"keep": 0}, "keep is 0; it is the share"),
        ("random", {"keep": True}, "keep is True"),
        ("duplicates", {"drop_all": 2}, "duplicates: drop_all is 2: allowed are true and false"),
        ("near_duplicates", {"drop_all": "yes"}, "near_duplicates: drop_all is yes"),
        ("repetition", {"scale": 0}, "scale is 0; it multiplies Gopher's limits"),
        ("stop_words", {"least": 9}, "least is 9; it is a whole number from 1 to 8"),
        ("oracle", {"human": 1.2, "machine": 0.1}, "oracle: human is 1.2; it is the share of human rows that stay"),
        ("oracle", {"human": 0.9, "machine": True}, "oracle: machine is True"),
        ("oracle", {"human": 0, "machine": 0}, "oracle: human and machine are both 0, so that no row stays"),
        ("oracle", {"human": 1, "machine": 0}, 'curator "oracle" dropped every row that was left of 2'),
        (f"{__name__}:nowhere", {}, "names a copy of a row that is none of the 2"),
        ("nonsense", {}, 'unknown curator "nonsense"'),
        (f"{__name__}:nothing", {}, "dropped every row that was left of 2"),
        (f"{__name__}:number", {}, "must return one reason or None for each of 2 rows"),
    ],
)
def test_what_is_refused(name: str, options: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, __name__, __import__("types").SimpleNamespace(**globals()))
    with pytest.raises(InputError, match=said):
        curate(table([[1, 2], [3, 4]]), [(name, options)], generator(0))


@pytest.mark.parametrize("shares", [(0, 0), (0.0, 0), (1.5, 0)])
def test_shares_of_the_oracle_are_refused_before_a_run(shares: tuple[float, float]) -> None:
    with pytest.raises(InputError, match="oracle: human"):
        check_curator("oracle", dict(zip(("human", "machine"), shares, strict=True)))
    check_curator("oracle", {"human": 0, "machine": 1})
