"""`lab verify`: is what lies on the disk what the lab committed, and does computing it again give the same bytes?

Nothing is changed, unless a repair is asked for: damaged artifacts stay where they are, and what is computed again goes
into a temporary store.
"""

from __future__ import annotations

import random
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lab import machine
from lab.checks import exact
from lab.errors import plural
from lab.hashing import digest
from lab.loop import Study
from lab.run.executors import execute
from lab.run.folder import RunFolder
from lab.run.retention import study_of
from lab.steps import STEPS
from lab.steps.kind import source_hash
from lab.store import space
from lab.store.manifest import MANIFEST, Manifest, dropped_files, faults
from lab.store.step import Step, in_order
from lab.store.store import Store

AGAIN = "lab run makes it again"
REPAIR = "lab verify --repair moves it aside, and then lab run makes it again"
"""For damaged files.  A run hashes large files only when a step reads them, so it may not see the damage itself."""
ARITHMETIC = ("cpu", "gpu", "numpy", "python")
"""What the bytes of every step may depend on."""


@dataclass(frozen=True)
class Problem:
    """Something that is not as it was committed."""

    what: str
    problem: str
    todo: str


@dataclass(frozen=True)
class Difference:
    """A property of this machine that differs from what manifests state."""

    what: str
    recorded: str
    here: str
    steps: int
    """Number of artifacts that state this."""
    changed: list[str]
    """Kinds of steps for which equal bits are not promised here; for the other kinds they are."""


