"""Parts that the commands share: options, exit codes, the two consoles, and printing of tables.

Heavy libraries are imported inside functions, so that `lab --help` answers at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lab.errors import InputError

BAD_INPUT, FAILED, STOPPED = 2, 1, 75
"""Exit codes.  75 asks a batch system to run the same command again (EX_TEMPFAIL)."""
PAGE = 200
"""Characters of a line where there is no terminal and COLUMNS is not set."""

FIELD = re.compile(r"\bcorpus\.(splits\.column|\w+)\b(?:=(\w+))?")
"""A field of `corpus` in a message, and its value."""

out = Console(markup=False, emoji=False, highlight=False)
err = Console(stderr=True, markup=False, emoji=False, highlight=False)

StudyName = Annotated[
    str | None,
    typer.Argument(metavar="[STUDY]", help="A shipped study (smoke, quick ...) or a YAML file.  Without it: a list."),
]
RunName = Annotated[str, typer.Argument(metavar="RUN", help="The name of a run, or its folder.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="Override a field of the study: train.lr=0.001.  Repeatable."),
]
Name = Annotated[
    str | None, typer.Option("--run", metavar="NAME", help="Name of the run (default: the name of the study).")
]
Checkpoints = Annotated[Path, typer.Option(metavar="DIR", help="Folder of the runs and of the store.")]
Workers = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=1024,
        metavar="N",
        help="Worker processes (default: cores // threads, on a GPU 1).  0: run the steps in this process.",
    ),
]
Fresh = Annotated[
    list[str] | None,
    typer.Option(
        "--fresh",
        metavar="STEP",
        help="Run steps of this kind again if the lab's code for them has changed.  Repeatable.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def one_format(as_json: bool, format_: str | None) -> str | None:
    """Return the form that is asked for, "json" for --json.  InputError: --json and another form are both given."""
    if as_json and format_ not in (None, "json"):
        raise InputError(f"--json and --format {format_} are two forms of one answer; give one of them")
    return "json" if as_json else format_


def say(text: str | Text, style: str | None = None, *, to: Console | None = None) -> None:
    """Print text, which a user may have written, as it is.  On a terminal it is wrapped at words."""
    console = to or out
    if isinstance(text, Text):
        return console.print(text, soft_wrap=not console.is_terminal)
    if console.is_terminal:  # long words, such as paths, stay whole
        wrapper = textwrap.TextWrapper(console.width, break_long_words=False, break_on_hyphens=False)
        text = "\n".join(wrapper.fill(line) for line in text.split("\n"))
    console.print(text, style=style, soft_wrap=True)


def warn(text: str, style: str | None = None) -> None:
    """Print text to standard error."""
    say(text, style, to=err)


@contextlib.contextmanager
def options_named(options: Mapping[str, str]) -> Iterator[None]:
    """Let the message of an InputError name the options of a command instead of fields of `corpus`.

    corpus.piece=8000 becomes --piece 8000.  A field that the command has no option for stays as it is.

    Args:
        options: field of `corpus` -> what is typed for it.
    """

    def typed(field: re.Match[str]) -> str:
        return field[0] if field[1] not in options else options[field[1]] + (f" {field[2]}" if field[2] else "")

    try:
        yield
    except InputError as error:
        raise InputError(FIELD.sub(typed, str(error))) from error


def print_json(data: Any) -> None:
    """Print data as JSON to standard output."""
    typer.echo(json.dumps(data, indent=1))


def wide_console(page: int = PAGE) -> Console:
    """Return the console for tables: the terminal, or `page` characters where there is none."""
    return out if out.is_terminal or "COLUMNS" in os.environ else Console(width=page, markup=False, emoji=False)


def folder_of(run: str, checkpoints: Path) -> Any:
    """Return the folder of a run, given its name or a path."""
    from lab.run.folder import RunFolder

    given = Path(run)
    return RunFolder(given if (given / "config.yaml").exists() else checkpoints / run)


def measured_rows(folder: Any) -> list[dict[str, Any]]:
    """Return the rows of results.csv.  InputError where no generation is measured yet."""
    rows: list[dict[str, Any]] = folder.results()
    if not rows:
        raise InputError(f"{folder.path} has no generation measured yet; lab run continues it")
    return rows


def worker_count(asked: int | None, device: str, threads: int) -> int:
    """Return the number of worker processes: usable cores // threads; 1 on a GPU, because its steps would share it."""
    from lab import machine

    if asked is not None:
        return asked
    return 1 if device == "cuda" else max(1, machine.usable_cores() // threads)


def print_table(
    heading: Sequence[str],
    cells: Sequence[Sequence[str]],
    bad: Sequence[bool] = (),
    styled: Callable[[str], Text] = Text,
) -> None:
    """Print a table without lines: numbers to the right, words to the left, `bad` rows in red."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for column, name in enumerate(heading):
        numeric = all(row[column][:1].isdigit() or row[column][:1] in "-+" for row in cells)
        table.add_column(name, justify="right" if numeric else "left")
    for index, row in enumerate(cells):
        table.add_row(*map(styled, row), style="red" if index < len(bad) and bad[index] else None)
    wide_console().print(table)


def print_cells(heading: list[str], cells: list[list[str]], kind: str | None) -> None:
    """Print cells as Markdown (`kind` is "md") or for a terminal (None).  InputError for another kind."""
    from lab.report.render import markdown, markdown_table
    from lab.report.tables import styled

    if kind == "md":
        typer.echo(markdown_table([markdown(name) for name in heading], cells))
    elif kind is None:
        print_table(heading, cells, styled=styled)
    else:
        raise InputError(f'this table is printed plain or as md, not as "{kind}"')


def parts(heading: list[str], cells: list[list[str]], width: int) -> list[list[list[str]]]:
    """Return a table as tables that fit into `width`: each has the first column, and together they have all others."""
    widths = [max(map(cell_len, column)) + 2 for column in zip(heading, *cells, strict=True)]
    groups: list[list[int]] = [[]]
    for index in range(1, len(heading)):
        if groups[-1] and widths[0] + sum(widths[i] for i in (*groups[-1], index)) - 2 > width:
            groups.append([])
        groups[-1].append(index)
    return [[[row[i] for i in (0, *group)] for row in (heading, *cells)] for group in groups]


def print_titled(title: str, heading: list[str], cells: list[list[str]], kind: str | None) -> None:
    """Print a table under its title, as `print_cells` does; where it is too wide for a terminal, in several parts."""
    from lab.report.render import markdown

    if kind == "md":
        typer.echo(f"**{markdown(title)}**\n")
    elif kind is None:
        say(title, "bold")
    fitting = parts(heading, cells, wide_console().width) if kind is None else [[heading, *cells]]
    for head, *body in fitting:
        print_cells(head, body, kind)
    if kind is None:
        say("")


def print_exact(rows: list[dict[str, Any]], graph: Any) -> bool | None:
    """Print the comparison with exact theory.

    Returns:
        Whether all numbers agree; None where theory says nothing of this run, and nothing is printed.
    """
    from lab.checks.exact import compare
    from lab.report import exact
    from lab.report.tables import caption

    compared = compare(graph, rows)
    if not compared:
        return None
    shown = exact.last(compared)
    print_table(exact.HEADING, [exact.cells(row) for row in shown], [not row.agrees for row in shown])
    say(caption(graph.config, rows, against=None), "dim")
    say(exact.summary(compared))
    return all(row.agrees for row in compared)


def note_untested(config: Any) -> None:
    """Say why a run on a known source is not compared with exact theory, where one more seed would allow it."""
    if config.corpus.kind == "source" and len(config.seeds) == 1:
        say("exact theory: not compared, an interval needs at least 2 seeds")


def note_files(config: Any) -> None:
    """Say which files of a corpus folder are read and which are left out."""
    from lab.config.sweep import arms
    from lab.text.files import find_files

    corpora = {arm.config.corpus.path: arm.config.corpus for arm in arms(config) if arm.config.corpus.kind == "text"}
    for path, corpus in corpora.items():
        found = find_files(corpus)
        if found.left or len(found.files) > 1:
            warn(f"note: corpus {path}: {found.line()}")


def note_overlap(graph: Any, store: Any) -> None:
    """Say what the held-out folds of a corpus that comes with its own splits share with its train fold."""
    from lab.metrics.contamination import shared_line
    from lab.steps.text import CORPUS, OVERLAP

    for step in graph.steps:
        if step.name == CORPUS.name and step.params["corpus"].get("splits"):
            found = json.loads((store.folder(step.name, step.key) / OVERLAP).read_text(encoding="utf-8"))
            warn(f"note: corpus {step.where['path']} comes with its own splits: {shared_line(found)}")
