"""What remedies save and cost, against the table of results, and by hand."""

import json
import math
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import pytest
from support.tiny import run_study, tiny_config

from lab.cli.app import main
from lab.config.profile import ProfileConfig
from lab.errors import InputError
from lab.loop import Study, build
from lab.models.feed import load_recipe
from lab.report import remedies as shown
from lab.run.folder import RunFolder
from lab.run.remedies import Remedy, baselines, remedies

T_1 = 12.706204736
"""The 0.975 quantile of Student's t with 1 degree of freedom, from a printed table."""
WEB = {"web": {"machine": 0.75}}


def fields(corpus: Path, **changes: Any) -> Any:
    sweep = [
        {"arm": "none", "regimes": ["human", "replace", WEB]},
        {"arm": "half", "curators": [{"random": {"keep": 0.5}}]},
        {"arm": "oracle", "curators": [{"oracle": {"human": 1, "machine": 0}}]},
        {"arm": "cool", "sample.temperature": 0.5},
    ]
    wanted = {"seeds": [0, 1], "regimes": [WEB], "corpus__archive_tokens": 256, "sweep": sweep, **changes}
    wanted |= {"model": {"kind": "ngram", "order": 2, "smoothing": "interpolated", "n_positions": 16}, "train": None}
    return tiny_config(corpus, **wanted)


@pytest.fixture(scope="module")
def ran(corpus_file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, RunFolder, list[Remedy]]:
    study = build(fields(corpus_file))
    run = tmp_path_factory.mktemp("remedies") / "run"
    run_study(study, run)
    folder = RunFolder(run)
    return study, folder, remedies(study, folder)[0]


Ran = tuple[Study, RunFolder, list[Remedy]]


def by_name(ran: Ran) -> dict[str, Remedy]:
    return {shown.name(each): each for each in ran[2]}


def test_arms_without_a_control_of_their_decoding_are_left_out(ran: Ran) -> None:
    assert list(by_name(ran)) == ["replace, none", "web, none", "half", "oracle"]
    assert remedies(ran[0], ran[1])[1] == ["web,machine=0.75,arm=cool"]


def loss(rows: list[dict[str, Any]], regime: str, arm: str) -> list[float]:
    chosen = [row for row in rows if row["regime"].startswith(regime) and row["arm"] == arm and row["generation"] == 1]
    return [row["nll"] for row in sorted(chosen, key=lambda row: row["seed"])]


def test_loss_is_paired_with_the_one_control(ran: Ran) -> None:
    rows, found = ran[1].results(), by_name(ran)
    gaps = [a - b for a, b in zip(loss(rows, "web", "half"), loss(rows, "human", "none"), strict=True)]
    half = T_1 * stdev(gaps) / math.sqrt(2)
    above = found["half"].above
    assert (above.mean, above.high - above.mean) == (pytest.approx(fmean(gaps)), pytest.approx(half))
    against = [a - b for a, b in zip(loss(rows, "web", "half"), loss(rows, "web", "none"), strict=True)]
    assert found["half"].against(found["web, none"]).mean == pytest.approx(fmean(against))
    assert baselines(ran[2], found["oracle"]) == {"none": found["web, none"], "random": found["half"]}
    assert baselines(ran[2], found["replace, none"]) == {}


def test_costs_are_those_of_the_pool(ran: Ran) -> None:
    """32 rows on offer: 24 machine and 8 human ones.  The oracle keeps the 8, chance 16 of all."""
    found = by_name(ran)
    assert found["oracle"].mean("tpr").mean == 1 and found["oracle"].mean("fpr").mean == 0
    assert found["oracle"].human_rows == 8 and found["web, none"].human_rows == 8
    assert found["half"].mean("kept").mean == 0.5 and 0 < found["half"].human_rows < 8
    cells = {row[0]: row[1:] for row in shown.costs(ran[2])}
    assert cells["oracle"][:5] == ["0.25", "1.00", "1.00", "0.00", "1.00"]
    assert cells["web, none"][:5] == ["", "0.25", "", "", "1.00"]


def test_whom_curators_drop_is_counted_by_domain(ran: Ran) -> None:
    """Of 8 human rows on offer to each of 2 seeds the oracle drops none, and chance what the fpr says."""
    found = by_name(ran)
    for kind, fpr in (("oracle", 0.0), ("half", found["half"].mean("fpr").mean)):
        assert set(found[kind].dropped) == {"sea", "land"}
        offered, lost = np.sum(list(found[kind].dropped.values()), axis=0)
        assert (offered, lost) == (16, round(16 * fpr))
    heading, cells = shown.registers(ran[2])
    assert heading == ["remedy", "land", "sea", "all"] and cells[1] == ["oracle", "0.00", "0.00", "0.00"]


def test_seconds_are_of_the_curators_alone(ran: Ran) -> None:
    """A curated generation has one step more, `curate`, and no judge here: its seconds, over two seeds."""
    study, folder, _ = ran
    curate = [g.recipe for g in study.generations if g.arm.axes == {"arm": "half"} and g.t == 1]
    manifests = [folder.store.folder(step.name, step.key) / "manifest.json" for step in curate]
    took = [json.loads(path.read_text())["environment"]["timing"]["seconds"] for path in manifests]
    found = by_name(ran)
    assert found["web, none"].seconds == 0 and found["half"].seconds == pytest.approx(sum(took) / 2)