@dataclass
class Verified:
    """What `lab verify` result."""

    run: str
    artifacts: int = 0
    files: int = 0
    dropped: int = 0
    """Files of weights that were dropped to save room: there is nothing to hash."""
    missing: int = 0
    """Steps of the study that are not there yet, and that nothing was made from."""
    recomputed: list[str] = field(default_factory=list)
    damaged: list[Step] = field(default_factory=list)
    """Steps with files that are not as they were committed."""
    problems: list[Problem] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return all fields as JSON values."""
        lists = {name: [item.__dict__ for item in getattr(self, name)] for name in ("problems", "differences")}
        return {**self.__dict__, **lists, "damaged": [step.label for step in self.damaged]}

    def lines(self) -> list[str]:
        """Return the lines for a terminal, the verdict last."""
        lines = [f"{p.what}: {p.problem}; {p.todo}" for p in self.problems]
        for other in self.differences:
            kinds = ", ".join(other.changed)
            promise = f"equal bits are not promised for {kinds}" if kinds else "equal bits are promised"
            lines.append(
                f"environment: {other.what} was {other.recorded} for {other.steps} artifacts and is {other.here} here: "
                f"{promise}" + (", and are for other steps" if kinds else "")
            )
        lines += [f"note: {note}" for note in self.notes]
        lines += [f"computed again, equal bytes: {label}" for label in self.recomputed]
        counts = [plural(self.artifacts, "artifact"), f"{plural(self.files, 'file')} hashed"]
        counts += [f"{self.dropped} dropped to save room"] if self.dropped else []
        counts += [f"{plural(self.missing, 'step')} not there yet"] if self.missing else []
        verdict = f"{len(self.problems)} problems" if self.problems else "all is as it was committed"
        return [*lines, f"{self.run}: {', '.join(counts)}; {verdict}"]


def verify_run(folder: RunFolder, *, recompute: int, seed: int, workers: int = 1, repair: bool = False) -> Verified:
    """Look at everything of a run.

    Args:
        folder: the run.
        recompute: number of expensive steps to compute again.
        seed: chooses these steps.
        workers: worker processes for them; 0: in this process.
        repair: move damaged artifacts aside, so that `lab run` makes them again.

    Raises:
        InputError: the folder holds no run, or its study cannot be built here.
    """
    study, store = study_of(folder), folder.store
    result = Verified(study.config.name)
    manifests = _hash_all(study, store, result)
    _check_links(folder, study, store, result)
    _check_tables(folder, study, store, result)
    environments = {step: manifest.environment for step, manifest in manifests.items()}
    result.differences = differences(environments, machine.here())
    bad = {problem.what for problem in result.problems}
    fit = {step: manifest for step, manifest in manifests.items() if _name(step, store) not in bad}
    _compute_some_again(study, store, result, fit, recompute, random.Random(seed), workers)
    if repair:
        noting = replace(store, note=result.notes.append)
        for step in result.damaged:
            noting.set_aside(step.name, step.key)
    return result


def _name(step: Step, store: Store) -> str:
    """Return how an artifact is called in a Problem."""
    return f"{step.label} ({store.folder(step.name, step.key)})"


def _hash_all(study: Study, store: Store, result: Verified) -> dict[Step, Manifest]:
    """Return the manifests of the steps that are there.  What is wrong goes into `result`."""
    manifests: dict[Step, Manifest] = {}
    absent: list[Step] = []
    for step in study.steps:
        folder = store.folder(step.name, step.key)
        if not folder.exists():
            absent.append(step)
            continue
        manifest, wrong = inspect(folder, step)
        result.damaged += [step] if wrong else []
        result.problems += [Problem(_name(step, store), fault, REPAIR) for fault in wrong]
        if manifest is not None:
            result.artifacts += 1
            manifests[step] = manifest
            gone = 0 if wrong else len(dropped_files(folder))
            result.dropped += gone
            result.files += len(manifest.files) - gone
    needed = {parent for step in manifests for parent in step.inputs.values()}
    text = "is not there, though others were made from it"
    result.problems += [Problem(_name(step, store), text, AGAIN) for step in absent if step in needed]
    result.missing = len([step for step in absent if step not in needed])
    for step, manifest in manifests.items():
        for role, parent in step.inputs.items():
            stated = manifest.inputs.get(role)
            if parent in manifests and (stated is None or stated.content != manifests[parent].content):
                text = f"was made from another {role} than the one that is there"
                result.problems.append(Problem(_name(step, store), text, AGAIN))
    stale = {s.name for s, m in manifests.items() if STEPS[s.name].cost and m.source != source_hash(STEPS[s.name])}
    if stale:
        names = ", ".join(sorted(stale))
        result.notes.append(f"the lab's code for {names} has changed since some artifacts were made")
    return manifests


def inspect(folder: Path, step: Step) -> tuple[Manifest | None, list[str]]:
    """Return the manifest of an artifact, if it can be read, and all that is wrong with the artifact."""
    try:
        manifest = Manifest.of(folder)
    except FileNotFoundError:
        return None, [f"has no {MANIFEST}"]
    except (OSError, ValueError) as error:
        return None, [f"its {MANIFEST} is damaged ({str(error).splitlines()[0]})"]
    wrong = _misstated(manifest, step)
    misstated = [f"its {MANIFEST} is damaged: {', '.join(wrong)} cannot be"] if wrong else []
    return manifest, [*faults(folder, manifest), *misstated]


def _misstated(manifest: Manifest, step: Step) -> list[str]:
    """Return the fields of a manifest that are not those of the step.

    `where` may differ: the same corpus may have lain elsewhere when the artifact was made.  The content of the inputs
    is compared with their own manifests.
    """
    expected = {
        "step": step.name,
        "key": step.key,
        "version": step.version,
        "params": {name: value for name, value in step.params.items() if name not in step.where},
        "inputs": {role: [parent.name, parent.key] for role, parent in step.inputs.items()},
    }
    stated = {
        **manifest.__dict__,
        "params": {name: value for name, value in manifest.params.items() if name not in step.where},
        "inputs": {role: [entry.step, entry.key] for role, entry in manifest.inputs.items()},
    }
    return [name for name, value in expected.items() if digest(stated[name]) != digest(value)]


def _check_links(folder: RunFolder, study: Study, store: Store, result: Verified) -> None:
    for generation in study.generations:
        for name, step in generation.artifacts.items():
            link = folder.path / generation.chain / f"gen-{generation.t:02d}" / name
            target = store.folder(step.name, step.key)
            if link.is_symlink() and link.resolve() != target.resolve():
                result.problems.append(Problem(str(link), f"does not lead to {target}", "lab run links it again"))


def _check_tables(folder: RunFolder, study: Study, store: Store, result: Verified) -> None:
    """Make each table again from the records, and compare the bytes."""
    if not result.artifacts and folder.results():
        todo = f"copy it from where the run comes from, so that it lies beside {folder.path}, and verify again"
        result.problems.append(Problem(str(store.root), "holds nothing of this run", todo))
        return
    records = {_name(step, store) for generation in study.generations for step in generation.ends}
    if any(problem.what in records for problem in result.problems):
        result.notes.append("the tables were not compared: a record is damaged")
        return
    with (
        space.temporary_full_in_one_line("the tables that are compared"),
        tempfile.TemporaryDirectory(prefix="lab-verify-") as temporary,
    ):
        again = RunFolder(Path(temporary))
        rows = again.write_tables(study, store)
        if rows:
            exact.write(again.path / "exact.csv", exact.compare(study, rows))
        for path in sorted(again.path.iterdir()):
            table = folder.path / path.name
            if not table.exists():
                if rows:
                    result.problems.append(Problem(str(table), "is missing", "lab run writes it again"))
            elif table.read_bytes() != path.read_bytes() and not _same_parquet(table, path):
                problem = "is not what the records in the store give"
                result.problems.append(Problem(str(table), problem, "lab run writes it again"))


def _same_parquet(a: Path, b: Path) -> bool:
    """Return whether two Parquet files hold the same table: another version of Arrow writes other bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if a.suffix != ".parquet":
        return False
    try:
        tables = [pq.read_table(path).to_pydict() for path in (a, b)]
        writers = {pq.read_metadata(path).created_by for path in (a, b)}
    except (OSError, pa.ArrowException):
        return False
    return len(writers) == 2 and repr(tables[0]) == repr(tables[1])  # repr: nan is not equal to nan


