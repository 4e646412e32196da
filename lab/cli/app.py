"""The command line.  Heavy libraries are imported inside commands, so that --help answers at once."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.table import Table

from lab.cli.keeping import doctor, prune, verify
from lab.cli.reading import compare, corpus_, report_, show
from lab.cli.terminal import (
    BAD_INPUT,
    FAILED,
    STOPPED,
    AsJson,
    Checkpoints,
    Name,
    Overrides,
    RunName,
    StudyName,
    Workers,
    err,
    folder_of,
    out,
    print_results,
    print_sizes,
    print_timings,
)
from lab.cli.theory import theory
from lab.errors import DiskFull, InputError, Stopped
from lab.run.signals import StopSignals

INTERRUPTED = 130
"""What typer makes of a KeyboardInterrupt, outside of the steps of a run."""

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="A language-model collapse lab: train, sample, retrain on the samples, measure what is lost.",
)


def _workers(asked: int | None, device: str, threads: int) -> int:
    """cores // threads; on a GPU one, since its steps would share it."""
    from lab import machine

    if asked is not None:
        return asked
    return 1 if device == "cuda" else max(1, machine.cpu_cores() // threads)


@app.command()
def plan(
    study: StudyName,
    set_: Overrides = None,
    workers: Workers = None,
    checkpoints: Checkpoints = Path("checkpoints"),
    as_json: AsJson = False,
) -> None:
    """What a study will do: steps, sharing, tokens, disk, time.  Writes nothing."""
    from lab.config.files import load_study
    from lab.loop import build
    from lab.run.plan import make_plan
    from lab.store.store import Store

    graph = build(load_study(study, set_ or []))
    count = _workers(workers, graph.machine.device, graph.machine.threads)
    found = make_plan(graph, Store(checkpoints / "store"), count)
    if as_json:
        typer.echo(json.dumps(found.to_json(), indent=1))
    else:
        _print_plan(found, graph.config.name, graph.machine.__dict__)


def _print_plan(found: Any, name: str, resolved: dict[str, Any]) -> None:
    from lab.run.progress import clock

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("step", "uses", "shared", "steps", "done", "tokens to go", "disk to go", "worker time to go"):
        table.add_column(column, justify="left" if column == "step" else "right")
    for line in (line for line in found.lines if line.uses):
        table.add_row(
            line.step,
            f"{line.uses:,}",
            f"{line.uses - line.unique:,}",
            f"{line.unique:,}",
            f"{line.done:,}",
            f"{line.tokens:,}" if line.tokens else "",
            f"{line.disk / 1e6:,.1f} MB" if line.disk else "",
            clock(line.seconds),
        )
    out.print(table)
    beside = f" (and {found.scratch / 1e6:,.0f} MB of checkpoints at times)" if found.scratch else ""
    source = "timings on this machine" if found.measured else "a rough guess: this store has no timings yet"
    out.print(
        f"{name}: {found.chains} chains of {found.generations} generations; {resolved['device']}, {resolved['dtype']}, "
        f"{found.workers} workers of {resolved['threads']} thread(s); "
        f"about {found.disk / 1e6:,.0f} MB{beside} and {clock(found.seconds)} to go ({source})",
        highlight=False,
        soft_wrap=True,
    )


@app.command()
def run(
    study: StudyName,
    set_: Overrides = None,
    run_: Name = None,
    workers: Workers = None,
    checkpoints: Checkpoints = Path("checkpoints"),
    fresh: Annotated[
        list[str] | None,
        typer.Option(help="Do steps of this kind again if the lab's code for them changed since; repeatable."),
    ] = None,
) -> None:
    """Run a study, or go on where it stopped, and print the results table."""
    began, stopping = time.monotonic(), StopSignals()
    from lab.config.files import load_study
    from lab.loop import build
    from lab.run import timings
    from lab.run.folder import RunFolder

    config = load_study(study, set_ or [])
    if run_ is not None:
        config = _renamed(config, run_)
    folder = RunFolder(checkpoints / config.name)
    folder.check_place()
    if said := folder.check_extends(config):
        _note(said)
    graph = build(config)
    count = _workers(workers, graph.machine.device, graph.machine.threads)
    before = len(timings.read(folder.path))
    code = _run(graph, folder, count, _fresh(fresh or []), stopping)
    if len(timings.read(folder.path)) > before:
        timings.append(
            folder.path / timings.FILE, {"program": round(time.monotonic() - began, 3), "workers": max(1, count)}
        )
    raise typer.Exit(code)


def _renamed(config: Any, name: str) -> Any:
    from lab.config.files import parse_study

    return parse_study({**config.model_dump(mode="json"), "name": name})


def _fresh(names: list[str]) -> frozenset[str]:
    from lab.lookup import lookup
    from lab.steps import STEPS

    for name in names:
        lookup("step", name, STEPS)
    return frozenset(names)


def _run(graph: Any, folder: Any, workers: int, fresh: frozenset[str], stopping: StopSignals) -> int:
    from lab import machine
    from lab.run.executors import execute
    from lab.run.plan import Estimator
    from lab.run.preflight import check_base, check_compiler
    from lab.run.progress import RunProgress
    from lab.run.retention import FIRST, Keeper
    from lab.run.worker import Wishes

    store = replace(folder.store, note=_note)
    wishes = Wishes(stopping, graph.config.compute.checkpoint_seconds)
    try:
        check_base(graph, store)
        check_compiler(graph, store)
        _read_human(store, graph.human)
        folder.begin(graph, {"versions": machine.versions(), "cpu": machine.cpu_name(), **graph.machine.__dict__})
        _say_stale(store, graph, fresh)
        estimator = Estimator(store, graph.machine.device)
        with RunProgress(graph.steps, estimator, workers, folder.path, err) as progress, stopping.gently():
            keeper = Keeper(progress, graph, folder, fresh) if graph.config.keep_models != "all" else None
            failures = execute(
                store,
                graph.steps,
                keeper or progress,
                workers=workers,
                threads=graph.machine.threads,
                fresh=fresh,
                first=FIRST if keeper else frozenset(),
                log=folder.path / "workers.log",
                wishes=wishes,
            )
            if keeper is not None:
                keeper.sweep()
    except (KeyboardInterrupt, Stopped):
        err.print("stopped; nothing that was finished is lost: run the same command again to go on", highlight=False)
        return STOPPED
    return _tables(graph, folder, store, [step.label for step in failures])


def _tables(graph: Any, folder: Any, store: Any, failed: Sequence[str]) -> int:
    from lab.report import exact

    folder.link(graph, store)
    rows = folder.write_tables(graph, store)
    agrees = True
    if rows:
        agrees = print_results(rows, graph, folder.titles())
        exact.write(folder.path / "exact.csv", exact.compare(graph, rows))
        out.print(f"all columns: {folder.path / 'results.csv'}", highlight=False, soft_wrap=True)
    if failed:
        said = f"failed: {', '.join(failed)}; details: {folder.path / 'failures.jsonl'}; the other chains are complete"
        err.print(said, highlight=False, soft_wrap=True)
    return FAILED if failed or not agrees else 0


def _read_human(store: Any, human: Sequence[Any]) -> None:
    """A line of what is being read on a terminal; elsewhere one a step, once all of it is known to be good."""
    from lab.run.preflight import prepare_human

    done: list[str] = []
    with err.status("reading human text") as shown:

        def say(label: str) -> None:
            done.append(label)
            shown.update(f"reading human text: {label}")

        prepare_human(store, human, say)
    if not err.is_terminal:
        for label in done:
            err.print(f"read human text: {label}", highlight=False, soft_wrap=True)


def _note(message: str) -> None:
    err.print(f"note: {message}", highlight=False, soft_wrap=True)


def _say_stale(store: Any, graph: Any, fresh: frozenset[str]) -> None:
    """Once: the kinds of dear steps whose artifacts were made by other code of the same version."""
    from lab.steps import job_of

    stale = set()
    for step in graph.steps:
        job = job_of(step)
        if store.edited(job) and step.name not in fresh:
            stale.add(step.name)
    if stale:
        names = ", ".join(sorted(stale))
        err.print(
            f"note: the lab's code for {names} has changed since some artifacts were made; they are used as they are "
            f"(--fresh {sorted(stale)[0]} makes these again)",
            highlight=False,
            soft_wrap=True,
        )


@app.command()
def status(
    run: RunName,
    timings: Annotated[bool, typer.Option("--timings", help="Where the time went, by kind of step.")] = False,
    checkpoints: Checkpoints = Path("checkpoints"),
    as_json: AsJson = False,
) -> None:
    """How far a run is: steps done, and generations measured, chain by chain; what it takes on the disk."""
    from lab.loop import build
    from lab.run.folder import read_record
    from lab.run.plan import make_plan
    from lab.run.progress import clock
    from lab.run.retention import bytes_by_group

    folder = folder_of(run, checkpoints)
    if timings:
        print_timings(folder.path, as_json)
        return
    graph = build(folder.config())
    found = make_plan(graph, folder.store, _workers(None, graph.machine.device, graph.machine.threads))
    chains: dict[str, int] = {}
    longest: dict[str, int] = {}
    for generation in graph.generations:
        chains[generation.chain] = chains.get(generation.chain, 0) + (read_record(folder.store, generation) is not None)
        longest[generation.chain] = generation.t + 1
    sizes = {"run": bytes_by_group(folder.store.root, [(s.name, s.key) for s in graph.steps])}
    sizes["store"] = bytes_by_group(folder.store.root)
    done, total = sum(line.done for line in found.lines), sum(line.unique for line in found.lines)
    if as_json:
        summary = {"run": graph.config.name, "done": done, "steps": total, "seconds_left": found.seconds}
        typer.echo(json.dumps({**summary, "chains": chains, "bytes": sizes}, indent=1))
        return
    for chain, measured in chains.items():
        out.print(f"{chain:<32} {measured} of {longest[chain]} generations", highlight=False, soft_wrap=True)
    left = f"about {clock(found.seconds)} to go" if done < total else "complete"
    out.print(f"{graph.config.name}: {done} of {total} steps, {left}", highlight=False)
    print_sizes(sizes)


app.command()(show)
app.command()(compare)
app.command(name="report")(report_)
app.command(name="corpus")(corpus_)
app.command()(prune)
app.command()(verify)
app.command()(doctor)
app.command()(theory)


def main() -> None:
    """Entry of the `lab` command.  Bad input is one line and exit code 2; nothing of ours ends in a traceback."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        code = typer.main.get_command(app).main(prog_name="lab", standalone_mode=False)
        sys.exit(STOPPED if code == INTERRUPTED else code)
    except InputError as error:
        _fail(error)
    except OSError as error:  # a folder that cannot be written, a disk that is full
        from lab.store import space

        _fail(space.said(error))
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(STOPPED)
    except Exception as error:
        if not hasattr(error, "format_message"):  # click's way of saying that the arguments do not fit
            raise
        if type(error).__name__ == "NoArgsIsHelpError":
            typer.echo(error.format_message())
            sys.exit(BAD_INPUT)
        _fail(InputError(f"{error.format_message().rstrip('.')}; see --help"))


def _fail(error: InputError) -> NoReturn:
    err.print(f"error: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
    sys.exit(FAILED if isinstance(error, DiskFull) else BAD_INPUT)
