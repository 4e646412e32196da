"""`lab verify`: every damage is named, nothing is changed, and computing again gives the same bytes."""

import errno
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from support.hostile import call
from support.tiny import listing, run_study, steps_of, tiny_config

from lab import machine
from lab.checks.verify import REPAIR, Verified, compute_again, differences, verify_run
from lab.errors import DiskFull
from lab.hashing import digest
from lab.loop import Study, build
from lab.run.folder import RunFolder
from lab.run.retention import pruning
from lab.store.atomic import file_sha256
from lab.store.manifest import MANIFEST, PRUNED, Manifest, seal_of
from lab.store.step import Step
from lab.store.store import Store

KINDS = (
    "corpus",
    "tokenizer",
    "rows",
    "heldout-rows",
    "human",
    "pool",
    "train",
    "sample",
    "synthetic",
    "heldout",
    "record",
)
TABLES = ("results.csv", "bins.csv", "results.parquet")


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory, corpus_file: Path) -> Path:
    """The folder of a run of a tiny GPT-2, two generations each begun from the one before."""
    folder = tmp_path_factory.mktemp("verify") / "tiny"
    run_study(build(tiny_config(corpus_file, regimes=["replace"], train__start="continue")), folder)
    return folder


@pytest.fixture
def run(once: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(once.parent, tmp_path / "runs", symlinks=True)
    return tmp_path / "runs" / "tiny"


def study_of(run: Path) -> Study:
    return build(RunFolder(run).config())


def look(run: Path, recompute: int = 0) -> Verified:
    """Verify in this process, and hold it to its promise that it changes nothing."""
    before = listing(run.parent)
    found = verify_run(RunFolder(run), recompute=recompute, seed=0, workers=0)
    assert listing(run.parent) == before
    return found


def flip(path: Path, place: int | None = None) -> None:
    """One bit, by default in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2 if place is None else place] ^= 4
    path.write_bytes(data)


def folder_of(run: Path, step: Step) -> Path:
    return run.parent / "store" / step.name / step.key


def test_a_run_is_verified_where_its_corpus_is_gone(tmp_path: Path, corpus_file: Path) -> None:
    text = shutil.copy(corpus_file, tmp_path / "a.jsonl")
    model = {"kind": "ngram", "order": 2, "smoothing": "interpolated", "n_positions": 16}
    study = build(tiny_config(text, regimes=["human"], generations=1, model=model, train=None))
    run_study(study, tmp_path / "runs" / "tiny")
    text.unlink()
    found = look(tmp_path / "runs" / "tiny", recompute=1)
    assert not found.problems and found.missing == 0 and found.artifacts == len(study.steps)


def test_all_is_well(run: Path) -> None:
    """Every dear step is computed again: 2 trainings, 4 shards, 2 probes."""
    found = look(run, recompute=100)
    study = study_of(run)
    assert found.problems == [] and found.differences == []
    assert found.artifacts == len(study.steps) and found.missing == found.dropped == 0
    files = [path for path in (run.parent / "store").rglob("*") if path.is_file() and path.name != MANIFEST]
    assert found.files == len(files)
    assert sorted(found.recomputed) == sorted(step.label for step in steps_of(study, "train", "sample", "heldout"))
    assert found.notes == ["8 steps can be computed again, fewer than the 100 that were asked for"]


@pytest.mark.slow
def test_a_run_without_its_store_is_not_called_damaged(run: Path, tmp_path: Path) -> None:
    """As after cp -rL of the run alone: its tables are what they were, and there is nothing to compare them with."""
    shutil.copytree(run, tmp_path / "elsewhere" / "tiny")
    found = look(tmp_path / "elsewhere" / "tiny")
    assert [(problem.what, problem.problem) for problem in found.problems] == [
        (str(tmp_path / "elsewhere" / "store"), "holds nothing of this run")
    ]


def test_a_full_folder_of_temporary_files_is_named(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(run))

    monkeypatch.setattr(RunFolder, "write_tables", full)
    with pytest.raises(DiskFull, match="TMPDIR"):
        look(run)


def test_a_repair_lets_the_next_run_make_it_again(run: Path) -> None:
    """A large model that no step reads any more is damaged: a run alone does not see it, a repair and a run mend it."""
    study, store = study_of(run), RunFolder(run).store
    last = steps_of(study, "train")[-1]
    path = store.folder("train", last.key) / "model.safetensors"
    before = path.read_bytes()
    path.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    found = verify_run(RunFolder(run), recompute=0, seed=0, repair=True)
    assert [problem.todo for problem in found.problems] == [REPAIR] and found.damaged == [last]
    assert any("is moved to .corrupt-" in note for note in found.notes) and not path.exists()
    assert run_study(study, run).of("finished") == [last.label]
    assert path.read_bytes() == before and verify_run(RunFolder(run), recompute=0, seed=0).problems == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_in_any_kind_of_artifact_is_named(run: Path, kind: str) -> None:
    step = steps_of(study_of(run), kind)[-1]
    for file in sorted(path for path in folder_of(run, step).iterdir() if path.name != MANIFEST):
        flip(file)
        found = look(run)
        names = [(p.what, p.problem, p.todo) for p in found.problems if not p.what.endswith(TABLES)]
        problem = f"{file.name} is damaged: its sha256 is not that of the manifest"
        assert names == [(f"{step.label} ({folder_of(run, step)})", problem, REPAIR)]
        flip(file)
    assert look(run).problems == []


def test_every_kind_is_flipped(run: Path) -> None:
    assert {step.name for step in study_of(run).steps} == set(KINDS)


@pytest.mark.slow
@pytest.mark.parametrize("every", [pytest.param(3, marks=pytest.mark.full), 23])
def test_a_bit_flipped_in_a_manifest(run: Path, every: int) -> None:
    """Every byte that means anything, what only it knows too, for it is sealed; but for the word "seal" itself."""
    step = steps_of(study_of(run), "heldout")[0]
    path = folder_of(run, step) / MANIFEST
    whole = path.read_text()
    seal = whole.index("seal")
    unseen = []
    for place, letter in enumerate(whole):
        if seal <= place < seal + 4 or letter.isspace() or place % every:
            continue
        flip(path, place)
        if not look(run).problems:
            unseen.append(whole[place - 20 : place + 1])
        path.write_text(whole)
    assert unseen == []


@pytest.mark.parametrize("damage", ["truncated", "zeroed", "deleted", "no manifest", "gone", "torn note"])
def test_other_damage(run: Path, damage: str) -> None:
    step = steps_of(study_of(run), "train")[0]
    folder = folder_of(run, step)
    file, size = folder / "model.safetensors", (folder / "model.safetensors").stat().st_size
    said = {
        "truncated": f"model.safetensors has {size - 1:,} bytes, not the {size:,} that were committed",
        "zeroed": "model.safetensors is damaged: its sha256 is not that of the manifest",
        "deleted": "model.safetensors is missing",
        "no manifest": "has no manifest.json",
        "gone": "is not there, though others were made from it",
        "torn note": "its pruned.json is damaged",
    }
    match damage:
        case "truncated":
            file.write_bytes(file.read_bytes()[:-1])
        case "zeroed":
            file.write_bytes(bytes(size))
        case "deleted":
            file.unlink()
        case "no manifest":
            (folder / MANIFEST).unlink()
        case "gone":
            shutil.rmtree(folder)
        case "torn note":
            (folder / PRUNED).write_text("{")
    assert said[damage] in [problem.problem for problem in look(run, recompute=100).problems]


@pytest.mark.parametrize("table", TABLES)
def test_a_changed_table_is_named(run: Path, table: str) -> None:
    flip(run / table)
    ((what, problem),) = [(p.what, p.problem) for p in look(run).problems]
    assert what == str(run / table) and problem == "is not what the records in the store give"


def test_a_link_that_leads_elsewhere_is_named(run: Path) -> None:
    link = run / "replace-seed0" / "gen-01" / "model"
    target = (run / "replace-seed0" / "gen-00" / "model").resolve()
    link.unlink()
    link.symlink_to(target)
    ((what, problem),) = [(p.what, p.problem) for p in look(run).problems]
    assert what == str(link) and problem.startswith("does not lead to")


def forge(folder: Path, name: str) -> None:
    """Other content, with a manifest that agrees with it: hashes alone cannot tell."""
    flip(folder / name, -1)
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"][name]["sha256"] = file_sha256(folder / name)
    manifest["content"] = digest({file: entry["sha256"] for file, entry in manifest["files"].items()})
    manifest["seal"] = seal_of(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest))


def test_a_forgery_is_found_by_computing_again(run: Path) -> None:
    step = steps_of(study_of(run), "heldout")[0]
    folder = folder_of(run, step)
    forge(folder, "nats.npy")
    manifest, store = Manifest.of(folder), Store(run.parent / "store")
    said = compute_again(step, store, manifest, threads=1, workers=0)
    assert said == "computed again, it has other bytes: nats.npy"
    record = next(s for s in study_of(run).steps if s.name == "record" and step in s.inputs.values())
    found = {p.what: p.problem for p in look(run, recompute=100).problems}
    assert found == {
        f"{step.label} ({folder})": said,
        f"{record.label} ({folder_of(run, record)})": "was made from another heldout-0 than the one that is there",
    }


@pytest.mark.slow
def test_dropped_weights_are_no_damage_and_can_be_checked_all_the_same(run: Path) -> None:
    """What reads them is computed again from trainings computed again, in the temporary store."""
    pruning(RunFolder(run), "none").apply(Store(run.parent / "store"))
    found = look(run, recompute=100)
    assert found.problems == [] and found.dropped == 2 and len(found.recomputed) == 8
    step = steps_of(study_of(run), "train")[0]
    path = folder_of(run, step) / MANIFEST
    manifest = json.loads(path.read_text())
    other = "0" * 64
    manifest["files"]["model.safetensors"]["sha256"] = other
    manifest["content"] = digest({file: entry["sha256"] for file, entry in manifest["files"].items()})
    manifest["seal"] = seal_of(manifest)
    path.write_text(json.dumps(manifest))
    said = " ".join(problem.problem for problem in look(run, recompute=100).problems)
    assert "computed again, it has other bytes: model.safetensors" in said


def test_a_run_that_has_only_begun_is_no_damage(
    built: Callable[..., Study], tmp_path: Path, once: Path, run: Path
) -> None:
    more = RunFolder(run).config().model_copy(update={"generations": 3})
    RunFolder(run).begin(build(more), {})
    found = look(run)
    assert found.problems == [] and found.missing > 0 and found.artifacts == len(study_of(once).steps)


HERE = {"python": "3.12.1", "torch": "2.12.0", "datasets": "5.0", "cpu": "A", "gpu": "none"}
RECORDED: dict[str, Any] = {"cpu": "A", "versions": {"python": "3.12.1", "torch": "2.11.0", "datasets": "4.9"}}


def test_differences_of_the_machine_say_for_which_steps_bits_are_promised(run: Path) -> None:
    study = study_of(run)
    steps = [steps_of(study, kind)[0] for kind in ("corpus", "pool", "train")]
    environments = {step: RECORDED for step in steps}
    datasets, torch = differences(environments, HERE)
    assert (torch.what, torch.recorded, torch.here, torch.steps, torch.changed) == (
        "torch",
        "2.11.0",
        "2.12.0",
        3,
        ["train"],
    )
    assert (datasets.what, datasets.changed) == ("datasets", ["corpus", "train"])
    (cpu,) = differences({step: {"cpu": "B"} for step in steps}, HERE)
    assert (cpu.what, cpu.recorded, cpu.here, cpu.changed) == ("cpu", "B", "A", ["corpus", "pool", "train"])
    assert differences(environments, {**HERE, **RECORDED["versions"]}) == []
    text = Verified("tiny", differences=[torch]).lines()[0]
    said = "torch was 2.11.0 for 3 artifacts and is 2.12.0 here: equal bits are not promised for train, and are for"
    assert text == f"environment: {said} other steps"


def test_a_gpu_model_is_compared_where_a_step_ran_on_one(built: Callable[..., Study]) -> None:
    step = steps_of(built(), "train")[0]
    on_gpu = Step(step.name, step.version, {**step.params, "machine": {"device": "cuda"}}, {})
    found = differences({on_gpu: {"cpu": "A", "gpu": "H100"}}, HERE)
    assert [(d.what, d.recorded, d.here) for d in found] == [("gpu", "H100", "none")]
    assert machine.here().keys() >= {"python", "torch", "cpu", "gpu"}


@pytest.mark.slow
def test_the_command(run: Path) -> None:
    """Exit codes 0, 1 and 2, in this process; a worker process of its own computes the sampled step."""
    cwd = run.parent

    def verify(*arguments: str) -> tuple[int, Mapping[str, Any], str]:
        done = call("verify", *arguments, "--checkpoints", ".", "--json", cwd=cwd)
        return done.code, json.loads(done.out) if done.out else {}, done.err

    code, found, _ = verify("tiny", "--recompute", "1", "--seed", "3")
    assert code == 0 and found["problems"] == [] and len(found["recomputed"]) == 1
    flip(run / "results.csv")
    code, found, _ = verify("tiny", "--recompute", "0")
    assert code == 1 and [problem["what"] for problem in found["problems"]] == ["tiny/results.csv"]
    code, found, said = verify("nothing")
    assert (code, found) == (2, {}) and "nothing holds no run; runs beside it: tiny" in said


@pytest.mark.slow
def test_elsewhere_it_speaks_of_the_machine_that_made_the_run(
    tmp_path: Path, corpus_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """compute.dtype auto: made where the processor has bfloat16, looked at where it has not, one model damaged."""
    monkeypatch.setattr(machine, "_cpu_flags", lambda: {"avx512_bf16"})
    study, path = build(tiny_config(corpus_file, compute__dtype="auto")), tmp_path / "tiny"
    run_study(study, path)
    (path / "env.json").write_text(json.dumps(study.machine.__dict__))
    monkeypatch.setattr(machine, "_cpu_flags", set)
    assert build(RunFolder(path).config()).machine.dtype == "float32" != study.machine.dtype
    assert look(path).problems == []
    flip(RunFolder(path).store.folder("train", steps_of(study, "train")[0].key) / "model.safetensors")
    assert [problem.what.split(" (")[0] for problem in look(path).problems] == [steps_of(study, "train")[0].label]
