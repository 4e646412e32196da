"""Starts, compute conventions, prompts, documents, populations, archives and sweeps through the lab's own loop."""

import csv
import inspect
import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.tiny import PROJECT, run_study, steps_of, store_at, tiny, tiny_config
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
)

from lab.checks import exact
from lab.config.files import parse_study
from lab.config.model import ModelConfig
from lab.config.train import TrainConfig
from lab.config.voices import writers
from lab.errors import InputError
from lab.hashing import code_hash
from lab.loop import Generation, Study, build
from lab.metrics import centralisation
from lab.metrics.diversity import within_and_between
from lab.metrics.measure import measure
from lab.metrics.risk import disagreement
from lab.metrics.texts import head
from lab.models.feed import RecipeRows, before_end, load_recipe
from lab.models.gpt2 import Gpt2
from lab.models.initial_weights import random_gpt2
from lab.models.schedule import batch_at
from lab.models.train import fit
from lab.recipe import ARCHIVE, HUMAN, Part, Recipe
from lab.report.compare import pivot
from lab.run.folder import RunFolder
from lab.run.plan import make_plan
from lab.steps import STEPS
from lab.steps.record import as_record, load_evidence
from lab.store.step import Step

T = 16


class Ran:
    """A finished study, and what its steps left."""

    def __init__(self, study: Study, folder: Path) -> None:
        self.study, self.folder = study, folder
        run_study(study, folder)
        self.rows = RunFolder(folder).results()

    def at(self, regime: str, t: int) -> Generation:
        return next(g for g in self.study.generations if g.regime == regime and g.t == t)

    def path(self, step: Step) -> Path:
        return store_at(self.folder.parent).folder(step.name, step.key)

    def array(self, step: Step, name: str = "tokens") -> np.ndarray:
        return np.load(self.path(step) / f"{name}.npy")

    def json(self, step: Step) -> dict[str, Any]:
        name = {"train": "training", "record": "record", "pool": "recipe"}[step.name]
        found: dict[str, Any] = json.loads((self.path(step) / f"{name}.json").read_text())
        return found

    def column(self, regime: str, name: str) -> list[Any]:
        return [row[name] for row in self.rows if row["regime"] == regime]

    def measure(self, generation: Generation, **folders: Path) -> dict[str, Any]:
        """Make a record again with other folders instead of its inputs."""
        step = generation.record
        inputs = {role: self.path(parent) for role, parent in step.inputs.items()} | folders
        params = {"prompt": step.params["prompt"], "layout": step.params["layout"]}
        return as_record(measure(load_evidence(inputs, budget=step.params["tokens"], **params)))


Run = Callable[..., Ran]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, corpus_file: Path) -> Run:
    """Return a function that runs studies in one store, so that common artifacts are made once."""
    store = tmp_path_factory.mktemp("features")

    def start(**changes: Any) -> Ran:
        study = build(tiny_config(corpus_file, **{"generations": 2, "regimes": ["replace"], **changes}))
        return Ran(study, store / f"run{len(list(store.iterdir()))}")

    return start


@pytest.fixture(scope="module")
def documents(run: Run) -> Ran:
    """Documents behind prompts of 3 tokens; tales cut to pieces of some two rows, the second one often short."""
    return run(
        corpus__layout="documents",
        corpus__piece=50,
        sample__prompt_tokens=3,
        metrics__tokens=128,
    )


# --- what is learned -------------------------------------------------------------------------------------------------


V, EOS = 40, 39
TRAIN = {"batch_rows": 3, "lr": 1e-2, "warmup": 0, "final_lr": 1, "validation_tokens": 64, "steps": 3}


def small(seed: int = 1) -> Gpt2:
    config = ModelConfig(n_layer=1, n_head=2, n_embd=16, n_positions=T + 1, initializer_range=0.3)
    return random_gpt2(config, vocab_size=V, bos=0, seed=seed)


