"""The pages tell the truth: commands and examples of the README run, links lead somewhere, lists are complete."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import typer.main
import yaml
from click import Context
from pydantic import BaseModel
from support.hostile import call
from support.tiny import ENVIRONMENT, Finished

from lab.cli.app import app
from lab.config.fields import Frozen
from lab.config.files import load_study, read_yaml
from lab.config.study import StudyConfig
from lab.curators import CURATORS
from lab.metrics.columns import COLUMNS
from lab.recipe import Lineage, OnTable, Part
from lab.regimes import REGIMES
from lab.seeds import generator

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
FOLDERS = ("data", "lab", "scripts", "tests")
PAGES = [ROOT / "README.md", ROOT / "checkpoints" / "README.md"]
PAGES += sorted(path for folder in FOLDERS for path in (ROOT / folder).glob("**/*.md"))
MOST_LINES = 200


def commands(text: str) -> list[list[str]]:
    """Return the words after scripts/lab of each line that calls it, in a code block or in backticks."""
    found = re.findall(r"^    (.*scripts/lab .*)$", text, re.M) + re.findall(r"`([^`\n]*scripts/lab [^`\n]*)`", text)
    lines = [shlex.split(line, comments=True) for line in found]
    return [words[next(i for i, w in enumerate(words) if w.endswith("scripts/lab")) + 1 :] for words in lines]


def blocks(language: str) -> list[str]:
    """Return the README's blocks of code in a language."""
    return re.findall(rf"```{language}\n(.*?)```", README, re.S)


def block(language: str, word: str) -> str:
    """Return the one block that holds a word."""
    (found,) = (each for each in blocks(language) if word in each)
    return found


@pytest.mark.fast
def test_the_readme_is_short():
    assert len(README.splitlines()) <= MOST_LINES


@pytest.mark.fast
@pytest.mark.parametrize(
    "words", [w for page in PAGES for w in commands(page.read_text(encoding="utf-8"))], ids=" ".join
)
def test_commands_parse(words):
    """Each is a command of the lab with options that exist; a study it names is shipped, with fields that exist."""
    command = typer.main.get_command(app)
    name, *arguments = words
    found = command.commands[name].make_context(name, list(arguments), parent=Context(command))
    if name in ("run", "plan") and found.params["study"] != "my-study.yaml":
        overrides = [text for text in found.params["set_"] or [] if "=" in text]
        load_study(found.params["study"], overrides)


@pytest.mark.fast
def test_there_are_commands():
    assert {words[0] for words in commands(README)} >= {"plan", "run", "status", "show", "report", "corpus", "verify"}


READERS = ("corpus", "doctor", "plan", "prune", "report", "show", "status", "verify")
QUICK_ONES = [w for w in commands(README) if w[0] in READERS and not {"cold", "my-texts/"} & set(w)]


@pytest.mark.parametrize("words", QUICK_ONES, ids=" ".join)
def test_commands_that_read_run(words, finished: Finished, corpus_file: Path):
    """On the tests' own finished run and corpus in place of the shipped ones, and verify computes one step again."""
    own = {"3": "1", "quick": "tiny", "smoke": "tiny", "data/human-small.parquet": str(corpus_file)}
    here = [own.get(word, word) if words[0] != "plan" else word for word in words]
    done = call(*here, cwd=finished.cwd)
    assert done.code == 0, done.err


def required(model: type[BaseModel]) -> list[str]:
    """Return the names of the fields that a section must have."""
    return [name for name, field in model.model_fields.items() if field.is_required()]


@pytest.mark.fast
def test_the_example_study_explains_every_required_field():
    text = block("yaml", "regimes")
    study = StudyConfig.model_validate(yaml.safe_load(text))
    commented = {
        name for line in text.splitlines() if "#" in line for name in re.findall(r"(\w+):", line.split("#")[0])
    }
    sections = [getattr(study, name) for name in ("corpus", "tokenizer", "model", "train", "sample", "metrics")]
    names = {name for section in (study, *sections) for name in required(type(section))}
    assert names - commented <= {"corpus", "sample", "metrics", "kind"}  # headings of sections


def test_the_example_study_runs(tmp_path):
    """Two generations at tiny sizes; the fields that say what is trained on what are the example's."""
    (tmp_path / "my-study.yaml").write_text(block("yaml", "regimes"))
    small = {"corpus": "tokens=4096", "model": "n_embd=16", "sample": "tokens=4096", "metrics": "tokens=2048"}
    sizes = [f"{section}.{size}" for section, size in small.items()]
    sizes += ["train.tokens=2048", "train.validation_tokens=512", "metrics.test_tokens=2048", "generations=2"]
    sizes += ["seeds=[0]", f"corpus={ROOT / 'data/human-small.parquet'}"]
    options = [word for size in sizes for word in ("--set", size)]
    done = call("run", "my-study.yaml", "--workers", "0", *options, cwd=tmp_path)
    assert done.code == 0, done.err
    assert "replace" in done.out


