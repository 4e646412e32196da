"""Output that is closed, full or of another encoding: no traceback, and the exit code says what happened."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.tiny import ENVIRONMENT, PROJECT

from lab.cli import app, streams

LAB = [sys.executable, "-P", str(PROJECT / "lab" / "__main__.py")]


def shell(command: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run bash with $LAB, as scripts/lab starts it."""
    lab = " ".join(LAB)
    return subprocess.run(
        ["bash", "-c", command], cwd=cwd, env={**ENVIRONMENT, **environment, "LAB": lab}, capture_output=True, text=True
    )


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "ascii"])
def test_characters_that_an_encoding_lacks(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
    streams.prepare()
    print("7 ± 1 ▁█ Кот…")
    sys.stdout.flush()
    plus = {"latin-1": "±", "cp1252": "±", "ascii": "+-"}[encoding]
    dots = {"latin-1": "...", "cp1252": "…", "ascii": "..."}[encoding]
    assert raw.getvalue().decode(encoding) == f"7 {plus} 1 18 \\u041a\\u043e\\u0442{dots}\n"


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        ("$LAB --version >&-", 0, ""),
        ("$LAB --version >&- 2>&- <&-", 0, ""),
        ("$LAB --version 1</dev/null", 0, ""),  # as bash leaves it in a script that starts without one
        ("$LAB nothing 2</dev/null", 2, ""),
        ("$LAB --version > /dev/full", 1, "error: standard output cannot be written: No space left on device"),
        ("$LAB nothing 2> /dev/full >&-", 2, ""),
        ("$LAB theory | true; exit ${PIPESTATUS[0]}", 1, ""),
    ],
)
def test_streams_that_break(tmp_path: Path, command: str, code: int, message: str) -> None:
    done = shell(command, tmp_path)
    assert done.returncode == code and done.stderr.startswith(message) and done.stderr.count("\n") == bool(message)


@pytest.mark.parametrize("name", ["lab", "random", "numbers", "datasets", "typing"])
def test_files_of_the_current_folder_are_in_no_modules_way(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.py").write_text("raise SystemExit('mine')\n")
    done = shell("$LAB --version", tmp_path)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


def test_a_colon_in_the_path_of_the_lab(tmp_path: Path) -> None:
    (tmp_path / "a:b").symlink_to(PROJECT)
    command = [sys.executable, "-P", tmp_path / "a:b" / "lab" / "__main__.py", "--version"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=dict(os.environ))
    assert done.returncode == 0 and done.stdout.startswith("lab ")


def test_a_standard_error_that_is_full(tmp_path: Path) -> None:
    """The line stands on the stream that works, with the code that it has on a standard error that works."""
    done = shell("$LAB nothing 2> /dev/full", tmp_path)
    assert done.returncode == 2 and done.stdout.startswith("error: No such command 'nothing'")
    assert done.stdout.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(28, "No space left on device"), "error: standard error cannot be written: No space left on device"),
        (OSError(13, "Permission denied", "runs"), "runs"),
    ],
    ids=["its own error", "another error"],
)
def test_an_error_of_the_system_beside_a_full_standard_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: OSError, said: str
) -> None:
    with open("/dev/full", "w", buffering=1) as full:
        monkeypatch.setattr(sys, "stderr", full)
        with pytest.raises(SystemExit) as ended:
            app._fail_of_system(error)
    assert said in (told := capsys.readouterr().out) and told.strip().count("\n") == 0
    assert ended.value.code == (1 if error.errno == 28 else 2)
