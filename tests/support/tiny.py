"""A tiny corpus, a tiny study, ways to run it, and the command line as a subprocess."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from lab import machine
from lab.config.files import parse_study
from lab.config.study import StudyConfig
from lab.loop import Study
from lab.run.executors import execute
from lab.run.folder import RunFolder
from lab.seeds import generator
from lab.store.step import Step
from lab.store.store import Store

PROJECT = Path(__file__).resolve().parents[2]
os.environ.pop("COLUMNS", None)  # of the terminal that the tests run in: tables are as wide as where there is none
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
WORDS = [first + last for first in ("ba", "so", "ri", "mu", "te", "lo", "ka", "ne") for last in ("", "n", "l", "sta")]
"""32 words of a made-up language, the most frequent first (Zipf 1949)."""


def write_corpus(path: Path, groups: int = 48) -> Path:
    """Write a jsonl corpus of two domains, about 20 kB and always the same bytes, and return its path."""
    rng, rows = generator(7), []
    weights = 1 / np.arange(1, len(WORDS) + 1)
    for number in range(groups):
        sentences = [
            " ".join(rng.choice(WORDS, size=9, p=weights / weights.sum())).capitalize() + "." for _ in range(8)
        ]
        rows.append(
            {
                "text": f"Tale {number}. " + " ".join(sentences),
                "domain": ("sea", "land")[number % 2],
                "author": f"author {number % 5}",
                "group": f"book {number}",
            }
        )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def tiny(corpus: Path | str, **changes: Any) -> dict[str, Any]:
    """Return the fields of a study that runs in seconds: 1 layer of width 16, rows of 16 tokens, 2 generations.

    A change a__b=1 sets the field a.b.
    """
    study: dict[str, Any] = {
        "name": "tiny",
        "seeds": [0],
        "generations": 2,
        "regimes": ["human", "replace"],
        "corpus": {"path": str(corpus), "domain": "domain", "author": "author", "group": "group", "tokens": 512},
        "tokenizer": {"vocab_size": 300},
        "model": {"n_layer": 1, "n_head": 2, "n_embd": 16, "n_positions": 16},
        "train": {"tokens": 640, "batch_rows": 4, "lr": 5e-3, "validation_tokens": 64},
        "sample": {"tokens": 512, "shard_rows": 20},
        "metrics": {"tokens": 256, "test_tokens": 128},
        "compute": {"device": "cpu", "dtype": "float32"},
    }
    for name, value in changes.items():
        *parents, last = name.split("__")
        node = study
        for parent in parents:
            node = node[parent]
        node[last] = value
    return study


def tiny_config(corpus: Path | str, **changes: Any) -> StudyConfig:
    """Return the study of `tiny`, checked."""
    return parse_study(tiny(corpus, **changes))


@dataclass
class Reports:
    """A Reporter that remembers what happened as (event, label)."""

    events: list[tuple[str, str]] = field(default_factory=list)

    def found(self, step: Step) -> None:
        self.events.append(("found", step.label))

    def started(self, step: Step) -> None:
        self.events.append(("started", step.label))

    def advanced(self, step: Step, tokens: int) -> None:
        pass

    def finished(self, step: Step, seconds: float) -> None:
        self.events.append(("finished", step.label))

    def failed(self, step: Step, reason: str, trace: str) -> None:
        self.events.append(("failed", step.label))

    def noted(self, message: str) -> None:
        self.events.append(("noted", message))

    def of(self, event: str) -> list[str]:
        """Return the labels of an event in order."""
        return [label for name, label in self.events if name == event]


def run_study(study: Study, folder: Path, *, workers: int = 0) -> Reports:
    """Run a study into a run folder as the command line does, write its tables, and return what was reported."""
    run, reports = RunFolder(folder), Reports()
    run.begin(study, {"versions": machine.versions()})
    failures = execute(
        run.store, study.steps, reports, workers=workers, threads=1, fresh=frozenset(), log=folder / "workers.log"
    )
    assert failures == {}
    run.link(study.generations, run.store)
    run.write_tables(study, run.store)
    return reports


def lab(*arguments: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line as a shell without a terminal does, with these environment variables as well."""
    command = [sys.executable, "-m", "lab", *map(str, arguments)]
    environment = ENVIRONMENT | environment
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Return every path below a folder with its size and time of change: equal listings mean nothing was written."""
    return {
        path.relative_to(folder).as_posix(): (path.lstat().st_size, path.lstat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
    }


def write_study(path: Path, fields: Mapping[str, Any]) -> Path:
    """Write a study file and return its path."""
    path.write_text(yaml.safe_dump(dict(fields), sort_keys=False))
    return path


@dataclass(frozen=True)
class Finished:
    """A run that `lab run` finished: its working directory, study file, run folder, stdout and stderr."""

    cwd: Path
    study: Path
    folder: Path
    output: str
    log: str


def steps_of(study: Study, *names: str) -> Sequence[Step]:
    """Return the steps of these kinds in order."""
    return [step for step in study.steps if step.name in names]


def store_at(folder: Path) -> Store:
    """Return the store beside the run folders in `folder`."""
    return Store(folder / "store")
