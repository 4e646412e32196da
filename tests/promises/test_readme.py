"""The README tells the truth: its commands parse, its code runs, its numbers and its tree are regenerated."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main
from click import Context
from support.tiny import ENVIRONMENT, Finished, lab

from lab import regimes
from lab.cli.app import app
from lab.config.files import load_study
from lab.recipe import Lineage, OnTable, Part
from lab.seeds import generator

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands() -> list[list[str]]:
    """Every line that calls the lab, in a code block or in backticks, without its comment and variables."""
    found = re.findall(r"^    (.*scripts/lab .*)$", README, re.M) + re.findall(
        r"`([^`\n]*scripts/lab [^`\n]*)`", README
    )
    lines = [shlex.split(line, comments=True) for line in found]
    return [words[next(i for i, w in enumerate(words) if w.endswith("scripts/lab")) + 1 :] for words in lines]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_commands_parse(words):
    """Each is a command of the lab with options that exist; a study it names is shipped, with fields that exist."""
    if words == ["..."]:
        return
    command = typer.main.get_command(app)
    name, *arguments = words
    found = command.commands[name].make_context(name, list(arguments), parent=Context(command))
    if name in ("run", "plan") and found.params["study"] != "my-study.yaml":
        overrides = [text for text in found.params["set_"] or [] if "=" in text]
        load_study(found.params["study"], overrides)


def test_there_are_commands():
    assert {words[0] for words in commands()} >= {"plan", "run", "status", "show", "report", "corpus"}


def test_the_example_regime_runs():
    code = next(block for block in re.findall(r"```python\n(.*?)```", README, re.S) if "newest_two" in block)
    names = {}
    exec(compile(code, "README.md", "exec"), names)
    lineage = Lineage(OnTable(-1, 10), tuple(OnTable(t, 5) for t in range(3)))
    recipe = names["newest_two"](lineage, rng=generator(0))
    assert recipe.parts == (Part(1, 0, 5), Part(2, 0, 5))
    assert names["newest_two"](Lineage(OnTable(-1, 10)), rng=generator(0)).parts == (Part(-1, 0, 10),)
    assert regimes.visible("human", {}, 3) == range(3, 3)


def test_python_blocks_compile():
    blocks = re.findall(r"```python\n(.*?)```", README, re.S)
    assert len(blocks) >= 2
    for block in blocks:
        compile(block, "README.md", "exec")


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target


def test_numbers_and_tree_are_regenerated():
    """scripts/readme.py would write what stands there."""
    check = subprocess.run([sys.executable, "scripts/readme.py", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert check.returncode == 0, check.stderr


@pytest.mark.parametrize(
    "words", [w for w in commands() if w[0] in ("show", "status", "report", "plan") and "cold" not in w], ids=" ".join
)
def test_commands_that_read_run(words, finished: Finished):
    """On the tests' own finished run in quick's place."""
    here = ["tiny" if word == "quick" and words[0] != "plan" else word for word in words]
    done = lab(*here, cwd=finished.cwd)
    assert done.returncode == 0, done.stderr


def test_python_blocks_run(finished: Finished):
    """In a fresh interpreter, on the tests' own finished run in quick's place."""
    block = next(block for block in re.findall(r"```python\n(.*?)```", README, re.S) if "pipeline" in block)
    code = block.replace("checkpoints/quick", "checkpoints/tiny").replace("gen-02", "gen-01")
    environment = {**ENVIRONMENT, "HF_DATASETS_CACHE": str(finished.cwd / "cache"), "HF_HOME": str(finished.cwd / "hf")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=finished.cwd, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_every_sabotage_is_in_the_readme():
    from test_sabotage import SABOTAGES

    for name in SABOTAGES:
        assert name.split(", ")[0] in README, name