def test_the_words_follow_the_intervals(ran: Ran) -> None:
    found, saved = by_name(ran), []
    for kind in ("half", "oracle"):
        change = found[kind].against(found["web, none"])
        words = "cannot be told from" if change.holds_zero else "lower" if change.mean < 0 else "raise"
        share = 100 * (1 - found[kind].above.mean / found["web, none"].above.mean)
        saved.append((words, f"{kind} ({share:+.0f} %)"))
    said = shown.sentences(ran[2])
    for words, what in saved:
        assert any(words in sentence and what in sentence for sentence in said)


def test_files_and_the_figure(ran: Ran, tmp_path: Path) -> None:
    rows = shown.tidy(ran[2], ProfileConfig())
    assert [row["remedy"] for row in rows] == list(by_name(ran)) and rows[2]["kept"] == 0.5
    assert not any(isinstance(value, float) and np.isnan(value) for row in rows for value in row.values())
    shown.figure(ran[2], "a heading", tmp_path / "drawn.svg")
    drawn = (tmp_path / "drawn.svg").read_text()
    assert drawn.count("<svg") == 1 and "oracles" in drawn
    with pytest.raises(InputError, match=r"must end in \.png"):
        shown.figure(ran[2], "a heading", tmp_path / "drawn.txt")


def said_by(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("sys.argv", ["lab", "remedies", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_the_command(ran: Ran, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert said_by([str(ran[1].path)], monkeypatch) == 0
    out = capsys.readouterr().out
    assert "What each remedy saves" in out and "What it costs" in out and "seeds 0, 1 (n = 2)" in out
    assert said_by([str(ran[1].path), "--format", "csv"], monkeypatch) == 0
    assert capsys.readouterr().out.startswith("remedy,regime,arm,seeds,generation,above_human")
    assert said_by([str(ran[1].path), "--format", "xml"], monkeypatch) == 2
    assert said_by([str(ran[1].path), "--format", "csv", "--json"], monkeypatch) == 2


def test_a_run_without_a_control_says_what_to_do(
    corpus_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_study(build(fields(corpus_file, sweep=None, regimes=["replace"], seeds=[0])), tmp_path / "run")
    assert said_by([str(tmp_path / "run")], monkeypatch) == 2
    assert "remedies are compared with the regime human of an arm without" in capsys.readouterr().err


def test_arms_are_compared_with_their_like_at_a_generation_that_both_have(corpus_file: Path, tmp_path: Path) -> None:
    """Two models and a short arm: each is read against the control and the pool of its own model, at generation 1."""
    half: dict[str, Any] = {"curators": [{"random": {"keep": 0.5}}]}
    sweep: list[dict[str, Any]] = [
        {"arm": "none 1", "model.order": 1, "regimes": ["human", WEB]},
        {"arm": "half 1", "model.order": 1, **half},
        {"arm": "none 2", "model.order": 2, "regimes": ["human", "replace", WEB]},
        {"arm": "half 2", "model.order": 2, **half},
        {"arm": "short", "model.order": 2, "generations": 2, "curators": ["duplicates"], "regimes": ["replace", WEB]},
    ]
    study = build(fields(corpus_file, sweep=sweep, generations=3, seeds=[0, 1], corpus__archive_tokens=512))
    run_study(study, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    found, left = remedies(study, folder)
    by, rows = {shown.name(each): each for each in found}, folder.results()
    assert left == [] and {"half 1", "half 2", "replace, short", "web, short"} <= set(by)
    gap = lambda arm, other, regime, t: fmean(  # noqa: E731
        a["nll"] - b["nll"]
        for a in rows
        for b in rows
        if a["seed"] == b["seed"] and a["generation"] == b["generation"] == t and (a["arm"], b["arm"]) == (arm, other)
        if a["regime"].startswith("web") and b["regime"].startswith(regime)
    )
    for order in (1, 2):
        assert by[f"half {order}"].above.mean == pytest.approx(gap(f"half {order}", f"none {order}", "human", 2))
        none = baselines(found, by[f"half {order}"])["none"]
        assert by[f"half {order}"].against(none).mean == pytest.approx(gap(f"half {order}", f"none {order}", "web", 2))
    short = by["web, short"]
    assert short.against(baselines(found, short)["none"]).mean == pytest.approx(gap("short", "none 2", "web", 1))


def test_what_is_copied_is_counted_in_the_human_rows_of_the_chain(ran: Ran) -> None:
    """By hand: 8-grams of the last samples and of the held-out rows that stand in the rows of all recipes."""
    study, folder, _ = ran
    store = folder.store
    read = lambda step: np.load(store.folder(step.name, step.key) / "tokens.npy")  # noqa: E731
    differences = []
    for last in (g for g in study.generations if g.arm.axes == {"arm": "oracle"} and g.t == 1):
        recipe = load_recipe(store.folder(last.recipe.name, last.recipe.key))
        archive = next(part for part in recipe.parts if part.corpus == -2)
        fed = [read(last.record.inputs["human"]), read(last.recipe.inputs["archive"])[archive.numbers(np.arange(8))]]
        grams = {tuple(row[i : i + 8]) for rows in fed for row in rows.tolist() for i in range(9)}
        sample, held = (
            fmean(tuple(row[i : i + 8]) in grams for row in read(step).tolist() for i in range(9))
            for step in (last.synthetic, last.record.inputs["test"])
        )
        differences.append(sample - held)
    assert by_name(ran)["oracle"].copied == pytest.approx(fmean(differences))
