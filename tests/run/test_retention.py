"""Weights that are dropped change no number, and come back with the same bytes where a step needs them."""

import errno
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from support import forks
from support.tiny import (
    ENVIRONMENT,
    Reports,
    lab,
    listing,
    run_study,
    steps_of,
    store_at,
    tiny,
    tiny_config,
    write_study,
)

from lab.checks.verify import inspect
from lab.config.files import parse_study
from lab.errors import InputError
from lab.hashing import digest
from lab.loop import Study, build
from lab.models import load as models
from lab.run.executors import execute
from lab.run.folder import RunFolder
from lab.run.plan import make_plan
from lab.run.retention import Keeper, bytes_by_group, drop, leftovers, pruning, weights_of
from lab.run.walk import lacking
from lab.run.worker import UNATTENDED, run_job
from lab.steps import job_of
from lab.store import space
from lab.store.atomic import file_sha256, write_file
from lab.store.leftovers import ABANDONED, left
from lab.store.manifest import MANIFEST, PRUNED, dropped_files, seal_of
from lab.store.step import Step
from lab.store.store import Store

COUNTING = {"model": {"kind": "ngram", "order": 2, "smoothing": "interpolated", "n_positions": 16}, "train": None}
CONTINUED = {"train__start": "continue", "population": 2, "regimes": ["replace"]}
CHANGES: dict[str, dict[str, Any]] = {"counting": {**COUNTING, "seeds": [0, 1]}, "network": {}, "continued": CONTINUED}
Make = Callable[..., Study]


def go(study: Study, folder: Path, fresh: frozenset[str] = frozenset()) -> tuple[Reports, dict[str, str]]:
    """Run a study in this process as `lab run` does, weights dropped as it says; failures by label."""
    run, reports = RunFolder(folder), Reports()
    run.begin(study, {})
    keeper = Keeper(reports, study, run, fresh)
    how = {"workers": 0, "threads": 1, "fresh": fresh, "log": folder / "workers.log"}
    failures = execute(run.store, study.steps, keeper, **how)
    keeper.sweep()
    run.link(study.generations, run.store)
    run.write_tables(study, run.store)
    return reports, {step.label: reason for step, reason in failures.items()}


def weights(store: Store) -> set[str]:
    """Keys of the models whose weights are on the disk."""
    return {path.parent.name for path in store.root.glob("train/*/*.safetensors")}


def table(folder: Path) -> bytes:
    return (folder / "results.csv").read_bytes()


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory, corpus_file: Path) -> Mapping[str, Path]:
    """Each study, run with all weights kept: the folder of the run."""
    found = {}
    for name, changes in CHANGES.items():
        found[name] = tmp_path_factory.mktemp(name) / "tiny"
        run_study(build(tiny_config(corpus_file, **changes)), found[name])
    return found


