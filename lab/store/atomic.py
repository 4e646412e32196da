"""Files that survive a crash: written under a temporary name, flushed to the disk, and only then renamed."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from lab.hashing import digest
from lab.store import crash_points


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def inode(path: Path) -> int | None:
    """Return the inode number of a file or folder; None if it is absent."""
    try:
        return path.lstat().st_ino
    except FileNotFoundError:
        return None


def make_folder(path: Path) -> None:
    """Make a folder and its parents, and flush to the disk those that were absent."""
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in made:
        fsync(folder.parent)


def renamed(path: Path, name: Path) -> bool:
    """Rename a folder onto an absent name.  Return False, and do nothing, if the name is taken."""
    try:
        os.rename(path, name)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
        return False
    return True


def all_of(path: Path) -> Iterator[Path]:
    """Yield a file, or a folder and all that is in it.  Unlike `rglob`, ignore folders that disappear meanwhile."""
    yield path
    for folder, folders, files in os.walk(path):
        yield from (Path(folder, name) for name in folders + files)


def host() -> str:
    """Return a short name of this machine, for temporary files: those of another machine may be in use there."""
    return digest(os.uname().nodename)[:8]


def beside(path: Path) -> Path:
    """Return the temporary name under which this process writes a file: with machine and process number."""
    return path.with_name(f".{path.name}.{host()}.{os.getpid()}.tmp")


def write_text(path: Path, text: str, *, point: str = "") -> None:
    """Write a text file atomically: a reader sees the old file or the new one, also after a crash."""
    write_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"), point=point)


def write_file(path: Path, write: Callable[[Path], object], *, point: str = "") -> None:
    """Write a file atomically: `write` is given its temporary name.

    `point` is how its instants in lab/store/crash_points.py are called; by default like the file.
    """
    point = point or path.name
    temporary = beside(path)
    try:
        write(temporary)
        crash_points.at(f"{point}/written")
        fsync(temporary)
        crash_points.at(f"{point}/synced")
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:  # a write that failed says not where
            error.filename = str(path)
        raise
    crash_points.at(f"{point}/renamed")
    fsync(path.parent)
    crash_points.at(f"{point}/kept")


def fsync(path: Path) -> None:
    """Wait until a file or a folder is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
