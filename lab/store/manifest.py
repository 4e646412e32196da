"""What a committed artifact states of itself, and whether its files are still what it states.

Another process may drop weights (lab/run/weights.py) while this one looks: it notes them first and deletes them then,
so
what is missing is looked for in the note again before anything is called damaged.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lab.hashing import digest
from lab.store.atomic import file_sha256

MANIFEST = "manifest.json"
PRUNED = "pruned.json"
"""Beside the manifest of an artifact whose weights were dropped: {"files": those that the manifest states in vain}."""
HASHED_AT_ONCE = 1 << 16
"""Files of at most so many bytes are hashed whenever a manifest is read, larger ones before they are used."""


def read(folder: Path) -> dict[str, Any] | None:
    """The manifest of a folder if it is the one that was sealed and its files, but the dropped ones, are as it states.

    Large files are held to their sizes only.
    """
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
        files = manifest["files"]
        same = manifest["content"] == content_of(files) and manifest["key"] == folder.name
        manifest["inputs"], manifest["source"]
        same = same and manifest.get("seal") in (None, seal_of(manifest))
        return manifest if same and intact(folder, files, larger=False) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def intact(folder: Path, files: Mapping[str, Any], *, larger: bool = True) -> bool:
    """Do all these files but the dropped ones have the sizes and hashes that are stated?

    Without `larger`, those of more than HASHED_AT_ONCE bytes are not hashed.  OSError: one cannot be read.
    """
    while True:
        dropped = dropped_files(folder)
        there = {name: entry for name, entry in files.items() if name not in dropped}
        try:
            # Sizes first: a hash of a large file costs time.
            if any((folder / name).stat().st_size != entry["bytes"] for name, entry in there.items()):
                return False
            small = {name: entry for name, entry in there.items() if larger or entry["bytes"] <= HASHED_AT_ONCE}
            return all(file_sha256(folder / name) == entry["sha256"] for name, entry in small.items())
        except FileNotFoundError:
            if dropped_files(folder) == dropped:
                return False


def dropped_files(folder: Path) -> frozenset[str]:
    """Names of the files that were dropped from an artifact.  ValueError, TypeError, KeyError: the note is torn."""
    try:
        text = (folder / PRUNED).read_text(encoding="utf-8")
    except FileNotFoundError:
        return frozenset()
    return frozenset(json.loads(text)["files"])


def seal_of(manifest: Mapping[str, Any]) -> str:
    """The hash of all else that a manifest says.  Manifests of before 2026-11-22 have none."""
    return digest({name: value for name, value in manifest.items() if name != "seal"})


def content_of(files: Mapping[str, Any]) -> str:
    """What the files of an artifact hold, as one hash."""
    return digest({name: entry["sha256"] for name, entry in files.items()})
