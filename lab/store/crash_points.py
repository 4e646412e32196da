"""Named instants of a commit or a checkpoint, where a test may kill the process or make a write fail.

`at("train/commit/renamed")` does nothing unless a test installed a hook in this process.
"""

from __future__ import annotations

from collections.abc import Callable

_hooks: list[Callable[[str], None]] = []


def install(hook: Callable[[str], None]) -> None:
    """Call `hook` with the name of every instant from now on.  Only tests do this."""
    _hooks.append(hook)


def at(point: str) -> None:
    """Tell the hooks that the process is at this instant: all before it is done, nothing after it has begun."""
    for hook in _hooks:
        hook(point)
