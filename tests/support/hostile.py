"""Hostile input for the tests and for scripts/checks/fuzz, and how the lab must end on it.

A good end is exit code 2 with one line that begins with "error: ", nothing on stdout and no file written, or exit
code 0 where the test allows it.  A traceback, another exit code, a changed file, or an executed payload is a bad end.
"""

import contextlib
import functools
import io
import json
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import typer.main

from lab.cli.app import main
from support.tiny import listing

TRAP = "executed"
"""Name of the file that every payload would create in the working directory."""


@dataclass(frozen=True)
class End:
    """How one call of the command line ended."""

    code: int
    out: str
    err: str
    unchanged: bool
    """Whether every file of the working directory is as before."""
    sprung: bool
    """Whether a payload was executed."""

    def fault(self, ends: tuple[int, ...] = (2,)) -> str:
        """Return what is bad about this end, or an empty text; `ends` are the allowed exit codes."""
        if self.sprung:
            return "the payload was executed"
        if self.code not in ends:
            return f"exit code {self.code}: {self.err[-300:]}"
        if self.code == 2:
            one_line = len(self.err.splitlines()) == 1 and self.err.startswith("error: ") and len(self.err) < 1500
            if not one_line or self.out:
                return f"not one line: {self.out[:200]!r} {self.err[:300]!r}"
            if not self.unchanged:
                return "files were written"
            if not self.err.rstrip("\n").isprintable():
                return f"unprintable: {self.err!r}"
        return ""


COMMAND = functools.cache(typer.main.get_command)
"""What typer makes of the functions of the commands: once, since it takes as long as a refusal."""


def call(*arguments: str | Path, cwd: Path) -> End:
    """Run the command line in this process.  An exception that escapes from it counts as exit code 1."""
    before, here = listing(cwd), os.getcwd()
    out, err = io.StringIO(), io.StringIO()
    code: Any = 0
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        mock.patch.object(sys, "argv", ["lab", *map(str, arguments)]),
        mock.patch.object(signal, "signal", lambda *_: None),
        mock.patch.object(typer.main, "get_command", COMMAND),
    ):
        os.chdir(cwd)
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        except BaseException as error:
            code = 1
            err.write(f"{type(error).__name__}: {error}")
        finally:
            os.chdir(here)
    return End(code, out.getvalue(), err.getvalue(), listing(cwd) == before, (cwd / TRAP).exists())


VALUES = (
    *(
        "1000000000000",
        "1" + "0" * 30,
        "9" * 3000,
        "9" * 5000,
        "0x" + "f" * 5000,
        "-1",
        "0",
        "1e400",
        "1e308",
        "1e-320",
    ),
    *(".nan", ".inf", "-.inf", "true", "null", "[]", "{}", "[[1]]", "{a: 1}", "{a: 1, a: 2}", '"x"', '""', '"\\0"'),
    *('"\\ud800"', '"\\u202e"', '"\\e[2J"', '"' + "y" * 5000 + '"', "2024-01-01", "2024-13-45", "1:30:00", "&a [*a]"),
    *("!!python/name:os.system", f"!!python/object/apply:os.system [touch {TRAP}]", "!!binary aGk=", "!!set {1}"),
    *("=", "*a", "<<", "? x", "%", "@", "`", "'", "[1", "|", "!", "..", "../../x", "/dev/zero", f"$(touch {TRAP})"),
    *("--help", "日本"),
)
"""Values for a field: wrong types, huge and broken numbers, broken YAML, tags that would run code."""
EXTRA = (
    *("note", "published", "sweep", "population", "compute.threads", "seeds.0", "regimes.0", "nonsense", "..", "a.b.c"),
    *("corpus.piece", "corpus.archive_tokens", "corpus.layout", "corpus.kind", "corpus.text", "corpus.revision"),
    *("model.kind", "model.path", "model.initializer_range", "tokenizer.pretrained", "train.epochs", "train.steps"),
    *("train.warmup", "train.beta1", "train.clip", "train.start", "train.lora", "train.base", "train.lora.rank"),
    *("sample.rows", "sample.temperature", "sample.top_k", "sample.top_p", "sample.beams", "sample.prompt_tokens"),
)
"""Fields besides those that a tiny study sets."""


def fields(study: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the dotted names of all fields."""
    for name, value in study.items():
        yield prefix + name
        if isinstance(value, Mapping):
            yield from fields(value, f"{prefix}{name}.")


def bomb(name: str, levels: int = 9) -> str:
    """Return a few lines of YAML that stand for 9^levels values: nine aliases of nine aliases ("billion laughs")."""
    lines = [f"{name}: &a0 [x,x,x,x,x,x,x,x,x]"]
    lines += [f"{name}{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]" for i in range(1, levels)]
    return "\n".join(lines) + "\n"


def edit(path: Path, **entries: Any) -> None:
    """Change entries of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


class Payload:
    """An object that creates the trap file when it is unpickled."""

    def __reduce__(self) -> Any:
        return open, (TRAP, "w")
