"""The harness of the benchmarks: contestants that die, that are left behind, and files that are written whole."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.scripts import SCRIPTS, load
from support.tiny import PROJECT

bench = load("bench/bench_common.py")
bench_growth = load("bench/bench_growth.py")
BEGIN = """
import os, resource, signal, sys, time
import bench_common as bench

def nothing():
    pass

def alone():
    return nothing

def team():
    players = [bench.Player(alone, 1, "cpu", daemon=True) for _ in range(2)]
    return lambda: [player.play() for player in players]
"""
DEATHS = {
    "setup": ("b", "def broken():\n    raise ValueError('boom')\nbench.alternate({'a': alone, 'b': broken}, 2, 1)"),
    "work": ("b", "bench.alternate({'a': alone, 'b': lambda: lambda: os._exit(3)}, 2, 1)"),
    "team": (
        "c",
        "def killed():\n    team()()\n    os.kill(os.getpid(), signal.SIGKILL)\nbench.alternate({'c': killed}, 2, 1)",
    ),
    "asleep": (
        "d",
        "player = bench.Player(alone, 1, 'cpu', name='d')\nplayer.play()\n"
        "player.process.kill()\nplayer.process.join()\nplayer.play()",
    ),
    "apart": ("work done apart", "bench.apart(lambda: os._exit(3))"),
}
"""Whose process ends, and how.  A killed one's own two processes hold its end of the pipe, until they end too."""


def script(text: str) -> subprocess.Popen[str]:
    """In a process group of its own."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(SCRIPTS / "bench"), str(PROJECT)])}
    command = [sys.executable, "-c", BEGIN + text]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def said(process: subprocess.Popen[str]) -> str:
    """On stderr, once the last process that holds it has ended."""
    try:
        return process.communicate(timeout=30)[1]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise


@pytest.mark.parametrize("case", DEATHS)
def test_a_contestant_that_dies_is_one_line(case: str) -> None:
    """Beside its own traceback, which tells the cause."""
    name, text = DEATHS[case]
    process = script(text)
    lines = said(process).splitlines()
    assert process.returncode == 1
    assert lines[-1] == f"error: the process of {name} ended; what it said, if anything, is above"
    if case == "setup":
        assert lines.count("ValueError: boom") == 1 and sum("Traceback" in line for line in lines) == 1
    else:
        assert len(lines) == 1


def test_contestants_end_with_a_killed_benchmark() -> None:
    """Three that wait for their turn, one of them with two of its own; and one that begins when its benchmark is gone.

    Each holds stdout and stderr while it lives.
    """
    process = script("""
if not os.fork():
    os.register_at_fork(after_in_child=lambda: time.sleep(0.3))
    bench.Player(alone, 1, "cpu")
    os._exit(0)
os.wait()
players = [bench.Player(setup, 1, "cpu") for setup in (alone, team, alone)]
for player in players:
    player.play()
print("waiting", flush=True)
time.sleep(600)
""")
    assert process.stdout is not None and process.stdout.readline() == "waiting\n"
    process.kill()
    assert said(process) == "" and process.returncode == -signal.SIGKILL


def test_a_file_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    bad = {
        str(tmp_path): "no plain file",
        str(tmp_path / "pipe"): "no plain file",
        os.devnull: "no plain file",
        str(tmp_path / "gone" / "a.json"): "does not exist",
        str(tmp_path / ("a" * 253)): "cannot be written",
        str(tmp_path / ("a" * 300)): "cannot be written",
    }
    for text, words in bad.items():
        with pytest.raises(argparse.ArgumentTypeError, match=words):
            bench.new_file(text)
    assert bench.new_file(str(tmp_path / "a.json")) == Path(os.path.realpath(tmp_path)) / "a.json"
    assert os.listdir(tmp_path) == ["pipe"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
def test_a_write_protected_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.touch(mode=0o444)
    with pytest.raises(argparse.ArgumentTypeError, match="write-protected"):
        bench.new_file(str(path))


def test_a_link_stays_and_what_it_points_to_is_written(tmp_path: Path) -> None:
    link, path = tmp_path / "link.json", tmp_path / "a.json"
    link.symlink_to(path)
    bench.replace(bench.new_file(str(link)), {"a": 1})
    assert link.is_symlink() and json.loads(path.read_text()) == {"a": 1}


def test_what_was_written_stays_where_the_next_writing_is_killed(tmp_path: Path) -> None:
    """The kernel kills it once it has written 4,096 bytes."""
    path = tmp_path / "a.json"
    bench.replace(path, {"a": 1})
    process = script(f"""
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
bench.replace(bench.Path({str(path)!r}), list(range(10_000)))
""")
    assert said(process) == "" and process.returncode == -signal.SIGXFSZ
    assert json.loads(path.read_text()) == {"a": 1}
    bench.replace(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 2} and os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--corpora", "7,x"], "argument --corpora: 7,x are no whole numbers"),
        (["--corpora", "0"], "argument --corpora: 0 are no whole numbers"),
        (["--threads", "2"], "unrecognized arguments: --threads 2"),
        (["--repetitions", "2"], "unrecognized arguments: --repetitions 2"),
        (["--device", "cuda"], "unrecognized arguments: --device cuda"),
    ],
)
def test_bad_flags_of_growth(
    flags: list[str], words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["bench_growth.py", *flags])
    with pytest.raises(SystemExit) as stopped:
        bench_growth.main()
    assert stopped.value.code == 2
    assert words in capsys.readouterr().err.splitlines()[-1]
