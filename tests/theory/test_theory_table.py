"""`lab theory`: every closed form is in the table, and its value is the one worked by hand."""

import inspect
import json
import math
import sys
from typing import Any

import numpy as np
import pytest

from lab import theory
from lab.cli.app import main
from lab.errors import InputError
from lab.theory.table import WORKED, closed_forms, evaluate

BY_HAND: dict[str, Any] = {
    "heterozygosity": 0.635,
    "retained": 0.5 * 7 / 8,
    "retained_by_voices": 1 - (14 * 13 + 3 * 2 * 1) / 5 / (20 * 19),
    "expected_chi_square": 1 / 7,
    "given_corpus": 14 / 20,
    "mix_distance": 0.0635 / 0.775,
    "mix_distance_exact": 0.0635 / 0.8,
    "web_distance": 0.0635 * (1 + 0.2 * (1 + 0.2)),
    "best_real_weight": (math.sqrt(5) - 1) / 2,
    "count_law": [[0.25, 0.5, 0.25]] * 2,
    "expected_types": 1.5,
    "extinction": 0.95**20,
    "extinction_limit": math.exp(math.exp(-1) - 1),
    "time_to_one_survivor": 1.36,
    "time_to_one_survivor_diffusion": 20 * math.log(2),
    "expected_entropy": 0.5 * math.log(2),
    "expected_risk": -(math.log(2 / 3) + math.log(1 / 3)) / 2,
    "temperature_chain": [16 / 17, 1 / 17],
    "top_p": [0.625, 0.375, 0, 0],
    "top_p_uniform_support": 592,
    "mean_variance": 1 + 1 / 4 + 1 / 9,
    "least_squares_excess": 1.2 * 9 / 20,
    "missing_mass": 0.5,
    "zipf_tail": 1 - 6 / math.pi**2,
}


def test_every_public_function_has_a_row() -> None:
    functions = {name for name, value in vars(theory).items() if inspect.isfunction(value)}
    assert set(WORKED) == functions == set(theory.__all__) - {"Pool", "REGIMES"}
    assert [form.call.split()[0] for form in closed_forms()] == list(WORKED)
    assert all(form.gives and form.source for form in closed_forms())


@pytest.mark.parametrize("name", BY_HAND)
def test_worked_values_by_hand(name: str) -> None:
    np.testing.assert_allclose(evaluate(name, WORKED[name]).value, BY_HAND[name], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["retaned", "n=5"], 'unknown closed form "retaned" - did you mean "retained"?; allowed: heterozygosity, ret'),
        (["retained", "regim=replace"], 'no argument "regim" - did you mean "regime"?; it has regime, n, t'),
        (["retained", "n=5"], "needs regime, t too, as in: lab theory retained regime=accumulate n=2 t=2"),
        (["retained", "regime=mix", "n=5", "t=1"], "allowed: replace, accumulate, accumulate-subsample"),
        (["extinction_limit", "count=1.5", "t=2"], 'count="1.5": expected a whole number'),
        (["missing_mass", "p=0.5,x", "n=2"], 'p="0.5,x": expected numbers with commas'),
        (["missing_mass", "p=0.5,0.6", "n=2"], "sum 1"),
        (["zipf_tail", "b=1", "rank=3"], "must be > 1"),
        (["retained", "regime=accumulate", "n=5", "t=1001"], "retained: t is 1001; it is a whole number from 0 to"),
        (["mean_variance", "regime=replace", "n=5", "t=99999999999"], "from 0 to 1,000, or inf where the form has"),
        (["count_law", "p=0.5,0.5", "n=2", "t=-1"], "count_law: t is -1; it is a whole number from 0"),
        (["retained", "regime=replace", "n=5", "t=nan"], "retained: t is nan; it is a whole number from 0"),
    ],
)
def test_what_cannot_be_evaluated_is_one_line(arguments: list[str], message: str) -> None:
    with pytest.raises(InputError) as caught:
        evaluate(arguments[0], arguments[1:])
    assert message in str(caught.value) and "\n" not in str(caught.value)


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.delenv("COLUMNS", raising=False)  # then a table is as wide as a page
    monkeypatch.setattr(sys, "argv", ["lab", "theory", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


def test_the_command_prints_evaluates_and_refuses(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(monkeypatch) == 0
    table = capsys.readouterr().out
    assert "extinction count=1 n=20 t=1" in table and "0.358486" in table and "Wright 1931" in table
    assert command(monkeypatch, "retained", "regime=replace", "n=2", "t=2") == 0
    assert capsys.readouterr().out.startswith("retained regime=replace n=2 t=2 = 0.25\n")
    assert command(monkeypatch, "expected_risk", "p=0.5,0.5", "n=1", "t=1", "smoothing=0", "--json") == 0
    assert json.loads(capsys.readouterr().out)["value"] == "Infinity"
    assert command(monkeypatch, "--json") == 0
    assert [form["call"].split()[0] for form in json.loads(capsys.readouterr().out)] == list(WORKED)
    assert command(monkeypatch, "retaned") == 2
    assert 'did you mean "retained"?' in capsys.readouterr().err
