"""Which weights stay on the disk, and what killed writers left behind.  No number depends on it.

A model's weights are dropped once every step that reads them is in the store, unless a run beside this one, in the
same store, still wants them.  Samples, evidence, records, learning curves, manifests and hashes always stay.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lab.errors import InputError
from lab.loop import Study, build
from lab.run.folder import RunFolder
from lab.run.walk import Reporter
from lab.run.weights import drop, weights_of
from lab.steps import STEPS, job_of
from lab.store.leftovers import left, untouched
from lab.store.space import size_of
from lab.store.step import Step
from lab.store.store import Store

KEY = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Claim:
    """What one run still wants: some weights by its keep_models, others until their readers are done."""

    run: str
    kept: frozenset[str]
    """Keys of models whose weights it keeps whatever happens."""
    readers: dict[str, list[Step]]
    """Model's key -> the steps that read its weights."""
    fresh: frozenset[str] = frozenset()
    """Kinds of steps that it does again where the lab's code has changed since."""

    @classmethod
    def of(cls, study: Study, keep: str, fresh: frozenset[str] = frozenset()) -> Claim:
        readers: dict[str, list[Step]] = defaultdict(list)
        for step in study.steps:
            if STEPS[step.name].reads_weights:
                for parent in step.inputs.values():
                    readers[parent.key].append(step)
        last: dict[str, int] = defaultdict(int)
        for generation in study.generations:
            last[generation.chain] = max(last[generation.chain], generation.t)
        kept = {
            model.key
            for generation in study.generations
            for model in generation.models
            if keep == "all" or (keep == "last" and generation.t == last[generation.chain])
        }
        if keep == "all":  # those of a fitted base too
            kept |= {step.key for step in study.steps if step.name == "train"}
        return cls(study.config.name, frozenset(kept), dict(readers), fresh)

    def wants(self, store: Store, model: Step) -> bool:
        return model.key in self.kept or not all(self._done(store, step) for step in self.readers.get(model.key, ()))

    def _done(self, store: Store, step: Step) -> bool:
        job = job_of(step)
        manifest = store.manifest(job.name, job.key)
        stale = step.name in self.fresh and manifest is not None and manifest["source"] != job.source
        return store.whole(job) and not stale


@dataclass
class Neighbours:
    """The claims of the other runs on a store, read again whenever a run beside it begins or changes."""

    own: Path
    seen: tuple[tuple[str, int], ...] = ()
    claims: list[Claim] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    """All of theirs."""
    unreadable: dict[str, str] = field(default_factory=dict)
    """Runs whose study cannot be built here, with the reason.  What they want is not known, so nothing is dropped."""

    def look(self) -> None:
        found = sorted(self.own.absolute().parent.glob("*/config.yaml"))
        others = [path for path in found if path.parent.resolve() != self.own.resolve()]
        # env.json too: it is written last, and names the machine, on which the keys of the steps depend.
        files = [file for path in others for file in (path, path.with_name("env.json")) if file.exists()]
        seen = tuple((str(file), file.stat().st_mtime_ns) for file in files)
        if seen == self.seen:
            return
        self.seen, self.claims, self.steps, self.unreadable = seen, [], [], {}
        for path in others:
            try:
                study = _study(RunFolder(path.parent))
                self.claims.append(Claim.of(study, study.config.keep_models))
                self.steps += study.steps
            except (InputError, OSError) as error:
                self.unreadable[path.parent.name] = str(error)

    def wanting(self, store: Store, model: Step) -> list[str]:
        """Names of the runs that want the weights of a model."""
        self.look()
        return [claim.run for claim in self.claims if claim.wants(store, model)] + list(self.unreadable)


class Keeper:
    """A Reporter that hands on what it is told, and drops weights as soon as nothing needs them."""

    def __init__(self, reporter: Reporter, study: Study, folder: RunFolder, fresh: frozenset[str]) -> None:
        self.reporter, self.store = reporter, folder.store
        self.claim = Claim.of(study, study.config.keep_models, fresh)
        self.models = {step.key: step for step in study.steps if step.name == "train"}
        self.neighbours = Neighbours(folder.path)

    @property
    def first(self) -> frozenset[str]:
        """Kinds of steps that must not wait: probes, for which else all weights would stay, and the text they read."""
        readers = {step.name for model in self.models for step in self.claim.readers.get(model, ())}
        return frozenset({*readers, *(kind.name for kind in STEPS.values() if kind.reads_text)} - {"train", "sample"})

    def found(self, step: Step) -> None:
        self.reporter.found(step)

    def started(self, step: Step) -> None:
        self.reporter.started(step)

    def advanced(self, step: Step, tokens: int) -> None:
        self.reporter.advanced(step, tokens)

    def finished(self, step: Step, seconds: float) -> None:
        self.reporter.finished(step, seconds)
        for ref in (step, *step.inputs.values()):  # read from disk again: another process made it
            self.store.forget(job_of(ref))
        self.sweep(parent for parent in step.inputs.values() if parent.key in self.models)

    def noted(self, message: str) -> None:
        self.reporter.noted(message)

    def failed(self, step: Step, reason: str, trace: str) -> None:
        self.reporter.failed(step, reason, trace)

    def sweep(self, models: Iterable[Step] | None = None) -> None:
        """Drop what can be dropped, of these models or of all."""
        for model in dict.fromkeys(self.models.values() if models is None else models):
            if self.claim.wants(self.store, model):
                continue
            files = weights_of(self.store, model)
            if files and not self.neighbours.wanting(self.store, model):
                drop(self.store, model, files)


