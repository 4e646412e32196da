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
    one_format,
    print_exact,
    print_titled,
    say,
    wide_console,
)
from lab.errors import InputError

DOMAIN = "domain"
"""Value of --by that is no swept field, and the level of bins.csv that it shows."""

EXAMPLES = """\b
Examples:
  lab show quick
  lab show quick --metric perplexity --metric self_bleu
  lab show quick --format latex
  lab show quick --against accumulate
  lab show cold --against "temperature 1"
  lab show cold --by sample.temperature
  lab show quick --by domain"""


def print_tables(
    run: RunName,
    metric: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="A column of results.csv.  Repeatable.")
    ] = None,
    format_: Annotated[str | None, typer.Option("--format", metavar="KIND", help="md, csv, json or latex.")] = None,
    by: Annotated[
        str | None,
        typer.Option(
            metavar="FIELD",
            help="Show a swept field, such as sample.temperature, across the table; or the loss by domain.",
        ),
    ] = None,
    against: Annotated[
        str,
        typer.Option(
            metavar="LABEL", help='What is compared with: a regime, an arm such as "temperature 1", or "REGIME, ARM".'
        ),
    ] = "human",
    as_json: AsJson = False,
    checkpoints: Checkpoints = Path("checkpoints"),
) -> None:
    """Show the results, one table per metric.

    Each table has the regimes over the generations, with the standard deviation over seeds and the change against the
    human control, or against another regime or arm, paired over seeds.
    """
    from lab.loop import build
    from lab.report import lines
    from lab.report.render import formatted

    folder = folder_of(run, checkpoints)
    config, rows = folder.config(), measured_rows(folder)
    metrics = metric or lines.headline_of(rows, config.corpus.kind)
    kind = one_format(as_json, format_)
    if by is not None:
        _print_pivots(folder, metric or [], by, against, kind)
    elif kind is not None:
        exact = _exact_markdown(config, rows) if kind == "md" and not metric else ""
        typer.echo(exact or formatted(rows, metrics, kind, folder.titles(), against), nl=False)
    elif metric or config.corpus.kind == "text" or against != lines.CONTROL:
        _print_blocks(folder, rows, metrics, against)
    elif print_exact(rows, build(config)) is None:
        _print_blocks(folder, rows, metrics, against)
        note_untested(config)


def _exact_markdown(config: Any, rows: list[dict[str, Any]]) -> str:
    """Return the comparison with exact theory as Markdown; empty where none applies."""
    from lab.checks.exact import compare
    from lab.loop import build
    from lab.report import exact

    compared = compare(build(config), rows) if config.corpus.kind == "source" else []
    return exact.as_markdown(exact.last(compared)) if compared else ""


def _print_pivots(folder: Any, asked: Sequence[str], by: str, against: str, kind: str | None) -> None:
    """Print a table per metric with the values of a swept field, or the domains of the test text, across."""
    from lab.report import compare, lines
    from lab.report.tables import caption
    from lab.run.text_notes import text_notes

    config, results = folder.config(), measured_rows(folder)
    rows = _by_domain(folder, asked) if by == DOMAIN else results
    metrics = ["nll"] if by == DOMAIN else asked or lines.headline_of(rows, config.corpus.kind)
    for name in metrics:
        title, heading, cells = compare.pivot(rows, name, by, against)
        print_titled(title, heading, cells, kind)
    say(caption(config, results, text_notes(folder), against=against), "dim")


def _by_domain(folder: Any, asked: Sequence[str]) -> list[dict[str, Any]]:
    """Return rows of the loss by domain, as if the domain were swept.  InputError where the run has none."""
    from lab.run.folder import Run, keys

    if asked and list(asked) != ["nll"]:
        raise InputError(f"--by domain has the loss (nll) only, not {', '.join(asked)}")
    run = Run.open(folder.path)
    bins = run.bins[run.bins["level"] == DOMAIN]
    if bins.empty:
        why = "lab run measures it" if getattr(run.config.corpus, "domain", None) else "its corpus has no domain column"
        raise InputError(f"{folder.path} has no loss by domain: {why}, or the test text is of one domain")
    *chain, seed, generation = keys(run.config)
    named = bins.rename(columns={"bin": DOMAIN, "nats_per_token": "nll"})
    columns = [*chain, DOMAIN, seed, generation, "nll"]
    return [dict(zip(columns, row, strict=True)) for row in named[columns].itertuples(index=False, name=None)]


def _print_blocks(folder: Any, rows: list[dict[str, Any]], metrics: Sequence[str], against: str) -> None:
    from lab.report.render import rich_table
    from lab.report.tables import absent, caption
    from lab.run.text_notes import text_notes

    console, config = wide_console(), folder.config()
    console.print(rich_table(rows, metrics, console.width, folder.titles(), against))
    for note in absent(rows, metrics):
        say(note)
    if getattr(config.corpus, "domain", None):
        say(f"loss by domain: lab show {folder.path.name} --by domain")
    say(caption(config, rows, text_notes(folder), against=against), "dim")
