"""Errors that users see in one line, and text made safe for a terminal."""

from __future__ import annotations

LONGEST_MESSAGE = 1200
"""Characters; some ten lines of a terminal."""


def printable(text: str) -> str:
    """With escapes for what a terminal would obey or could not show: printable("a\\x1b[2J") == "a\\\\x1b[2J"."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def one_line(text: str, longest: int) -> str:
    """The text on one line, its middle left out where it is longer."""
    said = printable(" ".join(text.split()))
    half = longest // 2
    return said if len(said) <= longest else f"{said[:half]} ... {said[-half:]}"


class InputError(ValueError):
    """The user's input is wrong.  The message is one line: what was given, what is allowed, what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message, LONGEST_MESSAGE))


class DiskFull(InputError):
    """Not the input's fault, but as much in need of one line: there is no room to go on."""


class Stopped(Exception):
    """The run was asked to stop, and the step in hand has left what it needs to go on."""


def brief(error: BaseException, longest: int = LONGEST_MESSAGE) -> str:
    """The message of an error on one line.  brief(ValueError("a\n b")) == "a b"."""
    return one_line(str(error), longest)
