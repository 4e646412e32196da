"""Killed at any instant, run again: the same tables, byte for byte.  Real SIGKILLs, to forks of one warm process.

The studies are two of a few hundred milliseconds (tests/support/forks.py): counts, fitted at once, and a GPT-2 that
leaves a checkpoint after each step.  scripts/checks/soak does by the hundred what is sampled here.
"""

import ast
import json
import os
import re
import signal
from pathlib import Path

import pytest
from support import forks, hooks, ordeals
from support.ordeals import Trial, Trials, store
from support.tiny import PROJECT

from lab.store.manifest import seal_of

STUDIES = tuple(forks.STUDIES)


@pytest.mark.parametrize("name", STUDIES)
def test_weights_and_rows_differ_in_every_generation(trials: Trials, name: str) -> None:
    """So that a generation that was taken for another shows."""
    for kind in ("train", "synthetic", "record"):
        manifests = [json.loads(path.read_text()) for path in store(trials[name].whole).glob(f"{kind}/*/manifest.json")]
        assert len(manifests) == {"counts": 5, "network": 2}[name]
        assert len({manifest["content"] for manifest in manifests}) == len(manifests)
    rows = trials[name].tables["results.csv"].decode().splitlines()[1:]
    assert len({row.split(",", 3)[3] for row in rows}) == len(rows) - (name == "counts"), "generation 0 is shared"


@pytest.mark.parametrize(
    ("name", "workers", "whole", "part"), [("counts", 0, True, 0), ("network", 1, True, 1), ("counts", 1, False, 2)]
)
def test_killed_in_turn_at_a_tenth_of_all_instants(
    trials: Trials, name: str, workers: int, whole: bool, part: int
) -> None:
    """The whole process group; or a worker alone, and the run where there is none yet.  The soak does all of them."""
    points, differing = ordeals.killed_in_turn(trials[name], workers=workers, whole=whole, part=part, parts=10)
    names = list(dict.fromkeys(trials[name].points))
    assert differing == 0 and set(points) >= set(names[part::10]) and len(names) > 60


def killed_and_run_again(trial: Trial, part: int) -> bool:
    """Whether a study killed at one of eight instants spread over its run gives the same tables in the end."""
    number = len(trial.points) * (2 * part + 1) // 16
    return ordeals.killed_at(trial, number, workers=part % 3)


@pytest.mark.fast
def test_a_network_killed_once_with_a_worker_gives_the_same_tables(trials: Trials) -> None:
    assert killed_and_run_again(trials["network"], 4)


@pytest.mark.parametrize(
    ("name", "part"),
    [pytest.param(STUDIES[p % 2], p, marks=[pytest.mark.full] if p in (0, 3, 4, 7) else []) for p in range(8)],
)
def test_killed_once_on_an_empty_store_gives_the_same_tables(trials: Trials, name: str, part: int) -> None:
    assert killed_and_run_again(trials[name], part)


@pytest.mark.parametrize("name", STUDIES)
@pytest.mark.parametrize("kind", ["train", "record"])
def test_one_worker_alone_is_killed(trials: Trials, name: str, kind: str) -> None:
    """The run gives its step to another, and ends as ever."""
    trial = trials[name]
    number = len(trial.points) - 1 - trial.points[::-1].index(f"{kind}/commit/synced")
    folder = trial.fresh()
    assert trial.run(folder, workers=1, hook=["dying", number, False]) == 0
    assert (folder / "died").read_text() == f"{kind}/commit/synced\n" and trial.same(folder)
    assert ordeals.leftovers(folder) == []


def test_every_instant_in_the_code_is_one_of_a_kill(trials: Trials) -> None:
    """The test above dies at all that an uninterrupted run passes; those of damaged and stale artifacts come here."""
    trial = trials["counts"]
    folder = trial.done()
    hooks.damage(min(store(folder).glob("train/*")), "truncated")
    stale(min(store(folder).glob("synthetic/*")))
    (folder / "late").write_text("".join(f"{point}\n" for point in dict.fromkeys(trial.points)))
    seen = set()
    while trial.run(folder, hook=["dying_in_turn", "late"]) != 0:
        seen = set((folder / "late").read_text().splitlines())
    assert trial.same(folder) and {"train/commit/aside", "synthetic/commit/stale"} <= seen
    everywhere = seen.union(*(trial.points for trial in trials.values()))
    for pattern in points_in_the_code():
        assert [point for point in everywhere if re.fullmatch(pattern, point)], pattern


def stale(artifact: Path) -> None:
    """As if its input had had other bytes when it was made."""
    manifest = json.loads((artifact / "manifest.json").read_text())
    next(iter(manifest["inputs"].values()))["content"] = "0" * 64
    manifest["seal"] = seal_of(manifest)
    (artifact / "manifest.json").write_text(json.dumps(manifest))


def points_in_the_code() -> list[str]:
    """Return the argument of every `crash_points.at` in lab/ as a regular expression."""
    found = []
    for file in sorted((PROJECT / "lab").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("faults.at", "crash_points.at"):
                (argument,) = node.args
                parts = argument.values if isinstance(argument, ast.JoinedStr) else [argument]
                texts = [re.escape(p.value) if isinstance(p, ast.Constant) else ".+" for p in parts]
                found.append("".join(texts))
    assert len(found) >= 20
    return found


def test_real_workers_are_killed_too(trials: Trials) -> None:
    """Not forked: started as a user's are, by the interpreter.  One dies alone, and another takes its step."""
    trial = trials["counts"]
    folder = trial.fresh()
    number = trial.points.index("train/commit/synced")
    assert trial.run(folder, workers=1, hook=["dying", number, False], real_workers=True) == 0
    assert (folder / "died").read_text() == "train/commit/synced\n", "it was killed, and inside of a step"
    assert trial.same(folder) and ordeals.leftovers(folder) == []


def test_a_clock_that_goes_backwards(trials: Trials) -> None:
    """Each look at it is an hour before the last, and the files are of a year to come."""
    trial = trials["network"]
    folder = trial.fresh()
    assert trial.run(folder, hook=["dying", len(trial.points) // 2], clock="backwards") == -signal.SIGKILL
    for path in (folder / "checkpoints").rglob("*"):
        os.utime(path, (4e9, 4e9), follow_symlinks=False)
    assert trial.ends_the_same(folder, clock="backwards")
