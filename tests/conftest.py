"""Fixtures of all tests, and the split into fast tests (scripts/test) and all (scripts/test --all).

A test is slow where it is marked so, or where it lies in a folder of SLOW_FOLDERS and is not marked `fast`.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from support import forks, ordeals
from support.tiny import Finished, lab, tiny, tiny_config, write_corpus, write_study

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


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of slow folders, before pytest selects by marks."""
    for item in items:
        slow_folder = item.path.relative_to(TESTS).parts[0] in SLOW_FOLDERS
        if slow_folder and item.get_closest_marker("fast") is None:
            item.add_marker("slow")


@pytest.fixture(scope="session")
def corpus_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the tiny corpus: 48 tales of two domains."""
    return write_corpus(tmp_path_factory.mktemp("corpus") / "tales.jsonl")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, corpus_file: Path) -> Finished:
    """Finish one run through the command line: 2 regimes, 2 seeds, 2 generations, 2 worker processes."""
    cwd = tmp_path_factory.mktemp("finished")
    study = write_study(cwd / "tiny.yaml", tiny(corpus_file, seeds=[0, 1]))
    done = lab("run", study, "--workers", "2", cwd=cwd)
    assert done.returncode == 0, done.stderr
    return Finished(cwd, study, cwd / "checkpoints" / "tiny", done.stdout, done.stderr)


@pytest.fixture(scope="session")
def trials(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ordeals.Trials]:
    """Start a process that forks runs of the two studies that are killed, stopped and damaged."""
    with forks.forks() as zygote:
        yield ordeals.Trials(zygote, tmp_path_factory.mktemp("trials"))


@pytest.fixture
def built(corpus_file: Path) -> Callable[..., Study]:
    """Return a function that builds the graph of the tiny study with changes: built(train__lr=1e-3)."""
    return lambda **changes: build(tiny_config(corpus_file, **changes))
