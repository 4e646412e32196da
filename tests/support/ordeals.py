"""Kills and damage that a study must survive with the same tables in the end: tests do some, the soak does all."""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support import forks, hooks

TABLES = ("results.csv", "bins.csv", "results.parquet")


@dataclass
class Trial:
    """A study of forks.STUDIES, its tables from an uninterrupted run, and all instants of that run in order."""

    forks: forks.Forks
    name: str
    base: Path
    tables: dict[str, bytes] = field(init=False)
    points: list[str] = field(init=False)
    seconds: float = field(init=False)
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        whole = self.fresh()
        assert self.run(whole) == 0, (whole / "log.txt").read_text()
        start = time.monotonic()
        self.whole = self.fresh()
        assert self.run(self.whole, hook=["recording", "points"]) == 0
        self.seconds = time.monotonic() - start
        self.points = (self.whole / "points").read_text().splitlines()
        self.tables = self.tables_in(whole)
        assert self.same(self.whole), "two uninterrupted runs differ"

    def fresh(self) -> Path:
        """Make a working directory with only the study in it."""
        folder = self.base / f"{self.name}-{next(self.numbers)}"
        forks.write_files(folder, forks.STUDIES[self.name])
        return folder

    def done(self) -> Path:
        """Make a working directory in which the study was run to its end."""
        folder = self.base / f"{self.name}-{next(self.numbers)}"
        shutil.copytree(self.whole, folder, symlinks=True)
        (folder / "log.txt").unlink()
        return folder

    def start(self, folder: Path, *, workers: int = 0, hook: list[Any] | None = None, **options: Any) -> int:
        """Start a run of the study in `folder` and return its process number; see Forks.start."""
        command = ("run", f"{self.name}.yaml", "--workers", str(workers))
        return self.forks.start(*command, cwd=folder, hook=hook, **options)

    def run(self, folder: Path, *, workers: int = 0, hook: list[Any] | None = None, **options: Any) -> int:
        """Run the study in `folder` to its end and return the exit code; see Forks.run."""
        command = ("run", f"{self.name}.yaml", "--workers", str(workers))
        return self.forks.run(*command, cwd=folder, hook=hook, **options)

    def tables_in(self, folder: Path) -> dict[str, bytes]:
        """Return the bytes of the tables that runs in `folder` wrote."""
        return {name: (folder / "checkpoints" / self.name / name).read_bytes() for name in TABLES}

    def same(self, folder: Path) -> bool:
        """Return whether the tables in `folder` are those of the uninterrupted run."""
        return self.tables_in(folder) == self.tables

    def ends_the_same(self, folder: Path, **options: Any) -> bool:
        """Return whether another run in `folder` ends with the same tables and no leftovers; if so, remove `folder`."""
        code = self.run(folder, **options)
        same = code == 0 and self.same(folder) and not leftovers(folder)
        if same:
            shutil.rmtree(folder)
        return same


class Trials(Mapping[str, Trial]):
    """The trials of both studies by name, each prepared when it is first asked for."""

    def __init__(self, zygote: forks.Forks, base: Path) -> None:
        self.zygote, self.base, self.ready = zygote, base, dict[str, Trial]()

    def __getitem__(self, name: str) -> Trial:
        if name not in self.ready:
            self.ready[name] = Trial(self.zygote, name, self.base)
        return self.ready[name]

    def __iter__(self) -> Iterator[str]:
        return iter(forks.STUDIES)

    def __len__(self) -> int:
        return len(forks.STUDIES)


def store(folder: Path) -> Path:
    """Return the store of the runs in a working directory."""
    return folder / "checkpoints" / "store"


def leftovers(folder: Path) -> list[Path]:
    """Return temporary files, temporary folders and checkpoints: a finished run has none."""
    hidden = [path for path in (folder / "checkpoints").rglob(".*") if path.name.startswith((".tmp", ".old"))]
    hidden += (folder / "checkpoints").rglob(".*.tmp")
    return hidden + list(store(folder).glob(".scratch/*"))


def killed_in_turn(
    trial: Trial, *, workers: int, whole: bool = True, part: int = 0, parts: int = 1
) -> tuple[list[str], int]:
    """Kill run after run, each at the first instant at which none before it was killed, until all had their turn.

    Args:
        trial: the study.
        workers: the number of worker processes of the killed runs.
        whole: kill the whole process group; False kills only the process that passes the instant.
        part: kill at the names number part, part + parts, part + 2 parts ... of an uninterrupted run alone.
        parts: how many parts there are.

    An instant after the last rename of its kind does not come again in a store, so such instants get a new one.

    Returns:
        The names of the instants, and the number of stores that ended with other tables.
    """
    fired, differing = trial.base / f"fired-{next(trial.numbers)}", 0
    names = list(dict.fromkeys(trial.points))
    spared = [name for number, name in enumerate(names) if number % parts != part]
    fired.write_text("".join(f"{name}\n" for name in spared))
    while set(names) - set(fired.read_text().splitlines()):
        folder = trial.fresh()
        while True:
            before = fired.read_text()
            code = trial.run(folder, workers=workers, hook=["dying_in_turn", str(fired), whole])
            if fired.read_text() == before:
                break
        assert code == 0, f"code {code}: {(folder / 'log.txt').read_text()}"
        differing += not trial.ends_the_same(folder)
    return fired.read_text().splitlines()[len(spared) :], differing


