"""`lab remedies`: what each remedy of a run saves, and what it costs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lab.cli.terminal import AsJson, Checkpoints, folder_of, print_json, print_titled, say
from lab.errors import InputError

EXAMPLES = """\b
Examples:
  lab remedies remedies-mini
  lab remedies remedies-mini --format csv
  lab remedies web-mini --figure web.png"""


def print_remedies(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The name of a run, or its folder.")],
    format_: Annotated[str | None, typer.Option("--format", metavar="KIND", help="md, csv or latex.")] = None,
    figure: Annotated[Path | None, typer.Option(help="Also draw loss and purity: a .png, .svg or .pdf.")] = None,
    as_json: AsJson = False,
    checkpoints: Checkpoints = Path("checkpoints"),
) -> None:
    """Say what each remedy of a run saves and costs: every arm of a sweep against the human control.

    The control is the regime human of an arm without remedies and with the same decoding.
    """
    from lab.loop import build
    from lab.report import remedies as shown
    from lab.report.tables import caption
    from lab.run.folder import to_csv
    from lab.run.remedies import remedies
    from lab.run.text_notes import text_notes

    if format_ not in (None, "md", "csv", "latex"):
        raise InputError(f'remedies are printed plain, or as md, csv, latex or --json, not as "{format_}"')
    if as_json and format_ is not None:
        raise InputError(f"--json and --format {format_} are two formats: give one")
    folder = folder_of(run, checkpoints)
    config = folder.config()
    study = build(config, folder.machine(), folder.content())
    (found, left), asked = remedies(study, folder), shown.thresholds_of(config)
    if figure is not None:
        shown.figure(found, f"{config.name}: {shown.basis(found)}", figure)
    rows = shown.tidy(found, asked)
    if as_json:
        print_json(rows)
    elif format_ == "csv":
        typer.echo(to_csv(rows, list(dict.fromkeys(key for row in rows for key in row))), nl=False)
    else:
        for title, heading, cells in shown.tables(found, asked):
            print_titled(title, heading, cells, format_)
        for line in (*shown.sentences(found), ""):
            say(line)
        if left:
            say(f"left out, as no human control is like them in all but the remedy: {', '.join(left)}", "dim")
        for line in (*shown.NOTES, shown.basis(found), caption(config, folder.results(), text_notes(folder))):
            say(line, "dim")
