"""Tail loss against memorisation: points by hand, which column of memorisation is shown, and the figure."""

import math
from pathlib import Path
from typing import Any

import pytest

from lab.errors import InputError
from lab.metrics.columns_profile import names
from lab.report import tension
from lab.report.figure import canvas, looks_of
from lab.report.profile import as_csv

SURVIVAL = {"human": [0.2, 0.4], "replace": [0.1, 0.1]}
"""Regime -> survival of rare words at generation 1, by seed: half and three quarters of the control's are gone."""


def rows(extraction: float = 0.01, survival: Any = SURVIVAL, **columns: float) -> list[dict[str, Any]]:
    """Return results of two generations; the later one has memorised `extraction` more under replace."""
    return [
        {
            "regime": regime,
            "seed": seed,
            "generation": t,
            **dict.fromkeys(names("text"), math.nan),
            "new_survival": kept if t else 0.5,
            "overlap_13": -0.0005,
            "extraction": 0.02 + extraction * t * (regime == "replace"),
            **columns,
        }
        for regime, by_seed in survival.items()
        for t in (0, 1)
        for seed, kept in enumerate(by_seed)
    ]


def test_points_by_hand() -> None:
    """Of the control's words 1 - .1 / .2 = .5 and 1 - .1 / .4 = .75 are gone; half width t(.975, 1) x .125."""
    found = {(spot.regime, spot.generation): spot for spot in tension.spots(rows())}
    point = found["replace", 1]
    assert (point.seeds, point.lost.mean, point.memorised.mean) == (2, pytest.approx(0.625), pytest.approx(0.03))
    assert point.lost.high - point.lost.mean == pytest.approx(12.706205 * 0.125, abs=1e-6)
    assert found["replace", 0].lost.mean == found["human", 1].lost.mean == 0
    heading, cells = tension.table(rows())
    assert heading == ["regime", "", "gen 0", "gen 1"]
    assert cells[2:] == [
        ["replace", "tail loss", "0.00 ±0.00", "0.62 ±1.59"],
        ["", "extraction", "0.0200 ±0.0000", "0.0300 ±0.0000"],
    ]


def test_files_have_two_rows_for_a_point() -> None:
    found = tension.tidy(rows())
    assert len(found) == 8 and {row["measure"] for row in found} == {"tail loss", "extraction"}
    last = found[-2]
    assert (last["regime"], last["generation"], last["value"], last["seeds"]) == ("replace", 1, pytest.approx(0.625), 2)
    assert {"number", "definition", "verdict"}.isdisjoint(last) and as_csv(found).count("\n") == 9


@pytest.mark.parametrize(
    ("columns", "shown"),
    [
        ({}, "extraction"),
        ({"extraction": 1e-60, "suffix_gap": 0.1}, "extraction"),
        ({"extraction": math.nan}, "overlap_13"),
        ({"extraction": math.nan, "overlap_13": math.nan}, None),
    ],
)
def test_the_column_of_memorisation(columns: dict[str, float], shown: str | None) -> None:
    assert tension.memory_of(rows(**columns)) == shown


def test_a_column_that_tells_generations_apart_goes_before_one_that_does_not() -> None:
    """Small models write no suffix of 50 tokens: 1e-60 and 1e-70 are no difference, 0.04 nats are one."""
    flat = [{**row, "extraction": 10.0 ** -(60 + t), "suffix_gap": 0.04 * t} for t, row in enumerate(rows())]
    assert tension.memory_of(flat) == "suffix_gap"


def test_what_is_not_measured_is_no_point(tmp_path: Path) -> None:
    without = [{name: value for name, value in row.items() if name != "new_survival"} for row in rows()]
    unknown = rows(new_survival=math.nan)
    nothing_to_lose = rows(survival={"human": [0.0, 0.0], "replace": [0.0, 0.0]})
    assert tension.spots(without) == tension.spots(unknown) == [] == tension.tidy(without)
    assert tension.table(without)[1] == []
    assert {spot.generation for spot in tension.spots(nothing_to_lose)} == {0}
    with pytest.raises(InputError, match="lab profile RUN measures"):
        tension.figure(without, "title", tmp_path / "a.svg")
    with pytest.raises(InputError, match="must end in"):
        tension.figure(rows(), "title", tmp_path / "a.jpeg")


def test_one_seed_has_no_interval(tmp_path: Path) -> None:
    alone = rows(survival={"human": [0.2], "replace": [0.1]})
    assert tension.table(alone)[1][2][2:] == ["0.00", "0.50"]
    assert {"low", "high"}.isdisjoint(tension.tidy(alone)[0])
    assert tension.intervals(alone) == "one seed: no intervals" and tension.intervals(rows()) == "95 % t intervals"
    tension.figure(alone, "title", tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_a_panel_has_a_numbered_disc_for_each_generation(tmp_path: Path) -> None:
    table = rows()
    with canvas(tmp_path / "a.svg", "title", 1, 1, (4, 4)) as (_, (axis,)):
        tension._panel(axis, tension.spots(table), looks_of(table))
        discs = [(*line.get_xdata(), *line.get_ydata()) for line in axis.lines if line.get_marker() == "o"]
        assert sorted(text.get_text() for text in axis.texts) == ["0", "0", "1", "1"]
    assert discs[-1] == (pytest.approx(0.03), pytest.approx(0.625)), "the control lies under the others"


def test_the_figure_is_its_numbers_and_has_a_panel_for_each_arm(tmp_path: Path) -> None:
    swept = [
        {"regime": row["regime"], "arm": arm, **{k: v for k, v in row.items() if k != "regime"}}
        for arm in ("cold", "warm", "hot", "wild")
        for row in rows()
    ]
    for name in ("a.svg", "b.svg"):
        tension.figure(swept, "title", tmp_path / name)
    drawn = (tmp_path / "a.svg").read_text()
    assert drawn == (tmp_path / "b.svg").read_text()
    assert all(f"<!-- arm {arm} -->" in drawn for arm in ("cold", "warm", "hot", "wild"))
