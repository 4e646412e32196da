"""`lab new`: write the file of a study of your own, with a comment on each field and sizes that fit your text."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lab.cli.terminal import options_named, say
from lab.errors import InputError

if TYPE_CHECKING:
    from lab.config.text import CorpusConfig

EXAMPLES = """\b
Examples:
  lab new my-study.yaml --corpus my-text.txt
  lab new my-study.yaml --corpus tales.jsonl --text body --group author"""
OPTIONS = {"path": "--corpus", "text": "--text", "group": "--group"}
"""Field of `corpus` -> the option of this command."""
ROW = 128
"""Tokens in a row of the written study; sizes are whole rows."""
BYTES = 6
"""Bytes of text per token, more than the tokenizer of the written study reaches on prose, so that the text suffices."""
COLUMN = 33
"""Column of the comments of other fields than the template's."""
FEW, PIECES = 40, (2_000, 200)
"""Where there are FEW documents or fewer, they are cut into pieces: the most and the least characters of one."""


def write_study(
    file: Annotated[Path, typer.Argument(metavar="[FILE]", help="The YAML file to write.")] = Path("my-study.yaml"),
    corpus: Annotated[
        str | None, typer.Option(metavar="PATH", help="Your text: a file, a folder or a hub id (default: the lab's).")
    ] = None,
    text: Annotated[str, typer.Option(metavar="COLUMN", help="Name of the text column.")] = "text",
    group: Annotated[str | None, typer.Option(metavar="COLUMN", help="Column of what belongs together.")] = None,
) -> None:
    """Write the file of a study of your own: every needed field, with a comment, and sizes that fit the text.

    It runs as it is.  A file that is there is not changed.
    """
    from lab.config.files import STUDIES, load_study

    if file.suffix not in (".yaml", ".yml"):
        raise InputError(f"{file} does not end in .yaml: lab new {file}.yaml writes a study")
    if corpus is None and (text != "text" or group is not None):
        raise InputError("--text and --group name columns of your text: give it too, with --corpus")
    template = written = (STUDIES / "_new.yaml").read_text(encoding="utf-8")
    if corpus is not None:
        with options_named(OPTIONS):
            written = _fitted(template, {"path": corpus, "text": text, "group": group})
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", file.stem).lstrip("_.-")[:64]
    name = "mine" if name.lower() in ("", "store") else name
    written = written.replace("name: mine", f"name: {name}", 1).replace("checkpoints/mine", f"checkpoints/{name}")
    try:
        with file.open("x", encoding="utf-8") as new:
            new.write(_aligned(written, template))
    except FileExistsError:
        raise InputError(f"{file} is there already, and lab new changes no file: give another name") from None
    except FileNotFoundError:
        raise InputError(f"{file}: there is no folder {file.parent}: make it, or give another name") from None
    load_study(str(file))
    say(f"{file} is written: every needed field, with a comment\nlab plan {file}    what it takes\nlab run {file}")


def _aligned(text: str, template: str) -> str:
    """Return the text with each comment in the column in which it stands in the template."""
    columns = {line.partition("# ")[2]: line.index("# ") for line in template.splitlines() if "# " in line}
    lines = []
    for line in text.splitlines():
        fields, mark, comment = line.partition(" # ")
        width = columns.get(comment, COLUMN) - 1
        lines.append(f"{fields.rstrip():<{width}}{mark}{comment}" if mark else line)
    return "\n".join(lines) + "\n"


def _fitted(template: str, columns: Mapping[str, Any]) -> str:
    """Return the template for another text: its path and columns, pieces where it has few documents, and sizes."""
    from lab.config.files import parse_corpus
    from lab.text.files import find_files

    config = parse_corpus({**columns, "tokens": 1})
    if not find_files(config).files:  # a data set of the hub, whose size is unknown until it is read
        return _with_corpus(template, config)
    config, held = _measured(config)
    whole = {fold: size // BYTES // ROW * ROW for fold, size in held.items()}
    human, validation, test = whole["train"] // (2 * ROW) * ROW, whole["validation"], whole["test"]
    if not min(human, validation, test):
        raise InputError(
            f"{config.path} is too short for a study: of its {sum(held.values()):,} bytes {held['validation']:,} are "
            f"for validation and {held['test']:,} for tests, and each takes {BYTES * ROW:,} or more: give more text"
        )
    sizes = {"51_200": human, "102_400": 2 * human, "65_536": test, "8_192": validation}
    sizes = {old: min(int(old), new) for old, new in sizes.items()}
    return re.sub("|".join(sizes), lambda found: f"{sizes[found[0]]:_}", _with_corpus(template, config))


def _measured(config: CorpusConfig) -> tuple[CorpusConfig, dict[str, int]]:
    """Return the corpus, cut into pieces where it has few documents, and the bytes of text in each fold."""
    from lab.text.corpus import SHARES, read_documents, text_bytes

    documents = None
    try:
        documents = read_documents(config)
    except InputError:  # it may be a single document, which no folds can be made of
        if config.group is not None:
            raise
    if documents is None or (config.group is None and len(documents) <= FEW):
        longest, shortest = PIECES
        config = config.model_copy(update={"piece": max(shortest, min(longest, text_bytes(config) // 100))})
        documents = read_documents(config)
    held = dict.fromkeys(SHARES, 0)
    for fold, text in zip(documents["fold"].to_pylist(), documents["text"].to_pylist(), strict=True):
        held[fold] += len(text.encode())
    return config, held


def _with_corpus(template: str, config: CorpusConfig) -> str:
    """Return the template with the lines of another corpus."""
    comments = {
        "path": "your text",
        "text": "column with the text",
        "group": "column: texts of one group stay on one side of a split",
        "piece": "characters: the documents are few, and are cut into pieces of this length",
    }
    given = {name: getattr(config, name) for name in comments}
    lines = [
        f"  {name}: {json.dumps(value, ensure_ascii=False)} # {comments[name]}\n"
        for name, value in given.items()
        if value is not None and (name, value) != ("text", "text")
    ]
    start = template.index("  path:")
    return template[:start] + "".join(lines) + template[template.index("  tokens:", start) :]
