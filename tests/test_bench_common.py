"""The harness of the benchmarks: contestants that die, that are left behind, and files that are written whole."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import bench_common as bench
import bench_growth
import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"
BEGIN = "import os, sys, time, bench_common as bench\nnothing = lambda: None\n"
CASES = {
    "setup": "def broken():\n    raise ValueError('boom')\nbench.alternate({'a': lambda: nothing, 'b': broken}, 2, 1)",
    "work": "bench.alternate({'a': lambda: nothing, 'b': lambda: lambda: os._exit(3)}, 2, 1)",
    "apart": "bench.apart(lambda: os._exit(3))",
}


def script(text: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", BEGIN + text]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(SCRIPTS), str(SCRIPTS.parent)])}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


@pytest.mark.parametrize("case", CASES)
def test_a_contestant_that_dies_is_one_line(case: str) -> None:
    """Beside what it says itself, which tells the cause."""
    process = script(CASES[case])
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert said.splitlines()[-1] == "error: a contestant's process ended; what it said is above"
    assert (
        ("ValueError: boom" in said) == (case == "setup") and "BrokenPipeError" not in said and "EOFError" not in said
    )


def test_contestants_end_with_a_killed_benchmark() -> None:
    """Three that wait for their turn, one of them in a team of two: five processes."""
    process = script("""
def alone():
    print(os.getpid(), flush=True)
    return nothing
def team():
    players = [bench.Player(alone, 1, "cpu", daemon=True) for _ in range(2)]
    print(os.getpid(), flush=True)
    return lambda: [player.play() for player in players]
players = [bench.Player(setup, 1, "cpu") for setup in (alone, team, alone)]
print(*(player.play() >= 0 for player in players), flush=True)
time.sleep(600)
""")
    assert process.stdout is not None
    pids: list[int] = []
    while (line := process.stdout.readline().split())[0] != "True":
        pids += map(int, line)
    assert len(pids) == 5 and all(alive(pid) for pid in pids)
    process.send_signal(signal.SIGKILL)
    process.wait()
    for _ in range(300):
        if not any(alive(pid) for pid in pids):
            break
        time.sleep(0.1)
    left = [pid for pid in pids if alive(pid)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert left == []
    process.communicate()


def alive(pid: int) -> bool:
    """Not a dead one either that nobody has waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_file_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    for bad, said in ((tmp_path, "cannot be written"), (tmp_path / "gone" / "a.json", "does not exist")):
        with pytest.raises(argparse.ArgumentTypeError, match=said):
            bench.new_file(str(bad))
    assert bench.new_file(str(tmp_path / "a.json")) == tmp_path / "a.json"


def test_what_was_written_stays_where_the_next_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    bench.replace(path, {"a": 1})
    with pytest.raises(TypeError):
        bench.replace(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1} and os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize("flags", [["--corpora", "7,x"], ["--corpora", "0"], ["--threads", "2"], ["--device", "cuda"]])
def test_bad_flags_of_growth(flags: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["bench_growth.py", *flags])
    with pytest.raises(SystemExit) as stopped:
        bench_growth.main()
    assert stopped.value.code == 2
