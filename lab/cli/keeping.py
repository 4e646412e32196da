"""The commands that look after a store: prune, verify, doctor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from lab.cli.terminal import FAILED, AsJson, Checkpoints, RunName, folder_of, out
from lab.errors import InputError
from lab.store.space import megabytes

KEEP = ("all", "last", "none")


def say(line: str) -> None:
    out.print(line, highlight=False, soft_wrap=True)


def prune(
    run: RunName,
    keep_models: Annotated[
        str | None, typer.Option(help="Weights to keep: all, last or none (default: the study's keep_models).")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    checkpoints: Checkpoints = Path("checkpoints"),
    as_json: AsJson = False,
) -> None:
    """Drop weights that no step needs any more, and what killed writers left.  Results, samples and hashes stay.

    What another machine may be writing goes once nothing has changed in it for a day; checkpoints go once no run beside
    this one has a step to go on from them."""
    from lab.run import retention

    folder = folder_of(run, checkpoints)
    keep = keep_models or folder.config().keep_models
    if keep not in KEEP:
        raise InputError(f'--keep-models "{keep}" is none of {", ".join(KEEP)}')
    found = retention.pruning(folder, keep)
    skipped = [] if dry_run else found.apply(folder.store)
    if as_json:
        typer.echo(json.dumps(_as_json(found, skipped, dry_run), indent=1))
        return
    for item in (*found.weights, *found.leftovers):
        verb = "in use, stays" if item in skipped else "would go" if dry_run else "gone"
        say(f"{verb}: {item.what}, {megabytes(item.bytes)} ({item.path})")
    for label, runs in found.wanted.items():
        say(f"stays: weights of {label}, wanted by {', '.join(runs)}")
    for name, reason in found.unreadable.items():
        say(f"note: run {name} cannot be looked at ({reason}); while it is there no weights are dropped")
    gone = found.bytes - sum(item.bytes for item in skipped)
    say(f"{megabytes(gone)} {'would be' if dry_run else 'were'} freed; keep_models: {keep}")


def _as_json(found: Any, skipped: list[Any], dry_run: bool) -> dict[str, Any]:
    def listed(items: list[Any]) -> list[dict[str, Any]]:
        return [{"what": item.what, "path": str(item.path), "bytes": item.bytes} for item in items]

    lists = {"weights": listed(found.weights), "leftovers": listed(found.leftovers), "in_use": listed(skipped)}
    return {"dry_run": dry_run, **lists, "wanted": found.wanted, "unreadable": found.unreadable, "bytes": found.bytes}


def verify(
    run: RunName,
    recompute: Annotated[int, typer.Option(min=0, help="Sampled steps to compute again and compare.")] = 1,
    seed: Annotated[int, typer.Option(help="Chooses the sampled steps.")] = 0,
    checkpoints: Checkpoints = Path("checkpoints"),
    as_json: AsJson = False,
) -> None:
    """Hash every artifact of a run, rebuild its tables, compute sampled steps again; changes nothing."""
    from lab.run.verify import verify_run

    folder = folder_of(run, checkpoints)
    found = verify_run(folder, recompute=recompute, seed=seed)
    if as_json:
        typer.echo(json.dumps(found.to_json(), indent=1))
    else:
        for line in found.lines():
            say(line)
    raise typer.Exit(FAILED if found.problems else 0)


def doctor(checkpoints: Checkpoints = Path("checkpoints"), as_json: AsJson = False) -> None:
    """Is this machine fit, and the store in order?  Versions, threads, memory, disk, GPU, locks, leftovers."""
    from lab.run import doctor as examining

    checks = examining.examine(checkpoints)
    if as_json:
        typer.echo(json.dumps([check.__dict__ for check in checks], indent=1))
    else:
        for check in checks:
            say(f"{check.level:<4}  {check.what}: {check.found}" + (f"; {check.todo}" if check.todo else ""))
    raise typer.Exit(FAILED if any(check.level == "bad" for check in checks) else 0)
