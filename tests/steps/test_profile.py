"""The steps of a profile: what a finished run gains without a training, and the entropy of known laws."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.hostile import call
from support.tiny import run_study, tiny, tiny_config, write_corpus, write_study

from lab.cli.terminal import BAD_INPUT
from lab.collapse.verdicts import MISSING
from lab.config.profile import ProfileConfig
from lab.errors import InputError
from lab.loop import build
from lab.models.initial_weights import fresh
from lab.models.sampling.decoding import Decoding
from lab.run.folder import RunFolder
from lab.run.profile import affordable, profiled_study, profiles
from lab.run.retention import pruning
from lab.steps.evidence.entropy import entropies
from lab.steps.evidence.labels import period
from lab.steps.evidence.plurality import divergences
from lab.text.known_source import KnownSource

NGRAM = {"kind": "ngram", "order": 2, "smoothing": "interpolated", "n_positions": 16}
SHAPE = {"n_layer": 1, "n_head": 2, "n_embd": 16, "n_positions": 8, "initializer_range": 0.2}


class FixedLaw:
    """A model that predicts one law everywhere."""

    def __init__(self, law: list[float]) -> None:
        self.logits, self.device = torch.tensor(law).log(), torch.device("cpu")

    def decoder(self, rows: int) -> Any:
        self.rows = rows
        return self

    def step(self, tokens_B: torch.Tensor) -> torch.Tensor:
        return self.logits.expand(self.rows, -1).clone()


def entropy_of(law: list[float], **decoding: Any) -> float:
    rows = np.zeros((2, 3), np.uint16)
    found = entropies(FixedLaw(law), rows, bos=0, decoding=Decoding(**decoding), progress=lambda tokens: None)
    assert found.shape == (2, 3) and np.ptp(found) < 1e-12
    return float(found[0, 0])


def test_entropies_of_known_laws() -> None:
    assert entropy_of([0.25] * 4) == pytest.approx(math.log(4), abs=1e-6)
    assert entropy_of([0.5, 0.3, 0.2], temperature=0) == 0
    assert entropy_of([0.5, 0.3, 0.2], top_k=1) == pytest.approx(0, abs=1e-6)
    # 25, 9 and 4 of 38
    assert entropy_of([0.5, 0.3, 0.2], temperature=0.5) == pytest.approx(0.8536, abs=5e-5)
    assert entropy_of([0.5, 0.3, 0.2], top_p=0.7) == pytest.approx(-(0.625 * math.log(0.625) + 0.375 * math.log(0.375)))


def test_models_that_each_prefer_a_token_of_their_own() -> None:
    laws = [np.where(np.arange(4) == m, 0.97, 0.01).tolist() for m in range(4)]
    rows = np.zeros((2, 3), np.uint16)
    found = divergences(list(map(FixedLaw, laws)), rows, bos=0, progress=lambda tokens: None)
    assert found.shape == (2, 3) and np.exp(found) == pytest.approx(3.38, abs=0.005)
    alike = divergences([FixedLaw(laws[0])] * 3, rows, bos=0, progress=lambda tokens: None)
    assert np.exp(alike) == pytest.approx(1)


def test_entropies_of_a_network_are_those_of_one_forward_pass() -> None:
    """transformers' own model reads BOS and the row at once; here the row comes token by token."""
    model = fresh("gpt2", SHAPE, vocab_size=50, bos=0, seed=1, device="cpu")
    rows = np.random.default_rng(0).integers(1, 50, (3, 8))
    found = entropies(model, rows, bos=0, decoding=Decoding(temperature=0.7), progress=lambda tokens: None)
    read = torch.tensor(np.pad(rows, ((0, 0), (1, 0)))[:, :-1])
    with torch.no_grad():
        logits = model.module(input_ids=read).logits.double() / 0.7
    expected = torch.distributions.Categorical(logits=logits).entropy()
    assert found == pytest.approx(expected.numpy(), abs=1e-5)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a study that asks for no profile."""
    folder = tmp_path_factory.mktemp("profile")
    corpus = write_corpus(folder / "corpus.jsonl")
    run_study(build(tiny_config(corpus, seeds=[0, 1], keep_models="all")), folder / "checkpoints" / "tiny")
    return folder


def trained(folder: Path) -> set[str]:
    return {path.name for path in (folder / "checkpoints" / "store" / "train").glob("[0-9a-f]*")}


@pytest.mark.slow
def test_a_finished_run_gains_a_profile_and_trains_the_judge_alone(finished: Path) -> None:
    run = RunFolder(finished / "checkpoints" / "tiny")
    before, keys = trained(finished), {step.key for step in build(run.config()).steps}
    done = call("profile", "tiny", "--workers", "0", cwd=finished)
    assert done.code == 0, done.err
    assert len(trained(finished) - before) == 1 and before <= trained(finished)
    after = build(run.config())
    assert run.config().profile == ProfileConfig() and keys < {step.key for step in after.steps}
    row = run.results()[0]
    assert all(math.isfinite(row[name]) for name in ("next_entropy", "above_human", "unknown_words", "unigram_nll"))
    assert max(map(len, done.out.splitlines()[:10])) <= 80, "the grid fits a terminal"
    assert "too little text to say, by domain: land, sea" in done.out and "increase of risk (2)" in done.out
    for format_ in ("md", "csv", "latex"):
        assert call("profile", "tiny", "--format", format_, "--workers", "0", cwd=finished).code == 0
    as_json = call("profile", "tiny", "--json", "--workers", "0", cwd=finished)
    assert as_json.out.count('"verdict"') == 8 and (run.path / "profile.csv").read_text().count("replace") == 8
    assert call("verify", "tiny", cwd=finished).code == 0
    fields = tiny(finished / "corpus.jsonl", seeds=[0, 1], keep_models="all")
    again = call("run", write_study(finished / "tiny.yaml", fields), "--workers", "0", cwd=finished)
    assert again.code == 0, again.err
    assert run.config().profile == ProfileConfig() and math.isfinite(run.results()[0]["next_entropy"])
    assert len(trained(finished) - before) == 1, "lab run keeps the profile, and trains nothing"


@pytest.mark.slow
def test_deleted_weights_are_not_trained_again(finished: Path, tmp_path: Path) -> None:
    corpus = finished / "corpus.jsonl"
    run = RunFolder(tmp_path / "tiny")
    run_study(build(tiny_config(corpus, seeds=[0, 1])), run.path)
    pruning(run, "last").apply(run.store)
    study = profiled_study(run, None)
    all_of_them = {generation.profile for generation in study.generations}
    assert all_of_them <= set(affordable(study, run.store)), "every generation, and not only those with weights"
    pruning(run, "none").apply(run.store)
    study = profiled_study(run, None)
    steps = affordable(study, run.store)
    models = {model for generation in study.generations for model in generation.models}
    todo = [step for step in steps if run.store.manifest(step.name, step.key) is None]
    assert study.config.profile is not None and not study.config.profile.entropy
    assert steps and not models.intersection(todo) and "profile" in {step.name for step in todo}


@pytest.mark.slow
def test_a_profile_asked_for_in_a_study_has_all_it_asks_for(tmp_path: Path) -> None:
    fields = tiny(write_corpus(tmp_path / "corpus.jsonl"), seeds=[0, 1], metrics__tokens=512, corpus__tokens=1024)
    fields |= {"profile": {"scaling": True, "groups": {"book": "group"}}}
    done = call("run", write_study(tmp_path / "s.yaml", fields), "--workers", "0", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "by the eight definitions of collapse" in done.out and "\nreplace: " in done.out
    run = RunFolder(tmp_path / "checkpoints" / "tiny")
    (found,) = profiles(build(run.config()), run.store)
    by_number = {each.definition.number: each for each in found.findings}
    assert by_number[5].verdict != MISSING and by_number[3].verdict == MISSING
    assert sorted(found.chains.points[0][0].losses) == [0.125, 0.25, 0.5, 1.0]
    assert {each["column"] for each in found.chains.points[0][0].groups} == {"domain", "author", "book"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({"model": NGRAM, "train": None}, {5, 3}),
        ({"population": 2}, {5, 3}),
        ({"sample__prompt_tokens": 4}, {5, 3}),
        ({"corpus__layout": "documents"}, {5, 3}),
    ],
    ids=["ngram", "population", "prompts", "documents"],
)
def test_studies_of_every_kind_have_a_profile(changes: dict[str, Any], missing: set[int], tmp_path: Path) -> None:
    fields = tiny(write_corpus(tmp_path / "corpus.jsonl"), seeds=[0, 1], **changes)
    study = build(parse({k: v for k, v in fields.items() if v is not None} | {"profile": {"scaling": False}}))
    run = RunFolder(tmp_path / "run")
    run_study(study, run.path)
    (found,) = profiles(study, run.store)
    assert missing <= {each.definition.number for each in found.findings if each.verdict == MISSING}
    assert math.isfinite(found.findings[7].value.mean) and math.isfinite(found.findings[1].value.mean)
    models = [point.columns["effective_models"] for pair in found.chains.pairs() for point in pair]
    assert all(1 < number <= 2 for number in models) if "population" in changes else np.isnan(models).all()


KINDS: dict[str, dict[str, Any]] = {
    "regimes": {"regimes": ["human", "replace", "accumulate"]},
    "population": {"population": 2},
    "sweep": {"sweep": {"sample.temperature": [1.0, 0.5]}},
    "documents": {"corpus__layout": "documents"},
    "ngram": {"model": NGRAM, "train": None},
    "continued": {"train__start": "continue"},
    "curated": {"curators": ["duplicates"]},
    "beams": {"sample__beams": 2, "sample__prompt_tokens": 4},
}


@pytest.mark.parametrize("kind", KINDS)
def test_no_key_of_a_step_changes(kind: str, corpus_file: Path) -> None:
    """A profile adds steps beside those of a study, and of them the judge's alone is a training."""
    fields = {name: value for name, value in tiny(corpus_file, **KINDS[kind]).items() if value is not None}
    before = {(step.name, step.key) for step in build(parse(fields)).steps}
    after = {(step.name, step.key): step for step in build(parse({**fields, "profile": {}})).steps}
    added = [after[key] for key in after.keys() - before]
    assert before < after.keys()
    assert [step.name for step in added].count("train") == 1
    probes = {"judged", "entropy", *(["plurality"] if kind == "population" else [])}
    assert {step.name for step in added} - {"profile", "lexicon", "human", "pool", "train"} == probes - (
        {"entropy"} if kind == "beams" else set()
    )


