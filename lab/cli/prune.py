"""`lab prune`: free disk space without losing results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from lab.cli.terminal import AsJson, Checkpoints, RunName, folder_of, print_json, say
from lab.errors import InputError

LISTED = 10
"""Items that get a line; the others are summed up."""
KEEP = ("all", "last", "none")
EXAMPLES = """\b
Examples:
  lab prune quick --dry-run
  lab prune quick --keep-models last"""


def prune_run(
    run: RunName,
    keep_models: Annotated[
        str | None,
        typer.Option(metavar="WHICH", help="Weights to keep: all, last or none (default: keep_models of the study)."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be deleted.")] = False,
    checkpoints: Checkpoints = Path("checkpoints"),
    as_json: AsJson = False,
) -> None:
    """Delete weights that no step needs, and leftovers.

    Results, samples and hashes stay.  Leftovers are temporary files of crashed processes.  Those of another machine are
    deleted when nothing in them has changed for a day.  Checkpoints are deleted when no run in the same folder has a
    step that would continue from them.
    """
    from lab.run import retention
    from lab.store.space import megabytes

    folder = folder_of(run, checkpoints)
    keep = keep_models or folder.config().keep_models
    if keep not in KEEP:
        raise InputError(f'--keep-models "{keep}" is none of {", ".join(KEEP)}')
    pruning = retention.pruning(folder, keep)
    skipped = [] if dry_run else pruning.apply(folder.store)
    if as_json:
        print_json(_as_json(pruning, skipped, dry_run))
        return
    items = (*pruning.weights, *pruning.leftovers)
    for item in items[:LISTED]:
        verb = "in use, stays" if item in skipped else "would go" if dry_run else "gone"
        say(f"{verb}: {item.what}, {megabytes(item.bytes)} ({item.path})")
    if len(items) > LISTED:
        rest = sum(item.bytes for item in items[LISTED:])
        say(f"and {len(items) - LISTED:,} more, {megabytes(rest)} (--json lists all)")
    for label, runs in pruning.wanted.items():
        say(f"stays: weights of {label}, wanted by {', '.join(runs)}")
    for name, reason in pruning.unreadable.items():
        say(f"note: run {name} cannot be read ({reason}); as long as it is there, no weights are deleted")
    freed = pruning.bytes - sum(item.bytes for item in skipped)
    say(f"{megabytes(freed)} {'would be' if dry_run else 'were'} freed; keep_models: {keep}")


def _as_json(pruning: Any, skipped: list[Any], dry_run: bool) -> dict[str, Any]:
    def listed(items: list[Any]) -> list[dict[str, Any]]:
        return [{"what": item.what, "path": str(item.path), "bytes": item.bytes} for item in items]

    lists = {"weights": listed(pruning.weights), "leftovers": listed(pruning.leftovers), "in_use": listed(skipped)}
    rest = {"wanted": pruning.wanted, "unreadable": pruning.unreadable, "bytes": pruning.bytes}
    return {"dry_run": dry_run, **lists, **rest}
