"""What `lab plan` says about a graph and a store."""

from collections.abc import Callable
from pathlib import Path

import pytest
from support.tiny import store_at

from lab.loop import Study
from lab.run.plan import OVERHEAD, RECENT, Estimator, make_plan
from lab.steps import STEPS, job_of
from lab.store.manifest import MANIFEST
from lab.store.step import Step


def commit(folder: Path, step: Step, seconds: float) -> Path:
    store = store_at(folder)
    store.run(job_of(step), lambda out: None, {"timing": {"seconds": seconds, "work": step.work}}, fresh=False)
    return store.folder(step.name, step.key)


def test_uses_shared_and_done(built: Callable[..., Study], tmp_path: Path) -> None:
    """2 regimes x 2 seeds x 3 generations are 12 trainings, 2 of them twice the same: 10."""
    study = built(seeds=[0, 1], generations=3)
    for step in study.steps[:2]:
        commit(tmp_path, step, 1.0)
    found = make_plan(study, store_at(tmp_path), workers=2)
    lines = {line.step: line for line in found.lines}
    assert (lines["train"].uses, lines["train"].unique, lines["train"].done) == (12, 10, 0)
    assert (lines["sample"].uses, lines["sample"].unique) == (24, 20)
    assert (lines["corpus"].done, lines["tokenizer"].done, lines["rows"].done) == (1, 1, 0)
    assert lines["train"].tokens == 10 * 640 and lines["sample"].tokens == 10 * 512
    assert (found.chains, found.generations) == (4, 3)


def test_a_plan_of_nothing_writes_nothing(built: Callable[..., Study], tmp_path: Path) -> None:
    assert make_plan(built(), store_at(tmp_path / "absent"), workers=2).measured is False
    assert list(tmp_path.iterdir()) == []


def test_workers_divide_the_time_down_to_the_longest_chain(built: Callable[..., Study], tmp_path: Path) -> None:
    one, many = (make_plan(built(seeds=[0, 1]), store_at(tmp_path), workers=n) for n in (1, 1000))
    assert one.seconds == pytest.approx(sum(line.seconds for line in one.lines))
    assert many.seconds == many.longest == one.longest < one.seconds


def test_estimates_follow_the_timings_of_the_store(built: Callable[..., Study], tmp_path: Path) -> None:
    """A training that took 10 times as long as guessed makes the next one 10 times as long."""
    step = next(step for step in built().steps if step.name == "train")
    guess = OVERHEAD + step.work / STEPS["train"].cost.cpu
    assert Estimator(store_at(tmp_path), "cpu").seconds(step) == pytest.approx(guess)
    commit(tmp_path, step, 10 * guess)
    estimator = Estimator(store_at(tmp_path), "cpu")
    assert estimator.measured and estimator.seconds(step) == pytest.approx(10 * guess)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"environment": {}}'])
def test_a_damaged_manifest_is_no_timing(built: Callable[..., Study], tmp_path: Path, text: str) -> None:
    """The store makes such an artifact again: a plan must not stumble over it."""
    step = next(step for step in built().steps if step.name == "train")
    (commit(tmp_path, step, 5.0) / MANIFEST).write_text(text)
    found = make_plan(built(), store_at(tmp_path), workers=1)
    assert not found.measured
    assert {line.step: line.done for line in found.lines}["train"] == 0


def test_an_estimate_forgets_what_is_long_ago(tmp_path: Path) -> None:
    """The median of the last RECENT timings: a machine that became slow is believed."""
    estimator = Estimator(store_at(tmp_path), "cpu")
    for seconds in (1.0,) * 2 * RECENT + (3.0,) * RECENT:
        estimator.learn("record", 0.0, seconds)
    assert estimator.of("record", 0.0) == pytest.approx(3.0)
