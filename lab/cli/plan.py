"""`lab plan`: what a study will do.  Nothing is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lab.cli.study import prepare
from lab.cli.terminal import (
    AsJson,
    Checkpoints,
    Fresh,
    Name,
    Overrides,
    StudyName,
    Workers,
    note_files,
    note_reads,
    print_json,
    print_table,
    say,
    warn,
    worker_count,
)
from lab.errors import plural

EXAMPLES = """\b
Examples:
  lab plan quick
  lab plan quick --set seeds=[0,1,2,3] --workers 4"""


def print_plan(
    study: StudyName = None,
    set_: Overrides = None,
    run_: Name = None,
    workers: Workers = None,
    checkpoints: Checkpoints = Path("checkpoints"),
    fresh: Fresh = None,
    as_json: AsJson = False,
) -> None:
    """Show what a study will do: steps, tokens, disk, time.  It takes the options of `lab run`.

    Steps that several chains share are run once.  Steps that the store has already are done.  Times come from earlier
    steps on this machine where there are some.  What `lab run` would refuse is refused here, as far as it is known
    before human text is read.  Nothing is written.
    """
    from lab.run.plan import make_plan
    from lab.run.preflight import check_text, check_tokens, unread
    from lab.run.text_notes import text_facts, unfilled

    graph, folder = prepare(study, set_ or [], run_, checkpoints, fresh or [], aside=False)
    check_text(graph, folder.store)
    check_tokens(graph)
    count = worker_count(workers, graph.machine.device, graph.machine.threads)
    planned = make_plan(graph, folder.store, count, frozenset(fresh or []))
    note_files(graph.config)
    note_reads(graph)
    for line in unread(graph, folder.store) + text_facts(graph, folder.store):
        warn(f"note: {line}")
    for line in unfilled(graph, folder.store):
        warn(f"note: {line}; tokens, disk and time are planned for all that are asked for")
    if as_json:
        print_json(planned.to_json())
    else:
        _print(planned, graph)


def _print(planned: Any, graph: Any) -> None:
    from lab.run.progress import clock

    cells = [
        [
            line.step,
            *(f"{count:,}" for count in (line.uses, line.uses - line.unique, line.unique, line.done)),
            f"{line.tokens:,}" if line.tokens else "",
            f"{line.disk / 1e6:,.1f} MB" if line.disk else "",
            clock(line.seconds),
        ]
        for line in planned.lines
        if line.uses
    ]
    print_table(("step", "uses", "shared", "steps", "done", "tokens to go", "disk to go", "worker time to go"), cells)
    scratch = f" (and {planned.scratch / 1e6:,.0f} MB of checkpoints at times)" if planned.scratch else ""
    source = "timings on this machine" if planned.measured else "a rough guess: this store has no timings yet"
    say(
        f"{graph.config.name}: {plural(planned.chains, 'chain')} of {plural(planned.generations, 'generation')}; "
        f"{graph.machine.device}, {graph.machine.dtype}, {plural(planned.workers, 'worker')} of "
        f"{plural(graph.machine.threads, 'thread')}; "
        f"about {planned.disk / 1e6:,.0f} MB{scratch} and {clock(planned.seconds)} to go ({source})"
    )