@pytest.fixture
def copied(kept: Mapping[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    """The folder of a fresh copy of one of these runs."""

    def copy(name: str) -> Path:
        shutil.copytree(kept[name].parent, tmp_path / name, symlinks=True)
        return tmp_path / name / "tiny"

    return copy


# --- no number changes ---------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", CHANGES)
def test_a_run_that_keeps_no_weights_gives_the_same_table(
    built: Make, tmp_path: Path, kept: Mapping[str, Path], name: str
) -> None:
    study, store = built(**CHANGES[name], keep_models="none"), store_at(tmp_path)
    reports, failures = go(study, tmp_path / "tiny")
    assert failures == {} and len(reports.of("finished")) == len(study.steps)
    assert table(tmp_path / "tiny") == table(kept[name])
    assert weights(store) == set()
    for step in steps_of(study, "train"):
        there = {path.name for path in store.folder(step.name, step.key).iterdir()}
        assert {MANIFEST, PRUNED, "config.json", "training.json"} <= there
    for kind in ("sample", "synthetic", "heldout", "record"):
        for step in steps_of(study, kind):
            assert store.whole(job_of(step)) and not store.dropped(step.name, step.key)
    before = listing(tmp_path / "store")
    reports, _ = go(study, tmp_path / "tiny")
    assert reports.of("started") == [] and listing(tmp_path / "store") == before, "a second run computes nothing"


@pytest.mark.slow
def test_weights_go_while_the_run_goes_on(built: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A member's weights go once its successor has begun from them: of two members never more than 3 models of 6."""
    most = 0
    forward = Keeper.finished

    def finished(keeper: Keeper, *arguments: Any) -> None:
        nonlocal most
        most = max(most, len(weights(keeper.store)))
        forward(keeper, *arguments)

    monkeypatch.setattr(Keeper, "finished", finished)
    study = built(**CONTINUED, keep_models="none", generations=3)
    assert go(study, tmp_path / "tiny")[1] == {}
    assert len(steps_of(study, "train")) == 6 and most == 3


def test_last_keeps_the_last_generation_of_each_chain(built: Make, tmp_path: Path) -> None:
    study = built(**COUNTING, keep_models="last", generations=3)
    assert go(study, tmp_path / "tiny")[1] == {}
    last = {model.key for g in study.generations if g.t == 2 for model in g.models}
    assert weights(store_at(tmp_path)) == last and len(last) == 2


def test_it_is_in_no_key_and_makes_no_other_run(built: Make, corpus_file: Path, copied: Callable[[str], Path]) -> None:
    a, b = built(), built(keep_models="none")
    assert [step.key for step in a.steps] == [step.key for step in b.steps]
    run = RunFolder(copied("counting"))
    run.check_extends(run.config().model_copy(update={"keep_models": "none"}))
    with pytest.raises(InputError, match="keep_models cannot be swept"):
        built(sweep={"keep_models": ["all", "none"]})


# --- weights come back ---------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", ["counting", "continued"])
def test_a_deleted_sample_is_made_again_from_weights_made_again(
    built: Make, tmp_path: Path, kept: Mapping[str, Path], name: str
) -> None:
    study, store = built(**CHANGES[name], keep_models="none"), store_at(tmp_path)
    go(study, tmp_path / "tiny")
    manifests = {p: p.read_bytes() for p in store.root.glob("[st]*/*/manifest.json")}
    shard = [step for step in steps_of(study, "sample") if "gen 1" in step.label][-1]
    folder = store.folder("sample", shard.key)
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix == ".npy"}
    shutil.rmtree(folder)

    lines = {line.step: line for line in make_plan(study, Store(store.root), workers=1).lines}
    assert lines["sample"].unique - lines["sample"].done == 1
    again = {"counting": 1, "continued": 2}[name]  # the generation before was its beginning
    assert lines["train"].unique - lines["train"].done == again, "a plan counts what must be trained again"

    reports, failures = go(study, tmp_path / "tiny")
    assert failures == {}
    started = [label.split()[0] for label in reports.of("started")]
    assert started == ["train"] * again + ["write"], "and nothing else runs"
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix == ".npy"} == before
    for path, text in manifests.items():
        old, new = json.loads(text), json.loads(path.read_bytes())
        assert old["files"] == new["files"] and old["content"] == new["content"], path
    assert weights(store) == set(), "and they are dropped again"
    assert table(tmp_path / "tiny") == table(kept[name])


@pytest.mark.slow
def test_a_run_that_grows_begins_from_weights_made_again(built: Make, tmp_path: Path) -> None:
    whole = built(**CONTINUED, generations=3)
    go(whole, tmp_path / "whole" / "tiny")
    go(built(**CONTINUED, keep_models="none"), tmp_path / "grown" / "tiny")
    reports, failures = go(built(**CONTINUED, keep_models="none", generations=3), tmp_path / "grown" / "tiny")
    assert failures == {}
    assert len([label for label in reports.of("started") if label.startswith("train")]) == 6
    assert table(tmp_path / "grown" / "tiny") == table(tmp_path / "whole" / "tiny")


@pytest.mark.slow
def test_two_shards_that_wait_for_one_dropped_model(built: Make, tmp_path: Path) -> None:
    """It waits for another dropped one itself, as each generation begins with the weights of the one before."""
    study = built(train__start="continue", regimes=["replace"], keep_models="none", generations=3)
    store, folder = store_at(tmp_path), tmp_path / "tiny"
    go(study, folder)
    whole = table(folder)
    lost = [step for step in steps_of(study, "sample") if " gen 1 " in step.label] + steps_of(study, "record")
    assert len(lost) == 2 + 3
    for step in lost:
        shutil.rmtree(store.folder(step.name, step.key))
    reports, failures = go(study, folder)
    assert failures == {} and table(folder) == whole
    trained = [label for label in reports.of("started") if label.startswith("train")]
    assert len(trained) == len(set(trained)) == 2, "generations 0 and 1, once each"


def test_weights_that_another_machine_drops_just_now_are_made_again(
    built: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were there when the shard was planned, and are gone when it begins; so twice in a row."""
    study, store = built(**COUNTING, regimes=["replace"], keep_models="last"), store_at(tmp_path)
    go(study, tmp_path / "other")
    whole = table(tmp_path / "other")
    shard = steps_of(study, "sample")[0]
    shutil.rmtree(store.folder("sample", shard.key))
    assert store.dropped("train", shard.inputs["model"].key)
    answers = iter([[], [], *[None] * 100])

    def seen(store: Store, step: Step) -> list[Step]:
        answer = next(answers) if step == shard else None
        return lacking(store, step) if answer is None else answer

    monkeypatch.setattr("lab.run.walk.lacking", seen)
    reports, failures = go(study, tmp_path / "other")
    assert failures == {} and table(tmp_path / "other") == whole
    started = reports.of("started")
    assert started.count(shard.label) == 3 and started.count(shard.inputs["model"].label) == 1


def test_weights_that_come_back_otherwise_are_refused(built: Make, tmp_path: Path) -> None:
    """As on another machine: here the manifest states the hash of weights that this one does not make."""
    study, store = built(**COUNTING, keep_models="none"), store_at(tmp_path)
    go(study, tmp_path / "tiny")
    shard = next(step for step in steps_of(study, "sample") if "replace" in step.label)
    path = store.folder("train", shard.inputs["model"].key) / MANIFEST
    shutil.rmtree(store.folder("sample", shard.key))
    manifest = json.loads(path.read_text())
    (name,) = (name for name in manifest["files"] if name.endswith(".safetensors"))
    manifest["files"][name]["sha256"] = "0" * 64
    manifest["content"] = digest({file: entry["sha256"] for file, entry in manifest["files"].items()})
    manifest["seal"] = seal_of(manifest)
    path.write_text(json.dumps(manifest))
    before = listing(path.parent)
    _, failures = go(study, tmp_path / "tiny")
    ((label, reason),) = failures.items()
    assert label == shard.inputs["model"].label
    assert f"made again gives other bytes ({name}) than {path.parent} states" in reason
    assert listing(path.parent) == before, "nothing committed is touched"
    assert not store.folder("sample", shard.key).exists()
    shutil.rmtree(path.parent)  # as the message says
    assert go(study, tmp_path / "tiny")[1] == {} and store.folder("sample", shard.key).exists()


@pytest.mark.parametrize("look", ["verify", "inspect"])
@pytest.mark.parametrize("before", [Path.stat, file_sha256], ids=["stat", "hash"])
def test_weights_that_another_process_drops_while_this_one_looks_are_not_missing(
    built: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: Callable[..., Any], look: str
) -> None:
    """Else a step made from them would look as if it were made from other inputs, and be computed a second time."""
    study, store = built(**COUNTING, regimes=["replace"], keep_models="all"), store_at(tmp_path)
    go(study, tmp_path / "other")
    model = steps_of(study, "train")[0]
    (name,), folder = weights_of(store, model), store.folder("train", model.key)

    def interrupted(path: Path, *rest: Any, **options: Any) -> Any:
        if path.name == name:
            monkeypatch.undo()
            assert drop(store_at(tmp_path), model, [name])
        return before(path, *rest, **options)

    here = store_at(tmp_path)
    assert here.manifest("train", model.key) is not None
    monkeypatch.setattr(*([Path, "stat"] if before is Path.stat else ["lab.store.manifest.file_sha256"]), interrupted)
    if look == "verify":
        here.verify("train", model.key)  # raises where something is missing
    else:
        assert inspect(folder, model)[1] == []
    assert dropped_files(folder) == {name}, "they were dropped meanwhile"


def test_killed_between_the_note_and_the_weights(built: Make, tmp_path: Path) -> None:
    study, store = built(**COUNTING), store_at(tmp_path)
    go(study, tmp_path / "tiny")
    folder = store.folder("train", steps_of(study, "train")[0].key)
    (folder / PRUNED).write_text(json.dumps({"files": ["counts.safetensors"]}))
    assert go(study, tmp_path / "tiny")[0].of("started") == []
    assert go(built(**COUNTING, keep_models="none"), tmp_path / "tiny")[0].of("started") == []
    assert weights(store) == set()
    with pytest.raises(InputError, match=r"weights of this model were dropped .* remove this folder and run"):
        models.load(folder)


def test_a_torn_note_is_a_damaged_artifact(built: Make, tmp_path: Path, kept: Mapping[str, Path]) -> None:
    study, store = built(**CHANGES["counting"], keep_models="none"), store_at(tmp_path)
    go(study, tmp_path / "tiny")
    model = steps_of(study, "train")[0]
    (store.folder("train", model.key) / PRUNED).write_text("{")
    reports, failures = go(study, tmp_path / "tiny")
    assert failures == {} and reports.of("started") == [model.label]
    assert table(tmp_path / "tiny") == table(kept["counting"])


# --- by hand -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_prune_says_what_would_go_and_does_it(copied: Callable[[str], Path]) -> None:
    folder = copied("counting")
    cwd, store = folder.parent, Store(folder.parent / "store")
    before, want = listing(cwd), table(folder)
    size = sum(path.stat().st_size for path in store.root.glob("train/*/*.safetensors"))
    said = lab("prune", "tiny", "--checkpoints", ".", "--keep-models", "none", "--dry-run", "--json", cwd=cwd)
    assert said.returncode == 0, said.stderr
    found = json.loads(said.stdout)
    assert found["bytes"] == size and len(found["weights"]) == len(weights(store)) > 0
    assert listing(cwd) == before, "a dry run changes nothing"
    assert pruning(RunFolder(folder), "all").weights == []
    assert 0 < pruning(RunFolder(folder), "last").bytes < size
    asked = pruning(RunFolder(folder), "none")
    assert asked.apply(store) == []
    left = listing(cwd)
    gone = {name for name in before if name not in left}
    assert gone == {name for name in before if name.endswith("counts.safetensors")}
    kept = {name for name in left if not name.endswith(PRUNED) and not (cwd / name).is_dir()}
    assert {name: left[name] for name in kept} == {name: before[name] for name in kept}, "all else is as it was"
    assert table(folder) == want and pruning(RunFolder(folder), "none").bytes == 0


def test_what_another_run_wants_stays(built: Make, copied: Callable[[str], Path], corpus_file: Path) -> None:
    """The other run shares the human chain of seed 0; its sample was deleted, so it needs one model's weights."""
    folder = copied("counting")
    store, other = Store(folder.parent / "store"), folder.parent / "other"
    fields = tiny(corpus_file, **COUNTING, name="other", regimes=["human"], keep_models="all")
    other.mkdir()
    write_study(other / "config.yaml", fields)
    human = {model.key for g in built(**COUNTING).generations if g.regime == "human" for model in g.models}
    found = pruning(RunFolder(folder), "none")
    assert {item.path.parent.name for item in found.weights} == weights(store) - human
    assert set(found.wanted.values().__iter__().__next__()) == {"other"} and len(found.wanted) == len(human) == 2

    write_study(other / "config.yaml", {**fields, "keep_models": "none"})
    assert pruning(RunFolder(folder), "none").wanted == {}
    shard = next(s for s in steps_of(built(**COUNTING), "sample") if s.label.startswith("write human"))
    shutil.rmtree(store.folder("sample", shard.key))
    assert list(pruning(RunFolder(folder), "none").wanted) == [], "this run needs it too, so it is no one's to drop"
    assert shard.inputs["model"].key not in {i.path.parent.name for i in pruning(RunFolder(folder), "none").weights}

    (other / "config.yaml").write_text(yaml.safe_dump({**fields, "corpus": {**fields["corpus"], "path": "gone.txt"}}))
    found = pruning(RunFolder(folder), "none")
    assert found.weights == [] and "gone.txt does not exist" in found.unreadable["other"]


def test_leftovers_go_unless_a_living_process_holds_them(copied: Callable[[str], Path]) -> None:
    folder = copied("counting")
    store = Store(folder.parent / "store")
    done = next(store.root.glob("train/*")).name
    held, dead = "a" * 40, "b" * 40
    torn, mine = f".tmp-{dead}-{store.host}-1", f".tmp-{held}-{store.host}-1"
    for name in (torn, f".old-{dead}-1", f".corrupt-{done}-1", mine):
        (store.root / "train" / name).mkdir()
        (store.root / "train" / name / "file").write_text("12345")
    (store.root / ".locks").mkdir(exist_ok=True)
    (store.root / ".locks" / dead).write_text("")
    hold = "import sys; from pathlib import Path; from lab.store.store import Store\n"
    hold += "with Store(Path(sys.argv[1])).lock(sys.argv[2]): print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", hold, str(store.root), held]
    with subprocess.Popen(command, stdin=-1, stdout=-1, env=ENVIRONMENT) as process:
        assert process.stdout is not None and process.stdin is not None
        process.stdout.readline()
        before = listing(folder.parent)
        found = list(leftovers(store))
        assert listing(folder.parent) == before
        names = {item.path.name: item.bytes for item in found}
        expected = dict.fromkeys((torn, f".old-{dead}-1", f".corrupt-{done}-1"), 5)
        assert names == {**expected, dead: 0}
        assert pruning(RunFolder(folder), "all").apply(store) == []
        process.stdin.close()
    assert {path.name for path in store.root.glob("train/.*")} == {mine}
    pruning(RunFolder(folder), "all").apply(store)
    assert list(store.root.glob("*/.*")) == [] and list((store.root / ".locks").iterdir()) == []


def test_a_name_that_no_writer_gave_waits_a_day(tmp_path: Path) -> None:
    for name in ("a.tmp", ".tmp", "a.b.c.tmp"):
        (tmp_path / name).touch()
        assert not left(tmp_path / name)
        age(tmp_path / name, ABANDONED + 60)
        assert left(tmp_path / name)


def prune(folder: Path) -> list[str]:
    """Names of what goes."""
    found = pruning(RunFolder(folder), "all")
    assert found.apply(RunFolder(folder).store) == []
    return sorted(item.path.name for item in found.leftovers)


def age(path: Path, seconds: float) -> None:
    for file in (*path.rglob("*"), path):
        os.utime(file, (time.time() - seconds,) * 2)


def test_what_another_machine_may_be_writing_stays_for_a_day(copied: Callable[[str], Path]) -> None:
    """Its locks are not seen here.  A training writes nothing but checkpoints for long."""
    folder, key = copied("counting"), "b" * 40
    store = RunFolder(folder).store
    other = store.root / "train" / f".tmp-{key}-0123abcd-1"
    other.mkdir()
    (other / "file").write_text("12345")
    note = store.root / "train" / next(iter(weights(store))) / f".{PRUNED}.0123abcd.1.tmp"
    note.write_text("{")
    scratch = store.scratch(key) / "fitting" / "step-00000001"
    scratch.mkdir(parents=True)
    for path in (other, note):
        age(path, ABANDONED - 60)
    age(store.scratch(key), ABANDONED + 60)
    assert prune(folder) == [key], "no run has this step: its checkpoints go"
    for path in (other, note):
        age(path, ABANDONED + 60)
    scratch.mkdir(parents=True)
    assert prune(folder) == sorted([key, note.name]), "what is trained leaves checkpoints"
    assert prune(folder) == [other.name]


def test_the_note_of_a_killed_drop_goes(built: Make, copied: Callable[[str], Path]) -> None:
    """With `lab prune`, or with the next drop.  Not that of a living process."""
    folder = copied("counting")
    store = RunFolder(folder).store
    with subprocess.Popen(["true"]) as process:
        pass
    place = store.root / "train" / next(iter(weights(store)))
    note, living = (place / f".{PRUNED}.{store.host}.{number}.tmp" for number in (process.pid, os.getppid()))
    note.write_text("{")
    living.write_text("{")
    assert prune(folder) == [note.name]
    note.write_text("{")
    assert go(built(**COUNTING, seeds=[0, 1], keep_models="none"), folder)[1] == {}
    assert not note.exists() and living.exists()


def test_checkpoints_stay_while_a_step_of_a_run_goes_on_from_them(
    built: Make, copied: Callable[[str], Path], corpus_file: Path
) -> None:
    """Of this run or of one beside it; while a run beside it cannot be read, all stay."""
    folder = copied("counting")
    store, other = RunFolder(folder).store, folder.parent / "other"
    other.mkdir()
    mine = steps_of(built(**CHANGES["counting"]), "train")[0].key
    its = steps_of(built(), "train")[0].key
    nobodys, done = "c" * 40, steps_of(built(**CHANGES["counting"]), "train")[1].key
    shutil.rmtree(store.folder("train", mine))

    def checkpoint() -> None:
        for key in (mine, its, nobodys, done):
            (store.scratch(key) / "fitting").mkdir(parents=True, exist_ok=True)

    checkpoint()
    write_study(other / "config.yaml", {**tiny(corpus_file), "name": "other"})
    assert prune(folder) == sorted([nobodys, done])
    checkpoint()
    (other / "config.yaml").write_text("{")
    assert prune(folder) == [done]
    shutil.rmtree(other)
    assert prune(folder) == sorted([its, nobodys])


# --- room ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CHANGES)
def test_the_estimate_of_disk_is_right_within_a_factor_of_1_5(kept: Mapping[str, Path], name: str) -> None:
    study = build(RunFolder(kept[name]).config())
    real = sum(bytes_by_group(kept[name].parent / "store").values())
    assert 1 / 1.5 < make_plan(study, Store(kept[name] / "empty"), workers=1).disk / real < 1.5


def test_the_sizes_of_a_store_are_those_of_its_files(kept: Mapping[str, Path]) -> None:
    root = kept["counting"].parent / "store"
    du = subprocess.run(["du", "-sb", root / "train"], capture_output=True, text=True, check=True).stdout
    folders = [path for path in (root / "train", *(root / "train").rglob("*")) if path.is_dir()]
    assert bytes_by_group(root)["models"] == int(du.split()[0]) - sum(path.stat().st_size for path in folders)


def test_a_step_that_would_not_fit_fails_with_its_chain(
    built: Make, tmp_path: Path, kept: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is too full for anything just when seed 1's first sample is begun, and only then."""
    study, real = built(**CHANGES["counting"]), space.check_room
    free = {"now": 10**9}

    def look(folder: Path, what: str, size: int) -> None:
        free["now"] = int(space.SAFETY * size) + space.SPARE - (what == "write shared seed 1 gen 0 part 1")
        real(folder, what, size)

    monkeypatch.setattr("lab.store.space.check_room", look)
    monkeypatch.setattr("lab.store.space.shutil.disk_usage", lambda _: SimpleNamespace(free=free["now"]))
    _, failures = go(study, tmp_path / "tiny")
    ((label, reason),) = failures.items()
    assert label == "write shared seed 1 gen 0 part 1"
    assert reason.startswith(f"{label} needs about 1.0 MB and {tmp_path / 'store'} has 1.0 MB free; nothing of it is")
    assert "lab prune RUN" in reason and "--checkpoints" in reason
    done = table(tmp_path / "tiny").decode().splitlines()
    assert len(done) == 1 + 4 + 1, "seed 0 is complete, and so is what needs no such sample: human, seed 1, gen 1"
    assert not [path for path in store_at(tmp_path).root.glob("*/.*") if path.parent.name != ".locks"]
    monkeypatch.undo()
    assert go(study, tmp_path / "tiny")[1] == {}
    assert table(tmp_path / "tiny") == table(kept["counting"])


def test_a_step_needs_no_room_for_its_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes on without them (tests/models/test_checkpoints.py); what lies there of an earlier attempt goes with
    it."""
    asked: list[int] = []
    monkeypatch.setattr("lab.store.space.check_room", lambda folder, what, size: asked.append(size))
    step = replace(build(parse_study(forks.COUNTS)).human[0], disk=1000, scratch=9000)
    store = store_at(tmp_path)
    store.scratch(step.key).mkdir(parents=True)
    (store.scratch(step.key) / "state").write_bytes(bytes(4000))
    run_job(store, job_of(step), lambda _: None, UNATTENDED, fresh=False)
    assert store.whole(job_of(step)) and not store.scratch(step.key).exists() and asked == [1000]


FULL = [
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.EDQUOT, "Disk quota exceeded"),
    OSError("1280 requested and 96 written"),  # numpy's tofile
    RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),  # safetensors'
]


def test_a_full_disk_is_named_where_it_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store has room, and the folder of temporary files has none; or the error says not which file it was."""
    full, roomy = tmp_path / "full", tmp_path / "roomy"
    monkeypatch.setattr(space, "free", lambda folder: 0 if full in (folder, *folder.parents) else 10**12)
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(full))
    assert f"temporary files is full: {full} (TMPDIR)" in str(space.full(roomy))
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(roomy))
    nameless = OSError(errno.ENOSPC, "No space left on device")
    assert f"the disk is full: {full} has 0.0 MB free" in str(space.full(full))
    assert str(Path.cwd()) not in str(space.said(nameless)) and str(tmp_path) not in str(space.said(nameless))
    full.mkdir()

    def write(temporary: Path) -> None:
        raise nameless

    with pytest.raises(OSError, match="No space left") as caught:
        write_file(full / "results.csv", write)
    assert f"the disk is full: {full} has 0.0 MB free" in str(space.said(caught.value))


