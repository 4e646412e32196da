"""What the commands share: the options they name alike, the two consoles, and how a table is printed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

BAD_INPUT, FAILED, STOPPED = 2, 1, 75


out = Console(markup=False, emoji=False)
err = Console(stderr=True, markup=False, emoji=False)

StudyName = Annotated[str, typer.Argument(metavar="STUDY", help="A shipped study (smoke, quick ...) or a YAML file.")]
RunName = Annotated[str, typer.Argument(metavar="RUN", help="The name of a run, or its folder.")]
Overrides = Annotated[list[str] | None, typer.Option("--set", metavar="A.B=C", help="Override a field; repeatable.")]
Name = Annotated[str | None, typer.Option("--run", help="The run's name (default: the study's).")]
Checkpoints = Annotated[Path, typer.Option(help="Where runs and the store live.")]
Workers = Annotated[
    int | None, typer.Option(min=0, max=1024, help="Worker processes (default: cores // threads; 0: in-process).")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def wide_console() -> Console:
    """The terminal, or where there is none a page of 200 characters."""
    return out if out.is_terminal else Console(width=200, markup=False, emoji=False)


def plain_table(heading: Sequence[str], cells: Sequence[Sequence[str]], bad: Sequence[bool] = ()) -> Table:
    """Numbers to the right, words to the left, `bad` lines in red."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for column, name in enumerate(heading):
        numeric = all(row[column][:1].isdigit() or row[column][:1] in "-+" for row in cells)
        table.add_column(name, justify="right" if numeric else "left")
    for index, row in enumerate(cells):
        table.add_row(*row, style="red" if index < len(bad) and bad[index] else None)
    return table


def print_results(rows: list[dict[str, Any]], graph: Any, titles: Mapping[str, str]) -> bool:
    """What exact theory says of the run, where it says anything, else the table; False where theory is contradicted."""
    from lab.report import exact
    from lab.report.tables import caption, headline_of

    found = exact.compare(graph, rows)
    if not found:
        print_table(rows, headline_of(rows, graph.config.corpus.kind), graph.config, titles)
        if graph.config.corpus.kind == "source" and len(graph.config.seeds) == 1:
            out.print("exact theory: not compared, an interval needs at least 2 seeds", highlight=False)
        return True
    shown = exact.last(found)
    console = wide_console()
    bad = [not row.agrees for row in shown]
    console.print(plain_table(exact.HEADING, [exact.cells(row) for row in shown], bad))
    console.print(caption(graph.config, rows), style="dim", highlight=False, soft_wrap=True)
    console.print(exact.summary(found), highlight=False, soft_wrap=True)
    return all(row.agrees for row in found)


def print_table(rows: list[dict[str, Any]], metrics: Sequence[str], config: Any, titles: Mapping[str, str]) -> None:
    from lab.report.tables import caption, rich_table

    console = wide_console()
    console.print(rich_table(rows, metrics, console.width, titles))
    console.print(caption(config, rows), style="dim", highlight=False, soft_wrap=True)


def print_timings(folder: Path, as_json: bool) -> None:
    from lab.run import timings

    found = timings.time_by_kind(timings.read(folder))
    outside = timings.overhead(found)
    if as_json:
        out.print_json(data={"timings": [timing.__dict__ for timing in found], "outside_kernels": outside})
        return
    head = ("step", "done", "worker seconds", "share")
    lines = [(t.step, f"{t.count:,}", f"{t.seconds:,.1f}", f"{t.share:.1%}") for t in found]
    out.print(plain_table(head, lines))
    out.print(f"outside of {', '.join(timings.KERNELS)}: {outside:.1%} of the workers' time", highlight=False)


def print_sizes(sizes: dict[str, dict[str, int]]) -> None:
    """Bytes by kind, of the run and of the whole store."""
    from lab.store.space import megabytes

    for whose, kinds in sizes.items():
        parts = ", ".join(f"{kind} {megabytes(size)}" for kind, size in kinds.items() if size)
        out.print(f"{whose}: {megabytes(sum(kinds.values()))} ({parts})", highlight=False, soft_wrap=True)


def folder_of(run: str, checkpoints: Path) -> Any:
    from lab.run.folder import RunFolder

    given = Path(run)
    return RunFolder(given if (given / "config.yaml").exists() else checkpoints / run)
