"""The commands that read a finished run, or a corpus, and print."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from lab.cli.terminal import (
    AsJson,
    Checkpoints,
    RunName,
    folder_of,
    out,
    plain_table,
    print_results,
    print_table,
    wide_console,
)
from lab.errors import InputError, printable
from lab.report.escape import markdown


def show(
    run: RunName,
    metric: Annotated[list[str] | None, typer.Option(help="A column of results.csv; repeatable.")] = None,
    format_: Annotated[str | None, typer.Option("--format", help="md, csv, json or latex.")] = None,
    by: Annotated[str | None, typer.Option(help="A swept field, to stand across: sample.temperature.")] = None,
    as_json: AsJson = False,
    checkpoints: Checkpoints = Path("checkpoints"),
) -> None:
    """The results table: regimes over generations, with spread over seeds and change against the human control."""
    from lab.report import compare as comparing
    from lab.report import tables as report

    folder = folder_of(run, checkpoints)
    config, rows = folder.config(), _measured(folder)
    metrics = metric or report.headline_of(rows, config.corpus.kind)
    kind = "json" if as_json else format_
    if by is not None:
        for name in metrics:
            print_cells(*comparing.pivot(rows, name, by), kind)
        out.print(report.caption(config, rows), style="dim", highlight=False, soft_wrap=True)
    elif kind == "md" and not metric and config.corpus.kind == "source" and (found := _exact(config, rows)):
        typer.echo(found, nl=False)
    elif kind is not None:
        typer.echo(report.formatted(rows, metrics, kind, folder.titles()), nl=False)
    elif metric or config.corpus.kind == "text":
        print_table(rows, metrics, config, folder.titles())
    else:
        print_results(rows, _graph(config), folder.titles())


def _graph(config: Any) -> Any:
    from lab.loop import build

    return build(config)


def _exact(config: Any, rows: list[dict[str, Any]]) -> str:
    """The comparison with exact theory as Markdown; empty where none applies."""
    from lab.report import exact

    found = exact.compare(_graph(config), rows)
    return exact.as_markdown(exact.last(found)) if found else ""


def print_cells(heading: list[str], cells: list[list[str]], kind: str | None) -> None:
    """As Markdown where that is asked for, else for a terminal."""
    if kind == "md":
        rule = "|" + " --- |" * len(heading)
        lines = ["| " + " | ".join(map(markdown, row)) + " |" for row in (heading, *cells)]
        lines.insert(1, rule)
        typer.echo("\n".join(lines) + "\n")
    elif kind is None:
        wide_console().print(plain_table(heading, cells))
    else:
        raise InputError(f'this table is printed plain or as md, not as "{kind}"')


def compare(
    run: RunName,
    to: Annotated[str, typer.Option(help="A study with published numbers or directions: drayson-2025.")],
    format_: Annotated[str | None, typer.Option("--format", help="md, or plain where it is not given.")] = None,
    checkpoints: Checkpoints = Path("checkpoints"),
) -> None:
    """Compare a run with a paper: values, change since generation 0, and signs of differences with a verdict each."""
    from lab.config.files import load_study
    from lab.report import compare as comparing
    from lab.report.tables import caption

    folder = folder_of(run, checkpoints)
    config, rows, published = folder.config(), _measured(folder), load_study(to).published
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
        out.print(line, style="dim", highlight=False, soft_wrap=True)


def report_(
    run: RunName,
    figure: Annotated[
        Path | None, typer.Option(help="PNG, SVG or PDF (default: figure.png in the run's folder).")
    ] = None,
    checkpoints: Checkpoints = Path("checkpoints"),
) -> None:
    """Draw the run: perplexity, rare against common words, survival of rare words, diversity."""
    from lab.report import figure as drawing

    folder = folder_of(run, checkpoints)
    config, rows = folder.config(), _measured(folder)
    path = figure or folder.path / "figure.png"
    if not path.absolute().parent.is_dir():
        raise InputError(f"figure {path}: there is no folder {path.parent}")
    seeds = ", ".join(str(seed) for seed in sorted({row["seed"] for row in rows}))
    drawing.figure(rows, f"{config.name}: {printable(config.corpus.title)}, seeds {seeds}", path)
    out.print(str(path), highlight=False, soft_wrap=True)


def _measured(folder: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = folder.results()
    if not rows:
        raise InputError(f"{folder.path} has no generation measured yet; lab run goes on with it")
    return rows


def corpus_(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A file, a folder or a hub id.")],
    text: Annotated[str, typer.Option(help="Name of the text column.")] = "text",
    domain: Annotated[str | None, typer.Option(help="Name of the domain column.")] = None,
    author: Annotated[str | None, typer.Option(help="Name of the author column.")] = None,
    group: Annotated[str | None, typer.Option(help="Name of the group column.")] = None,
    piece: Annotated[
        int | None, typer.Option(min=1, help="Cut documents into pieces of about so many characters.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Describe a corpus: folds, domains, sizes, and the overlap of test text with training text."""
    from lab.config.files import parse_corpus
    from lab.text.describe import describe

    fields = {"path": path, "text": text, "domain": domain, "author": author, "group": group, "piece": piece}
    found = describe(parse_corpus({**fields, "tokens": 1}))
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in found["domains"][0]:
        table.add_column(name, justify="left" if name in ("domain", "fold") else "right")
    for row in found["domains"]:
        table.add_row(
            *(
                f"{v:,}" if isinstance(v, int) else f"{v:.2%}" if isinstance(v, float) else printable(v)
                for v in row.values()
            )
        )
    out.print(table)
    out.print(found["summary"], highlight=False, soft_wrap=True)
