"""What stays on the disk: weights that a run still needs, and not what crashed processes left.

No number depends on it.  A model's weights are dropped once every step that reads them is in the store, unless another
run in the same store still wants them.  The artifact stays, with its manifest, its small files and a note of what was
dropped: to the store it is whole.  Where a step needs the weights again, they are made again.
"""

from __future__ import annotations

import fcntl
import functools
import json
import os
import re
import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path

from lab.errors import InputError
from lab.loop import Study, build
from lab.run.folder import RunFolder
from lab.run.walk import Reporter
from lab.steps import STEPS, job_of
from lab.store import crash_points
from lab.store.atomic import write_text
from lab.store.leftovers import left, sweep, untouched
from lab.store.manifest import PRUNED
from lab.store.space import is_full, size_of
from lab.store.step import Step
from lab.store.store import Store

KEY = re.compile(r"[0-9a-f]{40}")
WEIGHTS = ".safetensors"
GROUPS = ("models", "samples", "evidence", "other")


# --- which weights are wanted --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Claim:
    """What one run still wants: some weights by its keep_models, others until the steps that read them are done."""

    study: Study
    kept: set[str]
    """Keys of the models whose weights it keeps."""
    readers: Mapping[str, list[Step]]
    """Key of a model -> the steps that read its weights."""
    fresh: frozenset[str] = frozenset()
    """Kinds of steps that it does again where the lab's code has changed since."""

    @classmethod
    def of(cls, study: Study, keep: str, fresh: frozenset[str] = frozenset()) -> Claim:
        """Return what a study wants if it keeps the weights that `keep` (all, last or none) says."""
        readers: dict[str, list[Step]] = defaultdict(list)
        for step in study.steps:
            if STEPS[step.name].reads_weights:
                for parent in step.inputs.values():
                    readers[parent.key].append(step)
        kept: set[str] = set()
        if keep == "all":  # those of a fitted base too
            kept = {step.key for step in study.steps if STEPS[step.name].trains}
        elif keep == "last":
            last = {generation.chain: generation for generation in study.generations}
            kept = {model.key for generation in last.values() for model in generation.models}
        return cls(study, kept, readers, fresh)

    def wants(self, store: Store, model: Step) -> bool:
        """Return whether the weights of a model must stay for this run.

        They must, if a step that reads them is not done, or reads the weights of a model that is made from these again.
        """
        waiting = [model]
        while waiting:
            readers = self.readers.get(waiting.pop().key, [])
            if not all(self._done(store, step) for step in readers):
                return True
            waiting += [step for step in readers if STEPS[step.name].trains and store.dropped(step.name, step.key)]
        return model.key in self.kept

    def _done(self, store: Store, step: Step) -> bool:
        job = job_of(step)
        return store.whole(job) and not (step.name in self.fresh and store.edited(job))


def study_of(folder: RunFolder) -> Study:
    """Build the study of a run, with the machine and the content of the text that it was run with: keys hold these."""
    return build(folder.config(), folder.machine(), folder.content())


def neighbours(own: Path) -> tuple[list[Claim], dict[str, str]]:
    """Return the claims of the other runs on the store of a run, and why the study of a run cannot be built here.

    What such a run wants is not known, so nothing is dropped while it is there.
    """
    claims: list[Claim] = []
    unreadable: dict[str, str] = {}
    for config in sorted(own.absolute().parent.glob("*/config.yaml")):
        if config.parent.resolve() != own.resolve():
            # env.json too: it is written last, and names the machine, on which the keys of the steps depend.
            files = [file for file in (config, config.with_name("env.json")) if file.exists()]
            try:
                claims.append(_claim_at(config.parent, tuple(file.stat().st_mtime_ns for file in files)))
            except (InputError, OSError) as error:
                unreadable[config.parent.name] = str(error)
    return claims, unreadable


@functools.lru_cache(maxsize=256)
def _claim_at(path: Path, changed: tuple[int, ...]) -> Claim:
    """Return the claim of the run in a folder.  It is built again when its files have `changed`."""
    study = study_of(RunFolder(path))
    return Claim.of(study, study.config.keep_models)


