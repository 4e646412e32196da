"""Progress of a run: plain lines off a terminal, and two logs that programs read."""

import io
import itertools
import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console
from support.tiny import store_at

from lab.loop import Study
from lab.run import progress
from lab.run.plan import Estimator
from lab.run.progress import SILENCE, RunProgress, clock, counted
from lab.store.step import Step


def test_clock() -> None:
    assert [clock(s) for s in (0, 5.4, 59.6, 65, 3599.7, 3700, 86400)] == [
        "0s",
        "5s",
        "1m00s",
        "1m05s",
        "1h00m",
        "1h01m",
        "24h00m",
    ]


def silent(step: Step) -> None:
    """Tell nothing of what a step has measured."""


def reported(
    order: Sequence[Step],
    seconds: Callable[[Step], float],
    folder: Path,
    *,
    terminal: bool = False,
    live: Callable[[Step], str | None] = silent,
) -> list[str]:
    """Report all steps as finished, except the corpus, which is found; return the printed lines."""
    console = Console(file=io.StringIO(), width=40, force_terminal=terminal)
    with RunProgress(order, Estimator(store_at(folder), "cpu"), 2, folder / "run", console, live) as progress:
        before = progress.remaining()
        for step in order:
            if step.name == "corpus":
                progress.found(step)
                continue
            progress.started(step)
            progress.advanced(step, step.tokens // 2)
            progress.finished(step, seconds(step))
        assert progress.remaining() == 0 < before
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("terminal", [False, True])
def test_every_expensive_step_has_a_line(built: Callable[..., Study], tmp_path: Path, terminal: bool) -> None:
    """Off a terminal a line is never folded, however long the name of the regime."""
    order = built(regimes=["human", "lab.regimes:accumulate"]).steps
    lines = reported(order, lambda step: 1.5, tmp_path, terminal=terminal)
    timings = [json.loads(line) for line in (tmp_path / "run" / "timings.jsonl").read_text().splitlines()]
    assert [entry["label"] for entry in timings] == [step.label for step in order if step.name != "corpus"]
    if not terminal:
        printed = [step for step in order if step.name != "corpus"]
        assert len(lines) == len(printed)
        assert all(step.label in line for step, line in zip(printed[:-1], lines, strict=False))
        told = [" left" in line for line in lines[:-1]]
        timed = Counter[str]()
        for step, is_told in zip(printed[:-1], told, strict=True):
            timed[step.name] += 1
            assert is_told == all(timed[name] >= 3 for name in ("train", "sample", "heldout"))
        assert any(told) and not told[0]
        assert lines[-1].startswith(f"[{len(order)}/{len(order)}]") and lines[-1].endswith("all done")


def test_quick_steps_are_summed_up(built: Callable[..., Study], tmp_path: Path) -> None:
    """Each expensive step has a line, and what it measured another one; the last line counts all the quick ones."""
    order = built().steps
    lines = reported(
        order,
        lambda step: 1.0 if step.name == "train" else 0.99,
        tmp_path,
        live=lambda step: "told" if step.name == "record" else None,
    )
    at = [number for number, step in enumerate(order) if step.name == "train"]
    assert lines.count("told") == sum(step.name == "record" for step in order)
    assert lines[-2:-1] == ["told"]  # no number comes after "all done"
    lines = [line for line in lines if line != "told"]
    assert [line.split("]")[0] for line in lines] == [f"[{n + 1}/{len(order)}" for n in at] + [
        f"[{len(order)}/{len(order)}"
    ]
    assert sum("train shared seed 0 gen 0  1.0s" in line for line in lines) == 1
    between = [step.label.split()[0] for step in order if step.name not in ("train", "corpus")]
    rest = ", ".join(f"{name} x {count}" if count > 1 else name for name, count in Counter(between).items())
    assert lines[-1] == f"[{len(order)}/{len(order)}] {rest}  all done"


def test_a_long_line_is_wrapped_at_words_on_a_terminal(built: Callable[..., Study], tmp_path: Path) -> None:
    line = "replace  seed 0  gen 1   perplexity 477.0 (human 403.0)   rare words kept 5.1 %"
    lines = reported(built().steps, lambda step: 1, tmp_path, terminal=True, live=lambda step: line)
    plain = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", each).rstrip() for each in lines]
    assert "replace  seed 0  gen 1   perplexity" in plain and "  477.0 (human 403.0)   rare words kept" in plain


def test_a_long_silence_is_broken(built: Callable[..., Study], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With quick steps only, a line appears when the last one is more than SILENCE seconds old."""
    now = itertools.count(step=SILENCE / 4)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(now)))
    order = built().steps
    lines = reported(order, lambda step: 0.1, tmp_path)
    assert 3 < len(lines) < len(order) / 2 and all(", " in line for line in lines)
    assert " left" not in lines[0] and lines[-1].endswith("all done")


def test_the_first_steps_of_each_worker_say_nothing_of_the_others(built: Callable[..., Study], tmp_path: Path) -> None:
    """Two workers start with imports, ten times as slow: once two warm steps are timed, only these count."""
    estimator = Estimator(store_at(tmp_path), "cpu", workers=2)
    step = next(step for step in built().steps if step.name == "train")
    guess = estimator.seconds(step)
    seen = []
    for seconds in (10, 10, 1, 1, 1):
        seen.append((round(estimator.seconds(step) / guess, 6), estimator.knows({"train": 99})))
        estimator.learn(step.name, step.work, seconds * guess)
    assert seen == [(1, False), (10, False), (10, False), (1, False), (1, False)]
    assert estimator.knows({"train": 99}) and estimator.seconds(step) == pytest.approx(guess)
    assert estimator.measured


def test_counted() -> None:
    assert counted(["mix", "write", "mix"]) == "mix x 2, write"
    assert counted([]) == ""


def test_a_failure_is_one_line_and_its_trace_is_kept(built: Callable[..., Study], tmp_path: Path) -> None:
    order, console = built().steps, Console(file=io.StringIO(), width=40)
    progress = RunProgress(order, Estimator(store_at(tmp_path), "cpu"), 1, tmp_path / "run", console, silent)
    progress.failed(order[0], "ValueError: " + "long " * 30, "Traceback ...")
    assert len(console.file.getvalue().splitlines()) == 1
    kept = json.loads((tmp_path / "run" / "failures.jsonl").read_text())
    assert kept["label"] == order[0].label and kept["trace"] == "Traceback ..."


def test_what_remains_is_the_sum_over_steps(built: Callable[..., Study], tmp_path: Path) -> None:
    """Each step counts with its estimate, less the share that is done, divided by the workers."""
    order, console = built().steps, Console(file=io.StringIO(), width=40)
    estimator = Estimator(store_at(tmp_path), "cpu")
    progress = RunProgress(order, estimator, 2, tmp_path / "run", console, silent)
    whole = sum(estimator.seconds(step) for step in order)
    assert progress.remaining() == pytest.approx(whole / 2)
    train = next(step for step in order if step.name == "train")
    progress.advanced(train, train.tokens // 4)
    assert progress.remaining() == pytest.approx((whole - estimator.seconds(train) / 4) / 2)
    progress.found(train)
    assert progress.remaining() == pytest.approx((whole - estimator.seconds(train)) / 2)