@pytest.mark.slow
def test_two_temperatures_have_a_grid_each(tmp_path: Path) -> None:
    """Counting models, so that it is quick: three regimes at two temperatures, and each grid fits 80 columns."""
    regimes = ["human", "replace", "accumulate", "accumulate_subsample"]
    fields = tiny(write_corpus(tmp_path / "corpus.jsonl"), seeds=[0, 1], regimes=regimes, model=NGRAM)
    fields |= {"sweep": {"sample.temperature": [1.0, 0.5]}, "profile": {}}
    study = build(parse({name: value for name, value in fields.items() if name != "train"}))
    run = RunFolder(tmp_path / "checkpoints" / "tiny")
    run_study(study, run.path)
    found = profiles(study, run.store)
    assert len(found) == 6 and len({each.axes["sample.temperature"] for each in found}) == 2
    done = call("profile", "tiny", "--workers", "0", cwd=tmp_path)
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    for temperature in ("1.0", "0.5"):
        at = lines.index(f"Collapse profile of tiny, temperature {temperature}")
        assert lines[at + 1].split() == ["definition", *regimes[1:]]
        assert max(map(len, lines[at : at + 10])) <= 80
    entropy = {(r["sample.temperature"], r["regime"]): r["next_entropy"] for r in run.results() if r["generation"]}
    assert all(entropy[0.5, regime] < entropy[1.0, regime] for regime in regimes)
    table = call("profile", "tiny", "--format", "latex", "--workers", "0", cwd=tmp_path).out
    assert table.count("temperature 1.0") == 3 and table.startswith("\\begin{tabular}{lllllll}")