class Keeper:
    """A Reporter that passes everything to another one, and drops weights as soon as nothing needs them."""

    def __init__(self, reporter: Reporter, study: Study, folder: RunFolder, fresh: frozenset[str]) -> None:
        self.reporter, self.folder, self.store = reporter, folder, folder.store
        self.found, self.started, self.advanced = reporter.found, reporter.started, reporter.advanced
        self.noted, self.failed = reporter.noted, reporter.failed
        self.claim = Claim.of(study, study.config.keep_models, fresh)
        self.models = {step.key: step for step in study.steps if STEPS[step.name].trains}

    def finished(self, step: Step, seconds: float) -> None:
        """Drop what this was the last step to read."""
        self.reporter.finished(step, seconds)
        for ref in (step, *step.inputs.values()):  # read from disk again: another process made it
            self.store.forget(job_of(ref))
        self.sweep(parent for parent in step.inputs.values() if parent.key in self.models)

    def sweep(self, models: Iterable[Step] | None = None) -> None:
        """Drop the weights that no run wants, of these models or of all."""
        for model in dict.fromkeys(self.models.values() if models is None else models):
            files = weights_of(self.store, model)
            if files and not self.claim.wants(self.store, model):
                claims, unreadable = neighbours(self.folder.path)
                if not unreadable and not any(claim.wants(self.store, model) for claim in claims):
                    drop(self.store, model, files)


def weights_of(store: Store, step: Step) -> dict[str, int]:
    """Return the files of weights of a model that are on the disk, also those noted as dropped: name -> bytes."""
    manifest, folder = store.manifest(step.name, step.key), store.folder(step.name, step.key)
    if not STEPS[step.name].trains or manifest is None:
        return {}
    return {n: entry.bytes for n, entry in manifest.files.items() if n.endswith(WEIGHTS) and (folder / n).exists()}


def drop(store: Store, step: Step, files: Iterable[str]) -> bool:
    """Delete these files of an artifact.  Return False, and do nothing, if another process holds the step's lock.

    The note is written first.  So after a crash in between, the artifact is one whose weights were dropped.
    """
    with store.lock(step.key, wait=False) as held:
        if not held:
            return False
        folder = store.folder(step.name, step.key)
        names = sorted({*files, *store.dropped(step.name, step.key)})
        note = json.dumps({"files": names, "stated in": "manifest.json"}, indent=1) + "\n"
        sweep(folder)  # of an earlier attempt that was killed: when all is dropped, nobody looks here again
        try:
            write_text(folder / PRUNED, note)
        except OSError as error:
            if not is_full(error):
                raise
            # No room for the note: room first.  After a crash in between, the artifact is damaged and made again.
            (folder / names[0]).unlink(missing_ok=True)
            write_text(folder / PRUNED, note)
        for name in names:
            (folder / name).unlink(missing_ok=True)
            crash_points.at("weights/dropped")
        return True


# --- lab prune -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Item:
    """A file or folder that can be deleted."""

    what: str
    path: Path
    bytes: int
    model: Step | None = None
    """The model, if the file is its weights; None for what a crashed process left."""


@dataclass(frozen=True)
class Pruning:
    """What `lab prune` would do."""

    weights: list[Item]
    leftovers: list[Item]
    wanted: dict[str, list[str]]
    """Label of a model whose weights stay -> the other runs that want them."""
    unreadable: dict[str, str]
    """Run that cannot be read -> the reason."""

    @property
    def bytes(self) -> int:
        """Bytes of all items."""
        return sum(item.bytes for item in (*self.weights, *self.leftovers))

    def apply(self, store: Store) -> list[Item]:
        """Delete the items, and return those that were skipped because a process holds their step's lock."""
        skipped = []
        for item in self.leftovers:  # first: on a full disk the note of what was dropped needs room too
            with store.lock(_key(item.path), wait=False) as free:
                if not free:
                    skipped.append(item)
                elif item.path.parent.name == ".locks":
                    continue  # the lock removes its own file
                elif item.path.is_dir() and not item.path.is_symlink():
                    shutil.rmtree(item.path, ignore_errors=True)
                else:
                    item.path.unlink(missing_ok=True)
        return skipped + [i for i in self.weights if i.model and not drop(store, i.model, [i.path.name])]