def reference_losses(rows: RecipeRows, config: TrainConfig, seed: int) -> list[float]:
    """Train in plain torch and transformers, with label -100 for tokens that are not learned."""
    module = small().module
    groups = [
        {"params": [p for p in module.parameters() if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in module.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=config.lr, betas=(config.beta1, config.beta2), eps=1e-8)
    losses = []
    for step in range(3):
        batch = batch_at(step, seed=seed, rows=len(rows), batch_rows=3, total=9)
        ids = rows.take(batch).astype(np.int64)
        labels = np.where(rows.learned(batch, ids), ids, -100)
        read, aim = (np.pad(x, ((0, 0), (1, 0)), constant_values=c) for x, c in ((ids, 0), (labels, -100)))
        loss = module(input_ids=torch.from_numpy(read), labels=torch.from_numpy(aim)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), config.clip)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return losses


def learnable(context: int, eos: int | None) -> RecipeRows:
    rng = np.random.default_rng(2)
    rows = rng.integers(1, EOS, (9, T))
    for row, length in enumerate([16, 5, 9, 1, 15, 16, 7, 12, 10]):
        rows[row, length:] = EOS
    return RecipeRows(Recipe((Part(0, 0, 5), Part(HUMAN, 5, 9))), {0: rows, HUMAN: rows}, context=context, eos=eos)


@pytest.mark.parametrize(("context", "eos"), [(4, None), (0, EOS), (1, EOS)], ids=["context", "documents", "both"])
def test_training_is_transformers_loss_with_ignored_labels(context: int, eos: int | None) -> None:
    """Three steps: the loss of the second and third depend on the gradients of the ones before."""
    config = TrainConfig(**TRAIN)
    curve = fit(
        small(),
        learnable(context, eos),
        config,
        validation=np.ones((1, T), np.int64),
        seed=3,
        dtype="float32",
        progress=lambda tokens: None,
    )
    want = reference_losses(learnable(context, eos), config, seed=3)
    np.testing.assert_allclose([line["train"] for line in curve[1:]], want, rtol=1e-5)
    everything = reference_losses(learnable(1, None), config, seed=3)
    assert abs(want[0] - everything[0]) > 1e-3


def test_the_tokens_of_documents_are_those_of_their_text() -> None:
    """9 rows of 91 tokens, ends included: 182 tokens are 18 rows, two passes, and not 182 // 16 = 11."""
    rows = learnable(0, EOS)
    assert rows.lengths().sum() == sum(min(length + 1, T) for length in [16, 5, 9, 1, 15, 16, 7, 12, 10])
    config = TrainConfig(**TRAIN | {"steps": None, "tokens": 2 * int(rows.lengths().sum())})
    fit(
        small(),
        rows,
        config,
        validation=np.ones((1, T), np.int64),
        row_tokens=float(rows.lengths().mean()),
        seed=3,
        dtype="float32",
        progress=lambda tokens: None,
    )
    assert sum(rows.fed_by_origin().values()) == 18 and rows.fed_tokens == config.tokens


# --- documents and prompts -------------------------------------------------------------------------------------------


def special(ran: Ran) -> dict[str, int]:
    found: dict[str, int] = json.loads((ran.path(steps_of(ran.study, "tokenizer")[0]) / "special.json").read_text())
    return found


def test_prompts_are_human_rows_each_once(documents: Ran) -> None:
    g = documents.at("replace", 0)
    human, eos = documents.array(g.record.inputs["human"]), special(documents)["eos"]
    allowed = [row for row in human[:, :3].tolist() if eos not in row]
    prompts = documents.array(g.synthetic)[:, :3].tolist()
    assert 0 < len(allowed) < len(human), "there are short documents, which are no prompts"
    counts = {tuple(row): prompts.count(row) / allowed.count(row) for row in prompts}
    assert set(map(tuple, allowed)) == set(counts), "every human row is used, over shards of 20 and 12 rows"
    assert max(counts.values()) <= np.ceil(len(prompts) / len(allowed))
    later = documents.array(documents.at("replace", 1).synthetic)[:, :3].tolist()
    assert sorted(later) != prompts and later != prompts, "each generation has an order of its own"


def test_rows_of_documents_end_once(documents: Ran) -> None:
    eos = special(documents)["eos"]
    for step in (documents.at("replace", 0).record.inputs["human"], documents.at("replace", 1).synthetic):
        rows = documents.array(step)
        kept = before_end(rows, eos)
        assert (rows[~kept] == eos).all() and not kept.all()
    nats = documents.array(next(iter(documents.at("replace", 1).synthetic.inputs.values())), "nats")
    assert (nats[:, :3] == 0).all() and (nats[:, 3] > 0).all()


def test_texts_of_documents_have_no_padding(documents: Ran) -> None:
    import pyarrow.parquet as pq

    for step in (documents.at("replace", 0).record.inputs["human"], documents.at("replace", 1).synthetic):
        texts = pq.read_table(documents.path(step) / "rows.parquet")["text"].to_pylist()
        assert max(text.count("<|endoftext|>") for text in texts) == 1
        assert all(text.find("<|endoftext|>") in (-1, len(text) - len("<|endoftext|>")) for text in texts)


def test_heldout_loss_leaves_padding_out(documents: Ran) -> None:
    g, eos = documents.at("replace", 1), special(documents)["eos"]
    test = documents.array(g.record.inputs["test"])
    kept = before_end(test, eos)
    nats = documents.array(g.probes["heldout"][0], "nats")
    assert documents.column("replace", "nll")[1] == pytest.approx(float(nats[kept].mean(dtype=np.float64)))
    module = AutoModelForCausalLM.from_pretrained(documents.path(g.models[0]))
    ids = torch.from_numpy(test.astype(np.int64))
    logits = module(torch.nn.functional.pad(ids[:, :-1], (1, 0), value=special(documents)["bos"])).logits
    labels = torch.where(torch.from_numpy(kept), ids, -100)
    want = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
    assert documents.column("replace", "nll")[1] == pytest.approx(float(want.detach()), abs=1e-4)


def test_validation_loss_leaves_padding_out(documents: Ran) -> None:
    g, eos = documents.at("replace", 1), special(documents)["eos"]
    rows = documents.array(g.models[0].inputs["validation"])
    kept = before_end(rows, eos)
    assert not kept.all()
    module = AutoModelForCausalLM.from_pretrained(documents.path(g.models[0]))
    ids = torch.from_numpy(rows.astype(np.int64))
    logits = module(torch.nn.functional.pad(ids[:, :-1], (1, 0), value=special(documents)["bos"])).logits
    want = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), torch.where(torch.from_numpy(kept), ids, -100).view(-1)
    )
    assert documents.column("replace", "validation_nll")[1] == pytest.approx(float(want.detach()), abs=1e-4)


