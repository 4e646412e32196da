"""`lab plan` and `lab run` before anything runs: the same refusals, the list of studies, and a text of the user's."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from support.hostile import End, call
from support.tiny import listing, tiny, write_study

from lab.cli.study import LONGEST
from lab.config.files import study_names

TWICE = ("compare", "tiny", "tiny")


@pytest.fixture
def desk(tmp_path: Path, corpus_file: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a study, its corpus, and the same text without columns."""
    (tmp_path / "tales.jsonl").write_bytes(corpus_file.read_bytes())
    texts = [json.loads(line)["text"] for line in corpus_file.read_text().splitlines()]
    (tmp_path / "notes.txt").write_text("\n".join(texts))
    (tmp_path / "bare.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    (tmp_path / "part.csv").write_text("text,group\n" + "".join(f"{text},{n}\n" for n, text in enumerate(texts)))
    write_study(tmp_path / "s.yaml", tiny("tales.jsonl"))
    monkeypatch.setattr("lab.environment.clean", lambda: [])
    return tmp_path


def both(desk: Path, *options: str) -> tuple[End, End]:
    """Return how plan and run end with the same options, which both refuse."""
    plan, run = (call(command, "s.yaml", *options, cwd=desk) for command in ("plan", "run"))
    assert plan.code == run.code == 2, (plan, run)
    return plan, run


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (["metrics.test_tokens=3200"], "the test fold has "),
        (["train.validation_tokens=1600"], "the validation fold has "),
        (["corpus.tokens=12000"], "the train fold has "),
        (["corpus.archive_tokens=12000"], "the train fold has "),
    ],
    ids=str,
)
def test_plan_refuses_what_run_refuses_as_soon_as_the_text_was_read(desk: Path, fields: list[str], said: str) -> None:
    """Before it is read, plan says that it is not, and what will hardly be enough."""
    options = [word for field in fields for word in ("--set", field)]
    before = call("plan", "s.yaml", *options, cwd=desk)
    assert before.code == 0 and "note: human text is not read yet" in before.err and before.unchanged
    run = call("run", "s.yaml", *options, cwd=desk)
    assert run.code == 2 and said in run.err
    plan = call("plan", "s.yaml", *options, cwd=desk)
    assert (plan.code, plan.err) == (2, run.err) and not plan.fault()
    assert not call("plan", "s.yaml", cwd=desk).code, "with fewer tokens it is a plan again"


def test_plan_says_which_fold_will_hardly_hold_enough(desk: Path) -> None:
    ended = call("plan", "s.yaml", "--set", "metrics.test_tokens=3200", cwd=desk)
    assert "the test fold of tales.jsonl will hold some " in ended.err
    assert "fewer than metrics.test_tokens = 3,200" in ended.err
    assert "validation fold" not in ended.err


def test_faults_of_fields_sweep_and_regimes_are_named_at_once(desk: Path) -> None:
    """Also those of several arms, and not those of the study again for each arm."""
    study = tiny("tales.jsonl", metrics__tokens=10**6, regimes=["human", "replce"], curators=["duplicats"])
    write_study(desk / "s.yaml", study | {"sweep": [{"sample.temperature": -1}, {"sample.top_q": 5}, {"train.lr": -2}]})
    said = both(desk)[0].err
    known = ("metrics.tokens 1,000,000", "sample.temperature", "top_q", '"train.lr" is -2', "replce", "duplicats")
    assert [word for word in known if said.count(word) < 1] == [] and said.count("must not exceed") == 1, said
    study |= {"metrics": tiny("tales.jsonl")["metrics"]}
    write_study(desk / "s.yaml", study | {"sweep": {"sample.temperature": [-1, 1, -2]}, "regimes": ["human"]})
    assert both(desk)[0].err.count("a temperature is 0") == 2
    write_study(desk / "s.yaml", study | {"sweep": {"regime": ["replce", {"last_k": {"kk": 3}}]}})
    assert all(word in both(desk)[0].err for word in ("replce", '"kk"', "duplicats"))


@pytest.mark.parametrize(("asked", "said"), [("5e4", True), ("300", False)])
def test_a_vocabulary_that_so_short_a_text_will_not_fill_is_said_before_it_is_read(
    desk: Path, asked: str, said: bool
) -> None:
    ended = call("plan", "s.yaml", "--set", f"tokenizer.vocab_size={asked}", cwd=desk)
    assert ended.code == 0 and ended.unchanged
    found = re.search(r"the vocabulary will have some ([\d,]+) entries if tales.jsonl is prose: so short", ended.err)
    assert bool(found) == said
    if found:
        assert "hardly more of tokenizer.vocab_size 50,000" in ended.err
        assert 257 < int(found[1].replace(",", "")) < 5_000


@pytest.mark.slow
def test_a_vocabulary_that_the_text_cannot_fill_is_said(desk: Path) -> None:
    """Run says it once, its caption and that of show repeat it, and so does a later plan; a small one is filled."""
    options = ["--set", "tokenizer.vocab_size=5e4", "--set", "seeds=[0]", "--set", "generations=1"]
    assert "the vocabulary has" not in call("plan", "s.yaml", *options, cwd=desk).err
    done = call("run", "s.yaml", *options, "--workers", "0", cwd=desk)
    assert done.code == 0, done.err
    said = re.search(
        r"the vocabulary has [\d,]+ entries: the text gives no more of tokenizer.vocab_size 50,000", done.err
    )
    assert said and done.err.count(said[0]) == 1
    plan, show, two = (call(*words, cwd=desk) for words in (("plan", "s.yaml", *options), ("show", "tiny"), TWICE))
    assert f"note: {said[0]}; tokens, disk" in plan.err
    assert all(said[0] in " ".join(text.split()) for text in (done.out, show.out, two.out))