def pruning(folder: RunFolder, keep: str) -> Pruning:
    """Return what `lab prune` would do if the run kept the weights that `keep` (all, last or none) says."""
    store, study = folder.store, study_of(folder)
    claim, (claims, unreadable) = Claim.of(study, keep), neighbours(folder.path)
    weights: list[Item] = []
    wanted: dict[str, list[str]] = {}
    for model in study.steps:
        files = weights_of(store, model)
        if not files or claim.wants(store, model):
            continue
        if runs := [other.study.config.name for other in claims if other.wants(store, model)] + list(unreadable):
            wanted[model.label] = runs
            continue
        artifact = store.folder(model.name, model.key)
        weights += [Item(f"weights of {model.label}", artifact / name, size, model) for name, size in files.items()]
    steps = {step.key for each in (claim, *claims) for step in each.study.steps}
    return Pruning(weights, list(leftovers(store, None if unreadable else steps)), wanted, unreadable)


def leftovers(store: Store, steps: Set[str] | None = None) -> Iterator[Item]:
    """Yield what crashed processes left and damaged copies that were moved aside, unless a process holds their step.

    What a process on another machine may be writing is left out until nothing in it has changed for ABANDONED seconds,
    and so are the checkpoints from which one of these `steps` may continue, given by key; None: any step may.
    """
    patterns = ("[a-z]*/.*", ".*/*", "[a-z]*/[0-9a-f]*/.*.tmp")
    for path in sorted(path for pattern in patterns for path in store.root.glob(pattern)):
        key = _key(path)
        if not key or in_hand(store, key) or _in_use_elsewhere(store, path, key):
            continue  # not the lab's, or in use
        if path.parent == store.scratch("") and (steps is None or key in steps) and not _committed(store, key):
            continue  # a step continues from it
        yield Item(_what(path), path, size_of(path))


def in_hand(store: Store, key: str) -> bool:
    """Return whether a process holds the lock of a step.  No lock file is made."""
    try:
        handle = os.open(store.root / ".locks" / key, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def _key(path: Path) -> str:
    """Return the key of the step that a leftover belongs to; "" for a file that is not the lab's."""
    match = KEY.search(path.name) or KEY.search(path.parent.name)
    return match.group() if match else ""


def _in_use_elsewhere(store: Store, path: Path, key: str) -> bool:
    """Return whether a process on another machine, whose lock is not seen here, may be writing this."""
    if path.suffix == ".tmp":
        return not left(path)
    from_here = path.name.startswith(f".tmp-{key}-{store.host}-")
    return path.name.startswith(".tmp-") and not from_here and not untouched(path, store.scratch(key))


def _committed(store: Store, key: str) -> bool:
    return any(store.manifest(path.parent.name, key) for path in store.root.glob(f"[a-z]*/{key}"))


def _what(path: Path) -> str:
    if path.name.startswith(".corrupt"):
        return "a damaged copy, moved aside"
    return "a replaced copy" if path.name.startswith(".old") else "what a killed writer left"


def bytes_by_group(root: Path, artifacts: Iterable[tuple[str, str]] | None = None) -> dict[str, int]:
    """Return the bytes of a store by group: models, samples, evidence, other, leftovers.

    With `artifacts`, (kind of step, key) each, only these count, and no leftovers.
    """
    sizes = dict.fromkeys(GROUPS if artifacts is not None else (*GROUPS, "leftovers"), 0)
    for entry in root.glob("*/*") if artifacts is None else (root / name / key for name, key in artifacts):
        hidden = entry.name.startswith(".") or entry.parent.name.startswith(".")
        kind = STEPS.get(entry.parent.name)
        sizes["leftovers" if hidden else kind.takes if kind else "other"] += size_of(entry)
    return sizes
