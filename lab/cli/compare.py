"""`lab compare`: two runs beside each other, or a run beside published numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from lab.cli.terminal import Checkpoints, RunName, folder_of, measured_rows, print_cells, print_titled, say
from lab.errors import InputError, printable

EXAMPLES = """\b
Examples:
  lab compare quick longer
  lab compare drayson-2025-mini --to drayson-2025"""


def print_comparison(
    run: RunName,
    other: Annotated[str | None, typer.Argument(metavar="OTHER", help="A second run, compared with the first.")] = None,
    to: Annotated[str | None, typer.Option(metavar="STUDY", help="A study with a paper: drayson-2025.")] = None,
    metric: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="Of two runs: a column of results.csv.  Repeatable.")
    ] = None,
    format_: Annotated[str | None, typer.Option("--format", metavar="KIND", help="md (default: plain).")] = None,
    checkpoints: Checkpoints = Path("checkpoints"),
) -> None:
    """Compare two runs, paired over their seeds, or a run with the numbers and claims of a paper.

    Of a paper, levels differ with corpus and model.  What compares is the change since generation 0, and the sign of
    differences, each with a verdict.
    """
    if (other is None) == (to is None):
        raise InputError(f"compare {run} with what?  Name a second run, or a study with --to STUDY")
    if metric and to is not None:
        raise InputError("--metric is for two runs; with --to, the paper has the metrics")
    folder = folder_of(run, checkpoints)
    if other is not None:
        names = [printable(run), printable(other)]
        _print_two(names, [folder, folder_of(other, checkpoints)], metric or [], format_)
    else:
        assert to is not None
        _print_published(folder, to, format_)


def _print_two(names: list[str], folders: list[Any], metrics: list[str], format_: str | None) -> None:
    from lab.report.tables import caption
    from lab.report.two_runs import MeasuredRun, compare_runs, differences
    from lab.run.text_notes import text_notes

    first, second = (MeasuredRun(name, f.config(), measured_rows(f)) for name, f in zip(names, folders, strict=True))
    for title, heading, cells in compare_runs(first, second, metrics):
        print_titled(title, heading, cells, format_)
    for line in differences(first, second):
        say(line)
    for run, folder in zip((first, second), folders, strict=True):
        whole = caption(run.config, run.rows, text_notes(folder), against=None)
        said = whole.removeprefix(f"{run.config.name}: ")
        say(f"{run.name}: {said}", "dim")


def _print_published(folder: Any, to: str, format_: str | None) -> None:
    from lab.config.files import load_study
    from lab.report import compare as comparing
    from lab.report.tables import caption
    from lab.run.text_notes import text_notes

    config, rows, published = folder.config(), measured_rows(folder), load_study(to).published
    if published is None or not (published.numbers or published.directions):
        raise InputError(f"study {to} has no published numbers or directions to compare with")
    comparing.check_reported(published, config, rows, to)
    notes = []
    if published.numbers:
        print_cells(list(comparing.HEADING), comparing.beside(published, config, rows), format_)
        notes.append(comparing.RATIO)
    if published.directions:
        print_cells(list(comparing.DIRECTION_HEADING), comparing.directions(published, config, rows), format_)
    for line in (
        *notes,
        f"published: {published.paper}; {published.table}",
        f"{to} differs from the paper: {published.differs}",
        f"this run: {caption(config, rows, text_notes(folder))}",
    ):
        say(line, "dim")
