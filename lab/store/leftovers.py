"""What killed writers left: told from what a living one is at work on, also on another machine, and removed."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from lab.store.atomic import all_of, host

ABANDONED = 24 * 3600.0
"""Seconds without a change after which the temporary of another machine's writer is nobody's.  Whether he lives cannot
be told from here."""


def untouched(*paths: Path) -> bool:
    """Whether nothing in these files and folders has changed for so long that no writer can be at work there."""
    last = 0.0
    for file in (file for path in paths for file in all_of(path)):
        with contextlib.suppress(FileNotFoundError):
            last = max(last, file.lstat().st_mtime)
    return time.time() - last > ABANDONED


def left(temporary: Path) -> bool:
    """Whether the writer of a temporary file is gone; where that cannot be told, whether it is untouched for long."""
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
    """Remove what killed writers left beside the files that they were writing."""
    for temporary in folder.glob(".*.tmp"):
        if left(temporary):
            temporary.unlink(missing_ok=True)