@dataclass(frozen=True)
class Item:
    """Something that can go."""

    what: str
    path: Path
    bytes: int
    model: Step | None = None
    """The model whose weights they are; None for what a writer left."""


@dataclass(frozen=True)
class Pruning:
    """What `lab prune` would do."""

    weights: list[Item]
    leftovers: list[Item]
    wanted: dict[str, list[str]]
    """Label of a model whose weights stay -> the other runs that want them."""
    unreadable: dict[str, str]

    @property
    def bytes(self) -> int:
        return sum(item.bytes for item in (*self.weights, *self.leftovers))

    def apply(self, store: Store) -> list[Item]:
        """Do it; what was skipped because a process has it in hand."""
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
    """What would go if this run kept the weights that `keep` (all, last or none) says.  Nothing is changed."""
    store, study = folder.store, _study(folder)
    claim, neighbours = Claim.of(study, keep), Neighbours(folder.path)
    neighbours.look()
    weights: list[Item] = []
    wanted: dict[str, list[str]] = {}
    for model in (step for step in study.steps if step.name == "train"):
        files = weights_of(store, model)
        if not files or claim.wants(store, model):
            continue
        if runs := neighbours.wanting(store, model):
            wanted[model.label] = runs
            continue
        place = store.folder(model.name, model.key)
        weights += [Item(f"weights of {model.label}", place / name, size, model) for name, size in files.items()]
    steps = None if neighbours.unreadable else [*study.steps, *neighbours.steps]
    return Pruning(weights, list(leftovers(store, steps)), wanted, neighbours.unreadable)


def _study(folder: RunFolder) -> Study:
    """Of a run, with the arithmetic of the machine that has run it: its keys hold that."""
    return build(folder.config(), folder.machine())


def leftovers(store: Store, steps: Sequence[Step] | None = None) -> Iterator[Item]:
    """What killed writers left, and damaged copies that were moved aside, unless a living process holds their step.

    What a writer of another machine may be at work on stays until nothing has changed in it for leftovers.ABANDONED.
    Checkpoints stay while a step of these `steps` may go on from them; None: while any step may.
    """
    wanted = None if steps is None else {step.key for step in steps}
    patterns = ("[a-z]*/.*", ".*/*", "[a-z]*/[0-9a-f]*/.*.tmp")
    for path in sorted(path for pattern in patterns for path in store.root.glob(pattern)):
        key = _key(path)
        if not key or in_hand(store, key) or _others(store, path, key):
            continue  # not the lab's; or a step in hand
        if path.parent == store.scratch("") and (wanted is None or key in wanted) and not _committed(store, key):
            continue  # a step goes on from it
        yield Item(_what(path), path, size_of(path))


def in_hand(store: Store, key: str) -> bool:
    """Whether a living process holds the lock of a step.  Looked at without making a lock file."""
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
    """The key of the step that a leftover belongs to; empty for what is not the lab's."""
    found = KEY.search(path.name) or KEY.search(path.parent.name)
    return found.group() if found else ""


def _others(store: Store, path: Path, key: str) -> bool:
    """Whether a writer on another machine, whose lock is not seen here, may be at work on it."""
    if path.suffix == ".tmp":
        return not left(path)
    mine = path.name.startswith(f".tmp-{key}-{store.host}-")
    return path.name.startswith(".tmp-") and not mine and not untouched(path, store.scratch(key))


def _committed(store: Store, key: str) -> bool:
    return any(store.manifest(path.parent.name, key) for path in store.root.glob(f"[a-z]*/{key}"))


def _what(path: Path) -> str:
    for part, what in ((".corrupt", "a damaged copy, moved aside"), (".old", "a replaced copy")):
        if path.name.startswith(part):
            return what
    return "what a killed writer left"


def sizes(items: Sequence[Item]) -> int:
    return sum(item.bytes for item in items)
