"""`lab report`: the figure of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lab.cli.terminal import Checkpoints, RunName, folder_of, measured_rows, say
from lab.errors import InputError, printable

EXAMPLES = """\b
Examples:
  lab report quick
  lab report quick --log --figure quick.svg"""


def draw_report(
    run: RunName,
    figure: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A .png, .svg or .pdf file (default: figure.png in the run's folder)."),
    ] = None,
    log: Annotated[bool, typer.Option("--log", help="Draw perplexity on a logarithmic axis.")] = False,
    checkpoints: Checkpoints = Path("checkpoints"),
) -> None:
    """Draw the run over its generations.

    Four panels: perplexity, loss in rare and in common words, survival of rare words, diversity.
    """
    from lab.report import figure as drawing
    from lab.report.tables import listed

    folder = folder_of(run, checkpoints)
    config, rows = folder.config(), measured_rows(folder)
    path = figure or folder.path / "figure.png"
    if not path.absolute().parent.is_dir():
        raise InputError(f"figure {path}: there is no folder {path.parent}")
    seeds = sorted({row["seed"] for row in rows})
    named = f"seed{'s' if len(seeds) > 1 else ''} {listed(seeds)}"
    drawing.figure(rows, f"{config.name}: {printable(config.corpus.title)}, {named}", path, log=log)
    say(str(path))