def test_training_tokens_of_documents_are_text(documents: Ran) -> None:
    """640 tokens of text, to a row: more than 640 / 16 = 40 rows, since rows are not full."""
    for t in range(2):
        step = documents.at("replace", t).models[0]
        fed = documents.json(step)
        assert sum(fed["fed_rows"].values()) > 40
        assert documents.column("replace", "train_tokens")[t] == fed["fed_tokens"] == pytest.approx(640, rel=0.15)
        corpus = documents.array(step.inputs["human" if t == 0 else "synthetic-0"])
        kept = before_end(corpus, special(documents)["eos"])
        assert documents.column("replace", "unique_tokens")[t] == kept.sum() < corpus.size


def copied(ran: Ran, step: Step, tokens: np.ndarray, folder: Path) -> Path:
    folder.mkdir()
    np.save(folder / "tokens.npy", tokens)
    return folder


def test_neither_prompts_nor_padding_are_measured(documents: Ran, tmp_path: Path) -> None:
    """Other prompts and other padding change no number; one other token of the text does."""
    g, eos = documents.at("replace", 1), special(documents)["eos"]
    was = documents.json(g.record)
    tokens = documents.array(g.synthetic)
    kept = before_end(tokens, eos)
    other = tokens.copy()
    other[:, :3] = 70
    other[~kept] = np.resize([71, eos, 72], (~kept).sum())
    found = documents.measure(g, synthetic=copied(documents, g.synthetic, other, tmp_path / "other"))
    assert found == was
    other[0, 3:6] = 73
    found = documents.measure(g, synthetic=copied(documents, g.synthetic, other, tmp_path / "text"))
    assert found["columns"]["distinct_2"] != was["columns"]["distinct_2"]


def test_documents_that_became_too_short_leave_their_loss(documents: Ran, tmp_path: Path) -> None:
    g, eos = documents.at("replace", 1), special(documents)["eos"]
    tokens = documents.array(g.synthetic)
    tokens[:, 4:] = eos
    found = documents.measure(g, synthetic=copied(documents, g.synthetic, tokens, tmp_path / "short"))["columns"]
    lost = {name for name, value in found.items() if value is None}
    assert {"distinct_1", "distinct_2", "rare_survival", "self_bleu", "distinct_2_within", "zipf"} <= lost
    assert found["nll"] == documents.json(g.record)["columns"]["nll"]


def test_head_by_hand() -> None:
    rows = np.array([[7, 1, 2, 0], [7, 3, 0, 0], [7, 4, 5, 6], [7, 8, 8, 8]], np.uint16)
    found = head(rows, 1, 6, 0)
    assert found is not None and found.tolist() == [[1, 2, 0], [3, 0, 0], [4, 0, 0]] and found.dtype == np.uint16
    assert head(rows, 1, 12, 0) is None, "3 + 2 + 3 + 3 = 11"
    assert np.array_equal(head(rows, 1, 11, 0), rows[:, 1:])
    assert np.array_equal(head(rows, 1, 8, None), rows[:2, 1:])
    assert np.array_equal(head(rows, 1, 13, None), rows[:, 1:]), "whole rows below the budget"
    assert head(rows, 1, 15, None) is None


def test_the_head_is_compared_at_its_budget(run: Run) -> None:
    """Blocks behind prompts of 4: 256 tokens are 21 rows of 12, and the human resample has as many."""
    ran = run(generations=1, sample__prompt_tokens=4, sample__tokens=640, metrics__tokens=256)
    g = ran.at("replace", 0)
    assert ran.array(g.record.inputs["resample"]).shape == (21, T)
    sample = ran.array(g.synthetic)[:21, 4:]
    eos = special(ran)["eos"]
    grams = [(a, b) for row in sample.tolist() for a, b in itertools.pairwise(row) if eos not in (a, b)]
    assert ran.column("replace", "distinct_2")[0] == pytest.approx(len(set(grams)) / len(grams))


def test_prompts_decide_later_trainings_only(corpus_file: Path) -> None:
    """Human text has no prompts: generation 0 and the control are trained once for all prompts."""
    plain, prompted, learned = (
        build(tiny_config(corpus_file, metrics__tokens=192, generations=2, **changes))
        for changes in ({}, {"sample__prompt_tokens": 4}, {"sample__prompt_tokens": 4, "sample__train_on_prompt": True})
    )
    trained = [{(g.regime, g.t): g.models[0] for g in study.generations} for study in (plain, prompted, learned)]
    for place in (("human", 0), ("human", 1), ("replace", 0)):
        assert len({models[place].key for models in trained}) == 1
    assert len({models["replace", 1].key for models in trained}) == 3
    assert trained[1]["replace", 1].params["context"] == 4 and trained[2]["replace", 1].params["context"] == 0
    assert trained[1]["replace", 1].inputs["synthetic-0"] == trained[2]["replace", 1].inputs["synthetic-0"]