@pytest.mark.parametrize("error", FULL, ids=lambda error: str(error)[:20])
def test_a_full_disk_is_said_in_one_line(tmp_path: Path, error: Exception) -> None:
    said = rf"the disk is full: {tmp_path} has [\d,.]+ MB free; .*lab prune RUN"
    with pytest.raises(InputError, match=said), space.full_in_one_line(tmp_path):
        raise error
    with pytest.raises(InputError, match="quota"), space.full_in_one_line(tmp_path):
        raise error
    with pytest.raises(KeyError), space.full_in_one_line(tmp_path):
        raise KeyError("other errors pass")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB, where this process may mount one."""
    place = tmp_path / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2000k", "tmpfs", str(place)]
    try:
        mounted = os.geteuid() == 0 and subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("file systems cannot be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_disk_that_fills_up_leaves_a_run_that_goes_on(
    built: Make, kept: Mapping[str, Path], small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check before each step is blind here: the writing itself fails, wherever the 2 MB end."""
    study = built(**CHANGES["counting"])
    monkeypatch.setattr("lab.store.space.check_room", lambda *_: None)
    ballast, left = small_disk / "ballast", []
    run = RunFolder(small_disk / "tiny")
    for size in (1_800_000, 1_500_000, 1_200_000, 0):
        ballast.write_bytes(b"0" * size)
        failures = execute(
            run.store, study.steps, Reports(), workers=0, threads=1, fresh=frozenset(), log=run.path / "workers.log"
        )
        left.append(len(failures))
        assert all(f"the disk is full: {run.store.root} has" in reason for reason in failures.values()), failures
        assert [path for path in run.store.root.glob("*/.*") if path.parent.name != ".locks"] == []
    assert left[0] > 0 and left[-1] == 0, left
    monkeypatch.undo()
    run.begin(study, {})
    run.write_tables(study, run.store)
    assert table(run.path) == table(kept["counting"])
    for manifest in run.store.root.glob("*/*/manifest.json"):
        for name, entry in json.loads(manifest.read_text())["files"].items():
            assert file_sha256(manifest.parent / name) == entry["sha256"]
