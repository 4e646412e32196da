"""`lab new`: a study file that runs as it is on a text of the user's, and that changes no file."""

from pathlib import Path

import pytest
from pydantic import BaseModel
from support.hostile import call
from support.tiny import listing

from lab.config.files import STUDIES, load_study, read_yaml
from lab.config.study import StudyConfig
from lab.loop import build
from lab.run.preflight import prepare_human
from lab.seeds import generator
from lab.store.store import Store


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with texts: one file, a file a document, and records with a group."""
    monkeypatch.setattr("lab.environment.clean", lambda: [])
    words = generator(1).choice(["sea", "land", "tale", "bird", "of", "the", "and"], size=(60, 150))
    texts = [" ".join(line) + "." for line in words]
    (tmp_path / "notes.txt").write_text("\n".join(texts))
    (tmp_path / "many").mkdir()
    for number, text in enumerate(texts):
        (tmp_path / "many" / f"{number}.txt").write_text(text)
    (tmp_path / "t.csv").write_text("body,book\n" + "".join(f"{text},{n % 30}\n" for n, text in enumerate(texts)))
    return tmp_path


def test_the_template_alone_is_a_study_of_the_shipped_text(desk: Path) -> None:
    assert call("new", "first.yaml", cwd=desk).code == 0
    assert read_yaml(desk / "first.yaml") == read_yaml(STUDIES / "_new.yaml") | {"name": "first"}
    assert call("new", cwd=desk).code == 0 and (desk / "my-study.yaml").is_file()


def test_every_needed_field_is_there_with_a_comment() -> None:
    text = (STUDIES / "_new.yaml").read_text()
    study = load_study(str(STUDIES / "_new.yaml"))
    sections = [study, *(value for _, value in study if isinstance(value, BaseModel))]
    needed = [name for part in sections for name, field in type(part).model_fields.items() if field.is_required()]
    assert {"seeds", "lr", "test_tokens", "n_embd"} < set(needed)
    assert [name for name in needed if f"{name}:" not in text] == []
    assert [line for line in text.splitlines() if "#" not in line] == ["corpus:", "train:"]
    assert {"tokenizer", "train"} <= {name for name, value in study if value is not None}, "networks on text need them"
    assert isinstance(study, StudyConfig)


@pytest.mark.parametrize(
    ("options", "corpus"),
    [
        (["--corpus", "notes.txt"], {"path": "notes.txt", "piece": 386}),
        (["--corpus", "many"], {"path": "many"}),
        (
            ["--corpus", "t.csv", "--text", "body", "--group", "book"],
            {"path": "t.csv", "text": "body", "group": "book"},
        ),
    ],
    ids=str,
)
def test_sizes_fit_the_text(
    desk: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], corpus: dict[str, object]
) -> None:
    """The steps that read human text accept what is written; that it trains is one slow test below."""
    ended = call("new", "s.yaml", *options, cwd=desk)
    assert ended.code == 0, ended.err
    written = read_yaml(desk / "s.yaml")
    assert {name: value for name, value in written["corpus"].items() if name != "tokens"} == corpus
    sizes = [written["corpus"]["tokens"], written["metrics"]["test_tokens"], written["train"]["validation_tokens"]]
    assert all(size >= 128 and size % 128 == 0 for size in sizes)
    monkeypatch.chdir(desk)
    graph = build(load_study("s.yaml"))
    prepare_human(Store(desk / "store"), graph.human, lambda _: None)
    columns = {line.index("# ") for line in (desk / "s.yaml").read_text().splitlines() if "# " in line}
    template = (STUDIES / "_new.yaml").read_text().splitlines()
    assert columns == {line.index("# ") for line in template if "# " in line}


@pytest.mark.slow
def test_it_runs_as_it_is(desk: Path) -> None:
    assert call("new", "s.yaml", "--corpus", "notes.txt", cwd=desk).code == 0
    ended = call("run", "s.yaml", "--workers", "0", "--set", "generations=2", "--set", "seeds=[0]", cwd=desk)
    assert ended.code == 0 and "replace" in ended.out, ended.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["s"], "s does not end in .yaml: lab new s.yaml writes a study"),
        (["there.yaml"], "there.yaml is there already"),
        (["s.yaml", "--corpus", "none.txt"], "none.txt does not exist"),
        (["s.yaml", "--corpus", "t.csv"], 'has no column "text"'),
        (["s.yaml", "--corpus", "short.txt"], "short.txt"),
        (["s.yaml", "--corpus", "none.txt"], "--corpus none.txt"),
        (["s.yaml", "--corpus", "t.csv", "--text", "words"], '"words" (--text)'),
        (["s.yaml", "--corpus", "t.csv", "--text", "body", "--group", "who"], '"who" (--group)'),
        (["s.yaml", "--group", "book"], "give it too, with --corpus"),
        (["s.yaml", "--text", "body"], "give it too, with --corpus"),
        (["no/s.yaml"], "there is no folder no: make it"),
    ],
    ids=str,
)
def test_what_cannot_be_written_is_said_and_nothing_is(desk: Path, words: list[str], said: str) -> None:
    (desk / "there.yaml").write_text("mine")
    (desk / "short.txt").write_text("a few words\n" * 30)
    before = listing(desk)
    ended = call("new", *words, cwd=desk)
    assert said in ended.err and not ended.fault() and listing(desk) == before


NAMES = [("store.yaml", "mine"), ("a b.yaml", "a-b"), ("_x.yml", "x"), ("é.yaml", "mine")]


@pytest.mark.parametrize(("file", "name"), NAMES)
def test_a_study_is_named_as_its_file(desk: Path, file: str, name: str) -> None:
    assert call("new", file, cwd=desk).code == 0
    assert load_study(str(desk / file)).name == name
