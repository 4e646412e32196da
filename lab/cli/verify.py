"""`lab verify`: are the files of a run what the lab wrote?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lab.cli.terminal import FAILED, AsJson, Checkpoints, RunName, folder_of, print_json, say

EXAMPLES = """\b
Examples:
  lab verify quick
  lab verify quick --recompute 5
  lab verify quick --repair"""


def verify_run(
    run: RunName,
    recompute: Annotated[
        int, typer.Option(min=0, metavar="N", help="Number of sampled steps to compute again and compare.")
    ] = 1,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed that chooses the sampled steps.")] = 0,
    repair: Annotated[
        bool, typer.Option("--repair", help="Move damaged artifacts aside, so that lab run makes them again.")
    ] = False,
    checkpoints: Checkpoints = Path("checkpoints"),
    as_json: AsJson = False,
) -> None:
    """Check the files of a run, and compute sampled steps again.

    Every artifact is hashed and the tables are rebuilt.  Nothing is changed without --repair.
    The exit code is 1 if there is a problem.
    """
    from lab.checks import verify

    verified = verify.verify_run(folder_of(run, checkpoints), recompute=recompute, seed=seed, repair=repair)
    if as_json:
        print_json(verified.to_json())
    else:
        for line in verified.lines():
            say(line)
    raise typer.Exit(FAILED if verified.problems else 0)
