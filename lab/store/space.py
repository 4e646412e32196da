"""Room on the disk: whether a step will fit, the error when it did not, and the size of what is there."""

from __future__ import annotations

import contextlib
import errno
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from lab.errors import DiskFull, InputError
from lab.store.atomic import all_of

SAFETY = 1.5
"""Estimates are right to about this factor."""
SPARE = 1_000_000
"""Bytes that must stay free besides, for tables, logs and manifests."""
CHECKPOINTS = 2
"""Checkpoints of a training that are kept.  There is one more while the newest is written."""
FULL = (errno.ENOSPC, errno.EDQUOT)
SAID_WHEN_FULL = ("No space left on device", "Disk quota exceeded", "os error 28", "errno 28", "requested and")
"""Words of safetensors, Arrow and numpy ("800 requested and 96 written") when the disk is full.  They give no errno."""
ADVICE = "make room (lab prune RUN, keep_models: last) or choose another folder with --checkpoints"


def megabytes(size: int) -> str:
    """Return a number of bytes for people: megabytes(1_234_567) == "1.2 MB"."""
    return f"{size / 1e6:,.1f} MB"


def nearest(folder: Path) -> Path:
    """Return the folder if it exists, else the nearest one above it that does."""
    folder = folder.absolute()
    return next(path for path in (folder, *folder.parents) if path.exists())


def free(folder: Path) -> int:
    """Return the bytes that can still be written where this folder is, or will be."""
    return shutil.disk_usage(nearest(folder)).free


def check_room(folder: Path, what: str, size: int) -> None:
    """Raise DiskFull unless about `size` bytes, with a margin, can be written to a folder; `what` needs them."""
    needed, available = int(SAFETY * size) + SPARE, free(folder)
    if available < needed:
        raise DiskFull(
            f"{what} needs about {megabytes(needed)} and {folder} has {megabytes(available)} free; nothing of it is "
            f"written: {ADVICE}"
        )


def is_full(error: BaseException) -> bool:
    """Return whether an error, of whatever library, says that the disk is full."""
    message = str(error)
    return getattr(error, "errno", None) in FULL or any(words in message for words in SAID_WHEN_FULL)


def full(*folders: Path) -> DiskFull:
    """Return the error of a full disk.

    It names the first of these folders and of the one for temporary files that has no room: libraries write there too.
    """
    temporary = Path(tempfile.gettempdir())
    named = next((folder for folder in (*folders, temporary) if free(folder) < SPARE), None)
    if named == temporary and named not in folders:
        return temporary_full("what a library puts there")
    if named is None and not folders:
        return DiskFull(f"the disk is full, or a quota is used up; what is committed is whole: {ADVICE}")
    named = named or folders[0]
    quota = ", so it may be a quota that is used up" if free(named) >= SPARE else ""
    return DiskFull(
        f"the disk is full: {named} has {megabytes(free(named))} free; what is committed is whole{quota}: {ADVICE}, "
        "then run the same command again"
    )


def temporary_full(what: str) -> DiskFull:
    """Return the error of a full folder of temporary files, in which there is no room for `what`."""
    folder = tempfile.gettempdir()
    return DiskFull(
        f"the folder of temporary files is full: {folder} (TMPDIR) has too little room for {what}; nothing that "
        "was finished is lost: make room there, or set TMPDIR to a folder with more"
    )


def said(error: OSError) -> InputError:
    """Return an error of the file system as an error of one line."""
    if is_full(error):
        return full(*([Path(error.filename).absolute().parent] if error.filename else []))
    return InputError((error.strerror or str(error)) + (f" ({error.filename})" if error.filename else ""))


@contextlib.contextmanager
def full_in_one_line(folder: Path) -> Iterator[None]:
    """Context manager: raise DiskFull for the error of any library that says that the disk is full."""
    try:
        yield
    except Exception as error:
        if is_full(error):
            raise full(folder) from error
        raise


@contextlib.contextmanager
def temporary_full_in_one_line(what: str) -> Iterator[None]:
    """Context manager: raise DiskFull where the folder of temporary files is full; `what` is written there."""
    try:
        yield
    except Exception as error:
        if not is_full(error):
            raise
        raise temporary_full(what) from error


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder.  Links, and files that disappear meanwhile, count 0."""
    total = 0
    for file in all_of(path):
        with contextlib.suppress(FileNotFoundError):
            if file.is_file() and not file.is_symlink():
                total += file.stat().st_size
    return total
