"""The store: one folder per step, store/<kind>/<key>/, that is whole or absent.  README.md says what is promised.

Runs on one machine take a lock per step; the kernel releases it if its owner dies.  Between machines locks may not
work: there the first rename wins, because it fails on a name that is taken, and the other run discards its copy.
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
from lab.store import atomic, crash_points
from lab.store import manifest as manifests
from lab.store.atomic import file_sha256, inode, make_folder, renamed, write_text
from lab.store.manifest import MANIFEST, InputEntry, Manifest, dropped_files
from lab.store.step import Step

POLL = 0.05
"""Seconds between two attempts to take a lock that another process holds."""


@dataclass(frozen=True)
class Job:
    """A step as a worker gets it: data only, its inputs by kind and key."""

    name: str
    key: str
    version: str
    params: Mapping[str, Any]
    inputs: Mapping[str, tuple[str, str]]
    label: str
    work: float
    source: str
    """Hash of the lab modules with the step's code; differs from the manifest's when the code was edited."""
    disk: int = 0
    """Estimated bytes of the artifact, without checkpoints: on a full disk a training continues without these."""

    @classmethod
    def of(cls, step: Step, source: str) -> Job:
        """Return the job of a step whose code has this hash."""
        inputs = {role: (parent.name, parent.key) for role, parent in step.inputs.items()}
        params = {**step.params, **step.where}
        return cls(step.name, step.key, step.version, params, inputs, step.label, step.work, source, step.disk)

    def to_json(self) -> str:
        """Return the job as text for another process."""
        return canonical({**self.__dict__, "inputs": {role: list(ref) for role, ref in self.inputs.items()}})

    @classmethod
    def from_json(cls, text: str) -> Job:
        """Read what `to_json` returned."""
        data = json.loads(text)
        return cls(**{**data, "inputs": {role: (ref[0], ref[1]) for role, ref in data["inputs"].items()}})


class Damaged(Exception):
    """An artifact that a step needs is missing, not what was committed, or lacks weights that the step reads."""

    def __init__(self, name: str, key: str) -> None:
        super().__init__(f"{name} {key} is missing or damaged")
        self.name, self.key = name, key


def never() -> bool:
    """Return False: nobody asks the run to stop."""
    return False


@dataclass
class Store:
    """The artifacts below a folder, as one process sees them."""

    root: Path
    note: Callable[[str], None] = lambda message: None
    """Called with a line for every artifact that is moved aside."""
    host: str = field(default_factory=atomic.host)
    _manifests: dict[tuple[str, str], Manifest] = field(default_factory=dict)
    _verified: set[tuple[str, str, int]] = field(default_factory=set)
    """Kind, key and the manifest's inode of artifacts that were hashed."""

    def folder(self, name: str, key: str) -> Path:
        """Return where an artifact lies, or will lie."""
        return self.root / name / key

    def scratch(self, key: str) -> Path:
        """Return the folder of a step's checkpoints.  It is removed when the step is committed."""
        return self.root / ".scratch" / key

    def manifest(self, name: str, key: str) -> Manifest | None:
        """Return the manifest of a committed artifact.

        None if there is none, or if a file that was not dropped is missing or has another size than recorded.
        """
        if (name, key) not in self._manifests:
            manifest = manifests.read(self.folder(name, key))
            if manifest is None:
                return None
            self._manifests[name, key] = manifest
        return self._manifests[name, key]

    def forget(self, job: Job) -> None:
        """Read the manifests of an artifact and its inputs from disk next time: another process may have made them."""
        for ref in [(job.name, job.key), *job.inputs.values()]:
            self._manifests.pop(ref, None)

    def verify(self, name: str, key: str, *, again: bool = False) -> None:
        """Hash every file of an artifact, once per process unless `again`.  Damaged: it is not as it was committed."""
        if again:
            self._manifests.pop((name, key), None)
        folder, manifest = self.folder(name, key), self.manifest(name, key)
        number = inode(folder / MANIFEST)
        if manifest is None or number is None:
            raise Damaged(name, key)
        if again or (name, key, number) not in self._verified:
            if any(manifests.faults(folder, manifest)):
                raise Damaged(name, key)
            self._verified.add((name, key, number))

    def set_aside(self, name: str, key: str, stopping: Callable[[], bool] = never) -> None:
        """Move a damaged artifact to `.corrupt-<key>-*`, and note it.  An undamaged one stays where it is."""
        with self.lock(key, stopping=stopping):
            try:
                self.verify(name, key, again=True)
            except Damaged:
                self._move_aside(name, key)

    def _move_aside(self, name: str, key: str) -> None:
        """Move an artifact to `.corrupt-<key>-*`.  The caller holds the step's lock."""
        self._manifests.pop((name, key), None)
        folder = self.folder(name, key)
        aside = folder.with_name(f".corrupt-{key}-{uuid.uuid4().hex[:8]}")
        with contextlib.suppress(FileNotFoundError):  # it was removed as a whole
            folder.rename(aside)
            crash_points.at(f"{name}/commit/aside")
            self.note(f"{folder} was damaged: it is moved to {aside.name} and made again")

    def whole(self, job: Job) -> bool:
        """Return whether the artifact is there, and made from its inputs as they are now."""
        manifest = self.manifest(job.name, job.key)
        return manifest is not None and manifest.inputs == self._inputs(job)

    def edited(self, job: Job) -> bool:
        """Return whether another state of the lab's code, with the same version number, made the artifact."""
        manifest = self.manifest(job.name, job.key)
        return manifest is not None and manifest.source != job.source

    def dropped(self, name: str, key: str) -> frozenset[str]:
        """Return the files of a committed artifact that lab/run/retention.py dropped to save room: weights."""
        return dropped_files(self.folder(name, key)) if self.manifest(name, key) is not None else frozenset()

    def _inputs(self, job: Job) -> dict[str, InputEntry]:
        """Return the inputs of a job with the hash of their present content, in the form that manifests store."""
        inputs = {}
        for role, (name, key) in job.inputs.items():
            manifest = self.manifest(name, key)
            inputs[role] = InputEntry(step=name, key=key, content=manifest.content if manifest else None)
        return inputs

    def paths(self, job: Job) -> dict[str, Path]:
        """Return the folders of a job's inputs, by role."""
        return {role: self.folder(name, key) for role, (name, key) in job.inputs.items()}

    def run(
        self,
        job: Job,
        write: Callable[[Path], None],
        environment: Mapping[str, Any],
        *,
        fresh: bool,
        again: bool = False,
        stopping: Callable[[], bool] = never,
    ) -> bool:
        """Make an artifact unless it is there.  Return whether this call made it.

        Args:
            job: the step.
            write: writes the files into an empty folder.
            environment: what the manifest shall state of the machine.
            fresh: whether to replace an artifact that another state of the lab's code made.
            again: whether to make it again if its weights were dropped.
            stopping: asked while another process holds the step's lock; Stopped where it becomes true.
        """
        with self.lock(job.key, stopping=stopping):
            self.forget(job)
            final = self.folder(job.name, job.key)
            before = inode(final)  # what another machine commits later has another inode, and is not replaced
            if self.whole(job) and not (fresh and self.edited(job)) and not (again and self.dropped(job.name, job.key)):
                return False
            self._sweep(job)
            if before is not None and self.manifest(job.name, job.key) is None:
                self._move_aside(job.name, job.key)
            inputs = self._inputs(job)
            make_folder(final.parent)
            temporary = final.with_name(f".tmp-{job.key}-{self.host}-{uuid.uuid4().hex[:8]}")
            temporary.mkdir()
            try:
                crash_points.at(f"{job.name}/commit/made")
                write(temporary)
                crash_points.at(f"{job.name}/commit/written")
                self._seal(job, temporary, inputs, environment)
                return self._publish(job, temporary, before)
            finally:
                self._sweep(job)

    def _seal(
        self, job: Job, temporary: Path, inputs: Mapping[str, InputEntry], environment: Mapping[str, Any]
    ) -> None:
        """Flush every file to the disk, and write the manifest last."""
        files = {}
        for path in sorted(path for path in temporary.rglob("*") if path.is_file()):
            path.chmod(0o644)  # safetensors writes for its owner alone
            files[path.relative_to(temporary).as_posix()] = {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
            atomic.fsync(path)
        crash_points.at(f"{job.name}/commit/synced")
        manifest = {
            "step": job.name,
            "key": job.key,
            "version": job.version,
            "source": job.source,
            "params": job.params,
            "inputs": {role: entry.model_dump() for role, entry in inputs.items()},
            "files": files,
            "content": manifests.content_of(files),
            "environment": environment,
        }
        # The seal is taken of what JSON gives back, with text for keys.
        manifest["seal"] = manifests.seal_of(json.loads(json.dumps(manifest)))
        text = json.dumps(manifest, indent=1, sort_keys=True) + "\n"
        write_text(temporary / MANIFEST, text, point=f"{job.name}/commit/manifest")
        for folder in {path.parent for path in temporary.rglob("*")}:
            atomic.fsync(folder)
        crash_points.at(f"{job.name}/commit/sealed")

    def _publish(self, job: Job, temporary: Path, before: int | None) -> bool:
        """Rename onto the absent name.  False: another machine was faster, and its artifact stays."""
        final = self.folder(job.name, job.key)
        self._manifests.pop((job.name, job.key), None)
        if before is not None and inode(final) == before:
            self._give_way(job)
        while not renamed(temporary, final):
            self.forget(job)
            if self.whole(job):
                return False
            if self.manifest(job.name, job.key) is None:
                self._move_aside(job.name, job.key)
            else:
                self._give_way(job)
        crash_points.at(f"{job.name}/commit/renamed")
        atomic.fsync(final.parent)
        crash_points.at(f"{job.name}/commit/committed")
        shutil.rmtree(self.scratch(job.key), ignore_errors=True)
        return True

    def _give_way(self, job: Job) -> None:
        """Move a stale artifact out of the way of its complete successor."""
        final = self.folder(job.name, job.key)
        final.rename(final.with_name(f".old-{job.key}-{uuid.uuid4().hex[:8]}"))
        crash_points.at(f"{job.name}/commit/stale")

    def _sweep(self, job: Job) -> None:
        """Remove this machine's temporary folders for an artifact, and every replaced version of it."""
        for pattern in (f".tmp-{job.key}-{self.host}-*", f".old-{job.key}-*"):
            for leftover in (self.root / job.name).glob(pattern):
                shutil.rmtree(leftover, ignore_errors=True)

    def tidy(self, jobs: Iterable[Job]) -> None:
        """Remove what crashed processes left beside those of these artifacts that are complete now."""
        by_key = {job.key: job for job in jobs}
        kinds = {job.name for job in by_key.values()}
        left = {path.name for path in self.scratch("").glob("*")}
        left |= {path.name.split("-")[1] for kind in kinds for path in (self.root / kind).glob(".[to]*-*")}
        for key in left & by_key.keys():
            if self.whole(by_key[key]):
                with self.lock(key, wait=False) as held:  # not where another process works on it
                    if held:
                        self._sweep(by_key[key])
                        shutil.rmtree(self.scratch(key), ignore_errors=True)

    @contextlib.contextmanager
    def lock(self, key: str, *, wait: bool = True, stopping: Callable[[], bool] = never) -> Iterator[bool]:
        """Context manager: hold the lock of a step.

        It yields True.  Without `wait` it yields False at once if another process has the lock.  The wait
        asks again and again, because a wait inside the kernel would not answer a signal.

        Raises:
            Stopped: `stopping` became true during the wait.
        """
        path = self.root / ".locks" / key
        while (handle := _try_lock(path)) is None and wait:
            if stopping():
                raise Stopped
            time.sleep(POLL)
        try:
            yield handle is not None
        finally:
            if handle is not None:
                path.unlink(missing_ok=True)
                os.close(handle)


def _try_lock(path: Path) -> int | None:
    """Lock a file, which is made if absent.  Return its open handle; None if another process holds it.

    The holder removes the file at the end, so a lock on a file that was removed protects nothing and does not count.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_CREAT | os.O_RDWR)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(handle).st_nlink:
            return handle
    except BlockingIOError:
        pass
    except BaseException:
        os.close(handle)
        raise
    os.close(handle)
    return None
