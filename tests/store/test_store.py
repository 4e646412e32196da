"""An artifact is whole or absent: commits, damage, stale inputs, locks."""

import fcntl
import json
import multiprocessing
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest
from support.tiny import store_at

from lab.errors import Stopped
from lab.hashing import digest
from lab.store.atomic import file_sha256, write_text
from lab.store.manifest import HASHED_AT_ONCE, MANIFEST
from lab.store.step import Step
from lab.store.store import Damaged, Job, Store

Write = Callable[[Path], None]


def job(seed: int = 0, code: str = "code", **inputs: Step) -> Job:
    return Job.of(make(seed, **inputs), code)


def make(seed: int = 0, **inputs: Step) -> Step:
    return Step("toy", "1", {"seed": seed}, inputs, where={"path": "here"})


def writing(text: str, calls: list[str] | None = None) -> Write:
    def write(folder: Path) -> None:
        (folder / "deep").mkdir()
        (folder / "deep" / "b.txt").write_text(text)
        (folder / "a.txt").write_text("a")
        if calls is not None:
            calls.append(text)

    return write


def test_a_second_run_computes_nothing(tmp_path: Path) -> None:
    store, calls = store_at(tmp_path), list[str]()
    assert store.run(job(), writing("x", calls), {}, fresh=False) is True
    assert store.run(job(), writing("y", calls), {}, fresh=False) is False
    assert Store(store.root).run(job(), writing("z", calls), {}, fresh=False) is False
    assert calls == ["x"]
    assert (store.folder("toy", job().key) / "deep" / "b.txt").read_text() == "x"


def test_fresh_makes_again_what_other_code_made(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    store.run(job(), writing("x"), {}, fresh=False)
    assert store.run(job(), writing("y"), {}, fresh=True) is False
    assert store.run(job(code="edited"), writing("y"), {}, fresh=False) is False
    assert store.run(job(code="edited"), writing("y"), {}, fresh=True) is True
    assert (store.folder("toy", job().key) / "deep" / "b.txt").read_text() == "y"
    assert everything_in(store) == [job().key]


def everything_in(store: Store) -> list[str]:
    return sorted(os.listdir(store.root / "toy"))


def test_the_manifest_says_what_how_from_what_and_where(tmp_path: Path) -> None:
    store, parent = store_at(tmp_path), make(0)
    store.run(Job.of(parent, "code"), writing("x"), {}, fresh=False)
    store.run(job(1, text=parent), writing("y"), {"cpu": "some"}, fresh=False)
    folder = store.folder("toy", job(1, text=parent).key)
    manifest = json.loads((folder / MANIFEST).read_text())
    sha = {"a.txt": file_sha256(folder / "a.txt"), "deep/b.txt": file_sha256(folder / "deep" / "b.txt")}
    parent_manifest = store.manifest("toy", parent.key)
    assert parent_manifest is not None
    assert manifest == {
        "step": "toy",
        "key": folder.name,
        "version": "1",
        "source": "code",
        "params": {"seed": 1, "path": "here"},
        "inputs": {"text": {"step": "toy", "key": parent.key, "content": parent_manifest.content}},
        "files": {name: {"bytes": 1, "sha256": sha[name]} for name in sha},
        "content": digest(sha),
        "environment": {"cpu": "some"},
        "seal": manifest["seal"],
    }
    assert manifest.pop("seal") == digest(manifest)
    # printf a | sha256sum
    assert sha["a.txt"] == "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"


class Killed(BaseException):
    """Stands for the end of the process: nothing after it may be relied on."""


@pytest.mark.parametrize("where", ["write", "manifest", "renamed"])
def test_killed_before_the_rename_nothing_is_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Not even the clean-up runs, as with SIGKILL; the next run removes what is left and makes the artifact."""
    store = store_at(tmp_path)

    def die(*_: object, **__: object) -> None:
        raise Killed

    def write(folder: Path) -> None:
        writing("x")(folder)
        if where == "write":
            die()

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)
        if where == "manifest":
            patch.setattr("lab.store.store.write_text", die)
        if where == "renamed":
            patch.setattr("lab.store.store.renamed", die)
        with pytest.raises(Killed):
            store.run(job(), write, {}, fresh=False)
    assert len(everything_in(store)) == 1 and everything_in(store)[0].startswith(".tmp-")
    assert not store.whole(job())
    assert Store(store.root).run(job(), writing("y"), {}, fresh=False) is True
    assert everything_in(store) == [job().key]


def test_killed_while_an_artifact_of_other_code_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old one is aside, the new one not yet in place: absent, and nothing of either is left in the end."""
    store = store_at(tmp_path)
    store.run(job(), writing("x"), {}, fresh=False)

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)
        patch.setattr("lab.store.store.renamed", die)
        with pytest.raises(Killed):
            store.run(job(code="edited"), writing("y"), {}, fresh=True)
    assert len(everything_in(store)) == 2
    assert not Store(store.root).whole(job())
    assert store.run(job(), writing("z"), {}, fresh=False) is True
    assert everything_in(store) == [job().key]


