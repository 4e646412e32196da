"""`lab compare`: the results of a run beside published numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lab.cli.terminal import Checkpoints, RunName, folder_of, measured_rows, print_cells, say
from lab.errors import InputError

EXAMPLES = """\b
Example:
  lab compare drayson-2025-mini --to drayson-2025"""


def print_comparison(
    run: RunName,
    to: Annotated[str, typer.Option(metavar="STUDY", help="A study with a paper: drayson-2025.")],
    format_: Annotated[str | None, typer.Option("--format", metavar="KIND", help="md (default: plain).")] = None,
    checkpoints: Checkpoints = Path("checkpoints"),
) -> None:
    """Compare a run with the numbers and claims of a paper.

    Levels differ with corpus and model.  What compares is the change since generation 0, and the sign of differences,
    each with a verdict.
    """
    from lab.config.files import load_study
    from lab.report import compare as comparing
    from lab.report.tables import caption

    folder = folder_of(run, checkpoints)
    config, rows, published = folder.config(), measured_rows(folder), load_study(to).published
    if published is None or not (published.numbers or published.directions):
        raise InputError(f"study {to} has no published numbers or directions to compare with")
    if published.numbers:
        print_cells(list(comparing.HEADING), comparing.beside(published, config, rows), format_)
    if published.directions:
        print_cells(list(comparing.DIRECTION_HEADING), comparing.directions(published, config, rows), format_)
    for line in (
        f"published: {published.paper}; {published.table}",
        f"{to} differs from the paper: {published.differs}",
        f"this run: {caption(config, rows)}",
    ):
        say(line, "dim")
