"""`lab corpus`: what is in a corpus."""

from __future__ import annotations

from typing import Annotated

import typer

from lab.cli.terminal import AsJson, print_json, print_table, say
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
        print_json(described)
    else:
        print_table(list(described["domains"][0]), [list(map(_cell, row.values())) for row in described["domains"]])
        say(described["summary"])


def _cell(value: int | float | str) -> str:
    if isinstance(value, str):
        return printable(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.2%}"
