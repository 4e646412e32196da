"""Room on the disk: whether a step will fit, what is said when it did not, and what a store takes."""

from __future__ import annotations

import contextlib
import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

from lab.errors import DiskFull, InputError
from lab.store.atomic import all_of

SAFETY = 1.5
"""Estimates are right to about this factor."""
SPARE = 1_000_000
"""Bytes that must stay free beside: tables, logs, manifests."""
CHECKPOINTS = 2
"""Those of a training that are kept.  One more is there while the newest is written."""
FULL = (errno.ENOSPC, errno.EDQUOT)
SAID_WHEN_FULL = ("No space left on device", "Disk quota exceeded", "os error 28", "errno 28", "requested and")
"""What safetensors, Arrow and numpy (" 800 requested and 96 written") say instead of a number."""
ADVICE = "make room (lab prune RUN, keep_models: last) or choose another folder with --checkpoints"


def megabytes(size: int) -> str:
    """megabytes(1_234_567) == "1.2 MB"."""
    return f"{size / 1e6:,.1f} MB"


def nearest(folder: Path) -> Path:
    """The folder, or where it does not exist yet the one above that does."""
    folder = folder.absolute()
    return next(path for path in (folder, *folder.parents) if path.exists())


def free(folder: Path) -> int:
    """Bytes that may still be written where this folder is, or will be."""
    return shutil.disk_usage(nearest(folder)).free


def check_room(folder: Path, what: str, size: int) -> None:
    """DiskFull unless about `size` bytes, with a margin, can still be written there."""
    needed, there = int(SAFETY * size) + SPARE, free(folder)
    if there < needed:
        raise DiskFull(
            f"{what} needs about {megabytes(needed)} and {folder} has {megabytes(there)} free; nothing of it is "
            f"written: {ADVICE}"
        )


def is_full(error: BaseException) -> bool:
    """Whether an error, of whatever library, says that the disk is full."""
    said = str(error)
    return getattr(error, "errno", None) in FULL or any(words in said for words in SAID_WHEN_FULL)


def full(folder: Path) -> DiskFull:
    """The one line that says so."""
    return DiskFull(
        f"the disk is full: {folder} has {megabytes(free(folder))} free; what is committed is whole: {ADVICE}, "
        "then run the same command again"
    )


def said(error: OSError) -> InputError:
    """One line for an error of the file system."""
    if is_full(error):
        return full(Path(error.filename or ".").absolute().parent)
    return InputError((error.strerror or str(error)) + (f" ({error.filename})" if error.filename else ""))


@contextlib.contextmanager
def full_in_one_line(folder: Path) -> Iterator[None]:
    """A full disk, as each library says it, as DiskFull."""
    try:
        yield
    except Exception as error:
        if is_full(error):
            raise full(folder) from error
        raise


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder; a link counts nothing, and what goes meanwhile nothing either."""
    total = 0
    for file in all_of(path):
        with contextlib.suppress(FileNotFoundError):
            if file.is_file() and not file.is_symlink():
                total += file.stat().st_size
    return total