def killed_at(trial: Trial, number: int, *, workers: int = 0, whole: bool = True) -> bool:
    """Kill a run once, at its n-th instant, and return whether the next run ends with the same tables.

    Args:
        trial: the study.
        number: the instant's number, from 0.
        workers: the number of worker processes of the killed run.
        whole: kill the whole process group; False kills only the process that passes the instant.
    """
    folder = trial.fresh()
    code = trial.run(folder, workers=workers, hook=["dying", number, whole])
    assert (folder / "died").exists() and code in ((-signal.SIGKILL,) if whole else (0, -signal.SIGKILL)), code
    return trial.ends_the_same(folder)


def killed_at_random(trial: Trial, kills: int, seed: int) -> tuple[int, int, int]:
    """Kill runs at random moments, up to 8 times per store.

    The whole process group is killed; with workers, every second time one worker alone first and the group later.

    Returns:
        The number of kills (at least `kills`), of stores, and of stores that ended with other tables.
    """
    chance, done, studies, differing = random.Random(seed), 0, 0, 0
    while done < kills:
        folder = trial.fresh()
        for _ in range(chance.randint(1, 8)):
            workers = chance.choice([0, 1, 2])
            process = trial.start(folder, workers=workers)
            time.sleep(chance.uniform(0, trial.seconds))
            if workers and chance.random() < 0.5:
                done += kill_a_worker(process, chance)
                time.sleep(chance.uniform(0, trial.seconds))
            with suppress(ProcessLookupError):
                os.killpg(process, signal.SIGKILL)
            done += trial.forks.wait(process) == -signal.SIGKILL
        studies += 1
        differing += not trial.ends_the_same(folder, workers=chance.choice([0, 1, 2]))
    return done, studies, differing


def kill_a_worker(process: int, chance: random.Random) -> bool:
    """Send SIGKILL to a random worker of a run; return False if the run has none."""
    with suppress(ProcessLookupError, FileNotFoundError):  # the run or its worker may end by itself
        if workers := Path(f"/proc/{process}/task/{process}/children").read_text().split():
            os.kill(int(chance.choice(workers)), signal.SIGKILL)
            return True
    return False


def kinds(trial: Trial) -> list[str]:
    """Return the kinds of artifacts that the study leaves."""
    return sorted(path.name for path in store(trial.whole).glob("[!.]*"))


def damaged(trial: Trial, kind: str, how: str, *, used: bool, hash_all: bool, workers: int = 0) -> bool:
    """Damage one artifact in the store of a finished run and return whether the next run ends with the same tables.

    Args:
        trial: the study.
        kind: the artifact's kind.
        how: a name in hooks.DAMAGES.
        used: remove all that was made from the artifact, so that it is needed again.
        hash_all: treat no file as small, so that damage shows only when a step is about to use the file.
        workers: the number of worker processes of the next run.
    """
    folder = trial.done()
    artifact = min(store(folder).glob(f"{kind}/[!.]*"))
    if used:
        remove_what_needs(artifact)
    hooks.damage(artifact, how)
    return trial.ends_the_same(folder, workers=workers, hash_all=hash_all)


def remove_what_needs(artifact: Path) -> None:
    """Remove every artifact of the store that was made from this one."""
    paths = artifact.parents[1].glob("[!.]*/*/manifest.json")
    inputs = {p.parent: {i["key"] for i in json.loads(p.read_text())["inputs"].values()} for p in paths}
    made, keys = set[Path](), {artifact.name}
    while more := {path for path in inputs if inputs[path] & keys} - made:
        made |= more
        keys |= {path.name for path in more}
    for path in made:
        shutil.rmtree(path)


def every_damage(trial: Trial) -> Sequence[tuple[str, str, bool, bool]]:
    """Return all cases of `damaged` as (kind, how, used, hash_all)."""
    return [
        (kind, how, used, hash_all)
        for kind, how, used, hash_all in itertools.product(kinds(trial), hooks.DAMAGES, (False, True), (False, True))
        if used or not hash_all  # an artifact that nothing needs is not hashed
    ]
