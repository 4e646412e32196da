"""`lab doctor`: what is wrong with a machine or a store is said, with what to do, and nothing stays written."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.tiny import ENVIRONMENT, Finished, lab, listing

from lab import machine
from lab.checks import doctor
from lab.checks.doctor import Check, examine
from lab.cli.terminal import worker_count
from lab.store.atomic import host
from lab.store.manifest import MANIFEST

HEAVY = ("torch", "transformers", "datasets", "evaluate", "accelerate", "matplotlib", "pandas")


@pytest.fixture
def runs(finished: Finished, tmp_path: Path) -> Path:
    """A copy of the checkpoints of a finished run."""
    shutil.copytree(finished.cwd / "checkpoints", tmp_path / "checkpoints", symlinks=True)
    return tmp_path / "checkpoints"


def of(checks: list[Check], what: str) -> Check:
    (found,) = [check for check in checks if check.what == what]
    return found


@pytest.mark.slow
def test_a_machine_in_order(runs: Path) -> None:
    before = listing(runs)
    done = lab("doctor", "--checkpoints", runs, "--json", cwd=runs.parent)
    assert done.returncode == 0, done.stdout + done.stderr
    checks = [Check(**fields) for fields in json.loads(done.stdout)]
    assert {check.what for check in checks} >= {
        *("versions", "cores", "memory", "disk", "GPU", "network", "file system", "store", "artifacts", "leftovers"),
    }
    assert all(check.level in ("ok", "warn", "bad") for check in checks)
    assert all(check.todo for check in checks if check.level != "ok"), "whatever is not well says what to do"
    artifacts = len(list(runs.glob(f"store/*/*/{MANIFEST}")))
    assert of(checks, "artifacts").found.startswith(f"{artifacts}, each with its manifest")
    assert listing(runs) == before


def test_no_store_yet(tmp_path: Path) -> None:
    assert of(examine(tmp_path / "none" / "yet"), "store").found.startswith("none yet")
    assert list(tmp_path.iterdir()) == []


def test_versions_out_of_range(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = '[project]\nrequires-python = ">=3.99"\ndependencies = ["numpy>=1,<2", "pyyaml>=5", "no-such-library"]\n'
    (tmp_path / "pyproject.toml").write_text(project)
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    checks = [check for check in examine(tmp_path) if check.level == "bad"]
    assert [(check.what, check.found.split()[0]) for check in checks] == [
        ("python", sys.version.split()[0]),
        ("numpy", machine.versions()["numpy"]),
        ("no-such-library", "not"),
    ]
    assert checks[1].todo == 'the lab needs <2,>=1: pip install "numpy<2,>=1"'


@pytest.mark.parametrize(("asked", "level"), [("999", "warn"), ("many", "warn"), ("0", "warn"), ("1", None)])
def test_threads_set_oddly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str, level: str | None) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert [check.level for check in examine(tmp_path) if check.what == "OMP_NUM_THREADS"] == ([level] if level else [])


def test_a_quota_of_the_control_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files as the kernel writes them (Documentation/admin-guide/cgroup-v2.rst)."""
    group = {"cpu.max": "50000 100000\n", "memory.max": "900000000\n", "memory.current": "700000000\n"}
    group["memory.stat"] = "anon 600000000\ninactive_file 100000000\n"

    def text_of(name: str) -> list[str]:
        return group[name].splitlines() if name == "cpu.max" else [group[name]]

    monkeypatch.setattr(machine, "_control_groups", lambda name, above=True: iter(text_of(name)))
    assert machine.cpu_quota() == 0.5 and machine.memory_available() == 300_000_000 and machine.usable_cores() == 1
    checks = examine(tmp_path)
    assert of(checks, "cores").found.endswith("grants 0.5: 1 used")
    assert (of(checks, "memory").level, of(checks, "memory").todo) == ("bad", "use fewer --workers")
    monkeypatch.setattr(machine, "cpu_cores", lambda: 64)
    group["cpu.max"] = "max 100000\n450000 100000\n800000 100000\n"  # its own, and those of the groups above
    assert (machine.cpu_quota(), machine.usable_cores(), worker_count(None, "cpu", 2)) == (4.5, 4, 2)
    group |= {"cpu.max": "max 100000\n", "memory.max": "max\n"}
    assert machine.cpu_quota() is None and of(examine(tmp_path), "memory").level == "ok"


