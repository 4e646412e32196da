"""What a run tells: one plain line a step off a terminal, and two logs that programs read."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from support.tiny import store_at

from lab.loop import Study
from lab.run.plan import Estimator
from lab.run.progress import RunProgress, clock


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


@pytest.mark.parametrize("terminal", [False, True])
def test_every_step_is_told(built: Callable[..., Study], tmp_path: Path, terminal: bool) -> None:
    """Off a terminal a line is never folded, however long the name of the regime."""
    order = built(regimes=["human", "lab.regimes:accumulate"]).steps
    console = Console(file=io.StringIO(), width=40, force_terminal=terminal)
    with RunProgress(order, Estimator(store_at(tmp_path), "cpu"), 2, tmp_path / "run", console) as progress:
        before = progress.remaining()
        for step in order:
            if step.name == "corpus":
                progress.found(step)
                continue
            progress.started(step)
            progress.advanced(step, step.tokens // 2)
            progress.finished(step, 0.5)
        assert progress.remaining() == 0 < before
    timings = [json.loads(line) for line in (tmp_path / "run" / "timings.jsonl").read_text().splitlines()]
    assert [entry["label"] for entry in timings] == [step.label for step in order if step.name != "corpus"]
    if not terminal:
        said = console.file.getvalue().splitlines()
        told = [step for step in order if step.name != "corpus"]
        assert len(said) == len(told)
        assert all(step.label in line for step, line in zip(told, said, strict=True))
        assert said[-1].startswith(f"[{len(order)}/{len(order)}]") and said[-1].endswith("all done")


def test_a_failure_is_one_line_and_its_trace_is_kept(built: Callable[..., Study], tmp_path: Path) -> None:
    order, console = built().steps, Console(file=io.StringIO(), width=40)
    progress = RunProgress(order, Estimator(store_at(tmp_path), "cpu"), 1, tmp_path / "run", console)
    progress.failed(order[0], "ValueError: " + "long " * 30, "Traceback ...")
    assert len(console.file.getvalue().splitlines()) == 1
    kept = json.loads((tmp_path / "run" / "failures.jsonl").read_text())
    assert kept["label"] == order[0].label and kept["trace"] == "Traceback ..."


def test_what_remains_is_the_sum_over_steps(built: Callable[..., Study], tmp_path: Path) -> None:
    """Every step at its estimate, less the share done of those in hand, over the workers; failed steps remain."""
    order, console = built().steps, Console(file=io.StringIO(), width=40)
    estimator = Estimator(store_at(tmp_path), "cpu")
    progress = RunProgress(order, estimator, 2, tmp_path / "run", console)
    whole = sum(estimator.seconds(step) for step in order)
    assert progress.remaining() == pytest.approx(whole / 2)
    train = next(step for step in order if step.name == "train")
    progress.advanced(train, train.tokens // 4)
    assert progress.remaining() == pytest.approx((whole - estimator.seconds(train) / 4) / 2)
    progress.found(train)
    assert progress.remaining() == pytest.approx((whole - estimator.seconds(train)) / 2)