def test_a_failure_leaves_nothing_and_passes_on(tmp_path: Path) -> None:
    store = store_at(tmp_path)

    def fail(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        store.run(job(), fail, {}, fresh=False)
    assert everything_in(store) == []
    assert store.run(job(), writing("x"), {}, fresh=False) is True


def truncate(folder: Path) -> None:
    (folder / "deep" / "b.txt").write_text("")


def remove_file(folder: Path) -> None:
    (folder / "a.txt").unlink()


def remove_manifest(folder: Path) -> None:
    (folder / MANIFEST).unlink()


def cut_manifest(folder: Path) -> None:
    (folder / MANIFEST).write_text((folder / MANIFEST).read_text()[:40])


@pytest.mark.parametrize("damage", [truncate, remove_file, remove_manifest, cut_manifest])
def test_a_damaged_artifact_is_absent_and_made_again(tmp_path: Path, damage: Write) -> None:
    store = store_at(tmp_path)
    store.run(job(), writing("x"), {}, fresh=False)
    damage(store.folder("toy", job().key))
    assert not Store(store.root).whole(job())
    said: list[str] = []
    assert Store(store.root, said.append).run(job(), writing("y"), {}, fresh=False) is True
    aside, whole = everything_in(store)
    assert whole == job().key and aside.startswith(f".corrupt-{job().key}-")
    assert len(said) == 1 and "was damaged: it is moved to .corrupt-" in said[0]
    store.run(job(code="edited"), writing("z"), {}, fresh=True)
    assert everything_in(store) == [aside, whole], "it stays until somebody has looked at it"


def test_a_child_is_made_again_when_its_parent_has_other_bytes(tmp_path: Path) -> None:
    store, parent = store_at(tmp_path), make(0)
    child, above = job(1, text=parent), Job.of(parent, "code")
    store.run(above, writing("x"), {}, fresh=False)
    store.run(child, writing("c"), {}, fresh=False)
    store.run(replace(above, source="edited"), writing("x"), {}, fresh=True)
    assert store.whole(child), "the same bytes again"
    store.run(above, writing("other"), {}, fresh=True)
    assert not store.whole(child)
    assert store.run(child, writing("d"), {}, fresh=False) is True
    assert store.whole(child)


def test_a_child_without_its_parent_is_not_whole(tmp_path: Path) -> None:
    store, parent = store_at(tmp_path), make(0)
    store.run(Job.of(parent, "code"), writing("x"), {}, fresh=False)
    store.run(job(1, text=parent), writing("c"), {}, fresh=False)
    shutil.rmtree(store.folder("toy", parent.key))
    assert not Store(store.root).whole(job(1, text=parent))


def test_a_job_survives_json() -> None:
    one = job(1, text=make(0))
    assert Job.from_json(one.to_json()) == one


def test_keys_hold_what_matters_and_nothing_else() -> None:
    assert Step("toy", "1", {"a": 1}, {}, tokens=5, work=2.0, label="x", where={"path": "p"}) == Step(
        "toy", "1", {"a": 1}, {}
    )
    parent = make(0)
    steps = [
        Step("toy", "1", {"a": 1}, {}),
        Step("toy", "2", {"a": 1}, {}),
        Step("top", "1", {"a": 1}, {}),
        Step("toy", "1", {"a": 2}, {}),
        Step("toy", "1", {"a": 1}, {"x": parent}),
        Step("toy", "1", {"a": 1}, {"y": parent}),
    ]
    assert len({step.key for step in steps}) == len(steps)


def test_a_parameter_that_json_cannot_hold_has_no_key() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        Step("toy", "1", {"a": float("nan")}, {})


def compute(root: Path, log: Path, barrier: Barrier) -> None:
    def write(folder: Path) -> None:
        with log.open("a") as file:
            file.write(f"{os.getpid()}\n")
        (folder / "a.txt").write_text("x" * 100_000)

    for seed in range(20):
        barrier.wait()
        Store(root).run(job(seed), write, {}, fresh=False)


@pytest.mark.slow
def test_three_processes_at_once_compute_each_artifact_once(tmp_path: Path) -> None:
    """20 artifacts, each asked for by 3 processes in the same moment."""
    context, log = multiprocessing.get_context("spawn"), tmp_path / "calls"
    barrier = context.Barrier(3)
    team = [context.Process(target=compute, args=(tmp_path / "store", log, barrier)) for _ in range(3)]
    for process in team:
        process.start()
    for process in team:
        process.join(60)
    assert [process.exitcode for process in team] == [0, 0, 0]
    assert len(log.read_text().splitlines()) == 20
    assert len(os.listdir(tmp_path / "store" / "toy")) == 20
    assert os.listdir(tmp_path / "store" / ".locks") == []


def test_a_lock_whose_file_was_replaced_is_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A opens B's lock file; B removes it and C locks a new one of that name: A must wait for C as well."""
    store, path = store_at(tmp_path), tmp_path / "store" / ".locks" / "k"
    lock, others = fcntl.flock, list[int]()

    def replaced(handle: int, how: int) -> None:
        if not others:
            path.unlink()
            others.append(os.open(path, os.O_CREAT | os.O_RDWR))
            lock(others[0], fcntl.LOCK_EX)
        lock(handle, how)

    monkeypatch.setattr(fcntl, "flock", replaced)
    with store.lock("k", wait=False) as held:
        assert not held and others
    with pytest.raises(Stopped), store.lock("k", stopping=iter([False, True]).__next__):
        pass
    os.close(others[0])
    with store.lock("k") as held:
        assert held and path.exists()
    assert not path.exists()


def test_text_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "results.csv"
    write_text(path, "old")

    def die(_: Path) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("lab.store.atomic.fsync", die)
        with pytest.raises(Killed):
            write_text(path, "new")
    assert path.read_text() == "old"
    with path.open() as reader:
        write_text(path, "new")
        assert reader.read() == "old", "who had it open still reads the whole old file"
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["results.csv"]


def test_a_flipped_byte_of_a_small_file_is_seen_at_once(tmp_path: Path) -> None:
    """Records and recipes: the artifact is not whole, so it is made again."""
    store, job = store_at(tmp_path), toy_job()
    store.run(job, lambda out: void((out / "a.json").write_text("[1]")), {}, fresh=False)
    (store.folder(job.name, job.key) / "a.json").write_text("[2]")
    assert not store_at(tmp_path).whole(job)


@pytest.mark.parametrize("entry", ["inputs", "environment", "params"])
def test_a_manifest_that_says_other_things_is_damaged_not_stale(tmp_path: Path, entry: str) -> None:
    """It is kept aside and named, like any other damage.  Manifests of before there were seals are as good as ever."""
    parent, said = make(0), list[str]()
    Store(tmp_path).run(Job.of(parent, "code"), writing("x"), {}, fresh=False)
    child = job(1, text=parent)
    Store(tmp_path).run(child, writing("y"), {"cpu": "some"}, fresh=False)
    path = tmp_path / "toy" / child.key / MANIFEST
    manifest = json.loads(path.read_text())
    del manifest["seal"]
    path.write_text(json.dumps(manifest))
    assert Store(tmp_path).whole(child)
    manifest["seal"] = digest(manifest)
    other = {"inputs": {"text": {**manifest["inputs"]["text"], "content": "0" * 64}}}
    path.write_text(json.dumps(manifest | {entry: other.get(entry, {})}))
    assert Store(tmp_path, note=said.append).run(child, writing("y"), {"cpu": "some"}, fresh=False)
    (aside,) = (tmp_path / "toy").glob(f".corrupt-{child.key}-*")
    assert len(said) == 1 and f"it is moved to {aside.name} and made again" in said[0]
    assert Store(tmp_path).whole(child)


def test_a_flipped_byte_of_a_large_file_is_seen_before_use(tmp_path: Path) -> None:
    store, job = store_at(tmp_path), toy_job()
    store.run(job, lambda out: void((out / "a.bin").write_bytes(bytes(HASHED_AT_ONCE + 1))), {}, fresh=False)
    path = store.folder(job.name, job.key) / "a.bin"
    store_at(tmp_path).verify(job.name, job.key)
    path.write_bytes(bytes(HASHED_AT_ONCE) + b"x")
    again = store_at(tmp_path)
    with pytest.raises(Damaged):
        again.verify(job.name, job.key)
    again.set_aside(job.name, job.key)
    assert not path.exists() and not store_at(tmp_path).whole(job)


def toy_job() -> Job:
    return Job("toy", "k" * 40, "1", {}, {}, "toy", 0.0, "source")


def void(_: object) -> None:
    """A writer returns nothing."""


def test_what_is_written_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Power loss, as far as a program can see to it: every file and folder is flushed, the manifest after the files,
    the rename after all of them, the folder above after the rename."""
    seen: list[str] = []
    flush, rename = os.fsync, os.rename

    def flushed(handle: int) -> None:
        seen.append("flush " + Path(os.readlink(f"/proc/self/fd/{handle}")).name)
        flush(handle)

    def renamed(source: Any, target: Any, **how: Any) -> None:
        seen.append(f"{Path(source).name} is {Path(target).name}")
        rename(source, target, **how)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "rename", renamed)

    def write(folder: Path) -> None:
        (folder / "a.bin").write_bytes(b"a")
        (folder / "sub").mkdir()
        (folder / "sub" / "b.bin").write_bytes(b"b")

    store, job = Store(tmp_path / "store"), Job.of(Step("corpus", "1", {}, {}), "s")
    assert store.run(job, write, {}, fresh=False)
    (named,) = (place for place, what in enumerate(seen) if what.endswith(f" is {job.key}"))
    before, after = seen[:named], seen[named + 1 :]
    for name in ("a.bin", "b.bin", "sub"):
        assert f"flush {name}" in before
    files = max(before.index("flush a.bin"), before.index("flush b.bin"))
    assert any("manifest" in what for what in before[files:]), seen
    assert any(what.startswith(f"flush .tmp-{job.key}") for what in before)
    assert "flush corpus" in after
