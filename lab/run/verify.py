"""`lab verify`: is what lies on the disk what the lab committed, and does computing it again give the same bytes?

Nothing is changed: damaged artifacts stay where they are, and what is computed again goes into a temporary store.
"""

from __future__ import annotations

import json
import random
import tempfile
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab import machine
from lab.hashing import digest
from lab.loop import Study, build, in_order
from lab.run import exact
from lab.run.folder import RunFolder
from lab.run.walk import execute
from lab.steps import STEPS, job_of
from lab.steps.kind import source_hash
from lab.store.atomic import file_sha256
from lab.store.manifest import MANIFEST, PRUNED, dropped_files, seal_of
from lab.store.step import Step
from lab.store.store import Store

DEAR = tuple(name for name, kind in STEPS.items() if kind.cost is not None)
"""Kinds of steps that are computed again: those whose bytes depend on the arithmetic."""
AGAIN = "lab run makes it again"
ARITHMETIC = ("cpu", "gpu", "numpy", "python")
"""What every step may depend on."""


@dataclass(frozen=True)
class Problem:
    """Something that is not as it was committed."""

    what: str
    problem: str
    todo: str


@dataclass(frozen=True)
class Difference:
    """Something of this machine that is not as manifests have it."""

    what: str
    recorded: str
    here: str
    steps: int
    """How many artifacts have it so."""
    changed: list[str]
    """Kinds of steps for which equal bits are not promised here; for the other kinds they are."""


@dataclass
class Verified:
    run: str
    artifacts: int = 0
    files: int = 0
    dropped: int = 0
    """Files of weights that were dropped to save room: there is nothing to hash."""
    missing: int = 0
    """Steps of the study that are not there yet, and that nothing was made from."""
    recomputed: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        found = {name: [item.__dict__ for item in getattr(self, name)] for name in ("problems", "differences")}
        return {**self.__dict__, **found}

    def lines(self) -> list[str]:
        lines = [f"{p.what}: {p.problem}; {p.todo}" for p in self.problems]
        for found in self.differences:
            kinds = ", ".join(found.changed)
            promise = f"equal bits are not promised for {kinds}" if kinds else "equal bits are promised"
            lines.append(
                f"environment: {found.what} was {found.recorded} for {found.steps} artifacts and is {found.here} here: "
                f"{promise}" + (", and are for other steps" if kinds else "")
            )
        lines += [f"note: {note}" for note in self.notes]
        lines += [f"computed again, equal bytes: {label}" for label in self.recomputed]
        there = f"{self.artifacts} artifacts, {self.files} files hashed"
        more = "".join(
            f", {count} {what}"
            for count, what in ((self.dropped, "dropped to save room"), (self.missing, "steps not there yet"))
            if count
        )
        verdict = f"{len(self.problems)} problems" if self.problems else "all is as it was committed"
        return [*lines, f"{self.run}: {there}{more}; {verdict}"]


def verify(folder: RunFolder, *, recompute: int, seed: int, workers: int = 1) -> Verified:
    """Look at everything of a run.  InputError where the folder holds no run or its study cannot be built here."""
    study, store = build(folder.config(), folder.machine()), folder.store
    found = Verified(study.config.name)
    manifests = _hash_all(study, store, found)
    _check_links(folder, study, store, found)
    _check_tables(folder, study, store, found)
    found.differences = differences(manifests, machine.here())
    _compute_again(study, store, found, manifests, recompute, random.Random(seed), workers)
    return found


def _hash_all(study: Study, store: Store, found: Verified) -> dict[Step, dict[str, Any]]:
    """The manifests of the steps that are there.  Faults go into `found`."""
    manifests: dict[Step, dict[str, Any]] = {}
    absent: list[Step] = []
    for step in study.steps:
        folder = store.folder(step.name, step.key)
        if not folder.exists():
            absent.append(step)
            continue
        manifest, faults = inspect(folder, step)
        found.problems += [Problem(f"{step.label} ({folder})", fault, AGAIN) for fault in faults]
        if manifest is not None:
            found.artifacts += 1
            manifests[step] = manifest
    needed = {parent for step in manifests for parent in step.inputs.values()}
    for step in absent:
        if step in needed:
            text = "is not there, though others were made from it"
            found.problems.append(Problem(f"{step.label} ({store.folder(step.name, step.key)})", text, AGAIN))
        else:
            found.missing += 1
    for step, manifest in manifests.items():
        folder = store.folder(step.name, step.key)
        gone = _dropped(folder) or frozenset()
        found.dropped += len(gone)
        found.files += len(manifest["files"]) - len(gone)
        for role, parent in step.inputs.items():
            if parent in manifests and manifest["inputs"].get(role, {}).get("content") != manifests[parent]["content"]:
                text = f"was made from another {role} than the one that is there"
                found.problems.append(Problem(f"{step.label} ({folder})", text, AGAIN))
    stale = sorted({s.name for s, m in manifests.items() if m["source"] != source_hash(STEPS[s.name])} & set(DEAR))
    if stale:
        found.notes.append(f"the lab's code for {', '.join(stale)} has changed since some artifacts were made")
    return manifests


