"""Find and delete temporary files of crashed processes without touching those of running ones.

Processes may run here or on another host that shares the disk.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from lab.store.atomic import all_of, host

ABANDONED = 24 * 3600.0
"""Seconds without a change after which temporary files of another machine count as abandoned.  Whether the process
that wrote them still runs cannot be seen from here."""


def untouched(*paths: Path) -> bool:
    """Return whether nothing in these files and folders has changed for ABANDONED seconds."""
    last = 0.0
    for file in (file for path in paths for file in all_of(path)):
        with contextlib.suppress(FileNotFoundError):
            last = max(last, file.lstat().st_mtime)
    return time.time() - last > ABANDONED


def left(temporary: Path) -> bool:
    """Return whether the process that wrote a temporary file is gone.

    Where that cannot be seen, because another machine or no known process gave the name: whether it is untouched.
    """
    *_, machine, process, _ = ("", "", *temporary.name.rsplit(".", 3))
    if machine != host() or not process.isdigit():
        return untouched(temporary)
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False


def sweep(folder: Path) -> None:
    """Remove temporary files of crashed processes from a folder."""
    for temporary in folder.glob(".*.tmp"):
        if left(temporary):
            temporary.unlink(missing_ok=True)
