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
  lab report quick --log --figure quick.svg
  lab report quick --profile"""


def draw_report(
    run: RunName,
    figure: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="A .png, .svg or .pdf file (default: figure.png or profile.png in the run's folder)."
        ),
    ] = None,
    log: Annotated[bool, typer.Option("--log", help="Draw perplexity on a logarithmic axis.")] = False,
    profile: Annotated[
        bool, typer.Option("--profile", help="Draw tail loss against memorisation, a point per generation.")
    ] = False,
    checkpoints: Checkpoints = Path("checkpoints"),
) -> None:
    """Draw the run over its generations.

    Four panels: perplexity, loss in rare and in common words, survival of rare words, diversity.
    """
    from lab.report import figure as drawing
    from lab.report import tension
    from lab.report.tables import listed

    if log and profile:
        raise InputError("--log is for the panel of perplexity, and the figure of --profile has none")
    folder = folder_of(run, checkpoints)
    config, rows = folder.config(), measured_rows(folder)
    path = figure or folder.path / ("profile.png" if profile else "figure.png")
    if not path.absolute().parent.is_dir():
        raise InputError(f"figure {path}: there is no folder {path.parent}")
    seeds = sorted({row["seed"] for row in rows})
    named = f"seed{'s' if len(seeds) > 1 else ''} {listed(seeds)}"
    heading = f"{config.name}: {printable(config.corpus.title)}, {named}"
    if profile:
        bars = "bars: " if len(seeds) > 1 else ""
        tension.figure(rows, f"{heading}; {bars}{tension.intervals(rows)}", path)
    else:
        drawing.figure(rows, heading, path, log=log)
    say(str(path))