def inspect(folder: Path, step: Step) -> tuple[dict[str, Any] | None, list[str]]:
    """The manifest of an artifact, where it can be read, and whatever is wrong with the artifact."""
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        files = {str(name): (int(entry["bytes"]), str(entry["sha256"])) for name, entry in manifest["files"].items()}
        stated = {name: manifest[name] for name in ("step", "key", "version", "params", "content", "inputs", "source")}
        stated["environment"] = manifest["environment"]
        sealed = manifest.get("seal") in (None, seal_of(manifest))
    except FileNotFoundError:
        return None, [f"has no {MANIFEST}"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return None, [f"its {MANIFEST} is damaged ({type(error).__name__})"]
    faults = [fault for name, entry in files.items() if (fault := _fault(folder, name, *entry))]
    faults += [] if _dropped(folder) is not None else [f"its {PRUNED} is damaged"]
    expected = {
        "step": step.name,
        "key": step.key,
        "version": step.version,
        "params": {**step.params, **step.where},
        "content": digest({name: sha256 for name, (_, sha256) in files.items()}),
    }
    # `where` may differ: the same corpus may have lain elsewhere when the artifact was made.
    wrong = [name for name, value in expected.items() if not _equal(name, stated[name], value, step)]
    wrong += [] if _same_inputs(stated["inputs"], step) else ["inputs"]
    if wrong:
        faults.append(f"its {MANIFEST} is damaged: {', '.join(wrong)} cannot be")
    elif not sealed:
        faults.append(f"its {MANIFEST} is damaged: it says other things than were written")
    return manifest, faults


def _same_inputs(stated: Any, step: Step) -> bool:
    """Whether a manifest names the inputs that the step has.  Their content is held against their own manifests."""
    expected = {role: {"step": parent.name, "key": parent.key} for role, parent in step.inputs.items()}
    if not isinstance(stated, dict) or not all(isinstance(entry, dict) for entry in stated.values()):
        return False
    return expected == {role: {k: v for k, v in entry.items() if k != "content"} for role, entry in stated.items()}


def _equal(name: str, stated: Any, expected: Any, step: Step) -> bool:
    if name != "params":
        return bool(stated == expected)
    where = set(step.where)
    mine, its = ({k: v for k, v in params.items() if k not in where} for params in (expected, stated))
    return digest(mine) == digest(its)


def _fault(folder: Path, name: str, size: int, sha256: str) -> str | None:
    path = folder / name
    if name in (_dropped(folder) or ()):
        return None
    try:
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size:,} bytes, not the {size:,} that were committed"
        return None if file_sha256(path) == sha256 else f"{name} is damaged: its sha256 is not that of the manifest"
    except FileNotFoundError:
        return None if name in (_dropped(folder) or ()) else f"{name} is missing"  # dropped while this process looked
    except OSError as error:
        return f"{name} cannot be read ({error.strerror})"


def _dropped(folder: Path) -> frozenset[str] | None:
    """None: the note of what was dropped is torn."""
    try:
        return dropped_files(folder)
    except (ValueError, TypeError, KeyError):
        return None


def _check_links(folder: RunFolder, study: Study, store: Store, found: Verified) -> None:
    for generation in study.generations:
        for name, step in generation.artifacts.items():
            link, target = (
                folder.path / generation.chain / f"gen-{generation.t:02d}" / name,
                store.folder(step.name, step.key),
            )
            if link.is_symlink() and link.resolve() != target.resolve():
                found.problems.append(Problem(str(link), f"does not lead to {target}", "lab run links it again"))


def _check_tables(folder: RunFolder, study: Study, store: Store, found: Verified) -> None:
    """Each table, made again from the records, by bytes."""
    records = {generation.record for generation in study.generations}
    if any(p.what.startswith(f"{step.label} (") for step in records for p in found.problems):
        found.notes.append("the tables were not compared: a record is damaged")
        return
    with tempfile.TemporaryDirectory(prefix="lab-verify-") as temporary:
        again = RunFolder(Path(temporary))
        rows = again.write_tables(study, store)
        if rows:
            exact.write(again.path / "exact.csv", exact.compare(study, rows))
        for path in sorted(again.path.iterdir()):
            mine = folder.path / path.name
            if not mine.exists():
                if rows:
                    found.problems.append(Problem(str(mine), "is missing", "lab run writes it again"))
            elif mine.read_bytes() != path.read_bytes() and not _same_parquet(mine, path):
                problem = "is not what the records in the store give"
                found.problems.append(Problem(str(mine), problem, "lab run writes it again"))


