"""`lab show`: the results of a run as tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from lab.cli.terminal import (
    AsJson,
    Checkpoints,
    RunName,
    folder_of,
    measured_rows,
    note_untested,
    print_cells,
    print_exact,
    say,
    wide_console,
)

EXAMPLES = """\b
Examples:
  lab show quick
  lab show quick --metric perplexity --metric self_bleu
  lab show quick --format latex
  lab show cold --by sample.temperature"""


def print_tables(
    run: RunName,
    metric: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="A column of results.csv.  Repeatable.")
    ] = None,
    format_: Annotated[str | None, typer.Option("--format", metavar="KIND", help="md, csv, json or latex.")] = None,
    by: Annotated[
        str | None,
        typer.Option(metavar="FIELD", help="Show a swept field, such as sample.temperature, across the table."),
    ] = None,
    as_json: AsJson = False,
    checkpoints: Checkpoints = Path("checkpoints"),
) -> None:
    """Show the results, one table per metric.

    Each table has the regimes over the generations, with the standard deviation over seeds and the change against the
    human control.
    """
    from lab.loop import build
    from lab.report import compare as comparing
    from lab.report import tables
    from lab.report.render import formatted

    folder = folder_of(run, checkpoints)
    config, rows = folder.config(), measured_rows(folder)
    metrics = metric or tables.headline_of(rows, config.corpus.kind)
    kind = "json" if as_json else format_
    if by is not None:
        for name in metrics:
            print_cells(*comparing.pivot(rows, name, by), kind)
        say(tables.caption(config, rows, folder.unspaced_share()), "dim")
    elif kind is not None:
        exact = _exact_markdown(config, rows) if kind == "md" and not metric else ""
        typer.echo(exact or formatted(rows, metrics, kind, folder.titles()), nl=False)
    elif metric or config.corpus.kind == "text":
        _print_blocks(folder, rows, metrics, config)
    elif print_exact(rows, build(config)) is None:
        _print_blocks(folder, rows, metrics, config)
        note_untested(config)


def _exact_markdown(config: Any, rows: list[dict[str, Any]]) -> str:
    """Return the comparison with exact theory as Markdown; empty where none applies."""
    from lab.checks.exact import compare
    from lab.loop import build
    from lab.report import exact

    compared = compare(build(config), rows) if config.corpus.kind == "source" else []
    return exact.as_markdown(exact.last(compared)) if compared else ""


def _print_blocks(folder: Any, rows: list[dict[str, Any]], metrics: Sequence[str], config: Any) -> None:
    from lab.report.render import rich_table
    from lab.report.tables import absent, caption

    console = wide_console()
    console.print(rich_table(rows, metrics, console.width, folder.titles()))
    for note in absent(rows, metrics):
        say(note)
    say(caption(config, rows, folder.unspaced_share()), "dim")
