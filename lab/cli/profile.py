"""`lab profile`: the eight definitions of model collapse, for every regime of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from lab.cli.terminal import (
    FAILED,
    STOPPED,
    Checkpoints,
    Workers,
    err,
    folder_of,
    one_format,
    print_json,
    print_titled,
    say,
    warn,
    worker_count,
)
from lab.errors import InputError, Stopped

EXAMPLES = """\b
Examples:
  lab profile quick
  lab profile quick --set profile.thresholds.catastrophic=0.25
  lab profile quick --format md
  lab profile --definitions"""


def print_profile(
    run: Annotated[str | None, typer.Argument(metavar="RUN", help="The name of a run, or its folder.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="A field of the section profile.  Repeatable."),
    ] = None,
    definitions: Annotated[bool, typer.Option("--definitions", help="Print the definitions and their papers.")] = False,
    format_: Annotated[
        str | None,
        typer.Option("--format", metavar="KIND", help="md, csv (the findings alone) or latex (the grid alone)."),
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print JSON of two lists: findings, and points of tails against memorisation."),
    ] = False,
    workers: Workers = None,
    checkpoints: Checkpoints = Path("checkpoints"),
) -> None:
    """Say by which of the eight published definitions each regime has collapsed.

    What is missing is measured first.  No model of a generation is trained again.

    A finding is one definition for one regime.  A point is one generation in the figure that lab report RUN --profile
    draws; points have no verdict and are in --json, in a list of their own.
    """
    from lab.report import profile as shown

    if definitions:
        for line in shown.definitions():
            say(line)
        return
    if run is None:
        raise InputError("which run?  Name one, such as lab profile quick; lab status lists them")
    if format_ not in (None, "md", "csv", "latex"):
        raise InputError(f'a profile is printed plain, or as md, csv, latex or --json, not as "{format_}"')
    kind = one_format(as_json, format_)
    folder = folder_of(run, checkpoints)
    _check_regimes(folder)
    found, config, rows, failed = _measure(folder, set_ or [], workers)
    if kind in ("json", "csv", "latex"):
        _print_file(found, rows, kind)
    else:
        _print(found, config, rows, folder, kind)
    if failed:
        warn(f"a step failed; details: {folder.path / 'failures.jsonl'}")
    raise typer.Exit(FAILED if failed else 0)


def _check_regimes(folder: Any) -> None:
    """Raise InputError if there is nothing to compare with the control, before anything is measured."""
    from lab.config.sweep import arms
    from lab.run.profile import CONTROL

    config = folder.config()
    if all(regime.label == CONTROL for arm in arms(config) for regime in arm.config.regimes):
        raise InputError(f"{folder.path} has only its control, the regime human: add another regime to compare with it")


def _measure(folder: Any, overrides: Sequence[str], workers: int | None) -> tuple[Any, Any, Any, bool]:
    """Do the missing steps of the profile.  Return profiles, study, rows of results.csv, and whether a step failed."""
    from lab.report.profile import save
    from lab.run.executors import execute
    from lab.run.plan import Estimator
    from lab.run.profile import affordable, profiled_study, profiles
    from lab.run.progress import RunProgress
    from lab.run.signals import StopSignals
    from lab.run.worker import Wishes

    stopping = StopSignals()
    study, store = profiled_study(folder, _asked(folder.config(), overrides)), replace(folder.store, note=warn)
    steps = affordable(study, store)
    count = worker_count(workers, study.machine.device, study.machine.threads)
    try:
        with RunProgress(
            steps, Estimator(store, study.machine.device, count), count, folder.path, err, lambda step: None
        ) as progress:
            failures = execute(
                store,
                steps,
                progress,
                workers=count,
                threads=study.machine.threads,
                fresh=frozenset(),
                log=folder.path / "workers.log",
                wishes=Wishes(stopping, study.config.compute.checkpoint_seconds),
            )
    except (KeyboardInterrupt, Stopped):
        warn("stopped; nothing that was measured is lost: run the same command again to continue")
        raise typer.Exit(STOPPED) from None
    found = profiles(study, store)
    if not found and not failures:
        raise InputError(f"{folder.path} has measured its control alone so far; lab run continues it")
    if not failures:
        folder.widen(study)
        save(found, folder.path / "profile.csv")
    return found, study.config, folder.results(), bool(failures)


def _asked(config: Any, overrides: Sequence[str]) -> Any:
    """Return the section `profile` that is asked for; None where nothing is.  InputError: another field, or a fault."""
    from lab.config.files import overridden
    from lab.steps.evidence.labels import check_labels

    if wrong := [each for each in overrides if not each.startswith("profile.")]:
        raise InputError(f"{wrong[0]}: lab profile sets fields of the section profile only, such as profile.judge")
    if not overrides:
        return None
    changed = overridden(config, overrides)
    check_labels(changed)
    return changed.profile


def _print(found: Sequence[Any], config: Any, rows: Any, folder: Any, kind: str | None) -> None:
    from lab.report import memory, tension
    from lab.report import profile as shown
    from lab.report.tables import caption
    from lab.run.text_notes import text_notes

    for arm, profiles in shown.by_arm(found).items():
        print_titled(", ".join(filter(None, (f"Collapse profile of {config.name}", arm))), *shown.grid(profiles), kind)
    say(shown.LEGEND, "dim")
    for profile in found:
        _print_regime(profile, kind)
    heading, tails = memory.memorisation(found)
    if tails:
        say("")
        print_titled("Tails against memorisation, mean of the seeds at the last generation", heading, tails, kind)
    heading, points = tension.table(rows)
    if points:
        say("")
        title = f"Each generation: tail loss against memorisation; {tension.intervals(rows)}"
        print_titled(title, heading, points, kind)
        say(f"{tension.NOTE}; lab report RUN --profile draws it", "dim")
    say("")
    say("; ".join(filter(None, (shown.statement(found), shown.judge_note(config)))), "dim")
    say(caption(config, rows, text_notes(folder)), "dim")


def _print_regime(profile: Any, kind: str | None) -> None:
    """Print what was found of one regime, and what stands beside it without a verdict."""
    from lab.report import memory
    from lab.report import profile as shown

    seeds = len(profile.chains.seeds)
    say("")
    print_titled(shown.name(profile), shown.of_seeds(shown.HEADING, seeds), shown.cells(profile), kind)
    for line in shown.sentences(profile):
        say(line)
    if line := shown.power_line(profile):
        say(line, "dim")
    if beside := shown.beside(profile):
        say("")
        title = f"{shown.name(profile)}: shown beside, without a verdict"
        print_titled(title, shown.of_seeds(shown.BESIDE_HEADING, seeds), beside, kind)
    if written := shown.written(profile):
        title = f"{shown.name(profile)}: share of the written words by their copies in human training text (7)"
        print_titled(title, shown.WRITTEN_HEADING, written, kind)
    for column, (cells, small) in shown.harm(profile).items():
        if cells:
            title = f"{shown.name(profile)}: whose text disappears, by {column}, against the control"
            print_titled(title, shown.of_seeds(shown.HARM_HEADING, seeds), cells, kind)
        if small:
            say(f"too little text to say, by {column}: {', '.join(small)}", "dim")
    if drawn := memory.telephone(profile):
        heading = shown.of_seeds(memory.TELEPHONE_HEADING, seeds)
        print_titled(f"{shown.name(profile)}: the telephone view", heading, drawn, kind)
        say(memory.TELEPHONE_NOTE, "dim")
    elif why := memory.untold(profile):
        say(f"{shown.name(profile)}: the telephone view is not measured: {why}", "dim")


def _print_file(found: Sequence[Any], rows: Any, kind: str) -> None:
    """Print the findings: as JSON with the points in a list beside them, as CSV alone; of LaTeX the grid alone."""
    from lab.report import profile as shown
    from lab.report import tension
    from lab.report.render import latex

    if kind == "json":
        print_json({"findings": shown.tidy(found), "points": tension.tidy(rows)})
    elif kind == "csv":
        typer.echo(shown.as_csv(shown.tidy(found)), nl=False)
    else:  # the grid: a paper's table has no room for sentences
        heading, cells = shown.grid(found)
        head, *body = (" & ".join(map(latex, row)) + r" \\" for row in (heading, *cells))
        lines = [f"\\begin{{tabular}}{{{'l' * len(heading)}}}", r"\toprule", head, r"\midrule", *body, r"\bottomrule"]
        typer.echo("\n".join([*lines, r"\end{tabular}"]))
