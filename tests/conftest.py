"""Fixtures of all tests, and the split into fast tests (scripts/test), those of CI (--all) and all (--full).

A test is slow where it is marked so or `full`, or where it lies in a folder of SLOW_FOLDERS and is not marked `fast`.
"""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path

import pytest
from hypothesis import settings
from support import forks, ordeals
from support.hostile import call
from support.tiny import Finished, tiny, tiny_config, write_corpus, write_study

from lab.loop import Study, build

TESTS = Path(__file__).parent
SLOW_FOLDERS = {"promises", "project"}
FAST = "not slow"
"""The value of pytest's -m with which scripts/test asks for the fast tests."""

settings.register_profile("lab", deadline=None)  # a loaded machine is no fault of the code
settings.load_profile("lab")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave files without a fast test unread when only fast tests are asked for: some import seconds of libraries."""
    if config.option.markexpr != FAST or collection_path.suffix != ".py":
        return None
    text = collection_path.read_text(encoding="utf-8")
    if collection_path.relative_to(TESTS).parts[0] in SLOW_FOLDERS:
        return True if "pytest.mark.fast" not in text else None
    return True if "\npytestmark = pytest.mark.slow" in text else None


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """Mark the tests of slow folders, let pytest select by marks, and put the selected tests in order."""
    for item in items:
        slow_folder = item.path.relative_to(TESTS).parts[0] in SLOW_FOLDERS
        if item.get_closest_marker("full") or (slow_folder and item.get_closest_marker("fast") is None):
            item.add_marker("slow")
    yield
    items[:] = dealt(items, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))


def dealt(items: list[pytest.Item], processes: int) -> list[pytest.Item]:
    """Order tests for the processes of pytest, each of which begins with an equal part of the list.

    Files with slow tests come first in each part, so that no process has a long one left when the others are done, and
    whole, so that fixtures of a file are made once.
    """
    files = [list(group) for _, group in groupby(items, key=lambda item: item.path)]
    slow = [file for file in files if any(item.get_closest_marker("slow") for item in file)]
    fast = [item for file in files if file not in slow for item in file]
    parts: list[list[pytest.Item]] = [[] for _ in range(processes)]
    for number, file in enumerate(slow):
        parts[number % processes] += file
    for part in parts[:-1]:
        more = max(0, len(items) // processes - len(part))
        part += fast[:more]
        del fast[:more]
    return [item for part in [*parts[:-1], parts[-1] + fast] for item in part]


@pytest.fixture(scope="session", autouse=True)
def no_fsync() -> Iterator[None]:
    """Wait for no disk in this process: no test cuts the power, and each step of a run would wait several times."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture(scope="session")
def corpus_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the tiny corpus: 48 tales of two domains."""
    return write_corpus(tmp_path_factory.mktemp("corpus") / "tales.jsonl")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, corpus_file: Path) -> Finished:
    """Finish one run through the command line, in this process: 2 regimes, 2 seeds, 2 generations.

    The first process of pytest that needs it runs it, and each uses a copy, since some tests write there.
    """
    own = tmp_path_factory.getbasetemp()
    first = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "first"
    first.mkdir(exist_ok=True)
    with (first / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (first / "stderr").exists():
            study = write_study(first / "tiny.yaml", tiny(corpus_file, seeds=[0, 1]))
            done = call("run", study, "--workers", "0", cwd=first)
            assert done.code == 0, done.err
            (first / "stdout").write_text(done.out)
            (first / "stderr").write_text(done.err)
    cwd = tmp_path_factory.mktemp("finished")
    study = Path(shutil.copy2(first / "tiny.yaml", cwd))
    shutil.copytree(first / "checkpoints", cwd / "checkpoints", symlinks=True)
    output, log = ((first / name).read_text() for name in ("stdout", "stderr"))
    return Finished(cwd, study, cwd / "checkpoints" / "tiny", output, log)


@pytest.fixture(scope="session")
def trials(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ordeals.Trials]:
    """Start a process that forks runs of the two studies that are killed, stopped and damaged."""
    with forks.forks() as zygote:
        yield ordeals.Trials(zygote, tmp_path_factory.mktemp("trials"))


@pytest.fixture
def built(corpus_file: Path) -> Callable[..., Study]:
    """Return a function that builds the graph of the tiny study with changes: built(train__lr=1e-3)."""
    return lambda **changes: build(tiny_config(corpus_file, **changes))
