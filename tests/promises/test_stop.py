"""Signals, damage, full disks and second runners: each leaves a store from which the same tables come."""

import itertools
import os
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from support import forks, hooks, ordeals
from support.ordeals import Trial, Trials, store

from lab.config.files import load_study
from lab.loop import build
from lab.run.plan import make_plan
from lab.store.space import CHECKPOINTS, size_of
from lab.store.store import Store

SIGNALS = {"SIGINT": signal.SIGINT, "SIGTERM": signal.SIGTERM, "SIGUSR1": signal.SIGUSR1, "SIGHUP": signal.SIGHUP}


@pytest.fixture
def network(trials: Trials) -> Trial:
    return trials["network"]


@pytest.fixture
def counts(trials: Trials) -> Trial:
    return trials["counts"]


def log(folder: Path) -> str:
    return (folder / "log.txt").read_text()


def wait_for(path: Path) -> None:
    while not path.exists():
        time.sleep(0.01)


# --- signals -------------------------------------------------------------------------------------------------------


WHEN = ((0, 0.1), (1, 0.5), (0, 0.8))
"""Number of workers, and the share of the run that is done."""


def some(cases: Iterable[tuple[Any, ...]], chosen: Callable[[int], bool]) -> list[Any]:
    """Mark all cases but the chosen ones, by number, for `scripts/test --full` alone."""
    return [pytest.param(*case, marks=[] if chosen(i) else [pytest.mark.full]) for i, case in enumerate(cases)]


