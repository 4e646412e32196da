"""Errors that users see in one line, and text made safe for a terminal."""

from __future__ import annotations

LONGEST_MESSAGE = 1200
"""Characters of a message, some ten lines of a terminal."""


def printable(text: str) -> str:
    """Return the text with escapes for characters that a terminal would obey or could not show.

    printable("a\\x1b[2J") == "a\\\\x1b[2J"
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def one_line(text: str, longest: int) -> str:
    """Return the text on one line.  Where it is longer than `longest` characters, its middle is left out."""
    line = printable(" ".join(text.split()))
    half = longest // 2
    return line if len(line) <= longest else f"{line[:half]} ... {line[-half:]}"


def plural(count: int, thing: str) -> str:
    """Return a number of things as text: plural(1, "group") == "1 group", plural(2000, "group") == "2,000 groups"."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


class InputError(ValueError):
    """An error in the user's input.  The message is one line: what was given, what is allowed, what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message, LONGEST_MESSAGE))


class DiskFull(InputError):
    """An error for a full disk.  The input is right, but the user needs one line as for wrong input."""


class Stopped(Exception):
    """The end of a step that was asked to stop, after it saved what it needs to continue."""


def brief(error: BaseException, longest: int = LONGEST_MESSAGE) -> str:
    """Return the message of an error on one line: brief(ValueError("a\n b")) == "a b"."""
    return one_line(str(error), longest)
