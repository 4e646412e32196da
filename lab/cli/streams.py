"""The standard streams of a command: always open, in any encoding, and no traceback when one of them breaks."""

from __future__ import annotations

import codecs
import contextlib
import fcntl
import io
import os
import sys
from typing import Any

PLAINER = {"±": "+-", "…": "..."} | dict(zip("▁▂▃▄▅▆▇█", "12345678", strict=True)) | dict.fromkeys("━╸╺", "-")
"""What stands for a character that the encoding of a terminal or a log lacks.  Others become escapes."""


def prepare() -> None:
    """Open the streams that were closed at the start, and let all of them write any character."""
    for number, (name, mode) in enumerate({"stdin": "r", "stdout": "w", "stderr": "w"}.items()):
        # A file opened later would get the number of a closed stream, and what is printed.
        if getattr(sys, name) is None or not _usable(number, mode):
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115  (open until the end)
    codecs.register_error("lab.plainer", _plainer)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a caller may have put another object there
            stream.reconfigure(errors="lab.plainer")


def _usable(number: int, mode: str) -> bool:
    """Return whether a standard stream is open for its use.  Where it is closed, bash may open its script there."""
    try:
        access = fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE
    except OSError:
        return False
    return access in (os.O_RDWR, os.O_RDONLY if mode == "r" else os.O_WRONLY)


def broken() -> OSError | None:
    """Return the error of writing to standard output; None if it works.  After an error nothing is printed there."""
    try:
        os.write(sys.stdout.fileno(), b"\n")
    except io.UnsupportedOperation:  # a caller's object, not a file
        return None
    except OSError as error:
        silence(sys.stdout)
        return error
    return None


def silence(stream: Any) -> None:
    """Let a stream lead to nothing, or Python would complain about it at its end."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _plainer(error: UnicodeError) -> tuple[str, int]:
    """Return what stands for the characters that could not be encoded: an error handler of codecs."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(PLAINER.get(c) or c.encode("ascii", "backslashreplace").decode() for c in text), error.end