def test_beams_run_with_documents(run: Run) -> None:
    """The likeliest continuation: equal prompts give equal rows."""
    ran = run(
        generations=1,
        corpus__layout="documents",
        corpus__piece=60,
        corpus__tokens=512,
        sample__tokens=None,
        sample__rows=16,
        sample__prompt_tokens=2,
        sample__beams=3,
        metrics__tokens=32,
    )
    rows = ran.array(ran.at("replace", 0).synthetic).tolist()
    assert len(rows) == 16 and len({tuple(row) for row in rows}) == len({tuple(row[:2]) for row in rows})


# --- starts ----------------------------------------------------------------------------------------------------------


def ends(ran: Ran, step: Step) -> tuple[float, float]:
    """Return the validation loss before the first and after the last step."""
    curve = ran.json(step)["curve"]
    return curve[0]["validation"], curve[-1]["validation"]


def places(step: Step) -> range:
    return range(step.params["after"], step.params["after"] + step.params["rows"])


def test_a_base_is_fitted_to_text_of_its_own_and_begins_every_generation(run: Run) -> None:
    ran = run(
        regimes=["human", {"mix": {"human": 0.25, "fresh": True}}],
        corpus__tokens=256,
        sample__tokens=256,
        metrics__tokens=128,
        corpus__archive_tokens=128,
        train__start="base",
        train__base={"tokens": 256, "epochs": 2},
        train__lr=2e-2,
    )
    base = ran.at("human", 0).models[0].inputs["began"]
    assert ran.json(base)["fed_rows"] == {"-1": 2 * 16}
    assert ends(ran, base)[1] < ends(ran, base)[0]
    for regime in ("human", "mix,fresh=true,human=0.25"):
        for t in range(2):
            began = ran.at(regime, t).models[0]
            assert began.inputs["began"] == base and ends(ran, began)[0] == ends(ran, base)[1]
    rows = [places(step) for step in steps_of(ran.study, "human")]
    assert len(rows) == 4 and sum(map(len, rows)) == 16 + 8 + 16 + 8
    assert sorted(i for mine in rows for i in mine) == list(range(48)), "human, archive, base, resample: disjoint"
    lines = {line.step: line for line in make_plan(ran.study, store_at(ran.folder.parent), 1).lines}
    assert all(line.uses >= line.unique for line in lines.values()), "what is used once is not shared less than once"
    assert (lines["train"].uses, lines["train"].unique) == (6, 4)


def test_continuing_begins_where_the_last_generation_ended(run: Run) -> None:
    ran = run(generations=3, train__start="continue")
    found = [ends(ran, ran.at("replace", t).models[0]) for t in range(3)]
    assert found[1][0] == found[0][1] and found[2][0] == found[1][1]
    scratch = run(generations=2)
    assert scratch.at("replace", 0).models == ran.at("replace", 0).models, "generation 0 is the same training"
    assert ends(scratch, scratch.at("replace", 1).models[0])[0] != found[0][1]


CHECKPOINTS = {
    "gpt2": lambda v, end: GPT2LMHeadModel(
        GPT2Config(vocab_size=v, n_positions=32, n_embd=16, n_layer=1, n_head=2, bos_token_id=end, eos_token_id=end)
    ),
    "llama": lambda v, end: LlamaForCausalLM(
        LlamaConfig(
            vocab_size=v,
            max_position_embeddings=32,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=1,
            num_attention_heads=2,
            bos_token_id=end,
            eos_token_id=end,
        )
    ),
    "opt": lambda v, end: OPTForCausalLM(
        OPTConfig(
            vocab_size=v,
            max_position_embeddings=32,
            hidden_size=16,
            word_embed_proj_dim=16,
            ffn_dim=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            pad_token_id=1,
            bos_token_id=end,
            eos_token_id=end,
        )
    ),
}


def checkpoint(kind: str, tokenizer: Path, folder: Path) -> Path:
    """Save a random model with a tokenizer of its own, as a user's folder would be."""
    words = AutoTokenizer.from_pretrained(tokenizer)
    torch.manual_seed(1)
    CHECKPOINTS[kind](len(words), words.eos_token_id).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def pretrained(run: Run, kind: str, folder: Path, **changes: Any) -> Ran:
    words = run(generations=1, regimes=["human"])
    path = checkpoint(kind, words.path(steps_of(words.study, "tokenizer")[0]), folder)
    model = {"kind": "pretrained", "path": str(path), "n_positions": T}
    return run(model=model, tokenizer=None, train__start="base", generations=2, **changes)


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_a_checkpoint_begins_every_generation(run: Run, tmp_path: Path, kind: str) -> None:
    ran = pretrained(run, kind, tmp_path / kind)
    module = AutoModelForCausalLM.from_pretrained(tmp_path / kind).eval()
    ids = torch.from_numpy(ran.array(ran.at("replace", 0).models[0].inputs["validation"]).astype(np.int64))
    logits = module(torch.nn.functional.pad(ids[:, :-1], (1, 0), value=special(ran)["bos"])).logits
    want = float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids.flatten()).detach())
    for t in range(2):
        first, last = ends(ran, ran.at("replace", t).models[0])
        assert first == pytest.approx(want, abs=1e-4) and last < first
    assert all(np.isfinite(ran.column("replace", "perplexity")))