@pytest.mark.fast
def test_the_example_regime_runs():
    names = {}
    exec(compile(block("python", "newest_two"), "README.md", "exec"), names)
    lineage = Lineage(OnTable(-1, 10), tuple(OnTable(t, 5) for t in range(3)))
    recipe = names["newest_two"](lineage, rng=generator(0))
    assert recipe.parts == (Part(1, 0, 5), Part(2, 0, 5))
    assert names["newest_two"](Lineage(OnTable(-1, 10)), rng=generator(0)).parts == (Part(-1, 0, 10),)


@pytest.mark.fast
def test_the_example_metric_runs():
    """On the part of an Evidence that it reads; tests/promises/test_lab_readme.py runs the same one in a study."""
    names = {}
    exec(compile(block("python", "type_token_ratio"), "README.md", "exec"), names)
    evidence = SimpleNamespace(sample=np.array([[9, 1, 1, 2], [9, 2, 2, 3]]), prompt=1)
    assert names["type_token_ratio"](evidence) == {"type_token_ratio": 0.5}


def test_python_that_reads_a_run_runs(finished: Finished):
    """In a fresh interpreter, on the tests' own finished run."""
    code = block("python", "pipeline").replace("checkpoints/quick", "checkpoints/tiny").replace("gen-02", "gen-01")
    environment = {**ENVIRONMENT, "HF_DATASETS_CACHE": str(finished.cwd / "cache"), "HF_HOME": str(finished.cwd / "hf")}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=finished.cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.fast
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    for target in re.findall(r"\]\(([^):]+)\)", text):
        path, _, anchor = target.partition("#")
        other = (page.parent / path) if path else page
        assert other.exists(), target
        assert not anchor or anchor in anchors(other), target


@pytest.mark.fast
def test_paths_of_the_map_exist():
    section = README.split("## Where things are")[1].split("\n## ")[0]
    paths = re.findall(r"(?:^|  )((?:lab|scripts|data|tests)/[\w./]*)", section, re.M)
    assert len(paths) > 10
    assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.fast
def test_numbers_and_lists_are_regenerated():
    """scripts/readme.py would write what stands there."""
    check = subprocess.run([sys.executable, "scripts/readme.py", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert check.returncode == 0, check.stderr


def sections(model: type[BaseModel]) -> list[type[BaseModel]]:
    """Return every class of sections that is defined: the direct and indirect children of Frozen."""
    return [model, *(deeper for child in model.__subclasses__() for deeper in sections(child))]


@pytest.mark.fast
@pytest.mark.parametrize(
    "model", [m for m in sections(Frozen) if m.__module__.startswith("lab.")], ids=lambda m: m.__name__
)
def test_every_field_of_a_study_has_a_sentence(model):
    assert model.__doc__
    silent = [
        name for name, field in model.model_fields.items() if not (field.description or "").rstrip().endswith(".")
    ]
    assert silent == []
    page = (ROOT / "lab" / "config" / "README.md").read_text(encoding="utf-8")
    assert [name for name in model.model_fields if f"| `{name}` |" not in page] == []


@pytest.mark.fast
def test_every_column_has_a_sentence():
    page = (ROOT / "lab" / "metrics" / "README.md").read_text(encoding="utf-8")
    assert [column.name for column in COLUMNS if not column.definition.endswith(".")] == []
    assert [column.name for column in COLUMNS if f"| `{column.name}` |" not in page] == []


@pytest.mark.fast
def test_every_regime_and_curator_is_on_the_page_of_fields():
    page = (ROOT / "lab" / "config" / "README.md").read_text(encoding="utf-8")
    assert [name for name in [*REGIMES, *CURATORS] if not re.search(rf"^\| `\{{?{name}\b", page, re.M)] == []


@pytest.mark.fast
def test_every_sabotage_is_on_the_page_of_checks():
    source = (ROOT / "tests" / "promises" / "test_sabotage.py").read_text(encoding="utf-8")
    names = re.findall(r'^    "(.+?)": by\(', source, re.M)
    assert len(names) > 20
    page = (ROOT / "data" / "results" / "validity.md").read_text(encoding="utf-8")
    assert [name for name in names if name.split(", ")[0] not in page] == []


@pytest.mark.fast
def test_shipped_studies_are_on_their_page():
    folder = ROOT / "scripts" / "studies"
    page = (folder / "README.md").read_text(encoding="utf-8")
    whole = [path for path in folder.glob("*.yaml") if "regimes" in read_yaml(path) or "extends" in read_yaml(path)]
    assert [path.name for path in whole if f"({path.name})" not in page] == []