def test_counts_without_smoothing_say_what_is_not_measured(tmp_path: Path) -> None:
    fields = tiny(write_corpus(tmp_path / "corpus.jsonl"), seeds=[0, 1], model=NGRAM | {"smoothing": "none"})
    study = build(parse({name: value for name, value in fields.items() if name != "train"} | {"profile": {}}))
    run = RunFolder(tmp_path / "run")
    run_study(study, run.path)
    (found,) = profiles(study, run.store)
    assert "a loss is infinite" in found.findings[1].words
    assert "it gives human rows no probability" in found.findings[7].words


def test_a_control_alone_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    fields = tiny(write_corpus(tmp_path / "corpus.jsonl"), regimes=["human"], model=NGRAM)
    study = build(parse({name: value for name, value in fields.items() if name != "train"}))
    run_study(study, tmp_path / "checkpoints" / "tiny")
    done = call("profile", "tiny", "--workers", "0", cwd=tmp_path)
    assert done.code == BAD_INPUT and done.unchanged and "has only its control" in done.err


def test_prompts_do_not_count_for_the_law_of_a_source(tmp_path: Path) -> None:
    """The law's loss of a sample after its prompts is near its entropy, as without prompts, and not twice as much."""
    fields = tiny("-", seeds=[0], sample__tokens=1600, metrics__tokens=800, metrics__test_tokens=1600)
    fields["corpus"] = {"kind": "source", "process": "markov", "types": 20, "zipf": 1.0, "tokens": 1600}
    fields |= {"model": {"kind": "positions", "n_positions": 16}, "regimes": ["human"], "profile": {}}
    fields["sample"] |= {"prompt_tokens": 8, "train_on_prompt": True}
    study = build(parse({k: v for k, v in fields.items() if k not in ("train", "tokenizer")}))
    run = RunFolder(tmp_path / "run")
    run_study(study, run.path)
    folder = run.path / "human-seed0" / "gen-00"
    law = KnownSource.load(next((run.path.parent / "store" / "source").glob("[0-9a-f]*")))
    tokens = np.load(folder / "synthetic" / "tokens.npy")
    expected = law.nats(tokens)[:, 8:].mean()
    assert run.results()[0]["judge_nll"] == pytest.approx(expected, rel=1e-5)


