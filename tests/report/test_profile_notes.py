"""What a profile says of its judge, and of groups of text."""

import csv
import io
import json
from typing import Any

import numpy as np
import pytest
from support.tiny import tiny_config

from lab.cli.profile import _print_file
from lab.collapse.chains import Chains, Point
from lab.config.profile import Thresholds
from lab.definitions import findings
from lab.report.memory import TELEPHONE_HEADING
from lab.report.profile import BESIDE_HEADING, HARM_HEADING, HEADING, harm, judge_note, of_seeds, statement
from lab.run.profile import Profile

BASE = {"train__start": "base", "train__base": {"tokens": 512, "epochs": 1}}


@pytest.mark.parametrize(
    ("changes", "profile", "said"),
    [({}, {}, False), (BASE, {}, True), (BASE, {"judge": False}, False), ({"train__start": "continue"}, {}, False)],
    ids=["scratch", "base", "no judge", "own weights"],
)
def test_a_judge_that_shares_the_base_of_the_generations_is_said(
    changes: dict[str, Any], profile: dict[str, Any], said: bool
) -> None:
    note = judge_note(tiny_config("corpus.jsonl", **changes, profile=profile))
    assert ("starts from a base model, as the generations do" in note) == said and bool(note) == said


def grouped(documents: int, gap: float) -> list[Point]:
    """Three seeds of a generation whose held-out loss is `gap` above 4 nats in `documents` documents of one group.

    A document of another group loses 9 nats per token.  Documents of the group differ a little from one another.
    """
    found = []
    for seed in range(3):
        nats = [200 * (4 + gap * (1 + each / 100)) + seed for each in range(documents)]
        losses = np.array([[100 * (4 + 9 * gap), 100], *([each, 200] for each in nats)])
        group = {"column": "domain", "group": "sea", "test_tokens": 200 * documents, "rows": 100}
        group |= {"nll": sum(nats) / (200 * documents), "documents": list(range(1, documents + 1))}
        found.append(Point({"nll": 4.0}, groups=[group], documents=losses))
    return found


@pytest.mark.parametrize(("documents", "said"), [(8, ""), (5, ""), (4, "fewer than 5")])
def test_the_loss_of_a_group_has_an_interval_over_its_own_documents(
    documents: int, said: str, monkeypatch: Any
) -> None:
    monkeypatch.setattr("lab.report.profile.LEAST_TOKENS", 1)
    regime, control = (dict(enumerate(grouped(documents, gap))) for gap in (0.1, 0.0))
    chains = Chains("replace", *({s: {1: point} for s, point in side.items()} for side in (regime, control)))
    (row,) = harm(Profile("replace", {}, chains, []))["domain"][0]
    shown = dict(zip(HARM_HEADING, row, strict=True))
    assert float(shown["loss"]) == pytest.approx(0.1 * (1 + (documents - 1) / 200), abs=6e-4)
    if said:
        assert shown["over documents"] == said
    else:
        low, high = (float(bound) for bound in shown["over documents"].strip("[]").split(", "))
        assert 0.09 < low < float(shown["loss"]) < high < 0.12, "the document of another group is not among them"


def test_findings_and_points_are_told_apart_in_files(capsys: pytest.CaptureFixture[str]) -> None:
    """JSON names both lists; CSV has the findings, a row per definition, and not one of a point."""
    columns = {"unigram_nll": 6.0, "next_entropy": 3.0, "new_survival": 0.4, "above_human": 0.1}
    chains = Chains(
        "replace", *({seed: {1: Point({"nll": nll, **columns})} for seed in range(3)} for nll in (4.5, 4.0))
    )
    found = [Profile("replace", {}, chains, findings(chains, Thresholds()))]
    rows = [
        {"regime": regime, "seed": seed, "generation": t, "new_survival": 0.4 - lost, "extraction": 0.1}
        for regime, lost in (("human", 0.0), ("replace", 0.1))
        for seed in range(3)
        for t in range(2)
    ]
    _print_file(found, rows, "json")
    given = json.loads(capsys.readouterr().out)
    assert list(given) == ["findings", "points"]
    assert [each["number"] for each in given["findings"]] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert len(given["points"]) == 8 and {each["measure"] for each in given["points"]} == {"tail loss", "extraction"}
    _print_file(found, rows, "csv")
    table = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["number"] for row in table] == list("12345678") and "measure" not in table[0]
    assert all(row["verdict"] for row in table)


@pytest.mark.parametrize("heading", [HEADING, BESIDE_HEADING, HARM_HEADING, TELEPHONE_HEADING])
def test_headings_of_one_seed_promise_no_interval(heading: list[str]) -> None:
    assert of_seeds(heading, 3) == heading and "95 %" in " ".join(heading)
    alone = " ".join(of_seeds(heading, 1))
    assert "95 %" not in alone and "one seed: no interval" in alone


@pytest.mark.parametrize(("seeds", "said"), [(1, "one seed has no interval and no verdict"), (3, "intervals of 95 %")])
def test_the_statement_says_what_verdicts_rest_on(seeds: int, said: str) -> None:
    chain = {seed: {1: Point({"nll": 4.0})} for seed in range(seeds)}
    line = statement([Profile("replace", {}, Chains("replace", chain, chain), [])])
    assert said in line and f"(n = {seeds})" in line and ("95 %" in line) == (seeds > 1)
