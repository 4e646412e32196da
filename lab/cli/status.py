"""`lab status`: how far a run is, and what it takes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from lab.cli.terminal import AsJson, Checkpoints, RunName, folder_of, print_json, print_table, say, worker_count
from lab.errors import plural

EXAMPLES = """\b
Examples:
  lab status quick
  lab status quick --timings"""


def print_status(
    run: RunName,
    timings: Annotated[bool, typer.Option("--timings", help="Show where the time went, by kind of step.")] = False,
    checkpoints: Checkpoints = Path("checkpoints"),
    as_json: AsJson = False,
) -> None:
    """Show how far a run is, and its size on disk.

    One line per chain says how many of its generations are measured.
    """
    from lab.run.plan import make_plan
    from lab.run.progress import clock
    from lab.run.records import read_record
    from lab.run.retention import bytes_by_group, study_of

    folder = folder_of(run, checkpoints)
    if timings:
        _print_timings(folder.path, as_json)
        return
    graph = study_of(folder)
    planned = make_plan(graph, folder.store, worker_count(None, graph.machine.device, graph.machine.threads))
    length, measured = Counter[str](), Counter[str]()
    for generation in graph.generations:
        length[generation.chain] += 1
        measured[generation.chain] += read_record(folder.store, generation) is not None
    sizes = {"run": bytes_by_group(folder.store.root, [(s.name, s.key) for s in graph.steps])}
    sizes["store"] = bytes_by_group(folder.store.root)
    done, total = sum(line.done for line in planned.lines), sum(line.unique for line in planned.lines)
    if as_json:
        summary = {"run": graph.config.name, "done": done, "steps": total, "seconds_left": planned.seconds}
        print_json({**summary, "chains": measured, "bytes": sizes})
        return
    for chain, count in measured.items():
        say(f"{chain:<32} {count} of {plural(length[chain], 'generation')}")
    left = f"about {clock(planned.seconds)} to go" if done < total else "complete"
    say(f"{graph.config.name}: {done} of {plural(total, 'step')}, {left}")
    _print_sizes(sizes)


def _print_timings(folder: Path, as_json: bool) -> None:
    from lab.run import timings

    spent = timings.time_by_kind(timings.read(folder))
    outside = timings.overhead(spent)
    if as_json:
        print_json({"timings": [timing.__dict__ for timing in spent], "outside_kernels": outside})
        return
    cells = [(t.step, f"{t.count:,}", f"{t.seconds:,.1f}", f"{t.share:.1%}") for t in spent]
    print_table(("step", "done", "worker seconds", "share"), cells)
    say(f"outside of {', '.join(timings.KERNELS)}: {outside:.1%} of the workers' time")


def _print_sizes(sizes: dict[str, dict[str, int]]) -> None:
    """Print bytes by kind, of the run and of the whole store."""
    from lab.store.space import megabytes

    for owner, kinds in sizes.items():
        parts = ", ".join(f"{kind} {megabytes(size)}" for kind, size in kinds.items() if size)
        say(f"{owner}: {megabytes(sum(kinds.values()))} ({parts})")
