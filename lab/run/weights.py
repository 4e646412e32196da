"""Weights that were dropped to save room: dropping them, and making them again where a step needs them.

The artifact stays, with its manifest, its small files and a note of what was dropped; to the store it is whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from lab.errors import InputError
from lab.steps import STEPS
from lab.store import crash_points as faults
from lab.store.atomic import file_sha256, write_text
from lab.store.leftovers import sweep
from lab.store.manifest import PRUNED
from lab.store.space import is_full
from lab.store.step import Step
from lab.store.store import Job, Store

WEIGHTS = ".safetensors"


def weights_of(store: Store, step: Step) -> dict[str, int]:
    """Name -> bytes of the files of weights that are still there, or still on the disk though noted as dropped."""
    manifest = store.manifest(step.name, step.key)
    if step.name != "train" or manifest is None:
        return {}
    folder = store.folder(step.name, step.key)
    there = {name: entry["bytes"] for name, entry in manifest["files"].items() if (folder / name).exists()}
    return {name: size for name, size in there.items() if name.endswith(WEIGHTS)}


def drop(store: Store, step: Step, files: Iterable[str]) -> bool:
    """Delete these files of an artifact; False where another process has it in hand.

    The note is written first: killed in between, the artifact is one whose weights were dropped.
    """
    with store.lock(step.key, wait=False) as held:
        if not held:
            return False
        folder = store.folder(step.name, step.key)
        names = sorted({*files, *store.dropped(step.name, step.key)})
        note = json.dumps({"files": names, "stated in": "manifest.json"}, indent=1) + "\n"
        try:
            write_text(folder / PRUNED, note)
        except OSError as error:
            if not is_full(error):
                raise
            # No room for the note: room first.  Killed in between, it is a damaged artifact, which is made again.
            (folder / names[0]).unlink(missing_ok=True)
            write_text(folder / PRUNED, note)
        for name in names:
            (folder / name).unlink(missing_ok=True)
            faults.at("weights/dropped")
        sweep(folder)
        return True


def lacking(store: Store, step: Step) -> list[Step]:
    """Inputs whose weights the step needs and which were dropped: they are made again first."""
    if not STEPS[step.name].reads_weights:
        return []
    return [parent for parent in dict.fromkeys(step.inputs.values()) if store.dropped(parent.name, parent.key)]


def check_same(store: Store, job: Job, folder: Path) -> None:
    """InputError unless what is made again, because its weights were dropped, is what it was.

    Other steps were made from it.  It may differ where the lab's code has changed since and the step is done afresh.
    """
    manifest = store.manifest(job.name, job.key)
    if manifest is None or manifest["source"] != job.source:
        return
    files = manifest["files"].items()
    other = [name for name, e in files if not (folder / name).exists() or file_sha256(folder / name) != e["sha256"]]
    if other:
        raise InputError(
            f"{job.label} made again gives other bytes ({', '.join(other)}) than {store.folder(job.name, job.key)} "
            "states: another CPU, GPU or library version made it (lab verify lists them); run this there, or remove "
            "that folder to make all that follows from it anew"
        )
