"""Numbers as they come: a line and the tables after each generation, and a run that can be shown in the middle."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support.hostile import call
from support.tiny import Finished, Reports, store_at

from lab import machine
from lab.loop import Study
from lab.run.executors import execute
from lab.run.folder import RunFolder
from lab.run.live import Live
from lab.steps import SOON
from lab.store.step import Step


class Told(Reports):
    """A Reporter that keeps the line of each measured generation, and how many rows the table has after it."""

    def __init__(self, live: Live, folder: RunFolder) -> None:
        super().__init__()
        self.live, self.folder, self.lines = live, folder, list[tuple[str, int]]()

    def finished(self, step: Step, seconds: float) -> None:
        """Ask for the line."""
        super().finished(step, seconds)
        if line := self.live.measured(step):
            assert len(list(self.folder.path.glob("*/gen-*/synthetic"))) == len(self.folder.results())
            self.lines.append((line, len(self.folder.results())))


def test_each_generation_is_told_when_it_is_measured(
    built: Callable[..., Study], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Generation by generation, the control first; the table has as many rows as generations were told.

    All generations are linked once and then the measured ones alone: in a study of thousands, the others would take a
    fifth of a run.
    """
    linked, link = list[int](), RunFolder.link
    monkeypatch.setattr(
        RunFolder, "link", lambda self, some, store: (linked.append(len(some)), link(self, some, store))
    )
    study = built(seeds=[0])
    folder = RunFolder(tmp_path / "tiny")
    folder.begin(study, {})
    told = Told(Live(study, folder), folder)
    assert told.live.records == set()
    store = store_at(tmp_path)
    assert execute(store, study.steps, told, workers=0, threads=1, fresh=frozenset(), log=tmp_path / "log") == {}
    number, share = r"\d+\.\d", r"\d+\.\d %"
    patterns = [
        rf"all regimes  seed 0  gen 0  perplexity {number}  rare words kept {share}",
        rf"human    seed 0  gen 1  perplexity {number}  rare words kept {share}",
        rf"replace  seed 0  gen 1  perplexity {number} \(human {number}\)  rare words kept {share}",
    ]
    assert len(told.lines) == len(patterns)
    for (line, _), pattern in zip(told.lines, patterns, strict=True):
        assert re.fullmatch(pattern, line), line
    assert [rows for _, rows in told.lines] == [2, 3, 4] and linked == [4 + 2, 1, 1]
    assert Live(study, folder).records == told.live.records == set(told.live.chains), "a run that goes on knows them"
    perplexity = {(row["regime"], row["generation"]): row["perplexity"] for row in folder.results()}
    assert f"perplexity {perplexity['replace', 1]:.1f} (human {perplexity['human', 1]:.1f})" in told.lines[-1][0]


def test_an_arm_is_named_as_in_the_tables(built: Callable[..., Study], tmp_path: Path) -> None:
    """And the words of all steps are the reader's."""
    study = built(seeds=[0], sweep={"sample.temperature": [0.5, 1]}, sample__shard_rows=8)
    live = Live(study, RunFolder(tmp_path / "tiny"))
    monkey = {"columns": {"perplexity": 2.0, "rare_survival": 0.5}}
    told = set[str]()
    for step in live.chains:
        live.told, live.due = 0, 10**6
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("lab.run.live.read_record", lambda *_: monkey)
            told.add(str(live.measured(step)).partition("  ")[0])
    names = ("human", "replace", "all regimes")
    assert told == {f"{name}, temperature {heat}" for name in names for heat in ("0.5", "1.0")}
    words = {
        step.label.split()[0]
        for step in study.steps
        if "seed" in step.label and not step.label.startswith(("human", "resample"))
    }
    assert words == {"mix", "train", "write", "score", "measure"}
    assert not [step.label for step in study.steps if "shard" in step.label or "=" in step.label]


def test_what_measures_goes_before_what_trains_and_writes() -> None:
    assert {"record", "extra", "heldout", "pool", "synthetic"} <= SOON and not {"train", "sample"} & SOON


def test_a_run_is_shown_in_the_middle(finished: Finished) -> None:
    """A table that lacks a generation, as it is while a run goes on: what is there is shown and marked."""
    table = finished.folder / "results.csv"
    whole = table.read_text()
    try:
        lines = whole.splitlines(keepends=True)
        table.write_text("".join(line for line in lines if not line.startswith("replace,1,1")))
        shown = call("show", "tiny", cwd=finished.cwd)
        assert shown.code == 0 and "INCOMPLETE: " in shown.out
    finally:
        table.write_text(whole)
    assert "INCOMPLETE" not in call("show", "tiny", cwd=finished.cwd).out


def test_a_store_of_another_processor_is_said_once(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same run again, as on another machine: one note names both processors, and nothing is computed."""
    shutil.copytree(finished.cwd, tmp_path / "copy", symlinks=True)
    here = machine.cpu_name()
    monkeypatch.setattr(machine, "cpu_name", lambda: "A newer CPU")
    done = call("run", finished.study, "--workers", "0", cwd=tmp_path / "copy")
    assert done.code == 0 and done.err.count(f"were made on {here}, and this is A newer CPU") == 1, done.err
    assert "[" not in done.err
    monkeypatch.setattr(machine, "cpu_name", lambda: here)
    assert "were made on" not in call("run", finished.study, "--workers", "0", cwd=tmp_path / "copy").err
