"""`lab run`: run a study, or continue it, and print its headline."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import typer

from lab.cli.study import prepare
from lab.cli.terminal import (
    FAILED,
    STOPPED,
    Checkpoints,
    Fresh,
    Name,
    Overrides,
    StudyName,
    Workers,
    err,
    note_files,
    note_overlap,
    note_reads,
    note_untested,
    print_exact,
    say,
    warn,
    wide_console,
    worker_count,
)
from lab.errors import Stopped
from lab.run.signals import StopSignals

EXAMPLES = """\b
Examples:
  lab run smoke
  lab run quick --set seeds=[11,12,13] --run other-seeds
  lab run my-study.yaml --workers 4"""
NARROW, PAGE = 60, 120
"""Characters of a line: tables are at least NARROW wide, and PAGE wide if the width of the output is unknown."""


def run_study(
    study: StudyName = None,
    set_: Overrides = None,
    run_: Name = None,
    workers: Workers = None,
    checkpoints: Checkpoints = Path("checkpoints"),
    fresh: Fresh = None,
) -> None:
    """Run a study, or continue it, and print its results.

    A run that was stopped continues where it was, and steps that another run has done are reused.  A finished run can
    gain seeds, regimes and generations.  Ctrl-C stops a run: a training leaves a checkpoint, other steps end.
    """
    began, stopping = time.monotonic(), StopSignals()
    from lab.run import timings

    graph, folder = prepare(study, set_ or [], run_, checkpoints, fresh or [], aside=True)
    count = worker_count(workers, graph.machine.device, graph.machine.threads)
    before = len(timings.read(folder.path))
    code = _run(graph, folder, count, frozenset(fresh or []), stopping, began)
    if len(timings.read(folder.path)) > before:
        timings.append_program(folder.path, time.monotonic() - began, count)
    raise typer.Exit(code)


def _run(graph: Any, folder: Any, workers: int, fresh: frozenset[str], stopping: StopSignals, began: float) -> int:
    """Work through the steps and print the results.  `began` is the time of the start.  Return the exit code."""
    from lab.run.executors import execute
    from lab.run.live import Live
    from lab.run.plan import Estimator
    from lab.run.preflight import check_base, check_compiler
    from lab.run.progress import RunProgress
    from lab.run.retention import Keeper
    from lab.run.worker import Wishes

    store = replace(folder.store, note=_note)
    wishes = Wishes(stopping, graph.config.compute.checkpoint_seconds)
    try:
        check_base(graph, store)
        check_compiler(graph, store)
        _read_human(store, graph.human)
        _begin(graph, folder, store)
        _note_made_otherwise(store, graph, fresh)
        estimator = Estimator(store, graph.machine.device, workers)
        live = Live(graph, folder).measured
        with RunProgress(graph.steps, estimator, workers, folder.path, err, live) as progress, stopping.gently():
            keeper = Keeper(progress, graph, folder, fresh) if graph.config.keep_models != "all" else None
            failures = execute(
                store,
                graph.steps,
                keeper or progress,
                workers=workers,
                threads=graph.machine.threads,
                fresh=fresh,
                log=folder.path / "workers.log",
                wishes=wishes,
            )
            if keeper is not None:
                keeper.sweep()
    except (KeyboardInterrupt, Stopped):
        warn("stopped; nothing that was finished is lost: run the same command again to continue")
        return STOPPED
    return _finish(graph, folder, store, [step.label for step in failures], time.monotonic() - began)


def _begin(graph: Any, folder: Any, store: Any) -> None:
    """Say what is known of the text, which was read, and write the first files of the run."""
    from lab import machine
    from lab.run.text_notes import VOCABULARY, text_facts, unfilled

    note_files(graph.config)
    note_reads(graph)
    note_overlap(graph, store)
    facts = text_facts(graph, store) + unfilled(graph, store)
    for line in facts:
        _note(line)
    cpu = machine.cpu_name()
    folder.begin(graph, {"versions": machine.versions(), "cpu": cpu, VOCABULARY: facts, **vars(graph.machine)})


def _finish(graph: Any, folder: Any, store: Any, failed: Sequence[str], seconds: float) -> int:
    """Write the tables, and print the results and the seconds that it took.  Return the exit code."""
    from lab.checks import exact
    from lab.run.text_notes import text_notes

    folder.link(graph.generations, store)
    rows = folder.write_tables(graph, store)
    agrees: bool | None = None
    if rows:
        agrees = print_exact(rows, graph)
        if agrees is None:
            _print_headline(rows, graph.config, text_notes(folder))
            note_untested(graph.config)
        _print_profile(graph, store, folder.path / "profile.csv")
        exact.write(folder.path / "exact.csv", exact.compare(graph, rows))
        _print_where(folder.path, seconds, curated=any(each.arm.config.curators for each in graph.generations))
    if failed:
        details = folder.path / "failures.jsonl"
        warn(f"failed: {', '.join(failed)}; details: {details}; the other chains are complete")
    return FAILED if failed or agrees is False else 0


def _print_headline(rows: list[dict[str, Any]], config: Any, notes: Sequence[str]) -> None:
    """Print the last generation on one screen, its reading in words, and the caption."""
    from lab.report.headline import headline, reading
    from lab.report.tables import caption

    table = headline(rows, max(NARROW, wide_console(PAGE).width))
    say(table.title, "bold")
    say(table.heading, "dim")
    for line in table.body:
        say(line)
    say(table.legend, "dim")
    say(f"\n{reading(rows)}\n")
    say(caption(config, rows, notes), "dim")


def _print_profile(graph: Any, store: Any, path: Path) -> None:
    """Print by which definitions each regime has collapsed, where the study has a profile, and write them to `path`."""
    if graph.config.profile is None:
        return
    from lab.report.profile import save, summary
    from lab.run.profile import profiles

    found = profiles(graph, store)
    if not found:
        return
    save(found, path)
    say("\nby the eight definitions of collapse (lab profile explains):")
    for profile in found:
        say(summary(profile))


def _print_where(folder: Path, seconds: float, *, curated: bool) -> None:
    """Print the time taken, what to type for more, and where the numbers are."""
    from lab.run.progress import clock

    name = folder.name if folder.parent == Path("checkpoints") else shlex.quote(str(folder))
    say(f"took {clock(seconds)}; next:")
    say(f"lab show {name}    every metric, generation by generation")
    say(f"lab report {name}  the figure, as figure.png")
    if curated:
        say(f"lab remedies {name}  what each remedy saves and costs")
    say(f"all columns: {folder / 'results.csv'}")


def _read_human(store: Any, human: Sequence[Any]) -> None:
    """Read human text.  On a terminal, name each step while it runs; elsewhere print one line when all are done."""
    from lab.run.preflight import prepare_human
    from lab.run.progress import counted

    done: list[str] = []
    with err.status("reading human text") as shown:

        def report(label: str) -> None:
            done.append(label.split(" seed ")[0])
            shown.update(f"reading human text: {label}")

        prepare_human(store, human, report)
    if done and not err.is_terminal:
        warn(f"read human text: {counted(done)}")
    warn("each generation: mix (the pool of its training text), train, write (its text), score (human text), measure")


def _note(message: str) -> None:
    warn(f"note: {message}")


def _note_made_otherwise(store: Any, graph: Any, fresh: frozenset[str]) -> None:
    """Say once which artifacts were made by other code of the same version, or on another kind of processor."""
    from lab import machine
    from lab.steps import job_of

    stale = sorted({step.name for step in graph.steps if store.edited(job_of(step)) and step.name not in fresh})
    if stale:
        _note(
            f"the lab's code for {', '.join(stale)} has changed since some artifacts were made; they are used "
            f"as they are ({' '.join(f'--fresh {kind}' for kind in stale)} makes these again)"
        )
    made = [store.manifest(step.name, step.key) for step in graph.steps if "machine" in step.params]
    others = {manifest.environment.get("cpu") for manifest in made if manifest} - {machine.cpu_name(), None}
    if others:
        _note(
            f"some models and samples of this run were made on {', '.join(sorted(others))}, and this is "
            f"{machine.cpu_name()}: they are used as they are; computed here, the same seeds would give slightly other "
            "numbers (README, Limits)"
        )
