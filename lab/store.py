"""Content-addressed artifacts: one folder a step under store/<step>/<key>/, whole or absent.

Commit: write into a temporary sibling, fsync every file, write the manifest (sizes and sha256) last, fsync, rename
onto the absent name, fsync the parent.  So a folder that exists is whole, and killing a writer loses only its copy.
A step is computed by one process at a time (flock; the kernel releases it when its owner dies).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.types import Step, canonical, digest

MANIFEST = "manifest.json"
PRUNED = "pruned.json"
"""Beside the manifest of an artifact whose weights were dropped: {"files": those that the manifest states in vain}."""
HASHED_AT_ONCE = 1 << 16
"""Files of at most so many bytes are hashed whenever a manifest is read, larger ones before they are used."""


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
    """Bytes it will write, about."""

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


@dataclass
class Store:
    root: Path
    _manifests: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    _verified: set[tuple[str, str]] = field(default_factory=set)

    def folder(self, name: str, key: str) -> Path:
        return self.root / name / key

    def manifest(self, name: str, key: str) -> dict[str, Any] | None:
        """The manifest of a committed artifact whose files all have their sizes; None otherwise.

        Files that were dropped on purpose (see `dropped`) are not missed.
        """
        if (name, key) not in self._manifests:
            found = self._read(self.folder(name, key))
            if found is None:
                return None
            self._manifests[name, key] = found
        return self._manifests[name, key]

    @staticmethod
    def _read(folder: Path) -> dict[str, Any] | None:
        try:
            manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
            there = {name: entry for name, entry in manifest["files"].items() if name not in dropped_files(folder)}
            sizes = {name: (folder / name).stat().st_size for name in there}
        except (OSError, ValueError, KeyError, TypeError):
            return None
        for name, entry in there.items():
            small = entry["bytes"] <= HASHED_AT_ONCE
            if sizes[name] != entry["bytes"] or (small and file_sha256(folder / name) != entry["sha256"]):
                return None
        return manifest

    def verify(self, name: str, key: str) -> None:
        """Hash every file of an artifact, once in this process.  RuntimeError if one is damaged; it is moved aside."""
        manifest, folder = self.manifest(name, key), self.folder(name, key)
        if manifest is None or (name, key) in self._verified:
            return
        for file, entry in manifest["files"].items():
            if file not in dropped_files(folder) and file_sha256(folder / file) != entry["sha256"]:
                folder.rename(folder.with_name(f".corrupt-{key}-{uuid.uuid4().hex[:8]}"))
                del self._manifests[name, key]
                raise RuntimeError(f"{folder / file} was damaged and is moved aside; run again to make it anew")
        self._verified.add((name, key))

    def dropped(self, name: str, key: str) -> frozenset[str]:
        """Files of a committed artifact that were dropped on purpose: weights, to save room.  See lab/retention.py."""
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

    def run(self, job: Job, write: Callable[[Path], None], environment: Mapping[str, Any], *, fresh: bool) -> bool:
        """Make the artifact unless it is there.  True when this call made it."""
        with self.lock(job.key):
            self.forget(job)
            if self.whole(job) and not fresh and not self.dropped(job.name, job.key):
                return False
            self._sweep(job)
            temporary = self.root / job.name / f".tmp-{job.key}-{os.getpid()}"
            temporary.mkdir(parents=True)
            try:
                write(temporary)
                self._commit(job, temporary, environment)
            finally:
                self._sweep(job)
            return True

    def borrow(self, job: Job, other: Store) -> None:
        """Take an artifact of another store as it is, by a link."""
        self.folder(job.name, job.key).parent.mkdir(parents=True, exist_ok=True)
        self.folder(job.name, job.key).symlink_to(other.folder(job.name, job.key).absolute())

    def _sweep(self, job: Job) -> None:
        """Remove what writers of this artifact left beside it, killed ones too."""
        for leftover in (self.root / job.name).glob(f".*-{job.key}-*"):
            shutil.rmtree(leftover, ignore_errors=True)

    def forget(self, job: Job) -> None:
        """Read the manifests of this artifact and its inputs from disk again: another process may have made them."""
        for ref in [(job.name, job.key), *job.inputs.values()]:
            self._manifests.pop(ref, None)

    def _commit(self, job: Job, temporary: Path, environment: Mapping[str, Any]) -> None:
        files = {}
        for path in sorted(path for path in temporary.rglob("*") if path.is_file()):
            path.chmod(0o644)  # safetensors writes for its owner alone
            files[path.relative_to(temporary).as_posix()] = {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
            _fsync(path)
        manifest = {
            "step": job.name,
            "key": job.key,
            "version": job.version,
            "source": job.source,
            "params": job.params,
            "inputs": self._inputs(job),
            "files": files,
            "content": digest({name: entry["sha256"] for name, entry in files.items()}),
            "environment": environment,
        }
        write_text(temporary / MANIFEST, json.dumps(manifest, indent=1, sort_keys=True) + "\n")
        for folder in {path.parent for path in temporary.rglob("*")}:
            _fsync(folder)
        final = self.folder(job.name, job.key)
        if final.exists():  # damaged, or made from other inputs: out of the way
            final.rename(final.with_name(f".old-{job.key}-{uuid.uuid4().hex[:8]}"))
        temporary.rename(final)
        _fsync(final.parent)
        self._manifests[job.name, job.key] = manifest

    @contextlib.contextmanager
    def lock(self, key: str, *, wait: bool = True) -> Iterator[bool]:
        """Hold the step's lock file.  It is removed afterwards: a waiter must check that it locked the present one.

        Without `wait`, False where another process holds it.
        """
        path = self.root / ".locks" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            handle = os.open(path, os.O_CREAT | os.O_RDWR)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(handle)
                yield False
                return
            with contextlib.suppress(FileNotFoundError):
                if os.fstat(handle).st_ino == path.stat().st_ino:
                    break
            os.close(handle)
        try:
            yield True
        finally:
            path.unlink(missing_ok=True)
            os.close(handle)


def dropped_files(folder: Path) -> frozenset[str]:
    """Names of the files that were dropped from an artifact.  ValueError, TypeError, KeyError: the note is torn."""
    try:
        text = (folder / PRUNED).read_text(encoding="utf-8")
    except FileNotFoundError:
        return frozenset()
    return frozenset(json.loads(text)["files"])


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_text(path: Path, text: str) -> None:
    """Atomically: a reader sees the old file or the new one, also after a crash."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    _fsync(temporary)
    temporary.replace(path)
    _fsync(path.parent)


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
