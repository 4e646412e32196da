"""The manifest of a committed artifact: what it states, and whether the files beside it are still what it states.

Another process may delete weights (lab/run/retention.py) while this one looks.  It writes a note first and deletes
then.  So a missing file is looked up in the note, and only one that the note does not name is damage.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from lab.hashing import digest
from lab.store.atomic import file_sha256

MANIFEST = "manifest.json"
PRUNED = "pruned.json"
"""Beside the manifest of an artifact whose weights were dropped: {"files": names in the manifest that are gone}."""
HASHED_AT_ONCE = 1 << 16
"""Files of at most so many bytes are hashed whenever a manifest is read, larger ones before they are used."""


class _Stated(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)


class FileEntry(_Stated):
    """A file of an artifact."""

    bytes: int
    sha256: str


class InputEntry(_Stated):
    """An artifact that another one was made from."""

    step: str
    key: str
    content: str | None


class Manifest(_Stated):
    """What an artifact states of itself."""

    step: str
    key: str
    version: str
    source: str
    """Hash of the code that made it."""
    params: dict[str, Any]
    inputs: dict[str, InputEntry]
    """By role."""
    files: dict[str, FileEntry]
    content: str
    """One hash of all files."""
    environment: dict[str, Any]
    seal: str | None = None
    """Hash of all other fields.  Manifests from before 2026-11-22 have none."""

    @classmethod
    def parse(cls, text: str) -> Manifest:
        """Read the text of a manifest.  ValueError: it is not a manifest, or not as it was written."""
        stated = json.loads(text)
        manifest = cls.model_validate(stated)
        if manifest.content != content_of(stated["files"]) or manifest.seal not in (None, seal_of(stated)):
            raise ValueError("it is not as it was written")
        return manifest

    @classmethod
    def of(cls, folder: Path) -> Manifest:
        """Read the manifest of an artifact's folder.  OSError or ValueError: there is none that can be used."""
        return cls.parse((folder / MANIFEST).read_text(encoding="utf-8"))


def seal_of(stated: Mapping[str, Any]) -> str:
    """Return the hash of all fields of a manifest except its seal."""
    return digest({name: value for name, value in stated.items() if name != "seal"})


def content_of(files: Mapping[str, Any]) -> str:
    """Return one hash for what the files of an artifact hold: {"a": {"sha256": "...", "bytes": 1}} -> "..."."""
    return digest({name: entry["sha256"] for name, entry in files.items()})


def read(folder: Path) -> Manifest | None:
    """Return the manifest of a folder; None unless its files, except dropped ones, are as it states.

    Files of more than HASHED_AT_ONCE bytes are held to their sizes only.
    """
    try:
        manifest = Manifest.of(folder)
    except (OSError, ValueError):
        return None
    return manifest if manifest.key == folder.name and not any(faults(folder, manifest, large=False)) else None


def faults(folder: Path, manifest: Manifest, *, large: bool = True) -> Iterator[str]:
    """Yield what is wrong with the files of an artifact, a line each.  Unless `large`, larger files are not hashed."""
    try:
        dropped_files(folder)
    except (OSError, ValueError):
        yield f"its {PRUNED} is damaged"
        return
    for name, entry in manifest.files.items():
        if fault := _fault(folder, name, entry, hashed=large or entry.bytes <= HASHED_AT_ONCE):
            yield fault


def _fault(folder: Path, name: str, entry: FileEntry, *, hashed: bool) -> str:
    try:
        size = (folder / name).stat().st_size
        if size != entry.bytes:
            return f"{name} has {size:,} bytes, not the {entry.bytes:,} that were committed"
        if hashed and file_sha256(folder / name) != entry.sha256:
            return f"{name} is damaged: its sha256 is not that of the manifest"
    except FileNotFoundError:
        return "" if name in dropped_files(folder) else f"{name} is missing"
    except OSError as error:
        return f"{name} cannot be read ({error.strerror})"
    return ""


def dropped_files(folder: Path) -> frozenset[str]:
    """Return the names of the files that were dropped from an artifact.  ValueError: the note is damaged."""
    try:
        note = json.loads((folder / PRUNED).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return frozenset()
    if not isinstance(note, dict) or not isinstance(note.get("files"), list):
        raise ValueError(f"{folder / PRUNED} is damaged")
    return frozenset(map(str, note["files"]))
