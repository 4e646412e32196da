"""`lab corpus`: what is in a corpus."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from lab.cli.terminal import AsJson, options_named, print_json, print_table, say
from lab.errors import InputError, printable

EXAMPLES = """\b
Examples:
  lab corpus my-texts/
  lab corpus books.jsonl --text body --domain genre --group book
  lab corpus wikitext-2-raw/ --splits wiki.train.raw,wiki.valid.raw,wiki.test.raw"""

FIELDS = ("text", "domain", "author", "group", "subset", "split", "splits", "piece")
OPTIONS = {"path": "PATH", "splits.column": "--splits-column"} | {field: f"--{field}" for field in FIELDS}
"""Field of `corpus` -> the option or argument of this command."""


def describe_corpus(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A file, a folder or a hub id.")],
    text: Annotated[str, typer.Option(metavar="COLUMN", help="Name of the text column.")] = "text",
    domain: Annotated[str | None, typer.Option(metavar="COLUMN", help="Name of the domain column.")] = None,
    author: Annotated[str | None, typer.Option(metavar="COLUMN", help="Name of the author column.")] = None,
    group: Annotated[str | None, typer.Option(metavar="COLUMN", help="Name of the group column.")] = None,
    subset: Annotated[str | None, typer.Option(metavar="NAME", help="Configuration of a hub data set.")] = None,
    split: Annotated[str, typer.Option(metavar="NAME", help="Split of a hub data set or a DatasetDict.")] = "train",
    splits: Annotated[
        str | None, typer.Option(metavar="TRAIN,VALIDATION,TEST", help="The corpus's own splits: names or files.")
    ] = None,
    splits_column: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Column that --splits are values of.")
    ] = None,
    piece: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Cut documents into pieces of about N characters.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Describe a corpus: folds, domains, sizes.

    The table includes the overlap of test text with training text.  Below it stand the files that are read and those
    that are left out, and the rows that are left out.
    """
    fields: dict[str, Any] = {
        "path": path,
        "text": text,
        "domain": domain,
        "author": author,
        "group": group,
        "piece": piece,
    }
    fields |= {"subset": subset, "split": split, "splits": _named(splits, splits_column)}
    described = _described(fields)
    lines = described.pop("lines")
    if as_json:
        print_json(described)
        return
    print_table(list(described["domains"][0]), [list(map(_cell, row.values())) for row in described["domains"]])
    for line in lines:
        say(line)
    say(described["summary"])


def _described(fields: dict[str, Any]) -> dict[str, Any]:
    """Describe the corpus of these fields.  A message names the options of this command."""
    from lab.config.files import parse_corpus
    from lab.report.corpus import describe

    with options_named(OPTIONS):
        return describe(parse_corpus({**fields, "tokens": 1}))


def _named(splits: str | None, column: str | None) -> dict[str, str | None] | None:
    """Return corpus.splits for what the options say."""
    if splits is None and column is None:
        return None
    names = (splits or "").split(",")
    if len(names) != 3 or not all(names):
        raise InputError(f"--splits is {splits or 'missing'}: give three names, such as train,validation,test")
    return {**dict(zip(("train", "validation", "test"), names, strict=True)), "column": column}


def _cell(value: int | float | str) -> str:
    if isinstance(value, str):
        return printable(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.2%}"