def _same_parquet(a: Path, b: Path) -> bool:
    """Two Parquet files with the same table: another version of Arrow writes other bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if a.suffix != ".parquet":
        return False
    try:
        mine, its = (pq.read_table(path) for path in (a, b))
    except (OSError, pa.ArrowException):
        return False
    created = {pq.read_metadata(path).created_by for path in (a, b)}
    return len(created) == 2 and mine.to_pydict().__repr__() == its.to_pydict().__repr__()


def differences(manifests: dict[Step, dict[str, Any]], here: dict[str, str]) -> list[Difference]:
    """What manifests say of the machine that made them and is otherwise here, and what that means for the bits.

    Equal bits are promised on the same CPU or GPU model, library versions, threads and world size.  A step that does
    not use a library does not depend on its version.  Threads and device are in the keys: they cannot differ.
    """
    steps: dict[tuple[str, str], list[str]] = defaultdict(list)
    for step, manifest in manifests.items():
        environment = manifest["environment"]
        recorded = {**environment.get("versions", {}), "cpu": environment.get("cpu")}
        if step.params.get("machine", {}).get("device") == "cuda":
            recorded["gpu"] = environment.get("gpu", "not recorded")
        for name, value in recorded.items():
            if value is not None and here.get(name, "none") != value:
                steps[name, value].append(step.name)
    return [
        Difference(name, value, here.get(name, "none"), len(kinds), sorted({k for k in kinds if _depends(k, name)}))
        for (name, value), kinds in sorted(steps.items())
    ]


def _depends(kind: str, name: str) -> bool:
    libraries = STEPS[kind].libraries
    return name in ARITHMETIC or libraries is None or name in libraries


class _Quiet:
    """A Reporter that says nothing."""

    def found(self, step: Step) -> None: ...
    def started(self, step: Step) -> None: ...
    def advanced(self, step: Step, tokens: int) -> None: ...
    def finished(self, step: Step, seconds: float) -> None: ...
    def failed(self, step: Step, reason: str, trace: str) -> None: ...
    def noted(self, message: str) -> None: ...


def _compute_again(
    study: Study,
    store: Store,
    found: Verified,
    manifests: dict[Step, dict[str, Any]],
    count: int,
    chance: random.Random,
    workers: int,
) -> None:
    """Some dear steps, from their inputs, in a store of their own: their files must have the sha256 of manifests."""
    bad = {problem.what for problem in found.problems}
    fit = {step for step in manifests if f"{step.label} ({store.folder(step.name, step.key)})" not in bad}
    able = [s for s in study.steps if s.name in DEAR and s in fit and all(p in fit for p in in_order([s]))]
    for step in chance.sample(able, min(count, len(able))):
        problem = compute_again(step, store, manifests[step], study.machine.threads, workers)
        if problem is None:
            found.recomputed.append(step.label)
        else:
            todo = "compare the environment above; on the machine that made it, this is a fault: report it"
            found.problems.append(Problem(f"{step.label} ({store.folder(step.name, step.key)})", problem, todo))
    if len(able) < count:
        found.notes.append(f"{len(able)} steps can be computed again, fewer than the {count} that were asked for")


def compute_again(step: Step, store: Store, manifest: dict[str, Any], threads: int, workers: int) -> str | None:
    """What differs when a step is made again, with the dropped weights that it needs; None if nothing does."""
    with tempfile.TemporaryDirectory(prefix="lab-verify-") as temporary:
        trial = Store(Path(temporary) / "store")
        order = in_order([step])
        for parent in order[:-1]:
            trial.borrow(job_of(parent), store)
        log = Path(temporary) / "workers.log"
        failures = execute(trial, order, _Quiet(), workers=workers, threads=threads, fresh=frozenset(), log=log)
        if failures:
            return "cannot be computed again: " + "; ".join(f"{s.label}: {why}" for s, why in failures.items())
        made = trial.manifest(step.name, step.key)
        assert made is not None, step
        return _other_files(manifest["files"], made["files"])


def _other_files(committed: dict[str, Any], made: dict[str, Any]) -> str | None:
    other = [name for name in sorted({*committed, *made}) if committed.get(name) != made.get(name)]
    return f"computed again, it has other bytes: {', '.join(other)}" if other else None
