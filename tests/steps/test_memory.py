"""Extraction, canaries and the telephone view: asked for in a study, and no key of another study changes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from support.hostile import call
from support.tiny import run_study, steps_of, tiny, tiny_config, write_corpus, write_study

from lab.cli.terminal import BAD_INPUT
from lab.config.files import parse_study
from lab.errors import InputError
from lab.loop import Study, build
from lab.models.load import load
from lab.run.folder import RunFolder
from lab.steps.evidence.profile import load_profile
from lab.steps.sample import SampleParams, _prompts
from lab.text.canaries import COPIES

NGRAM = {"kind": "ngram", "order": 2, "smoothing": "interpolated", "n_positions": 16}
ASKED = {"entropy": False, "judge": True, "extraction": True, "telephone": True}


def asked(corpus: Path | str, **changes: Any) -> Study:
    fields = tiny(corpus, **{"metrics__test_tokens": 384, **changes}) | {"profile": ASKED}
    return build(parse_study({name: value for name, value in fields.items() if value is not None}))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("memory") / "corpus.jsonl")


def test_what_is_not_asked_for_changes_no_key(corpus: Path) -> None:
    before = {step.key for step in build(tiny_config(corpus, metrics__test_tokens=384)).steps}
    assert before < {step.key for step in asked(corpus).steps}
    planted = asked(corpus, corpus__canaries=[1, 4])
    same = [step.name for step in planted.steps if step.key in before]
    assert set(same) == {"corpus", "tokenizer", "rows", "heldout-rows", "human"}, "of human rows the resample alone"


def test_every_generation_continues_the_same_prompts_with_the_same_numbers(corpus: Path) -> None:
    study = asked(corpus)
    shards = [step for step in steps_of(study, "sample") if step.label.startswith("continue")]
    assert len(shards) == 3 and len({str(step.params) for step in shards}) == 1
    assert {step.inputs["human"].label for step in shards} == {"test rows"}


@pytest.fixture(scope="module")
def planted(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, RunFolder]:
    """A run of a 2-gram model on human text with canaries, with all that is asked for."""
    study = asked(corpus, model=NGRAM, train=None, corpus__canaries=[1, 4], corpus__tokens=1024, name="planted")
    run = RunFolder(tmp_path_factory.mktemp("run") / "checkpoints" / "planted")
    run_study(study, run.path)
    return study, run


def test_canaries_stand_among_the_human_rows_and_are_exposed(planted: tuple[Study, RunFolder]) -> None:
    study, run = planted
    human = next(step for step in steps_of(study, "human") if step.params.get("canaries"))
    folder = run.store.folder(human.name, human.key)
    table, tokens = pq.read_table(folder / "rows.parquet"), np.load(folder / "tokens.npy")
    of_canaries = np.array(table["document"].to_pylist()) == "canary"
    found, copies = np.unique(tokens[of_canaries], axis=0, return_counts=True)
    assert sorted(copies) == [1, 4] and len(found) == 2 and table["domain"].null_count == 5
    assert table["tokens"].to_pylist() == tokens.tolist()
    row = run.results()[0]
    # a 2-gram model has counted every pair of a planted row, and of other rows almost none
    assert row["exposure_4"] == 12 and row["exposure_1"] > 8 and np.isnan(row["exposure_16"])
    assert row["suffix_gap"] > 0 and 0 <= row["extraction"] <= 1


def test_texts_shows_how_generations_continue_a_prompt(planted: tuple[Study, RunFolder]) -> None:
    run = planted[1]
    cwd = run.path.parent.parent
    shown = call("texts", "planted", "--telephone", "--regime", "replace", "--n", "2", cwd=cwd)
    assert shown.code == 0 and "generation 0" in shown.out and "generation 1" in shown.out
    assert "replace, seed 0, prompt 1: " in shown.out and "prompt 2" not in shown.out
    as_json = call("texts", "planted", "--telephone", "--json", cwd=cwd).out
    rows = np.load(run.path / "replace-seed0" / "gen-01" / "telephone" / "tokens.npy")
    assert rows.shape == (16, 16) and as_json.count('"continuation"') == 2 * 2 * 3
    control = np.load(run.path / "human-seed0" / "gen-01" / "telephone" / "tokens.npy")
    assert (rows[:, :4] == control[:, :4]).all() and (rows != control).any()


def test_the_profile_shows_tails_against_memorisation_and_attractors(planted: tuple[Study, RunFolder]) -> None:
    run = planted[1]
    shown = call("profile", "planted", "--workers", "0", cwd=run.path.parent.parent)
    assert shown.code == 0, shown.err
    assert "Tails against memorisation" in shown.out and "exposure_4" in shown.out
    assert "Each generation: tail loss against memorisation" in shown.out
    drawn = call("report", "planted", "--profile", cwd=run.path.parent.parent)
    assert drawn.code == 0 and (run.path / "profile.png").exists(), drawn.err
    assert "replace: the telephone view" in shown.out and "word_length" in shown.out
    assert "judge_nats" in shown.out and "sentence_length" in shown.out


def test_canaries_are_no_group_of_text(planted: tuple[Study, RunFolder]) -> None:
    study, run = planted
    profiled = study.generations[-1].profile
    assert profiled is not None
    groups = load_profile(run.store.folder("profile", profiled.key))["groups"]
    human = np.load(run.store.folder("human", profiled.inputs["human"].key) / "tokens.npy")
    assert sum(each["human_rows"] for each in groups if each["column"] == "domain") == len(human) - 5
    assert not {"canary", "(none)"} & {each["group"] for each in groups}


def test_the_judge_reads_what_stands_behind_the_prompt(planted: tuple[Study, RunFolder]) -> None:
    study, run = planted
    profiled = study.generations[-1].profile
    assert profiled is not None
    told, read = profiled.inputs["telephone"], profiled.inputs["judged-telephone"]
    rows = np.load(run.store.folder(told.name, told.key) / "tokens.npy")
    judge = load(run.store.folder("train", read.inputs["model"].key), device="cpu")
    expected = judge.nats(rows)[:, 4:].mean(axis=1)
    found = load_profile(run.store.folder("profile", profiled.key))["telephone"]
    assert found["judge_nats"] == pytest.approx(expected.tolist()) and found["judge_nats"] != found["nats"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"population": 2},
        {"sample__prompt_tokens": 4},
        {"corpus__layout": "documents", "corpus__canaries": [1, 4]},
        {"sample": {"tokens": 512, "shard_rows": 20, "beams": 2, "prompt_tokens": 4}},
    ],
    ids=["population", "prompts", "documents", "beams"],
)
def test_studies_of_every_kind(changes: dict[str, Any], corpus: Path, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run_study(asked(corpus, **changes), run.path)
    row = run.results()[-1]
    assert np.isfinite([row["extraction"], row["suffix_gap"]]).all()
    assert (run.path / "replace-seed0" / "gen-01" / "telephone" / "rows.parquet").exists()
    assert np.isfinite(row["exposure_1"]) == ("corpus__canaries" in changes)


def test_a_source_is_extracted_and_continues_nothing(tmp_path: Path) -> None:
    source = {"kind": "source", "process": "categorical", "types": 4, "zipf": 0.5, "tokens": 1600}
    fields = tiny("-", sample__tokens=1600, metrics__tokens=1600, metrics__test_tokens=1600)
    fields |= {"corpus": source, "model": {"kind": "positions", "n_positions": 16}, "profile": {"extraction": True}}
    run = RunFolder(tmp_path / "run")
    run_study(build(parse_study({k: v for k, v in fields.items() if k not in ("train", "tokenizer")})), run.path)
    assert run.results()[0]["suffix_gap"] > 0, "a law that is fitted to rows costs less on them"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"canaries": [1, 64]},
            "corpus.canaries plants 65 rows, more than half of the 32 rows of corpus.tokens",
        ),
        ({"canaries": [4, 4]}, "corpus.canaries has 4 more than once"),
        ({"canaries": [5]}, "1, 4, 16, 64 or 256"),
        ({"canaries": []}, "at least one entry"),
        ({"kind": "source", "process": "categorical", "types": 9, "zipf": 1.0, "tokens": 512}, "telephone"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(changes: dict[str, Any], said: str, corpus: Path, tmp_path: Path) -> None:
    fields = tiny(corpus) | {"profile": ASKED}
    fields["corpus"] = changes if "kind" in changes else fields["corpus"] | changes
    if "kind" in changes:
        del fields["tokenizer"]
    done = call("plan", write_study(tmp_path / "s.yaml", fields), cwd=tmp_path)
    assert done.code == BAD_INPUT and said in done.err and done.err.count("\n") == 1, done.err


def test_prompts_longer_than_every_document_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "tokens.npy", np.array([[1, 0, 0, 0], [2, 3, 0, 0]]))
    params = SampleParams(16, 4, 0, {}, "documents", 0, {}, prompt=3, prompts=0, first=0)
    with pytest.raises(InputError, match="no human document is longer than a prompt of 3 tokens"):
        _prompts(params, {"human": tmp_path}, stop=0)


def test_a_finished_run_cannot_gain_canaries(planted: tuple[Study, RunFolder], corpus: Path) -> None:
    cwd = planted[1].path.parent.parent
    done = call("profile", "planted", "--set", "corpus.canaries=[1]", cwd=cwd)
    assert done.code == BAD_INPUT and "fields of the section profile only" in done.err
    assert COPIES == (1, 4, 16, 64, 256), "as the field corpus.canaries says"


def test_a_run_without_the_view_says_how_to_get_it(corpus: Path, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "checkpoints" / "tiny")
    (run.path / "human-seed0" / "gen-00" / "synthetic").mkdir(parents=True)
    run.begin(build(tiny_config(corpus)), {"versions": {}})
    done = call("texts", "tiny", "--telephone", cwd=tmp_path)
    assert done.code == BAD_INPUT and "lab profile RUN --set profile.telephone=true" in done.err, done.err


def test_prompts_of_documents_have_a_step_of_their_own_and_those_of_blocks_have_not(corpus: Path) -> None:
    of_blocks, of_documents = asked(corpus), asked(corpus, corpus__layout="documents")
    assert not {step.name for step in of_blocks.steps} & {"continued", "told"}
    assert len(steps_of(of_documents, "continued")) == 3 and len(steps_of(of_documents, "told")) == 3
    profiled = of_documents.generations[-1].profile
    assert profiled is not None and profiled.inputs["telephone"].name == "told"


@pytest.mark.slow
def test_held_out_documents_shorter_than_a_prompt_take_the_telephone_view_alone(corpus: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in corpus.read_text().splitlines()]
    letters, given = "ABCDEFGHIJKLMNOP", []  # a test document is a letter, and no other one is that
    for k, row in enumerate(rows):
        fold = "test" if k < len(letters) else "validation" if k < 24 else "train"
        given.append({**row, "fold": fold, "text": letters[k] if fold == "test" else row["text"]})
    short = tmp_path / "short.jsonl"
    short.write_text("".join(json.dumps(row) + "\n" for row in given))
    splits = {"column": "fold", "train": "train", "validation": "validation", "test": "test"}
    changes = {"corpus__layout": "documents", "corpus__splits": splits, "corpus__group": None}
    run = RunFolder(tmp_path / "checkpoints" / "tiny")
    run_study(asked(short, **changes, metrics__test_tokens=128), run.path)
    row = run.results()[-1]
    assert np.isfinite([row["above_human"], row["unigram_nll"], row["new_survival"]]).all()
    assert np.isnan(row["extraction"]), "no held-out document is long enough for a suffix either"
    shown = call("profile", "tiny", "--workers", "0", cwd=tmp_path)
    said = "no held-out document is longer than a prompt of 4 tokens"
    assert shown.code == 0 and f"replace: the telephone view is not measured: {said}" in shown.out, shown.err
    texts = call("texts", "tiny", "--telephone", cwd=tmp_path)
    assert texts.code == BAD_INPUT and said in texts.err and texts.err.count("\n") == 1
