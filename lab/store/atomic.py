"""Files that survive a crash: written aside, on the disk, and only then under their name."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from lab.hashing import digest
from lab.store import crash_points as faults


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def make_folder(path: Path) -> None:
    """A folder and its parents; what was absent is on the disk when this returns."""
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in made:
        fsync(folder.parent)


def renamed(path: Path, name: Path) -> bool:
    """Rename a folder onto a name that is absent; False where it is not."""
    try:
        os.rename(path, name)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
        return False
    return True


def all_of(path: Path) -> Iterator[Path]:
    """A file, or a folder with all that is in it.  Folders that go meanwhile are no error, as they are to `rglob`."""
    yield path
    for folder, folders, files in os.walk(path):
        yield from (Path(folder, name) for name in folders + files)


def host() -> str:
    """A name for this machine: what others have left may belong to writers that live."""
    return digest(os.uname().nodename)[:8]


def beside(path: Path) -> Path:
    """The temporary name under which this process writes a file: it says who does."""
    return path.with_name(f".{path.name}.{host()}.{os.getpid()}.tmp")


def write_text(path: Path, text: str, *, point: str = "") -> None:
    """Atomically: a reader sees the old file or the new one, also after a crash."""
    write_file(path, lambda temporary: _write(temporary, text), point=point)


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def write_file(path: Path, write: Callable[[Path], None], *, point: str = "") -> None:
    """The same with any way to write a file.  `point` names its instants in lab/store/crash_points.py (default:
    the file)."""
    point = point or path.name
    temporary = beside(path)
    try:
        write(temporary)
        faults.at(f"{point}/written")
        fsync(temporary)
        faults.at(f"{point}/synced")
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    faults.at(f"{point}/renamed")
    fsync(path.parent)
    faults.at(f"{point}/kept")


def fsync(path: Path) -> None:
    """Wait until a file or a folder is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