def test_of_a_source_the_law_is_the_judge(tmp_path: Path) -> None:
    fields = tiny("-", seeds=[0, 1], sample__tokens=1600, metrics__tokens=1600, metrics__test_tokens=1600)
    fields["corpus"] = {"kind": "source", "process": "categorical", "types": 20, "zipf": 1.0, "tokens": 1600}
    fields |= {"model": {"kind": "positions", "n_positions": 16}, "profile": {}}
    study = build(parse({k: v for k, v in fields.items() if k not in ("train", "tokenizer")}))
    run = RunFolder(tmp_path / "run")
    run_study(study, run.path)
    row = run.results()[0]
    assert row["above_human"] < 0.1 and row["kl_to_judge"] > 0


def parse(fields: dict[str, Any]) -> Any:
    from lab.config.files import parse_study

    return parse_study(fields)


def test_periods_of_numbers() -> None:
    assert period("1843", 100, "year") == "1800-1899" and period("-5", 10, "year") == "-10--1"
    assert period("1843", 1, "year") == "1843"
    with pytest.raises(InputError, match='column "year" holds "soon", and a period needs numbers'):
        period("soon", 10, "year")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nosuch"], "holds no run"),
        ([], "which run"),
        (["tiny", "--set", "train.lr=1"], "fields of the section profile only"),
        (["tiny", "--set", "profile.jugde=true"], 'did you mean "judge"'),
        (["tiny", "--set", "profile.groups={book: gruop}"], 'has no column "gruop"'),
        (["tiny", "--set", "profile.groups={author: group}"], "groups names author, which the profile has already"),
        (["tiny", "--set", "profile.groups={book: {columm: group}}"], 'did you mean "column"'),
        (["tiny", "--format", "html"], 'not as "html"'),
        (
            ["tiny", "--json", "--format", "csv"],
            "--json and --format csv are two forms of one answer; give one of them",
        ),
    ],
)
def test_bad_input_in_one_line(arguments: list[str], said: str, finished: Path) -> None:
    done = call("profile", *arguments, "--workers", "0", cwd=finished)
    assert done.code == BAD_INPUT and said in done.err
