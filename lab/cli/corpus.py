"""`lab corpus`: what is in a corpus."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.table import Table

from lab.cli.terminal import AsJson, out, say
from lab.errors import printable

EXAMPLES = """\b
Examples:
  lab corpus my-texts/
  lab corpus books.jsonl --text body --domain genre --group book"""


def describe_corpus(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A file, a folder or a hub id.")],
    text: Annotated[str, typer.Option(metavar="COLUMN", help="Name of the text column.")] = "text",
    domain: Annotated[str | None, typer.Option(metavar="COLUMN", help="Name of the domain column.")] = None,
    author: Annotated[str | None, typer.Option(metavar="COLUMN", help="Name of the author column.")] = None,
    group: Annotated[str | None, typer.Option(metavar="COLUMN", help="Name of the group column.")] = None,
    piece: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Cut documents into pieces of about N characters.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Describe a corpus: folds, domains, sizes.

    The table includes the overlap of test text with training text.
    """
    from lab.config.files import parse_corpus
    from lab.text.describe import describe

    fields = {"path": path, "text": text, "domain": domain, "author": author, "group": group, "piece": piece}
    described = describe(parse_corpus({**fields, "tokens": 1}))
    if as_json:
        typer.echo(json.dumps(described, indent=1))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in described["domains"][0]:
        table.add_column(name, justify="left" if name in ("domain", "fold") else "right")
    for row in described["domains"]:
        table.add_row(*map(_cell, row.values()))
    out.print(table)
    say(described["summary"])


def _cell(value: int | float | str) -> str:
    if isinstance(value, str):
        return printable(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.2%}"
