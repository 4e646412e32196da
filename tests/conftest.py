"""Fixtures: a tiny corpus, the graph of a tiny study, one finished run of it, and studies to be killed."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import forks, ordeals
from support.tiny import Finished, lab, tiny, tiny_config, write_corpus, write_study

from lab.loop import Study, build


@pytest.fixture(scope="session")
def corpus_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus") / "tales.jsonl")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, corpus_file: Path) -> Finished:
    """One tiny run through the command line: 2 regimes, 2 seeds, 2 generations, 2 worker processes."""
    cwd = tmp_path_factory.mktemp("finished")
    study = write_study(cwd / "tiny.yaml", tiny(corpus_file, seeds=[0, 1]))
    done = lab("run", study, "--workers", "2", cwd=cwd)
    assert done.returncode == 0, done.stderr
    return Finished(cwd, study, cwd / "checkpoints" / "tiny", done.stdout, done.stderr)


@pytest.fixture(scope="session")
def trials(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, ordeals.Trial]]:
    """The studies that are killed, and a process that forks runs of them."""
    with forks.forks() as started:
        yield {name: ordeals.Trial(started, name, tmp_path_factory.mktemp(name)) for name in forks.STUDIES}


@pytest.fixture
def built(corpus_file: Path) -> Callable[..., Study]:
    """The graph of the tiny study, with changes: built(train__lr=1e-3)."""
    return lambda **changes: build(tiny_config(corpus_file, **changes))
