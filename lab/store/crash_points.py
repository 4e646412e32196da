"""Named instants of a commit or a checkpoint, where a test may kill the process or make a write fail.

`at("train/commit/renamed")` does nothing unless a test installed a hook in this very process.
"""

from __future__ import annotations

from collections.abc import Callable

_hooks: list[Callable[[str], None]] = []


def install(hook: Callable[[str], None]) -> None:
    """Call `hook` with the name of every instant from now on.  For tests: nothing in the lab calls this."""
    _hooks.append(hook)


def at(point: str) -> None:
    """The process is at this instant.  What was done before it is done, what comes after it is not yet begun."""
    for hook in _hooks:
        hook(point)
