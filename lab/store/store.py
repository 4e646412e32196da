"""Content-addressed artifacts: one folder a step under store/<step>/<key>/, whole or absent.

Commit: write into a temporary sibling, fsync every file, write the manifest (sizes and sha256) last, fsync, rename
onto the absent name, fsync the parent.  So a folder that exists is whole, and killing a writer loses only its copy.
A step is computed by one process of a machine at a time (flock; the kernel releases it when its owner dies).  Where
locks do not reach, on another machine, the rename decides: it fails on a name that is taken, and the loser discards
its copy.  Nothing committed is rewritten: what is damaged is moved to `.corrupt-<key>-*` and stays there, what is stale
(made from other inputs, or by other code under --fresh) gives way as a whole when the new one is complete.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.errors import Stopped
from lab.hashing import canonical
from lab.store import atomic as disk
from lab.store import crash_points as faults
from lab.store import manifest as manifests
from lab.store.atomic import file_sha256, make_folder, renamed, write_text
from lab.store.manifest import MANIFEST, dropped_files
from lab.store.step import Step


@dataclass(frozen=True)
class Job:
    """A step as a worker gets it: data only, its inputs by name and key."""

    name: str
    key: str
    version: str
    params: Mapping[str, Any]
    inputs: Mapping[str, tuple[str, str]]
    label: str
    work: float
    source: str
    """Hash of the lab modules the step's code lives in; differs from the manifest's when the code was edited."""
    disk: int = 0
    """Bytes it will write, about.  Not its checkpoints: it goes on without where there is no room for them."""

    @classmethod
    def of(cls, step: Step, source: str) -> Job:
        inputs = {role: (parent.name, parent.key) for role, parent in step.inputs.items()}
        params = {**step.params, **step.where}
        return cls(step.name, step.key, step.version, params, inputs, step.label, step.work, source, step.disk)

    def to_json(self) -> str:
        return canonical({**self.__dict__, "inputs": {role: list(ref) for role, ref in self.inputs.items()}})

    @classmethod
    def from_json(cls, text: str) -> Job:
        data = json.loads(text)
        return cls(**{**data, "inputs": {role: (ref[0], ref[1]) for role, ref in data["inputs"].items()}})


class Damaged(Exception):
    """An artifact that a step needs is missing or not what was committed."""

    def __init__(self, name: str, key: str) -> None:
        super().__init__(f"{name} {key} is missing or damaged")
        self.name, self.key = name, key


class Dropped(Exception):
    """An artifact whose weights a step needs is one whose weights were dropped: just now, by another machine."""

    def __init__(self, name: str, key: str) -> None:
        super().__init__(f"the weights of {name} {key} were dropped")
        self.key = key


def _unheard(said: str) -> None:
    """What a store notes where nobody listens."""


def _never() -> bool:
    return False


@dataclass
class Store:
    root: Path
    note: Callable[[str], None] = _unheard
    """Told, in a line, of every artifact that is moved aside."""
    place: str = "commit"
    """What the instants of its commits are called in lab/store/crash_points.py."""
    host: str = field(default_factory=disk.host)
    _manifests: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    _verified: set[tuple[str, str, int]] = field(default_factory=set)

    def folder(self, name: str, key: str) -> Path:
        return self.root / name / key

    def manifest(self, name: str, key: str) -> dict[str, Any] | None:
        """The manifest of a committed artifact whose files all have their sizes; None otherwise.

        Files that were dropped on purpose (see `dropped`) are not missed.
        """
        if (name, key) not in self._manifests:
            found = manifests.read(self.folder(name, key))
            if found is None:
                return None
            self._manifests[name, key] = found
        return self._manifests[name, key]

    def verify(self, name: str, key: str, *, again: bool = False) -> None:
        """Hash every file of an artifact, once in this process or `again`.  Damaged if it is missing or damaged."""
        folder = self.folder(name, key)
        if again:
            self._manifests.pop((name, key), None)
        manifest = self.manifest(name, key)
        try:
            if manifest is None:
                raise Damaged(name, key)
            seen = (name, key, (folder / MANIFEST).stat().st_ino)
            if seen in self._verified and not again:
                return
            if not manifests.intact(folder, manifest["files"]):
                raise Damaged(name, key)
        except (OSError, ValueError, TypeError, KeyError):  # the latter: the note of what was dropped is torn
            raise Damaged(name, key) from None
        self._verified.add(seen)

    def set_aside(self, name: str, key: str, stopping: Callable[[], bool] = _never) -> None:
        """Move an artifact that is not what was committed to `.corrupt-<key>-*`, and say so.  A whole one stays.

        Stopped when `stopping` while another process has it in hand.
        """
        with self.lock(key, stopping=stopping):
            try:
                self.verify(name, key, again=True)
            except Damaged:
                self._move_aside(name, key)

    def _move_aside(self, name: str, key: str) -> None:
        """Only by who holds the lock."""
        self._manifests.pop((name, key), None)
        folder = self.folder(name, key)
        aside = folder.with_name(f".corrupt-{key}-{uuid.uuid4().hex[:8]}")
        with contextlib.suppress(FileNotFoundError):  # it was removed as a whole
            folder.rename(aside)
            faults.at(f"{name}/{self.place}/aside")
            self.note(f"{folder} was damaged: it is moved to {aside.name} and made again")

    def edited(self, job: Job) -> bool:
        """Was the artifact made by other code of the same version?"""
        manifest = self.manifest(job.name, job.key)
        return manifest is not None and manifest["source"] != job.source

    def dropped(self, name: str, key: str) -> frozenset[str]:
        """Files of a committed artifact that were dropped on purpose: weights, to save room.  See
        lab/run/retention.py."""
        return dropped_files(self.folder(name, key)) if self.manifest(name, key) is not None else frozenset()

    def whole(self, job: Job) -> bool:
        """Is the artifact there, and made from the inputs as they are now?"""
        manifest = self.manifest(job.name, job.key)
        return manifest is not None and manifest["inputs"] == self._inputs(job)

    def _inputs(self, job: Job) -> dict[str, Any]:
        contents = {}
        for role, (name, key) in job.inputs.items():
            parent = self.manifest(name, key)
            contents[role] = {"step": name, "key": key, "content": parent["content"] if parent else None}
        return contents

    def paths(self, job: Job) -> dict[str, Path]:
        return {role: self.folder(name, key) for role, (name, key) in job.inputs.items()}

    def run(
        self,
        job: Job,
        write: Callable[[Path], None],
        environment: Mapping[str, Any],
        *,
        fresh: bool,
        again: bool = False,
        stopping: Callable[[], bool] = _never,
    ) -> bool:
        """Make the artifact unless it is there.  True when this call made it.

        `fresh`: make it also where other code has made it.  `again`: also where its weights were dropped.
        Stopped when `stopping` while another process makes it.
        """
        with self.lock(job.key, stopping=stopping):
            self.forget(job)
            final = self.folder(job.name, job.key)
            stale = _inode(final)  # looked at first: what another machine commits from here on is not stale
            if self.whole(job) and not (fresh and self.edited(job)) and not (again and self.dropped(job.name, job.key)):
                return False
            self._sweep(job)
            if stale is not None and self.manifest(job.name, job.key) is None:
                self._move_aside(job.name, job.key)
            inputs = self._inputs(job)
            make_folder(final.parent)
            temporary = final.with_name(f".tmp-{job.key}-{self.host}-{uuid.uuid4().hex[:8]}")
            temporary.mkdir()
            try:
                faults.at(f"{job.name}/{self.place}/made")
                write(temporary)
                faults.at(f"{job.name}/{self.place}/written")
                self._seal(job, temporary, inputs, environment)
                return self._place(job, temporary, stale)
            finally:
                self._sweep(job)

    def scratch(self, key: str) -> Path:
        """Where attempts at a step keep what the next one may go on from.  Removed when the step is committed."""
        return self.root / ".scratch" / key

    def borrow(self, job: Job, other: Store) -> None:
        """Take an artifact of another store as it is, by a link."""
        self.folder(job.name, job.key).parent.mkdir(parents=True, exist_ok=True)
        self.folder(job.name, job.key).symlink_to(other.folder(job.name, job.key).absolute())

    def _sweep(self, job: Job) -> None:
        """Remove what writers of this artifact on this machine left beside it, killed ones too."""
        for pattern in (f".tmp-{job.key}-{self.host}-*", f".old-{job.key}-*"):
            for leftover in (self.root / job.name).glob(pattern):
                shutil.rmtree(leftover, ignore_errors=True)

    def tidy(self, jobs: Iterable[Job]) -> None:
        """Remove what killed writers left of those of these artifacts that are whole by now."""
        mine = {job.key: job for job in jobs}
        found = [*self.scratch("").glob("*")]
        for name in {job.name for job in mine.values()}:
            found += [*(self.root / name).glob(".tmp-*"), *(self.root / name).glob(".old-*")]
        for key in {(path.name.split("-") if path.name.startswith(".") else ["", path.name])[1] for path in found}:
            if key in mine and self.whole(mine[key]):
                # Not where somebody is at work on it.
                with self.lock(key, wait=False) as held:
                    if held:
                        self._sweep(mine[key])
                        shutil.rmtree(self.scratch(key), ignore_errors=True)

    def forget(self, job: Job) -> None:
        """Read the manifests of this artifact and its inputs from disk again: another process may have made them."""
        for ref in [(job.name, job.key), *job.inputs.values()]:
            self._manifests.pop(ref, None)

    def _seal(self, job: Job, temporary: Path, inputs: Mapping[str, Any], environment: Mapping[str, Any]) -> None:
        """Everything on the disk, the manifest last."""
        files = {}
        for path in sorted(path for path in temporary.rglob("*") if path.is_file()):
            path.chmod(0o644)  # safetensors writes for its owner alone
            files[path.relative_to(temporary).as_posix()] = {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
            disk.fsync(path)
        faults.at(f"{job.name}/{self.place}/synced")
        manifest = {
            "step": job.name,
            "key": job.key,
            "version": job.version,
            "source": job.source,
            "params": job.params,
            "inputs": inputs,
            "files": files,
            "content": manifests.content_of(files),
            "environment": environment,
        }
        manifest["seal"] = manifests.seal_of(json.loads(json.dumps(manifest)))  # as it is read back: names are text
        text = json.dumps(manifest, indent=1, sort_keys=True) + "\n"
        write_text(temporary / MANIFEST, text, point=f"{job.name}/{self.place}/manifest")
        for folder in {path.parent for path in temporary.rglob("*")}:
            disk.fsync(folder)
        faults.at(f"{job.name}/{self.place}/sealed")

    def _place(self, job: Job, temporary: Path, stale: int | None) -> bool:
        """Rename onto the absent name.  False where another machine was faster: its artifact stays, this one goes."""
        final = self.folder(job.name, job.key)
        self._manifests.pop((job.name, job.key), None)
        if stale is not None and _inode(final) == stale:
            self._give_way(job)
        while not renamed(temporary, final):
            self.forget(job)
            if self.whole(job):
                return False
            if self.manifest(job.name, job.key) is None:
                self._move_aside(job.name, job.key)
            else:
                self._give_way(job)
        faults.at(f"{job.name}/{self.place}/renamed")
        disk.fsync(final.parent)
        faults.at(f"{job.name}/{self.place}/committed")
        shutil.rmtree(self.scratch(job.key), ignore_errors=True)
        return True

    def _give_way(self, job: Job) -> None:
        final = self.folder(job.name, job.key)
        final.rename(final.with_name(f".old-{job.key}-{uuid.uuid4().hex[:8]}"))
        faults.at(f"{job.name}/{self.place}/stale")

    @contextlib.contextmanager
    def lock(self, key: str, *, wait: bool = True, stopping: Callable[[], bool] = _never) -> Iterator[bool]:
        """Hold the step's lock file.  It is removed afterwards: a waiter must check that it locked the present one.

        Without `wait`, False where another process holds it.  Stopped when `stopping` while waiting.
        """
        path = self.root / ".locks" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            handle = os.open(path, os.O_CREAT | os.O_RDWR)
            try:
                if wait:
                    _wait_for(handle, stopping)
                else:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(handle)
                yield False
                return
            except BaseException:
                os.close(handle)
                raise
            with contextlib.suppress(FileNotFoundError):
                if os.fstat(handle).st_ino == path.stat().st_ino:
                    break
            os.close(handle)
        try:
            yield True
        finally:
            path.unlink(missing_ok=True)
            os.close(handle)


def _wait_for(handle: int, stopping: Callable[[], bool]) -> None:
    """Lock an open file.  By asking again and again: a wait inside the kernel would not answer a signal."""
    pause = 0.01
    while True:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        if stopping():
            raise Stopped
        time.sleep(pause)
        pause = min(2 * pause, 0.3)


def _inode(path: Path) -> int | None:
    try:
        return path.lstat().st_ino
    except FileNotFoundError:
        return None