def test_a_plan_of_text_that_was_read_says_nothing_of_it(desk: Path) -> None:
    assert call("run", "s.yaml", "--set", "metrics.test_tokens=3200", cwd=desk).code == 2
    assert call("plan", "s.yaml", cwd=desk).err == ""


def test_plan_takes_every_option_of_run(desk: Path) -> None:
    options = ["--run", "other", "--workers", "1", "--checkpoints", "c", "--fresh", "train", "--set", "seeds=[3]"]
    ended = call("plan", "s.yaml", *options, cwd=desk)
    assert ended.code == 0 and "other: 2 chains of 2 generations" in ended.out and ended.unchanged


@pytest.mark.parametrize("damaged", [False, True])
def test_plan_holds_a_study_against_the_run_that_is_there(desk: Path, damaged: bool) -> None:
    folder = desk / "checkpoints" / "kept"
    folder.mkdir(parents=True)
    write_study(folder / "config.yaml", tiny("tales.jsonl", name="kept", train__lr=0.1))
    if damaged:
        (folder / "config.yaml").write_text("[")
        ended = call("plan", "s.yaml", "--run", "kept", cwd=desk)
        assert ended.code == 0 and "lab run moves it aside" in ended.err and ended.unchanged
    else:
        plan, run = both(desk, "--run", "kept")
        assert plan.err == run.err and "belongs to another study (train.lr: 0.1 -> 0.005)" in plan.err
    assert both(desk, "--fresh", "trian")[0].err == 'error: unknown step "trian" - did you mean "train"?\n'


@pytest.mark.parametrize("command", ["run", "plan"])
def test_without_a_study_the_shipped_ones_are_listed(desk: Path, command: str) -> None:
    ended = call(command, cwd=desk)
    lines = ended.out.splitlines()[1:]
    assert ended.code == 2 and [line.split()[0] for line in lines] == study_names() and ended.unchanged
    measured = {line.split()[0]: line for line in lines if " about " not in line and " needs " not in line}
    assert set(measured) == {"smoke", "quick", "exact"}
    assert "  4 to 6 min; AVX2 only: 10 to 17 min  " in measured["quick"] and "  46 to 82 s  " in measured["exact"]
    assert all(len(line) < LONGEST + 70 for line in lines)
    assert ended.err.startswith("error: which study?") and len(ended.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["rnu"], "Did you mean 'run'? See --help"),
        (["smoke"], "did you mean lab run smoke?"),
        (["s.yaml"], "did you mean lab run s.yaml?"),
        (["xyzzy"], "the commands are run, plan, "),
        (["run", "smok"], 'no study "smok" - did you mean "smoke"?'),
        (["run", "s.yaml", "--wrokers", "2"], "--workers"),
    ],
    ids=str,
)
def test_a_mistyped_word_is_answered_with_what_it_should_be(desk: Path, words: list[str], said: str) -> None:
    ended = call(*words, cwd=desk)
    assert said in ended.err and not ended.fault()


SMALL = ["--set", "corpus.piece=500"]


@pytest.mark.parametrize(
    ("given", "left_out"),
    [
        (["corpus.path=notes.txt"], "corpus.domain, corpus.author, corpus.group"),
        (["corpus=bare.jsonl"], "corpus.domain, corpus.author, corpus.group"),
        (["corpus.path=part.csv"], "corpus.domain, corpus.author"),
        (["corpus=part.csv", "corpus.domain=group"], "corpus.author"),
    ],
    ids=str,
)
def test_columns_that_a_text_of_the_users_lacks_are_left_out(desk: Path, given: list[str], left_out: str) -> None:
    options = [word for field in given for word in ("--set", field)]
    ended = call("plan", "s.yaml", *SMALL, *options, cwd=desk)
    assert ended.code == 0, ended.err
    assert f"note: {left_out} of the study left out, because " in ended.err


@pytest.mark.parametrize("given", [["corpus=notes.txt", "corpus.domain=domain"], ["corpus.domain=dmoain"]], ids=str)
def test_a_column_that_the_user_names_must_be_there(desk: Path, given: list[str]) -> None:
    options = [word for field in given for word in ("--set", field)]
    ended = call("run", "s.yaml", *SMALL, *options, cwd=desk)
    assert ended.code == 2 and "has no column" in ended.err


def test_a_text_with_the_columns_keeps_them(desk: Path) -> None:
    before: Any = listing(desk)
    ended = call("plan", "s.yaml", "--set", "corpus.path=tales.jsonl", cwd=desk)
    assert ended.code == 0 and "left out" not in ended.err and listing(desk) == before


def test_code_of_the_users_that_reads_a_file_is_said_once(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(desk)
    (desk / "own_reads.py").write_text("def size(evidence):\n    return float(open('k.txt').read())\n")
    (desk / "own_none.py").write_text("def size(evidence):\n    return 1.0\n")
    for name, times in (("own_reads", 1), ("own_none", 0)):
        ended = call("plan", "s.yaml", "--set", f"metrics.extra=[{name}:size]", cwd=desk)
        assert ended.code == 0, ended.err
        assert ended.err.count("your code reads what is in no key: own_reads.py:2 open('k.txt')") == times
