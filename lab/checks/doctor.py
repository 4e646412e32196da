"""`lab doctor`: is this machine fit for the lab, and is the store in order?  Each check says what to do."""

from __future__ import annotations

import fcntl
import os
import tempfile
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement

from lab import machine
from lab.config.files import ROOT
from lab.run import retention
from lab.store import space
from lab.store.manifest import MANIFEST
from lab.store.store import Store

MEMORY = (500_000_000, 2_000_000_000)
"""Free bytes of memory below which it is bad, or worth a warning.  A worker takes half a GB or more."""
DISK = (100_000_000, 2_000_000_000)
"""Free bytes of the disk below which it is bad, or worth a warning."""


@dataclass(frozen=True)
class Check:
    """What one check found."""

    level: Literal["ok", "warn", "bad"]
    what: str
    found: str
    todo: str = ""


def examine(checkpoints: Path) -> list[Check]:
    """Return the results of all checks.  One writes into a temporary folder beside the runs; nothing stays."""
    checks = [*_versions(), *_threads(), _memory(), _disk(checkpoints), _gpu(), _network(), _file_system(checkpoints)]
    return [*checks, *_store(Store(checkpoints / "store"), checkpoints)]


def _versions() -> list[Check]:
    """Compare Python and every library that the lab needs with the ranges in pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [Requirement(f"python{project['requires-python']}"), *map(Requirement, project["dependencies"])]
    versions = {each.name: machine.version(each.name) for each in wanted}
    bad = [
        Check("bad", each.name, version or "not installed", f'the lab needs {each.specifier}: pip install "{each}"')
        for each in wanted
        if (version := versions[each.name]) is None or not each.specifier.contains(version, prereleases=True)
    ]
    good = [f"{name} {versions[name]}" for name in ("python", "torch", "transformers", "numpy") if versions.get(name)]
    return bad or [Check("ok", "versions", f"all {len(wanted)} within pyproject.toml's ranges ({', '.join(good)})")]


def _threads() -> list[Check]:
    cores, quota = machine.cpu_cores(), machine.cpu_quota()
    threads = os.environ.get("OMP_NUM_THREADS")
    checks = [Check("ok", "cores", f"{cores}: {machine.cpu_name()}")]
    if quota is not None and quota < cores:
        used = machine.usable_cores()
        checks = [Check("ok", "cores", f"{cores} to run on, of which the control group grants {quota:g}: {used} used")]
    if threads is not None and (not threads.isdigit() or not 0 < int(threads) <= cores):
        todo = "unset it: the lab sets it for its workers, from compute.threads"
        checks.append(Check("warn", "OMP_NUM_THREADS", f"{threads}, with {cores} cores", todo))
    return checks


def _level(free: int, limits: tuple[int, int]) -> Literal["ok", "warn", "bad"]:
    return "bad" if free < limits[0] else "warn" if free < limits[1] else "ok"


def _memory() -> Check:
    free = machine.memory_available()
    if free is None:
        return Check("ok", "memory", "not known on this system")
    level = _level(free, MEMORY)
    return Check(level, "memory", f"{free / 1e9:.1f} GB free", "" if level == "ok" else "use fewer --workers")


def _disk(checkpoints: Path) -> Check:
    free = space.free(checkpoints)
    level = _level(free, DISK)
    todo = "" if level == "ok" else f"lab plan says what a study needs; {space.ADVICE}"
    return Check(level, "disk", f"{free / 1e9:.1f} GB free where {checkpoints} is", todo)


def _gpu() -> Check:
    reason = machine.no_cuda_because()
    name = machine.gpu_name()
    if reason is None:
        import torch

        if torch.cuda.is_available():
            found = f"{torch.cuda.get_device_name()}, driver {machine.gpu_driver()}, CUDA {torch.version.cuda} in torch"
            return Check("ok", "GPU", found)
        reason = f"torch {torch.__version__} (CUDA {torch.version.cuda}) cannot use it, driver {machine.gpu_driver()}"
    if name is None:
        return Check("ok", "GPU", f"none; the lab runs on the CPU ({reason})")
    return Check("warn", "GPU", f"{name}, but {reason}", "install a torch built for this driver, or set device: cpu")


def _network() -> Check:
    if os.environ.get("HF_HUB_OFFLINE", "0").upper() in ("1", "ON", "YES", "TRUE"):
        return Check("ok", "network", "HF_HUB_OFFLINE is set: hub ids are refused, local folders are read")
    return Check("ok", "network", "hub ids are looked up; local files need no network (HF_HUB_OFFLINE=1 turns it off)")


def _file_system(checkpoints: Path) -> Check:
    """Try what the store relies on: locks, links, and renames onto an absent folder and over a file."""
    folder = space.nearest(checkpoints)
    probes: dict[str, Callable[[Path], bool]] = {
        "flock": _locks,
        "rename of a folder": _renames_folder,
        "rename over a file": _renames_file,
        "symbolic links": _links,
    }
    try:
        with tempfile.TemporaryDirectory(prefix=".lab-doctor-", dir=folder) as trial:
            lacking = [name for name, probe in probes.items() if not _works(probe, Path(trial))]
    except OSError as error:
        return Check(
            "bad", "file system", f"{folder} cannot be written: {error.strerror}", "give another --checkpoints"
        )
    if lacking:
        todo = "give --checkpoints on a local disk; until then start one run at a time"
        return Check("bad", "file system", f"{folder} lacks {', '.join(lacking)}", todo)
    return Check("ok", "file system", f"locks, renames and links work in {folder}")


def _works(probe: Callable[[Path], bool], folder: Path) -> bool:
    try:
        return probe(folder)
    except OSError:
        return False


def _locks(folder: Path) -> bool:
    """Return whether a second open file does not get the lock while the first one has it."""
    with (folder / "lock").open("w") as first, (folder / "lock").open("w") as second:
        fcntl.flock(first, fcntl.LOCK_EX)
        try:
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def _renames_folder(folder: Path) -> bool:
    """Return whether a rename works onto an absent name and fails onto a folder that holds something."""
    for name in ("a", "b"):
        (folder / name).mkdir()
        (folder / name / "file").write_text(name)
    (folder / "a").rename(folder / "c")
    try:
        (folder / "b").rename(folder / "c")
    except OSError:
        return (folder / "c" / "file").read_text() == "a"
    return False


def _renames_file(folder: Path) -> bool:
    for name in ("old", "new"):
        (folder / name).write_text(name)
    (folder / "new").replace(folder / "old")
    return (folder / "old").read_text() == "new"


def _links(folder: Path) -> bool:
    (folder / "link").symlink_to("target")
    return os.readlink(folder / "link") == "target"


def _store(store: Store, checkpoints: Path) -> list[Check]:
    if not store.root.is_dir():
        return [Check("ok", "store", f"none yet in {checkpoints}")]
    kinds = retention.bytes_by_group(store.root)
    parts = ", ".join(f"{kind} {space.megabytes(size)}" for kind, size in kinds.items() if size)
    checks = [Check("ok", "store", f"{space.megabytes(sum(kinds.values()))} ({parts or 'empty'})")]
    return [*checks, *_damage(store), *_locks_held(store), *_leftovers(store)]


def _damage(store: Store) -> list[Check]:
    """Look for artifacts without a whole manifest or with files of another size.  lab verify hashes large files."""
    folders = [path for path in sorted(store.root.glob("[a-z]*/[0-9a-f]*")) if path.is_dir()]
    damaged = [path for path in folders if store.manifest(path.parent.name, path.name) is None]
    if not damaged:
        return [Check("ok", "artifacts", f"{len(folders)}, each with its manifest and files of the right size")]
    todo = f"lab run of the study that it belongs to makes it again; lab verify RUN looks at every byte ({MANIFEST})"
    return [Check("bad", "artifact", f"{path} is damaged", todo) for path in damaged]


def _locks_held(store: Store) -> list[Check]:
    held = [path for path in sorted((store.root / ".locks").glob("*")) if retention.in_hand(store, path.name)]
    return [Check("ok", "lock", f"step {path.name} is in hand: {_holder(path)}") for path in held]


def _holder(path: Path) -> str:
    """Return who holds a lock.  /proc/locks, where there is one, lists it under the inode of the file."""
    try:
        inode = path.stat().st_ino
        lines = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
        pids = [int(words[4]) for words in lines if "->" not in words and words[5].rpartition(":")[2] == str(inode)]
    except (OSError, ValueError, IndexError):
        pids = []
    pids = [pid for pid in pids if pid > 0]  # 0 or less: a process of another container
    return f"process {pids[0]}{_command(pids[0])}" if pids else "a process that this system does not show"


def _command(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
    except OSError:
        return ""
    return f" ({words[:80]})"


def _leftovers(store: Store) -> list[Check]:
    items = list(retention.leftovers(store))
    if not items:
        return [Check("ok", "leftovers", "none")]
    size = space.megabytes(sum(item.bytes for item in items))
    corrupt = sum("damaged" in item.what for item in items)
    text = f"{len(items)} of killed writers, {size}" + (f"; {corrupt} were moved aside as damaged" if corrupt else "")
    return [Check("warn", "leftovers", text, "lab prune RUN removes them")]
