"""`lab doctor`: is this machine fit, and is the store in order?"""

from __future__ import annotations

from pathlib import Path

import typer

from lab.cli.terminal import FAILED, AsJson, Checkpoints, print_json, say

EXAMPLES = """\b
Example:
  lab doctor"""


def examine_machine(checkpoints: Checkpoints = Path("checkpoints"), as_json: AsJson = False) -> None:
    """Check this machine and the store.

    Versions, threads, memory, disk, GPU, locks and leftovers.  The exit code is 1 if something is bad.
    """
    from lab.checks import doctor as examining

    checks = examining.examine(checkpoints)
    if as_json:
        print_json([check.__dict__ for check in checks])
    else:
        for check in checks:
            say(f"{check.level:<4}  {check.what}: {check.found}" + (f"; {check.todo}" if check.todo else ""))
    raise typer.Exit(FAILED if any(check.level == "bad" for check in checks) else 0)