def test_little_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for free, level in ((10**6, "bad"), (10**9, "warn"), (10**12, "ok")):
        monkeypatch.setattr("lab.store.space.shutil.disk_usage", lambda _, free=free: SimpleNamespace(free=free))
        found = of(examine(tmp_path), "disk")
        assert found.level == level and ("lab prune" in found.todo) == (level != "ok")


def test_a_place_that_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = of(examine(tmp_path / "file" / "checkpoints"), "file system")
    assert found.level == "bad" and "cannot be written" in found.found


BROKEN: dict[str, tuple[object, str, Callable[..., object]]] = {
    "flock": (fcntl, "flock", lambda *_: None),  # NFS mounted with local_lock=none and an old kernel: it says yes
    "rename of a folder": (Path, "rename", lambda old, new: shutil.copytree(old, new, dirs_exist_ok=True)),
    "rename over a file": (Path, "replace", lambda old, new: old.unlink()),
    "symbolic links": (Path, "symlink_to", lambda *_: (_ for _ in ()).throw(OSError("not supported"))),
}


@pytest.mark.parametrize("lacking", BROKEN)
def test_a_file_system_that_lacks_what_the_store_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacking: str
) -> None:
    monkeypatch.setattr(*BROKEN[lacking])
    found = of(examine(tmp_path), "file system")
    assert (found.level, found.found) == ("bad", f"{tmp_path} lacks {lacking}")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def holder(runs: Path) -> Iterator[int]:
    """A living process that has a step in hand."""
    hold = "import sys; from pathlib import Path; from lab.store.store import Store\n"
    hold += "with Store(Path(sys.argv[1])).lock(sys.argv[2]): print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", hold, str(runs / "store"), "a" * 40]
    with subprocess.Popen(command, stdin=-1, stdout=-1, env=ENVIRONMENT) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdout.readline()
        yield process.pid
        process.stdin.close()


def test_locks_and_leftovers(runs: Path, holder: int) -> None:
    store = runs / "store"
    for name, key in ((".tmp", "a"), (".tmp", "b"), (".corrupt", "c")):
        left = store / "train" / f"{name}-{key * 40}-{host()}-1"
        left.mkdir()
        (left / "model.safetensors").write_bytes(b"0" * 1_000_000)
    before = listing(runs)
    checks = examine(runs)
    lock, found = of(checks, "lock"), of(checks, "leftovers")
    assert lock.level == "ok" and lock.found.startswith(f"step {'a' * 40} is in hand: ")
    if Path("/proc/locks").exists() and f" {holder} " in Path("/proc/locks").read_text():
        assert f"process {holder} (" in lock.found
    assert (found.level, found.todo) == ("warn", "lab prune RUN removes them")
    assert found.found == "2 of killed writers, 2.0 MB; 1 were moved aside as damaged", "not those of the living one"
    assert listing(runs) == before


@pytest.mark.slow
def test_damage(runs: Path) -> None:
    (folder,) = (runs / "store").glob("corpus/*")
    os.truncate(folder / "documents.parquet", 100)
    done = lab("doctor", "--checkpoints", runs, cwd=runs.parent)
    assert done.returncode == 1
    assert f"bad   artifact: {folder} is damaged; lab run of the study" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("command", [["doctor"], ["prune", "tiny"], ["status", "tiny"]], ids=lambda words: words[0])
def test_heavy_libraries_are_left_alone(finished: Finished, command: list[str]) -> None:
    """Where there is no GPU; doctor asks torch about one that is there."""
    code = "import sys\nfrom lab.cli.app import main\nsys.argv[:] = ['lab', *sys.argv[1:]]\ntry:\n    main()\n"
    code += f"except SystemExit as end:\n    print('HEAVY', end.code, [m for m in {HEAVY} if m in sys.modules])"
    hidden = {**ENVIRONMENT, "CUDA_VISIBLE_DEVICES": ""}
    words = [sys.executable, "-c", code, *command]
    done = subprocess.run(words, cwd=finished.cwd, env=hidden, capture_output=True, text=True, timeout=120)
    last = done.stdout.splitlines()[-1]
    assert last.startswith("HEAVY") and last.endswith("[]"), done.stdout + done.stderr
