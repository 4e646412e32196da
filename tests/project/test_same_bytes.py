"""scripts/checks/same_bytes.py names every table that differs between two checkouts, on stub checkouts and tables."""

import subprocess
import sys
from pathlib import Path

import pytest
from support.scripts import SCRIPTS, load

same_bytes = load("checks/same_bytes.py")
STUB = """
import sys
from pathlib import Path
name = Path(sys.argv[2]).stem
folder = Path(sys.argv[sys.argv.index("--checkpoints") + 1]) / name
folder.mkdir()
if name == "exact":
    sys.exit("theory is contradicted")
(folder / "results.csv").write_text("a,b\\n1,{number}\\n")
"""
"""A lab whose `run` writes one table at once; its study `exact` fails."""


def command(*words: str | Path) -> subprocess.CompletedProcess[str]:
    script = [sys.executable, str(SCRIPTS / "checks" / "same_bytes.py"), *map(str, words)]
    return subprocess.run(script, capture_output=True, text=True)


def checkout(folder: Path, number: int) -> Path:
    (folder / "lab").mkdir(parents=True)
    (folder / "lab" / "__main__.py").write_text(STUB.format(number=number))
    return folder


def side(folder: Path, **tables: str) -> Path:
    """Make a folder of recorded tables of `smoke`: side(folder, results="a\\n1\\n")."""
    for name, text in tables.items():
        path = folder / "smoke" / f"{name}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.mark.parametrize(
    ("new", "line"),
    [("a\n1\n2\n", 0), ("a\n1\n3\n", 3), ("a\n1\n2", 4), ("a\n1\n2\n3\n", 4), ("b\n1\n2\n", 1), ("a\r\n1\n2\n", 1)],
)
def test_the_first_line_that_differs_is_named(tmp_path: Path, new: str, line: int) -> None:
    old, other = side(tmp_path / "old", results="a\n1\n2\n"), side(tmp_path / "new", results=new)
    expected = [f"smoke/results.csv: differs from line {line} on"] if line else []
    assert same_bytes.differences(old, other, ["smoke"]) == expected


def test_a_table_that_one_side_lacks_is_named_with_its_side(tmp_path: Path) -> None:
    old = side(tmp_path / "old", results="a\n", exact="a\n")
    new = side(tmp_path / "new", results="a\n", bins="a\n")
    assert same_bytes.differences(old, new, ["smoke", "lora"]) == [
        "smoke/bins.csv: only the new side has it",
        "smoke/exact.csv: only the old side has it",
        "lora: neither side has tables of it",
    ]


def test_two_checkouts_are_run_and_compared(tmp_path: Path) -> None:
    """A recorded folder stands in for its checkout; tables of an earlier recording do not stay in it."""
    one, two, kept = checkout(tmp_path / "one", 1), checkout(tmp_path / "two", 2), side(tmp_path / "kept", exact="old")
    assert command("record", one, kept, "--only", "smoke").returncode == 0
    assert [path.name for path in (kept / "smoke").iterdir()] == ["results.csv"]
    done = command("compare", kept, one, "--only", "smoke")
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "same bytes: smoke"
    done = command("compare", kept, two, "--only", "smoke")
    assert done.returncode == 1 and done.stdout.splitlines()[-1] == "smoke/results.csv: differs from line 2 on"


def test_what_cannot_be_compared_is_an_error(tmp_path: Path) -> None:
    one = checkout(tmp_path / "one", 1)
    done = command("compare", one, tmp_path / "gone", "--only", "smoke")
    assert done.returncode == 2 and done.stderr == f"error: {tmp_path / 'gone'} is not a folder\n"
    done = command("record", one, tmp_path / "kept", "--only", "exact")
    assert done.returncode == 2 and "lab run exact ended with code 1\ntheory is contradicted" in done.stderr
    assert not (tmp_path / "kept").exists()
