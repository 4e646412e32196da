"""Actions at named instants of a run: kill, signal, hang, fill the disk, damage an artifact.

lab/store/crash_points.py calls one installed hook with the name of every instant that a run and its workers pass, for
example "train/commit/synced".  A function of HOOKS makes a hook from JSON values, so that a forked or newly started
process can install it too.
"""

from __future__ import annotations

import errno
import fnmatch
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Hook = Callable[[str], None]


def install(order: list[Any] | None) -> None:
    """Install the hook that `order` names, [name, *arguments], in this process; None installs none."""
    from lab.store import crash_points

    if order:
        name, *arguments = order
        crash_points.install(HOOKS[name](*arguments))


def kill(whole: bool) -> None:
    """Send SIGKILL to the run and all that it started, or to this process alone."""
    if whole:
        os.killpg(0, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def note(path: str, text: str) -> None:
    """Append a line with one write, so that it is whole whatever happens next."""
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, f"{text}\n".encode())
    os.close(handle)


COUNTER = "instants"
"""A file in the run's working directory with one byte per instant that the run and its workers have passed."""


def at_number(number: int, act: Callable[[str], None]) -> Hook:
    """Act at the n-th instant of a run and its workers together, from 0."""
    path = Path(COUNTER).absolute()

    def hook(point: str) -> None:
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(handle, b".")
        passed = os.lseek(handle, 0, os.SEEK_CUR)  # where this byte ends: no other process has the same
        os.close(handle)
        if passed == number + 1:
            act(point)

    return hook


def at_match(pattern: str, number: int, act: Callable[[str], None]) -> Hook:
    """Act at the n-th instant of this process whose name matches `pattern`, from 1."""
    passed = 0

    def hook(point: str) -> None:
        nonlocal passed
        if fnmatch.fnmatch(point, pattern):
            passed += 1
            if passed == number:
                act(point)

    return hook


# --- the hooks -------------------------------------------------------------------------------------------------------


def recording(path: str) -> Hook:
    """Write down every instant."""
    return lambda point: note(path, point)


def dying_in_turn(path: str, whole: bool = True) -> Hook:
    """Die at the first instant at which no earlier process has died: `path` lists those."""

    def hook(point: str) -> None:
        if not Path(path).exists() or point not in Path(path).read_text().split("\n"):
            note(path, point)
            kill(whole)

    return hook


def dying(number: int, whole: bool = True) -> Hook:
    """Die at the n-th instant, and write its name into the file "died"."""
    path = str(Path("died").absolute())

    def die(point: str) -> None:
        note(path, point)
        kill(whole)

    return at_number(number, die)


def signalled(number: int, signals: list[int], leader: bool = True) -> Hook:
    """Send signals at the n-th instant, one after the other: to the run's first process, or to the whole group."""

    def send(point: str) -> None:
        for one in signals:
            os.kill(os.getsid(0), one) if leader else os.killpg(0, one)

    return at_number(number, send)


def asked(pattern: str, number: int) -> Hook:
    """Send SIGTERM to the run at the n-th such instant, and give it time to pass that on to this worker."""

    def ask(point: str) -> None:
        os.kill(os.getsid(0), signal.SIGTERM)
        time.sleep(0.5 if os.getpid() != os.getsid(0) else 0)

    return at_match(pattern, number, ask)


def meeting(path: str, pattern: str) -> Hook:
    """Write down every instant; at the first such one, wait until another run has reached it too."""

    def meet(point: str) -> None:
        while Path(path).read_text().split("\n").count(point) < 2:
            time.sleep(0.01)

    wait = at_match(pattern, 1, meet)

    def hook(point: str) -> None:
        note(path, point)
        wait(point)

    return hook


def stalled(pattern: str, path: str) -> Hook:
    """Write down the first such instant, and hang."""

    def stall(point: str) -> None:
        note(path, point)
        while True:
            time.sleep(60)

    return at_match(pattern, 1, stall)


def no_space(point: str) -> None:
    """Fail as a write on a full disk does."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def full(pattern: str) -> Hook:
    """Let every write at such an instant find the disk full."""

    def hook(point: str) -> None:
        if fnmatch.fnmatch(point, pattern):
            no_space(point)

    return hook


def once_full(pattern: str, number: int) -> Hook:
    """Let the n-th write at such an instant find the disk full, and no other."""
    return at_match(pattern, number, no_space)


def damaging(pattern: str, kind: str, how: str, below: str) -> Hook:
    """Damage the first artifact of a kind in the store `below`, at the first such instant after it was committed."""
    done = False

    def hook(point: str) -> None:
        nonlocal done
        artifacts = sorted(Path(below).glob(f"{kind}/[!.]*"))
        if not done and artifacts and fnmatch.fnmatch(point, pattern):
            done = True
            damage(artifacts[0], how)

    return hook


ALL = (recording, dying_in_turn, dying, signalled, asked, meeting, stalled, full, once_full, damaging)
HOOKS: dict[str, Callable[..., Hook]] = {hook.__name__: hook for hook in ALL}


# --- damage ----------------------------------------------------------------------------------------------------------

DAMAGES = ("truncated", "zeroed", "flipped", "deleted", "manifest cut", "manifest flipped", "manifest deleted", "gone")


def damage(artifact: Path, how: str) -> None:
    """Damage the largest file of an artifact, its manifest, or all of it ("gone"), in one way of DAMAGES."""
    files = [path for path in sorted(artifact.rglob("*")) if path.is_file() and path.name != "manifest.json"]
    path = artifact / "manifest.json" if how.startswith("manifest") else max(files, key=lambda p: p.stat().st_size)
    if how == "gone":
        shutil.rmtree(artifact)
    elif how.endswith("deleted"):
        path.unlink()
    else:
        data = bytearray(path.read_bytes())
        if how.endswith("flipped"):
            offset = data.index(b'"sha256": "') + 12 if how.startswith("manifest") else len(data) // 2
            data[offset] ^= 1
        data = data[: len(data) // 2] if how in ("truncated", "manifest cut") else data
        path.write_bytes(bytes(len(data)) if how == "zeroed" else bytes(data))