def differences(environments: Mapping[Step, Mapping[str, Any]], here: Mapping[str, str]) -> list[Difference]:
    """Compare this machine with those that made the artifacts, and say what that means for the bits.

    Equal bits are promised on the same CPU or GPU model, library versions, threads and world size.  A step that does
    not use a library does not depend on its version.  Threads and device are in the keys: they cannot differ.

    Args:
        environments: step -> the "environment" of its manifest.
        here: the same of this machine, see `machine.here`.
    """
    steps: dict[tuple[str, str], list[str]] = defaultdict(list)
    for step, environment in environments.items():
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


def _compute_some_again(
    study: Study,
    store: Store,
    result: Verified,
    fit: Mapping[Step, Manifest],
    count: int,
    chance: random.Random,
    workers: int,
) -> None:
    """Compute some expensive steps again from their inputs, in a store of their own, and compare their files.

    `fit`: the undamaged artifacts.
    """
    able = [s for s in study.steps if STEPS[s.name].cost and s in fit and all(p in fit for p in in_order([s]))]
    for step in chance.sample(able, min(count, len(able))):
        problem = compute_again(step, store, fit[step], study.machine.threads, workers)
        if problem is None:
            result.recomputed.append(step.label)
        else:
            todo = "compare the environment above; on the machine that made it, this is a fault: report it"
            result.problems.append(Problem(_name(step, store), problem, todo))
    if len(able) < count:
        result.notes.append(f"{len(able)} steps can be computed again, fewer than the {count} that were asked for")


def compute_again(step: Step, store: Store, manifest: Manifest, threads: int, workers: int) -> str | None:
    """Make a step again, with the dropped weights that it needs, and return what differs; None if nothing does."""
    with tempfile.TemporaryDirectory(prefix="lab-verify-") as temporary:
        trial = Store(Path(temporary) / "store")
        order = in_order([step])
        for parent in order[:-1]:
            link = trial.folder(parent.name, parent.key)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(store.folder(parent.name, parent.key).absolute())
        log = Path(temporary) / "workers.log"
        failures = execute(trial, order, _Quiet(), workers=workers, threads=threads, fresh=frozenset(), log=log)
        if failures:
            return "cannot be computed again: " + "; ".join(f"{s.label}: {why}" for s, why in failures.items())
        made = trial.manifest(step.name, step.key)
        assert made is not None, step
    names = sorted({*manifest.files, *made.files})
    other = [name for name in names if manifest.files.get(name) != made.files.get(name)]
    return f"computed again, it has other bytes: {', '.join(other)}" if other else None
