"""What a study must survive with the same table in the end.  The tests do some of it, the soak all."""

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

from support import forks

TABLES = ("results.csv", "bins.csv", "results.parquet")


@dataclass
class Trial:
    """A study of forks.STUDIES, its tables from an uninterrupted run, and every instant of that run in order."""

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
        """A working directory with the study in it, and nothing else."""
        folder = self.base / f"{self.name}-{next(self.numbers)}"
        forks.write_study(folder, forks.STUDIES[self.name])
        return folder

    def done(self) -> Path:
        """One in which it has been run to its end."""
        folder = self.base / f"{self.name}-{next(self.numbers)}"
        shutil.copytree(self.whole, folder, symlinks=True)
        (folder / "log.txt").unlink()
        return folder

    def start(self, folder: Path, *, workers: int = 0, hook: list[Any] | None = None, **options: Any) -> int:
        command = ("run", f"{self.name}.yaml", "--workers", str(workers))
        return self.forks.start(*command, cwd=folder, hook=hook, **options)

    def run(self, folder: Path, *, workers: int = 0, hook: list[Any] | None = None, **options: Any) -> int:
        process = self.start(folder, workers=workers, hook=hook, **options)
        code = self.forks.wait(process)
        with suppress(ProcessLookupError):  # workers of a run that was killed alone
            os.killpg(process, signal.SIGKILL)
        return code

    def tables_in(self, folder: Path) -> dict[str, bytes]:
        return {name: (folder / "checkpoints" / self.name / name).read_bytes() for name in TABLES}

    def same(self, folder: Path) -> bool:
        return self.tables_in(folder) == self.tables

    def ends_the_same(self, folder: Path, **options: Any) -> bool:
        """Run it to its end, whatever has happened to it, and compare; remove it where it is the same."""
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
    return folder / "checkpoints" / "store"


def leftovers(folder: Path) -> list[Path]:
    """Temporary files and folders, checkpoints: what a finished run has none of."""
    hidden = [path for path in (folder / "checkpoints").rglob(".*") if path.name.startswith((".tmp", ".old"))]
    hidden += (folder / "checkpoints").rglob(".*.tmp")
    return hidden + list(store(folder).glob(".scratch/*"))


def killed_in_turn(trial: Trial, *, workers: int, whole: bool = True) -> tuple[list[str], int]:
    """Each start dies at the first instant, by name, that none before has died at; (instants, tables that differed).

    An instant behind the last rename of its kind does not come again: a new store is begun for it.
    """
    fired, differing = trial.base / f"fired-{next(trial.numbers)}", 0
    fired.touch()
    while set(trial.points) - set(fired.read_text().splitlines()):
        folder = trial.fresh()
        while True:
            before = fired.read_text()
            code = trial.run(folder, workers=workers, hook=["dying_in_turn", str(fired), whole])
            if fired.read_text() == before:
                break
        assert code == 0, f"code {code}: {(folder / 'log.txt').read_text()}"
        differing += not trial.ends_the_same(folder)
    return fired.read_text().splitlines(), differing


def killed_at(trial: Trial, number: int, *, workers: int = 0, whole: bool = True) -> bool:
    """Killed once, at the n-th instant, and run to its end: the whole group, or the process alone that is there."""
    folder = trial.fresh()
    code = trial.run(folder, workers=workers, hook=["dying", number, whole])
    assert (folder / "died").exists() and code in ((-signal.SIGKILL,) if whole else (0, -signal.SIGKILL)), code
    return trial.ends_the_same(folder)


def killed_at_random(trial: Trial, kills: int, seed: int) -> tuple[int, int, int]:
    """At least so many kills at random moments, several to a study; (kills, studies, those that ended otherwise).

    Of the whole group; or, once in two where there are workers, of one of them alone, and of the group later.
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
    """SIGKILL to one of the workers of a run, drawn by chance; False where it has none."""
    with suppress(ProcessLookupError, FileNotFoundError):  # the run or its worker ends by itself
        if workers := Path(f"/proc/{process}/task/{process}/children").read_text().split():
            os.kill(int(chance.choice(workers)), signal.SIGKILL)
            return True
    return False


def kinds(trial: Trial) -> list[str]:
    """The kinds of artifacts that the study leaves."""
    return sorted(path.name for path in store(trial.whole).glob("[!.]*"))


def damaged(trial: Trial, kind: str, how: str, *, used: bool, hash_all: bool, workers: int = 0) -> bool:
    """One artifact of a kind is damaged in a finished store.

    used      all that was made from it is removed, so that it is needed
    hash_all  no file is small, so that damage shows only when a step is about to use it
    """
    folder = trial.done()
    artifact = min(store(folder).glob(f"{kind}/[!.]*"))
    if used:
        remove_what_needs(artifact)
    forks.damage(artifact, how)
    return trial.ends_the_same(folder, workers=workers, hash_all=hash_all)


def remove_what_needs(artifact: Path) -> None:
    """Every artifact of the store that was made from this one."""
    manifests = {
        path.parent: json.loads(path.read_text()) for path in artifact.parents[1].glob("[!.]*/*/manifest.json")
    }
    gone, more = {artifact.name}, True
    while more:
        made = [p for p, m in manifests.items() if gone & {i["key"] for i in m["inputs"].values()} - {p.name}]
        more = bool({path.name for path in made} - gone)
        gone |= {path.name for path in made}
    for path in manifests:
        if path.name in gone and path != artifact:
            shutil.rmtree(path)


def every_damage(trial: Trial) -> Sequence[tuple[str, str, bool, bool]]:
    """(kind, how, used, hash_all)"""
    return [
        (kind, how, used, hash_all)
        for kind, how, used, hash_all in itertools.product(kinds(trial), forks.DAMAGES, (False, True), (False, True))
        if used or not hash_all  # where nothing needs it nothing is hashed
    ]
