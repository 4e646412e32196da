"""lab/README.md is true: its examples run in a copy of the lab, and its map names every room."""

import csv
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.hostile import call
from support.tiny import ENVIRONMENT, PROJECT, tiny, write_study

PAGE = (PROJECT / "lab" / "README.md").read_text()


def example(heading: str) -> tuple[str, str]:
    """The file name and the code of the example below a heading."""
    section = PAGE[PAGE.index(f"## {heading}\n") :]
    found = re.search(r"```python\n# (\S+)\n(.*?)```", section, re.DOTALL)
    assert found is not None
    return found[1], found[2]


@pytest.fixture(scope="module")
def finished_copy(tmp_path_factory: pytest.TempPathFactory, corpus_file: Path) -> Path:
    """A folder with a copy of lab/ and a run of the tiny study, whose keys are the copy's: the code is the same."""
    folder = tmp_path_factory.mktemp("original")
    shutil.copytree(PROJECT / "lab", folder / "lab")  # with what Python has compiled of it
    run_here(folder, corpus_file)
    return folder


@pytest.fixture
def copy(tmp_path: Path, finished_copy: Path) -> Path:
    """Such a folder, to be changed."""
    return Path(shutil.copytree(finished_copy, tmp_path / "copy", symlinks=True))


COUNTING: dict[str, Any] = {"model": {"kind": "ngram", "order": 2, "smoothing": "interpolated", "n_positions": 16}}
COUNTING |= {"train": None}
"""A study without a network: its process imports none of the libraries that take seconds."""


def rows_of(copy: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((copy / "checkpoints" / "tiny" / "results.csv").read_text().splitlines()))


def run(copy: Path, corpus: Path, **changes: Any) -> list[dict[str, str]]:
    """Run the tiny study with the copied lab, in one new process; the rows of results.csv."""
    study = write_study(copy / "tiny.yaml", tiny(corpus, **COUNTING, **changes))
    command = [sys.executable, "-m", "lab", "run", str(study), "--workers", "0"]
    environment = {**ENVIRONMENT, "PYTHONPATH": str(copy)}
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return rows_of(copy)


def run_here(folder: Path, corpus: Path, **changes: Any) -> list[dict[str, str]]:
    """The same with the lab as it is, in this process: for what a user adds in a file of their own."""
    write_study(folder / "tiny.yaml", tiny(corpus, **COUNTING, **changes))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [*sys.path])
        end = call("run", "tiny.yaml", "--workers", "0", cwd=folder)
    sys.modules.pop("mine", None)
    assert end.code == 0, end.err
    return rows_of(folder)


def artifacts(copy: Path, kind: str) -> set[Path]:
    return set((copy / "checkpoints" / "store" / kind).glob("[0-9a-f]*"))


def into_the_table(copy: Path, module: str, after: str) -> None:
    """Add a kind to the table of steps: the name of its module in capitals, on the line after another kind."""
    path = copy / "lab" / "steps" / "__init__.py"
    text = path.read_text().replace("from lab.steps import (\n", f"from lab.steps import (\n    {module},\n", 1)
    assert f"    {module},\n" in text
    assert text.count(f"        {after},\n") == 1
    path.write_text(text.replace(f"        {after},\n", f"        {after},\n        {module}.{module.upper()},\n"))


def test_add_a_metric(copy: Path, corpus_file: Path) -> None:
    before = rows_of(copy)
    trained, sampled = artifacts(copy, "train"), artifacts(copy, "sample")
    name, code = example("Add a metric")
    (copy / name).write_text(code)
    after = run_here(copy, corpus_file, metrics__extra=["mine:type_token_ratio"])
    assert (artifacts(copy, "train"), artifacts(copy, "sample")) == (trained, sampled)
    assert [{k: v for k, v in row.items() if k != "type_token_ratio"} for row in after] == before
    folder = copy / "checkpoints" / "tiny" / "replace-seed0" / "gen-01" / "synthetic"
    tokens = np.load(folder / "tokens.npy")
    assert float(after[-1]["type_token_ratio"]) == len(np.unique(tokens)) / tokens.size


def test_add_a_curator(copy: Path, corpus_file: Path) -> None:
    name, code = example("Add a curator")
    (copy / name).write_text(code)
    run_here(copy, corpus_file, name="curated", curators=["duplicates", {"mine:short": {"least": 45}}])
    (decided,) = artifacts(copy, "curate")
    assert b"mine:short: fewer than 45 characters" in (decided / "curation.json").read_bytes()


def test_add_a_probe(copy: Path, corpus_file: Path) -> None:
    before = rows_of(copy)
    trained = artifacts(copy, "train")
    name, code = example("Add a probe")
    (copy / name).write_text(code)
    into_the_table(copy, "confidence", after="probes.HELDOUT")
    assert run(copy, corpus_file) == before
    assert artifacts(copy, "train") == trained
    found = [float(np.load(path / "confidence.npy")) for path in artifacts(copy, "confidence")]
    assert len(found) == 3 and all(0 <= share < 1 for share in found)  # generation 0 is shared


def test_add_a_step(copy: Path, corpus_file: Path) -> None:
    name, code = example("Add a step")
    (copy / name).write_text(code)
    into_the_table(copy, "backwards", after="sample.SYNTHETIC")
    loop = copy / "lab" / "loop.py"
    call = re.search(r"in `loop.py`:\s+`(.*?)`", PAGE)
    assert call is not None and "sampled = marked(study, unmarked)" in loop.read_text()
    text = loop.read_text().replace("sampled = marked(study, unmarked)", call[1])
    imported = "from lab.steps.backwards import backwards\nfrom lab.steps.text"
    loop.write_text(text.replace("from lab.steps.text", imported))
    run(copy, corpus_file)
    last = copy / "checkpoints" / "tiny" / "replace-seed0" / "gen-01" / "synthetic"
    assert last.resolve().parent.name == "backwards"
    turned = np.load(last / "tokens.npy")
    assert any((np.load(path / "tokens.npy") == turned[:, ::-1]).all() for path in artifacts(copy, "synthetic"))


def test_the_map_names_every_room() -> None:
    rooms = {path.name for path in (PROJECT / "lab").iterdir() if (path / "__init__.py").exists()}
    for room in rooms:
        assert f"| `{room}/` |" in PAGE, room
    for path in re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.(?:py|md))`", PAGE):
        here = [PROJECT / "lab" / path, PROJECT / path]
        if path not in {example("Add a probe")[0], example("Add a step")[0]}:
            assert any(place.exists() for place in here), path


def test_the_rooms_stay_small() -> None:
    """A folder is a room, also one inside of another, such as models/sampling and steps/evidence."""
    for room in (path for path in (PROJECT / "lab").rglob("*") if path.is_dir()):
        lines = sum(file.read_text().count("\n") for file in room.glob("*.py"))
        assert lines <= 2500, f"{room.name} has {lines} lines"
