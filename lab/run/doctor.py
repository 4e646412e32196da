"""`lab doctor`: is this machine fit for the lab, and is the store in order?  Each check says what to do."""

from __future__ import annotations

import fcntl
import os
import tempfile
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement

from lab import machine
from lab.config.files import ROOT
from lab.run import retention, sizes
from lab.store import space
from lab.store.manifest import MANIFEST
from lab.store.store import Store

LEVELS = ("ok", "warn", "bad")
MEMORY = (500_000_000, 2_000_000_000)
"""Free bytes below which memory is bad, and below which it is worth a warning; a worker takes half a GB or more."""
DISK = (100_000_000, 2_000_000_000)
"""The same of the disk."""


@dataclass(frozen=True)
class Check:
    level: str
    what: str
    found: str
    todo: str = ""


def examine(checkpoints: Path) -> list[Check]:
    """All checks.  Nothing stays written: one of them works in a temporary folder beside the runs."""
    checks = [*_versions(), *_threads(), _memory(), _disk(checkpoints), _gpu(), _network(), _file_system(checkpoints)]
    return [*checks, *_store(Store(checkpoints / "store"), checkpoints)]


def _versions() -> list[Check]:
    """Python and every library that the lab needs, against the ranges in pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [Requirement(f"python{project['requires-python']}"), *map(Requirement, project["dependencies"])]
    found = {each.name: machine.version(each.name) for each in wanted}
    bad = [
        Check("bad", each.name, version or "not installed", f'the lab needs {each.specifier}: pip install "{each}"')
        for each in wanted
        if (version := found[each.name]) is None or not each.specifier.contains(version, prereleases=True)
    ]
    good = [f"{name} {found[name]}" for name in ("python", "torch", "transformers", "numpy") if found.get(name)]
    return bad or [Check("ok", "versions", f"all {len(wanted)} within pyproject.toml's ranges ({', '.join(good)})")]


def _threads() -> list[Check]:
    cores, quota = machine.cpu_cores(), machine.cpu_quota()
    asked = os.environ.get("OMP_NUM_THREADS")
    checks = [Check("ok", "cores", f"{cores}: {machine.cpu_name()}")]
    if quota is not None and quota < cores:
        todo = f"pass --workers {max(1, int(quota))}: by default there is one for each core"
        checks = [Check("warn", "cores", f"{cores} to run on, but the control group grants {quota:g} of them", todo)]
    if asked is not None and (not asked.isdigit() or not 0 < int(asked) <= cores):
        todo = "unset it: the lab sets it for its workers, from compute.threads"
        checks.append(Check("warn", "OMP_NUM_THREADS", f"{asked}, with {cores} cores", todo))
    return checks


def _level(there: int, limits: tuple[int, int]) -> str:
    return "bad" if there < limits[0] else "warn" if there < limits[1] else "ok"


def _memory() -> Check:
    there = machine.memory_available()
    if there is None:
        return Check("ok", "memory", "not known on this system")
    level = _level(there, MEMORY)
    return Check(level, "memory", f"{there / 1e9:.1f} GB free", "" if level == "ok" else "use fewer --workers")


def _disk(checkpoints: Path) -> Check:
    there = space.free(checkpoints)
    level = _level(there, DISK)
    todo = "" if level == "ok" else f"lab plan says what a study needs; {space.ADVICE}"
    return Check(level, "disk", f"{there / 1e9:.1f} GB free where {checkpoints} is", todo)


def _gpu() -> Check:
    missing = machine.no_cuda_because()
    name = machine.gpu_name()
    if missing is None:
        import torch

        if torch.cuda.is_available():
            found = f"{torch.cuda.get_device_name()}, driver {machine.gpu_driver()}, CUDA {torch.version.cuda} in torch"
            return Check("ok", "GPU", found)
        missing = f"torch {torch.__version__} (CUDA {torch.version.cuda}) cannot use it, driver {machine.gpu_driver()}"
    if name is None:
        return Check("ok", "GPU", f"none; the lab runs on the CPU ({missing})")
    return Check("warn", "GPU", f"{name}, but {missing}", "install a torch built for this driver, or set device: cpu")


def _network() -> Check:
    if os.environ.get("HF_HUB_OFFLINE", "0").upper() in ("1", "ON", "YES", "TRUE"):
        return Check("ok", "network", "HF_HUB_OFFLINE is set: hub ids are refused, local folders are read")
    return Check("ok", "network", "hub ids are looked up; local files need no network (HF_HUB_OFFLINE=1 turns it off)")


def _file_system(checkpoints: Path) -> Check:
    """Locks, and renames onto an absent folder and onto a file: what the store's promises stand on."""
    place = space.nearest(checkpoints)
    probes: dict[str, Callable[[Path], bool]] = {
        "flock": _locks,
        "rename of a folder": _renames_folder,
        "rename over a file": _renames_file,
        "symbolic links": _links,
    }
    try:
        with tempfile.TemporaryDirectory(prefix=".lab-doctor-", dir=place) as folder:
            lacking = [name for name, probe in probes.items() if not _works(probe, Path(folder))]
    except OSError as error:
        return Check("bad", "file system", f"{place} cannot be written: {error.strerror}", "give another --checkpoints")
    if lacking:
        todo = "give --checkpoints on a local disk; until then start one run at a time"
        return Check("bad", "file system", f"{place} lacks {', '.join(lacking)}", todo)
    return Check("ok", "file system", f"locks, renames and links work in {place}")


def _works(probe: Callable[[Path], bool], folder: Path) -> bool:
    try:
        return probe(folder)
    except OSError:
        return False


def _locks(folder: Path) -> bool:
    """Two open files, one lock: the second must not get it while the first has it."""
    with (folder / "lock").open("w") as first, (folder / "lock").open("w") as second:
        fcntl.flock(first, fcntl.LOCK_EX)
        try:
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def _renames_folder(folder: Path) -> bool:
    """Onto an absent name it works, onto a folder that holds something it must not."""
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
    kinds = sizes.by_kind(store.root)
    parts = ", ".join(f"{kind} {space.megabytes(size)}" for kind, size in kinds.items() if size)
    checks = [Check("ok", "store", f"{space.megabytes(sum(kinds.values()))} ({parts or 'empty'})")]
    return [*checks, *_damage(store), *_locks_held(store), *_leftovers(store)]


def _damage(store: Store) -> list[Check]:
    """Artifacts without a whole manifest, or with files of another size.  Large files are hashed by lab verify."""
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
    """Who holds a lock: from /proc/locks, where there is one, by the file's number."""
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
    found = list(retention.leftovers(store))
    if not found:
        return [Check("ok", "leftovers", "none")]
    size = space.megabytes(sum(item.bytes for item in found))
    corrupt = sum("damaged" in item.what for item in found)
    said = f"{len(found)} of killed writers, {size}" + (f"; {corrupt} were moved aside as damaged" if corrupt else "")
    return [Check("warn", "leftovers", said, "lab prune RUN removes them")]