@pytest.mark.parametrize(
    ("name", "workers", "share"),
    some([(name, *when) for name in SIGNALS for when in WHEN], lambda i: i % 3 == i // 3 % 3),
)
def test_a_signal_ends_with_75_and_nothing_is_lost(network: Trial, name: str, workers: int, share: float) -> None:
    """While human text is read it stops at once, later behind the step in hand.  One line says so."""
    folder = network.fresh()
    in_run = [i for i, point in enumerate(network.points) if re.match("train|sample|record|heldout/", point)]
    number = in_run[int(share * len(in_run))] if share > 0.2 else int(share * len(network.points))
    code = network.run(folder, workers=workers, hook=["signalled", number, [SIGNALS[name]], name != "SIGINT"])
    said = log(folder).splitlines()[-1]
    assert code == forks.STOPPED and said.startswith("stopped; nothing that was finished is lost"), log(folder)
    assert "Traceback" not in log(folder)
    assert network.ends_the_same(folder)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_training_that_is_stopped_leaves_a_checkpoint(
    network: Trial, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    """Behind the step in hand, though the next one was not due for hours; the next run begins there."""
    steps = [point for point in network.points if point == "train/step"]
    monkeypatch.setitem(forks.STUDIES["network"]["compute"], "checkpoint_seconds", 10_000)
    folder = network.fresh()
    assert network.run(folder, workers=workers, hook=["asked", "train/step", 3]) == forks.STOPPED
    (checkpoint,) = store(folder).glob(".scratch/*/*/step-*")
    assert checkpoint.name == "step-00000003"
    monkeypatch.chdir(folder)
    study = build(load_study("network.yaml"))
    (estimate,) = {step.scratch for step in study.steps if step.name == "train"}
    assert 1 / 1.5 < (CHECKPOINTS + 1) * size_of(checkpoint) / estimate < 1.5
    assert make_plan(study, Store(folder / "absent"), workers=1).scratch == estimate
    assert network.run(folder, hook=["recording", "points"]) == 0
    assert (folder / "points").read_text().splitlines().count("train/step") == len(steps) - 3
    assert network.same(folder) and ordeals.leftovers(folder) == []


@pytest.mark.parametrize("workers", [0, 1])
def test_a_second_signal_stops_at_once(network: Trial, workers: int) -> None:
    """The step in hand hangs, so that the first one cannot end the run."""
    folder = network.fresh()
    process = network.start(folder, workers=workers, hook=["stalled", "train/commit/written", "hangs"])
    wait_for(folder / "hangs")
    os.kill(process, signal.SIGINT)
    time.sleep(0.5)
    assert network.forks.lives(process)
    os.kill(process, signal.SIGINT)
    assert network.forks.wait(process) == forks.STOPPED
    assert "stopped; nothing" in log(folder) and "Traceback" not in log(folder)
    assert network.ends_the_same(folder)


# --- damage --------------------------------------------------------------------------------------------------------


KINDS = {
    "counts": ["source", "source-rows"],
    "network": [
        "corpus",
        "tokenizer",
        "rows",
        "heldout-rows",
        "human",
        "pool",
        "train",
        "sample",
        "synthetic",
        "heldout",
        "record",
    ],
}


def cases(name: str) -> list[tuple[str, str, bool, bool, int]]:
    """Every kind with two ways of damage, every way with two kinds or more.  The second way runs in --full alone."""
    ways = hooks.DAMAGES
    return [
        (kind, ways[(2 * i + j * 3) % len(ways)], bool((i + j) % 3), i % 2 == 0, i % 2)
        for i, kind in enumerate(KINDS[name])
        for j in range(2)
    ]


@pytest.mark.parametrize(
    ("name", "case"),
    some([(name, case) for name in forks.STUDIES for case in cases(name)], lambda i: i % 2 == 0),
    ids=str,
)
def test_a_damaged_artifact_is_made_again(trials: Trials, name: str, case: tuple[str, str, bool, bool, int]) -> None:
    kind, how, used, hash_all, workers = case
    assert ordeals.damaged(trials[name], kind, how, used=used, hash_all=hash_all, workers=workers)


def test_the_cases_name_every_kind(trials: Trials) -> None:
    for trial in trials.values():
        named = {case[0] for each in forks.STUDIES for case in cases(each)}
        assert set(ordeals.kinds(trial)) <= named


WHILE = list(itertools.product(("train", "human", "tokenizer"), ("flipped", "deleted", "gone"), (0, 1)))
"""In CI each kind with each number of workers, and each way with two kinds."""


@pytest.mark.parametrize(("kind", "how", "workers"), some(WHILE, lambda i: i in (0, 3, 8, 11, 13, 16)))
def test_damage_while_a_step_runs_that_needs_it(network: Trial, kind: str, how: str, workers: int) -> None:
    """Found before use or by the failing step: it is moved aside, made again, and the step with it, all in one run.

    A process hashes an artifact once (lab/store/README.md), so human rows are damaged before their first reader, the
    pool, has hashed them.  At the start of `train` only the resample, which `record` alone reads, is not hashed yet,
    and the keys would decide which of the two is damaged.
    """
    folder = network.fresh()
    reader = {"train": "heldout", "human": "pool", "tokenizer": "train"}[kind]
    hook = ["damaging", f"{reader}/commit/made", kind, how]
    code = network.run(folder, workers=workers, hook=[*hook, "checkpoints/store"], hash_all=True)
    assert code == 0 and network.same(folder), log(folder)
    aside = list(store(folder).glob(f"{kind}/.corrupt-*"))
    told = [line for line in log(folder).splitlines() if "was damaged: it is moved to .corrupt-" in line]
    assert len(aside) == len(told) == (how != "gone")


def test_what_is_moved_aside_stays(counts: Trial) -> None:
    folder = counts.done()
    artifact = min(store(folder).glob("train/[!.]*"))
    for _ in range(2):
        hooks.damage(artifact, "flipped")
        assert counts.run(folder) == 0
    assert len(list(artifact.parent.glob(".corrupt-*"))) == 2
    assert counts.ends_the_same(folder)


# --- the disk ------------------------------------------------------------------------------------------------------


FULL = [
    "human/commit/written",
    "config.yaml/written",
    "train/commit/made",
    "train/checkpoint/tensors",
    "sample/commit/manifest/written",
    "record/commit/sealed",
    "results.csv/written",
]


@pytest.mark.parametrize("pattern", FULL)
def test_a_write_that_finds_the_disk_full(network: Trial, pattern: str) -> None:
    folder = network.fresh()
    workers = FULL.index(pattern) % 2
    assert network.run(folder, workers=workers, hook=["full", pattern]) == 1, log(folder)
    said = [line for line in log(folder).splitlines() if "the disk is full" in line]
    assert len(said) >= 1 and "Traceback" not in log(folder)
    assert network.ends_the_same(folder)


def test_other_chains_go_on_when_one_finds_it_full(counts: Trial) -> None:
    """One train of many: the first to write it fails, its chain with it, and the table says so."""
    folder = counts.fresh()
    assert counts.run(folder, hook=["once_full", "train/commit/synced", 3]) == 1
    assert "INCOMPLETE: " in log(folder) and log(folder).count("failed: train") == 2  # when it fails, and in the end
    rows = (folder / "checkpoints" / "counts" / "results.csv").read_text().splitlines()[1:]
    assert 0 < len(rows) < 6
    assert counts.ends_the_same(folder)


def test_a_file_that_may_not_grow(network: Trial) -> None:
    """A limit of the kernel's (RLIMIT_FSIZE): the model is too large for it."""
    folder = network.fresh()
    assert network.run(folder, largest=20_000) == 1, log(folder)
    assert "File too large" in log(folder) and "Traceback" not in log(folder)
    assert network.ends_the_same(folder)


def test_a_small_disk(network: Trial, tmp_path: Path) -> None:
    """A file system of 200 kB, where one may be mounted: what would not fit is not begun."""
    disk = tmp_path / "disk"
    disk.mkdir()
    try:
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", disk], capture_output=True)
    except OSError:
        pytest.skip("no mount")
    if done.returncode:
        pytest.skip("mounting is not allowed here")
    folder = network.fresh()
    try:
        (folder / "checkpoints").symlink_to(disk)
        assert network.run(folder) == 1, log(folder)
        assert "needs about" in log(folder) and "Traceback" not in log(folder)
        (folder / "checkpoints").unlink()
        shutil.copytree(disk, folder / "checkpoints", symlinks=True)
    finally:
        subprocess.run(["umount", disk], check=True)
    assert network.ends_the_same(folder)


# --- two runners ---------------------------------------------------------------------------------------------------


def both(trial: Trial, folder: Path, hook: list[str], **options: bool) -> list[str]:
    """Two runs of one study started together; the instants of both."""
    hosts = ("one", "two") if options else (None, None)
    started = [trial.start(folder, workers=1, hook=hook, host=host, **options) for host in hosts]
    assert [trial.forks.wait(process) for process in started] == [0, 0], log(folder)
    assert trial.same(folder) and ordeals.leftovers(folder) == []
    return (folder / "points").read_text().splitlines()


@pytest.mark.parametrize("name", forks.STUDIES)
def test_two_runners_compute_each_step_once(trials: Trials, name: str) -> None:
    trial = trials[name]
    folder = trial.fresh()
    points = Counter(both(trial, folder, ["recording", "points"]))
    steps = Counter(path.parts[-2] for path in store(folder).glob("[!.]*/[!.]*"))
    assert {kind: points[f"{kind}/commit/made"] for kind in steps} == dict(steps)
    shutil.rmtree(folder)


@pytest.mark.parametrize("name", forks.STUDIES)
def test_two_machines_without_a_common_lock(trials: Trials, name: str) -> None:
    """Both compute, one commits; the other takes what is there.  They are made to begin one training together."""
    trial = trials[name]
    folder = trial.fresh()
    points = Counter(both(trial, folder, ["meeting", "points", "train/commit/made"], locks=False))
    steps = Counter(path.parts[-2] for path in store(folder).glob("[!.]*/[!.]*"))
    assert {kind: points[f"{kind}/commit/renamed"] for kind in steps} == dict(steps), "each name is taken once"
    assert points["train/commit/sealed"] > steps["train"], "one at least was made twice"
    assert list(store(folder).glob("*/.corrupt-*")) == []
    shutil.rmtree(folder)


@pytest.mark.parametrize("workers", [0, 1])
def test_who_waits_for_another_runner_can_be_stopped_or_takes_its_artifact(network: Trial, workers: int) -> None:
    folder = network.fresh()
    first = network.start(folder, workers=1, hook=["stalled", "train/commit/written", "hangs"])
    wait_for(folder / "hangs")
    for _ in range(2):
        (folder / "points").unlink(missing_ok=True)
        waits = network.start(folder, workers=workers, hook=["recording", "points"])
        wait_for(folder / "points")
        time.sleep(0.7)
        os.kill(waits, signal.SIGTERM)
        assert network.forks.wait(waits) == forks.STOPPED, log(folder)
        assert "train/commit/made" not in (folder / "points").read_text()
    os.killpg(first, signal.SIGKILL)
    network.forks.wait(first)
    assert network.ends_the_same(folder)