def test_a_hub_models_tokenizer_has_its_revision(corpus_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lab.steps.identity.hub_revision", lambda kind, name, revision, field: f"{name}@{revision}")
    model = {"kind": "pretrained", "path": "org/name", "revision": "v2", "n_positions": T}
    study = build(tiny_config(corpus_file, model=model, tokenizer=None, train__start="base"))
    for step in steps_of(study, "tokenizer", "base"):
        assert step.params["identity"] == "org/name@v2" and step.where == {"path": "org/name", "revision": "v2"}


def test_lora_moves_the_linear_layers_alone(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    ran = pretrained(run, "gpt2", tmp_path / "base", train__lora={"rank": 2, "alpha": 4})
    base, trained = (
        AutoModelForCausalLM.from_pretrained(folder).state_dict()
        for folder in (tmp_path / "base", ran.path(ran.at("replace", 1).models[0]))
    )
    assert base.keys() == trained.keys()
    moved = {name for name in base if not torch.equal(base[name], trained[name])}
    assert moved == {
        f"transformer.h.0.{name}.weight" for name in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    }
    for name in moved:
        assert torch.linalg.matrix_rank(trained[name] - base[name], rtol=1e-3) <= 2


def test_lora_without_peft_is_said_before_anything_runs(corpus_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="lora needs peft"):
        build(tiny_config(corpus_file, train__start="continue", train__lora={"rank": 1, "alpha": 1}))


# --- compute conventions ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("convention", "seen"),
    [
        ({"tokens": 640}, [640, 640, 640]),
        ({"tokens": None, "epochs": 1.5}, [768, 1536, 2304]),
        ({"tokens": None, "steps": 7}, [448, 448, 448]),
    ],
    ids=["tokens", "epochs", "steps"],
)
def test_conventions(run: Run, convention: dict[str, Any], seen: list[int]) -> None:
    """Recipes of 32, 64, 96 rows of 16.  640 tokens are 40 rows; 1.5 epochs 48, 96, 144; 7 steps of 4 are 28."""
    changes = {f"train__{name}": value for name, value in convention.items()}
    ran = run(generations=3, regimes=["accumulate"], **changes)
    assert ran.column("accumulate", "train_tokens") == seen
    assert [ran.at("accumulate", t).models[0].tokens for t in range(3)] == seen, "as planned"
    shares = [ran.json(ran.at("accumulate", t).record)["shares"] for t in range(3)]
    assert [set(found) for found in shares] == [{"-1"}, {"-1", "0"}, {"-1", "0", "1"}]
    for t, found in enumerate(shares):
        fed = ran.json(ran.at("accumulate", t).models[0])["fed_rows"]
        assert found == {origin: rows * T / seen[t] for origin, rows in fed.items()}
        assert found["-1"] == ran.column("accumulate", "human_share")[t]


# --- populations -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pair(run: Run) -> Ran:
    return run(population=2, regimes=["accumulate"], metrics__tokens=256, train__tokens=None, train__epochs=1)


def test_models_of_a_population_see_disjoint_shares(pair: Ran) -> None:
    """One epoch in all: the rows that each member takes are half of the recipe's, and none is the other's."""
    g = pair.at("accumulate", 1)
    recipe = load_recipe(pair.path(g.recipe))
    corpora = {HUMAN: pair.array(g.models[0].inputs["human"]), 0: pair.array(g.models[0].inputs["synthetic-0"])}
    assert [model.params["member"] for model in g.models] == [0, 1] and g.models[0].inputs == g.models[1].inputs
    fed = [pair.json(model)["fed_rows"] for model in g.models]
    assert fed == [{"-1": 16, "0": 16}] * 2 and recipe.rows == sum(map(len, corpora.values())) == 64
    assert pair.column("accumulate", "train_tokens") == [512, 1024], "as many as one model would see"
    assert len({model.key for model in g.models}) == 2
    assert sum(model.tokens for model in g.models) == 1024, "as planned"
    losses = [pair.array(found, "nats") for found in g.probes["heldout"]]
    assert not np.allclose(*losses)


def test_rows_are_written_in_turn(pair: Ran) -> None:
    g = pair.at("accumulate", 1)
    shards = {role: step for role, step in g.synthetic.inputs.items() if role.startswith("shard-")}
    assert [step.params["rows"] for step in shards.values()] == [16, 16]
    assert [step.inputs["model"] for step in shards.values()] == list(g.models)
    assert len({step.params["seed"] for step in shards.values()}) == 2
    rows = pair.array(g.synthetic)
    for m, step in enumerate(shards.values()):
        assert np.array_equal(rows[m::2], pair.array(step))


def test_disagreement_is_that_of_the_two(pair: Ran) -> None:
    g = pair.at("accumulate", 1)
    a, b = (pair.array(found, "nats").astype(np.float64) for found in g.probes["heldout"])
    want = ((a + b) / 2 + np.log((np.exp(-a) + np.exp(-b)) / 2)).mean()
    assert pair.column("accumulate", "disagreement")[1] == pytest.approx(want) and want > 0
    assert pair.column("accumulate", "nll")[1] == pytest.approx(((a + b) / 2).mean())


def test_disagreement_by_hand() -> None:
    """p = 1/2 and 1/8: mean loss ln 4, loss of the mean 5/16 is ln 3.2."""
    a, b = np.log([2.0, 4.0]), np.log([8.0, 4.0])
    assert disagreement([a, b]) == pytest.approx(np.log(4 / 3.2) / 2)
    assert disagreement([a, a]) == pytest.approx(0, abs=1e-12)
    assert disagreement([a]) == 0
    assert np.isnan(disagreement([np.array([np.inf]), np.array([np.inf])]))


def test_within_and_between_by_hand() -> None:
    """Member 0 writes 1 1 1 1, member 1 writes 2 3 4 5.  Within: (1/6 + 3/6) / 2; between, a row of each: 4/6."""
    sample = np.array([[1, 1, 1, 1], [2, 3, 4, 5]] * 4)
    found = within_and_between(sample, models=2, prompt=0, budget=16, eos=0, end=None)
    assert found == {"distinct_2_within": pytest.approx(1 / 3), "distinct_2_between": pytest.approx(4 / 6)}
    alone = within_and_between(sample[::2], models=1, prompt=0, budget=16, eos=0, end=None)
    assert alone["distinct_2_within"] == alone["distinct_2_between"] == pytest.approx(1 / 12)


def test_documents_of_a_population_are_compared_at_equal_text() -> None:
    """Budget 12, 6 tokens of text a member: 1 2 0, 1 2 0 and 3 4 5 6, 3 4 -; padding buys no text."""
    sample = np.array([[1, 2, 0, 0], [3, 4, 5, 6], [1, 2, 0, 0], [3, 4, 0, 0], [9, 9, 9, 9], [9, 9, 9, 9]])
    found = within_and_between(sample, models=2, prompt=0, budget=12, eos=0, end=0)
    assert found["distinct_2_within"] == pytest.approx((1 / 2 + 3 / 4) / 2)
    assert found["distinct_2_between"] == pytest.approx(4 / 4), "1 2 0, 3 4 5: 12 34 45"


def test_members_of_a_population_are_linked_by_number(pair: Ran) -> None:
    names = {path.name for path in (pair.folder / "accumulate-seed0" / "gen-01").iterdir()}
    assert names == {"model-0", "model-1", "evidence-0", "evidence-1", "synthetic", "record"}


def test_a_population_of_counts_shares_its_rows(run: Run) -> None:
    counts = {"kind": "ngram", "order": 2, "smoothing": "interpolated", "n_positions": T}
    ran = run(generations=1, model=counts, train=None, population=2)
    fed = [ran.json(model)["fed_rows"] for model in ran.at("replace", 0).models]
    assert fed == [{"-1": 16}] * 2 and ran.column("replace", "disagreement")[0] > 0


# --- voices ----------------------------------------------------------------------------------------------------------

METRICS = [f"lab.metrics.centralisation:{name}" for name in ("homogenisation", "systemic_loss", "concentration")]


@pytest.fixture(scope="module")
def unequal(run: Run) -> Ran:
    """The population of `pair`, where one of the two models writes 24 of the 32 rows of few different tokens."""
    voices = {"sample__voices": [0.75, 0.25], "sample__top_k": 3, "metrics__extra": METRICS}
    return run(population=2, regimes=["accumulate"], metrics__tokens=256, train__tokens=None, train__epochs=1, **voices)


def test_unequal_voices_write_their_rows(unequal: Ran, pair: Ran) -> None:
    g, equal = unequal.at("accumulate", 0), pair.at("accumulate", 0)
    shards = [step for role, step in g.synthetic.inputs.items() if role.startswith("shard-")]
    assert [step.params["rows"] for step in shards] == [20, 4, 8], "at most 20 rows a shard"
    assert [step.params["member"] for step in shards] == [0, 0, 1]
    assert [step.inputs["model"] for step in shards] == [g.models[0], g.models[0], g.models[1]]
    assert g.models == equal.models and g.synthetic != equal.synthetic
    rows, who = unequal.array(g.synthetic), writers([24, 8])
    own = [np.concatenate([unequal.array(step) for step in shards if step.params["member"] == m]) for m in (0, 1)]
    assert all(np.array_equal(rows[who == m], own[m]) for m in (0, 1))
    fed = [unequal.json(model)["fed_rows"] for model in unequal.at("accumulate", 1).models]
    assert fed == [{"-1": 16, "0": 16}] * 2, "each learns from an equal share of the pool, whoever wrote it"


def test_the_record_of_unequal_voices_knows_who_wrote_what(unequal: Ran, pair: Ran) -> None:
    """At the budget of 256 tokens each of two models gives 8 rows of 16; the second one has written no more."""
    g = unequal.at("accumulate", 1)
    rows, who = unequal.array(g.synthetic), writers([24, 8])
    turns = np.stack([rows[who == 0][:8], rows[who == 1]], axis=1).reshape(16, 16)
    want = within_and_between(turns, models=2, prompt=0, budget=256, eos=0, end=None)
    assert {name: unequal.column("accumulate", name)[1] for name in want} == pytest.approx(want)
    taken_in_turn = within_and_between(rows, models=2, prompt=0, budget=256, eos=0, end=None)
    assert want["distinct_2_within"] != taken_in_turn["distinct_2_within"]
    record = unequal.measure(g)["columns"]
    for name in ("distinct_2", "entropy", "disagreement", "rare_survival"):
        assert unequal.column("accumulate", name)[1] == record[name], "of the sample as it is"
    assert g.record.name == "record-voices" and g.record.params["written"] == (24, 8)
    assert pair.at("accumulate", 1).record.name == "record"


def test_measures_of_centralisation_are_columns(unequal: Ran) -> None:
    assert unequal.column("accumulate", "concentration") == [0.75**2 + 0.25**2] * 2
    loss = unequal.column("accumulate", "systemic_loss")
    assert all(0 <= value <= 1 or math.isnan(value) for value in loss)
    assert all(map(math.isnan, unequal.column("accumulate", "homogenisation"))), "too few words"
    titles = RunFolder(unequal.folder).titles()
    assert titles["concentration"].startswith("Concentration of the voices") and "systemic_loss" in titles


def test_equal_voices_and_their_metrics_change_no_key(corpus_file: Path) -> None:
    plain, equal, measured = (
        build(tiny_config(corpus_file, population=2, **changes))
        for changes in ({}, {"sample__voices": [0.5, 0.5]}, {"metrics__extra": METRICS})
    )
    assert [step.key for step in equal.steps] == [step.key for step in plain.steps]
    more = [step for step in measured.steps if step not in plain.steps]
    assert {step.name for step in more} == {"extra"} and len(more) == 3 * len({g.record for g in plain.generations})
    assert set(plain.steps) <= set(measured.steps)
    assert {step.params["code"] for step in more} == {code_hash(inspect.getsource(centralisation), imports=True)}
    heard = {file.name for pattern in STEPS["record"].modules for file in (PROJECT / "lab").glob(pattern)}
    assert "groups.py" in heard and not heard & {"centralisation.py", "voices.py"}


def test_exact_theory_of_a_population_is_of_one_pool() -> None:
    """Two models on halves of 20 rows drift more slowly than one; of types and losses theory says nothing."""
    source = {"kind": "source", "process": "categorical", "types": 4, "zipf": 1, "tokens": 320}
    changes = {"corpus": source, "tokenizer": None, "model": {"kind": "positions", "n_positions": T}, "train": None}
    metrics = {"tokens": 64, "test_tokens": 64}
    sample = {"tokens": 320, "shard_rows": 20}
    for more, left in (
        ({"population": 2}, 1 - 18 / 380),
        ({"population": 2, "sample": {**sample, "voices": [0.9, 0.1]}}, 1 - 2 * (18 * 17 + 2) / 20 / 380),
        ({"population": 2, "sample": {**sample, "temperature": 0.5}}, None),
        ({"population": 2, "sample": {**sample, "tokens": 160}}, None),
    ):
        fields = tiny("", seeds=[0, 1], metrics=metrics, regimes=["replace", "accumulate"])
        study = build(parse_study({**fields, **changes, "sample": sample, **more}))
        rows = [{"regime": g.regime, "seed": g.seed, "generation": g.t} for g in study.generations]
        measured = dict.fromkeys(exact.LAWS, 0.5)
        found = {
            (row.arm, row.generation, row.column): row.exact
            for row in exact.compare(study, [row | measured for row in rows])
        }
        if left is None:
            assert found == {}
            continue
        h0 = 1 - (1 + 1 / 4 + 1 / 9 + 1 / 16) / (25 / 12) ** 2
        assert {name for _, _, name in found} == {"heterozygosity", "distance", "share_first"}
        assert {arm for arm, _, _ in found} == {"replace"}
        for t in (0, 1):
            assert found["replace", t, "heterozygosity"] == pytest.approx(h0 * left ** (t + 1))


# --- archives --------------------------------------------------------------------------------------------------------


def test_fresh_human_rows_come_once(run: Run) -> None:
    ran = run(
        generations=4,
        regimes=[{"mix": {"human": 0.25, "fresh": True}}],
        corpus__archive_tokens=3 * 128,
        train__tokens=512,
    )
    taken = []
    for t in range(1, 4):
        g = ran.at("mix,fresh=true,human=0.25", t)
        parts = load_recipe(ran.path(g.recipe)).parts
        taken += [row for part in parts if part.origin == ARCHIVE for row in range(part.start, part.stop)]
        shares = ran.json(g.record)["shares"]
        assert shares == {"-2": 0.25, str(t - 1): 0.75}, "one pass over the recipe"
        assert ran.column(g.regime, "human_share")[t] == shares["-2"]
    assert taken == list(range(24))


# --- sweeps ----------------------------------------------------------------------------------------------------------


def test_a_sweep_has_a_column_for_each_field(run: Run) -> None:
    """Zipped: two arms; generation 0 is sampled twice and trained once.  `--by` puts one field across."""
    arms = [{"sample.temperature": 0.5, "sample.top_k": 5}, {"sample.temperature": 1}]
    counts = {"kind": "ngram", "order": 2, "smoothing": "interpolated", "n_positions": T}
    ran = run(model=counts, train=None, sweep=arms)
    with (ran.folder / "results.csv").open() as file:
        head = next(csv.reader(file))
    assert head[:5] == ["regime", "sample.temperature", "sample.top_k", "seed", "generation"]
    assert [(row["sample.temperature"], row["sample.top_k"], row["generation"]) for row in ran.rows] == [
        (0.5, 5, 0),
        (0.5, 5, 1),
        (1.0, "none", 0),
        (1.0, "none", 1),
    ]
    assert len({g.models[0] for g in ran.study.generations if g.t == 0}) == 1
    assert len({g.models[0] for g in ran.study.generations if g.t == 1}) == 2
    _, heading, cells = pivot(ran.rows, "distinct_2", "sample.temperature")
    assert heading[1:] == ["temperature 0.5", "temperature 1.0"]
    assert cells == [
        ["replace, top_k 5", f"{ran.rows[1]['distinct_2']:.3f}", ""],
        ["replace, top_k none", "", f"{ran.rows[3]['distinct_2']:.3f}"],
    ]


def test_arms_keep_names_that_look_like_numbers(run: Run) -> None:
    counts = {"kind": "ngram", "order": 1, "smoothing": "interpolated", "n_positions": T}
    sweep = [{"arm": "007"}, {"arm": "7", "sample.temperature": 0.5}]
    ran = run(model=counts, train=None, generations=1, sweep=sweep)
    assert [row["arm"] for row in ran.rows] == ["007", "7"]


def test_an_arm_of_another_kind_of_corpus_is_refused(corpus_file: Path) -> None:
    source = {"kind": "source", "process": "categorical", "types": 5, "zipf": 1, "tokens": 512}
    sweep = [{"arm": "text"}, {"arm": "source", "corpus": source, "tokenizer": None}]
    with pytest.raises(InputError, match="kind is source and text"):
        build(tiny_config(corpus_file, sweep=sweep))


# --- refusals --------------------------------------------------------------------------------------------------------

COUNTS: dict[str, Any] = {
    "model": {"kind": "ngram", "order": 2, "smoothing": "interpolated", "n_positions": T},
    "train": None,
}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (COUNTS | {"corpus__layout": "documents"}, "corpus.layout documents is for networks"),
        (COUNTS | {"sample__prompt_tokens": 4, "metrics__tokens": 128}, "counting models count all of a row"),
        (COUNTS | {"sample__beams": 2, "sample__prompt_tokens": 1, "sample__train_on_prompt": True}, "draw"),
        ({"sample__beams": 2}, "set prompt_tokens"),
        ({"sample__train_on_prompt": True}, "no meaning without prompt_tokens"),
        ({"sample__prompt_tokens": 16}, "leaves nothing of a row"),
        ({"sample__prompt_tokens": 8, "metrics__tokens": 272, "sample__tokens": 1024}, "after prompts, 256"),
        ({"train__lora": {"rank": 1, "alpha": 1}}, "set train.start to base or continue"),
        ({"train__start": "base"}, "needs train.base"),
        ({"train__base": {"tokens": 64, "epochs": 1}}, "train.base has no meaning for another start"),
        ({"train__epochs": 1}, "given: tokens, epochs"),
        ({"train__tokens": None}, "none of them"),
        ({"population": 33}, "33 models share 32 rows of sample"),
        ({"population": 20, "sample__tokens": 1024, "corpus__tokens": 304}, "share 19 rows of corpus.tokens"),
        ({"population": 17}, "share 16 rows of metrics.tokens"),
        ({"population": 16, "train__tokens": 240}, "less than one row for each of 16 models"),
        ({"population": 4, "train__tokens": None, "train__steps": 10}, "cannot be divided among 4 models"),
        ({"population": 2, "sample__voices": [0.5, 0.3, 0.2]}, "is a list of 3, and population is 2"),
        ({"sample__voices": [0.5, 0.5]}, "is a list of 2, and population is 1"),
        ({"population": 2, "sample__voices": [0.5, 0.4]}, "voices add up to 0.9"),
        ({"population": 2, "sample__voices": [0.7, 0.7]}, "voices add up to 1.4"),
        ({"population": 2, "sample__voices": [1.5, -0.5]}, "voices hold 1.5, -0.5"),
        ({"population": 2, "sample__voices": [0.99, 0.01]}, "voices 0.01 are no row of the sample's 32"),
        ({"population": 2, "sample__voices": 0.5}, "expected a list, such as .0.7, 0.1, 0.1, 0.1."),
        ({"population": 2, "sample__voices": ["half", 0.5]}, "expected a number"),
    ],
    ids=str,
)
def test_what_cannot_work_is_refused_with_one_line(corpus_file: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said) as error:
        tiny_config(corpus_file, **changes)
    assert "\n" not in str(error.value)
