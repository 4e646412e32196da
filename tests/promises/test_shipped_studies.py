"""Every shipped study runs two generations with a tiny model; the published ones also fit the text that they name.

Of a published study and its small one (-mini) one runs in CI, the published one unless it is one of the two largest
sweeps; the other runs in `scripts/test --full`.
"""

import json
import math
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.scripts import load
from support.tiny import run_study, write_corpus
from transformers import AutoModelForCausalLM, GPT2Config, OPTConfig, PreTrainedConfig

from lab import regimes
from lab.config.files import STUDIES, load_study, parse_study, study_names
from lab.config.study import StudyConfig
from lab.config.sweep import arms
from lab.config.text import SourceConfig
from lab.curators import CURATORS
from lab.loop import build
from lab.metrics.texts import head
from lab.report.compare import check_direction
from lab.run.folder import RunFolder
from lab.steps.place import lineage
from lab.text import corpus
from lab.text.tokenizer import save_tokenizer, train_tokenizer

ROW = 16
VOCABULARY = 300
ROWS = {"corpus.tokens": 40, "corpus.archive_tokens": 40, "sample.tokens": 40, "train.tokens": 80}
ROWS |= {"train.validation_tokens": 4, "train.base.tokens": 40, "metrics.tokens": 16, "metrics.test_tokens": 8}
"""How many rows of ROW tokens a size becomes.  40 human rows have 10, 25, 50 and 75 % of their own in whole rows."""
SIZES: dict[str, Any] = {"train.batch_rows": 4, "sample.shard_rows": 20, "model.n_positions": ROW}
SIZES |= {"model.n_layer": 1, "model.n_head": 2, "model.n_embd": 16, "tokenizer.vocab_size": VOCABULARY}
FAMILIES: dict[str, PreTrainedConfig] = {
    "openai-community/gpt2": GPT2Config(vocab_size=VOCABULARY, n_positions=ROW, n_embd=16, n_layer=1, n_head=2),
    "facebook/opt-125m": OPTConfig(
        vocab_size=VOCABULARY,
        max_position_embeddings=ROW,
        hidden_size=16,
        word_embed_proj_dim=16,
        ffn_dim=32,
        num_hidden_layers=1,
        num_attention_heads=2,
    ),
}
"""A tiny stand-in of the same architecture for each pretrained model that a shipped study names."""
PUBLISHED = [name for name in study_names() if "-20" in name]
MINIS = [name for name in PUBLISHED if name.endswith("-mini")]
FOLDS = {"roneneldan/TinyStories": 470_000_000, "Salesforce/wikitext": 2_390_000, "data/human-small.parquet": None}
"""Tokens of a whole corpus, about, by GPT-2's tokenizer (the first two)."""
SHIPPED = {512: 3_344_000, 1_024: 2_608_000, 2_048: 2_178_000}
"""Tokens of data/human-small.parquet, about, by size of vocabulary."""


# --- tiny ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tales(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus") / "tales.jsonl", groups=96)


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory, tales: Path) -> dict[str, str]:
    """Make a folder per pretrained model, with random weights and a byte-level BPE of its own."""
    tokenizer = train_tokenizer([json.loads(line)["text"] for line in tales.read_text().splitlines()], VOCABULARY)
    end = tokenizer.token_to_id("<|endoftext|>")
    folders = {}
    for name, config in FAMILIES.items():
        folders[name] = str(tmp_path_factory.mktemp("base"))
        config.bos_token_id = config.eos_token_id = end
        with torch.random.fork_rng():
            torch.manual_seed(1)
            AutoModelForCausalLM.from_config(config).save_pretrained(folders[name])
        save_tokenizer(tokenizer, Path(folders[name]))
    return folders


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for all studies: what two of them share is made once."""
    return tmp_path_factory.mktemp("runs")


def shrunk(config: StudyConfig, tales: Path, bases: Mapping[str, str]) -> StudyConfig:
    """Make every size of a study tiny, with one seed and two generations.

    The definition of the experiment stays: regimes, structure of the sweep, decoding, start, population, beams, layout,
    and the unit in which the training of a generation is counted.
    """
    data = config.model_dump(mode="json")
    data |= {"seeds": data["seeds"][:1], "generations": min(data["generations"], 2)}
    data["compute"] = {"device": "cpu", "dtype": "float32"}
    prompt = config.sample.prompt_tokens
    data["sample"]["prompt_tokens"] = prompt and max(1, prompt * ROW // config.model.n_positions)
    if "path" in data["corpus"]:
        data["corpus"] |= {"path": str(tales), "subset": None, "split": "train", "revision": None}
    for section in ("tokenizer", "model"):
        for field in ("path", "pretrained"):
            if (data[section] or {}).get(field):
                data[section][field] = bases[data[section][field]]
    for field in (*ROWS, *SIZES):
        *parents, last = field.split(".")
        node: Any = data
        for parent in parents:
            node = (node or {}).get(parent)
        if node and node.get(last) is not None:
            node[last] = small(field, node[last])
    if isinstance(data["sweep"], dict):
        data["sweep"] = {field: swept(field, values) for field, values in data["sweep"].items()}
    elif data["sweep"]:
        data["sweep"] = [{field: small(field, value) for field, value in line.items()} for line in data["sweep"]]
    return parse_study(data)


def small(field: str, value: Any) -> Any:
    if value is None:
        return None
    if field == "generations":
        return min(value, 2)
    if field == "sample.voices":  # a row for each model that has a voice
        heard = [max(share, bool(share) / ROWS["sample.tokens"]) for share in value]
        return [share / sum(heard) for share in heard]
    if isinstance(value, dict):
        return {name: small(f"{field}.{name}", inner) for name, inner in value.items()}
    return ROWS[field] * ROW if field in ROWS else SIZES.get(field, value)


def swept(field: str, values: list[Any]) -> list[Any]:
    """Replace the values of a swept size by 16, 24, 32 .. rows in the same order."""
    return [8 * ROW * (values.index(value) + 2) for value in values] if field in ROWS else values


LARGEST = ("hodel-2025", "kazdan-2024-grid")
AS_THEY_ARE = ("smoke", "exact")
"""Studies that .ci/run runs whole."""
FULL = {*LARGEST, *MINIS, *AS_THEY_ARE, "profile", "monoculture-mini"} - {"kazdan-2024-grid-mini"}
"""Those that scripts/test --full runs: population has several models, as hodel-2025 and monoculture have."""
OF_ENGLISH = ("remedies-smoke", "remedies-mini", "remedies", "web-mini")
"""Studies whose curators would drop every row of a made-up language; .ci/run runs the first of them as it is."""


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.full] if name in FULL else [])
        for name in study_names()
        if name not in OF_ENGLISH
    ],
)
def test_two_generations(name: str, tales: Path, bases: dict[str, str], runs: Path) -> None:
    config = load_study(name)
    study = build(shrunk(config, tales, bases))
    run_study(study, runs / name)
    rows = RunFolder(runs / name).results()
    assert len(rows) == len(study.generations)
    assert len(arms(study.config)) == len(arms(config)), "no arm was lost"
    chains = {(g.regime, g.arm.label): g for g in study.generations}
    for chain in chains.values():
        axes, options = chain.arm.axes, next(r for r in chain.arm.config.regimes if r.label == chain.regime).options
        mine = [r for r in rows if r["regime"] == chain.regime and all(r[k] == v for k, v in axes.items())]
        assert [row["generation"] for row in mine] == list(range(chain.arm.config.generations))
        for row in mine:
            assert math.isfinite(row["nll"]) or name == "exact", "only maximum likelihood loses support altogether"
            assert row["human_share"] == pytest.approx(share(chain.arm.config, chain.regime, options, row), abs=0.02)


def share(config: StudyConfig, regime: str, options: Mapping[str, Any], row: Mapping[str, Any]) -> float:
    """Of human rows in what a generation is trained on, in the first two generations."""
    name, human, sample = regime.partition(",")[0], config.corpus.tokens // ROW, config.sample_rows
    if row["generation"] == 0 or name == "human":
        return 1
    if config.curators:  # what they leave of it
        return float(row["human_share"])
    if name == "accumulate_subsample":  # as chance has it
        assert 0 < row["human_share"] < 1
        return float(row["human_share"])
    if name in ("accumulate", "augment"):
        return human / (human + sample)
    if name == "web":
        return 1 - float(options["machine"]) / options.get("ramp", 1)
    return float(options.get("human", 0)) if name == "mix" else 0


def test_the_small_study_of_remedies_names_every_curator() -> None:
    named = {curator.name for arm in arms(load_study("remedies-smoke")) for curator in arm.config.curators}
    assert named == set(CURATORS)


# --- as shipped ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", study_names())
def test_regimes_are_whole_at_full_size(name: str) -> None:
    """Every arm is a study, its regimes have the options that they are given, and mixes come out in whole rows."""
    for arm in arms(load_study(name)):
        for regime in arm.config.regimes:
            regimes.check_regime(regime.name, regime.options)
            if regime.name == "mix":
                regimes.recipe(regime.name, regime.options, lineage(arm.config, 2), 0, 2)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published(name: str) -> None:
    """A published study says paper, table and differences; its numbers belong to chains that it has."""
    study = load_study(name)
    assert study.published and len(study.seeds) >= 3
    found = arms(study)
    for line in study.published.numbers:
        homes = [arm for arm in found if all(arm.axes.get(axis) == value for axis, value in line.axes.items())]
        assert line.regime in {regime.label for arm in homes for regime in arm.config.regimes}, line


def test_every_published_study_has_a_small_one() -> None:
    assert {name.removesuffix("-mini") for name in MINIS} == set(PUBLISHED) - set(MINIS)
    for name in MINIS:
        full, mini = load_study(name.removesuffix("-mini")), load_study(name)
        assert full.sample.decoding.keys() == mini.sample.decoding.keys()
        assert bool(full.sample.prompt_tokens) == bool(mini.sample.prompt_tokens)
        assert {r.name for r in full.regimes} >= {r.name for r in mini.regimes}


@pytest.mark.parametrize("name", study_names())
def test_every_text_is_as_long_as_the_budget(name: str) -> None:
    """Sample, human text and resample hold the budget in every arm, so that no column that compares them is NaN."""
    for arm in arms(load_study(name)):
        config = arm.config
        row, prompt, budget = config.model.n_positions, config.sample.prompt_tokens, config.metrics.tokens
        wanted = config.compared_rows * (row - prompt)
        assert budget - row < wanted <= budget
        if config.corpus.layout == "documents":  # the resample is drawn until it holds the budget
            continue
        assert config.compared_tokens == wanted
        for rows in (config.sample_rows, config.rows(config.corpus.tokens), config.compared_rows):
            text = head(np.broadcast_to(np.uint16(1), (rows, row)), prompt, budget, None)
            assert text is not None and text.size == wanted, arm.label


@pytest.mark.parametrize("name", PUBLISHED)
def test_text_suffices(name: str) -> None:
    check_text(load_study(name))


@pytest.mark.parametrize("name", sorted(set(PUBLISHED) - set(MINIS)))
def test_on_the_shipped_corpus(name: str) -> None:
    """The command at the head of the file is a study that needs nothing of the hub's, and whose text suffices."""
    lines = re.findall(r"^#   (.*?)\\?$", (STUDIES / f"{name}.yaml").read_text(), re.M)
    words = shlex.split(" ".join(lines))
    assert words[:3] == ["lab", "run", name]
    assert words[3::2] == ["--run", *["--set"] * (len(words[5::2]))]
    study = load_study(name, words[6::2])
    assert study.corpus.title == "data/human-small.parquet" and study.model.kind == "gpt2"
    assert study.tokenizer and not study.tokenizer.pretrained
    check_text(study)


def check_text(study: StudyConfig) -> None:
    """Check that each fold has the text that each arm asks for, by the known sizes of the corpus."""
    for arm in arms(study):
        config = arm.config
        assert not isinstance(config.corpus, SourceConfig) and config.train
        whole = FOLDS[config.corpus.path] or SHIPPED[config.words.vocab_size or 0]
        base = config.train.base.tokens if config.train.base else 0
        wanted = {
            "train": config.corpus.tokens + config.metrics.tokens + (config.corpus.archive_tokens or 0) + base,
            "validation": config.train.validation_tokens,
            "test": config.metrics.test_tokens,
        }
        for fold, tokens in wanted.items():
            assert tokens <= 0.97 * corpus.SHARES[fold] * whole, (arm.label, fold)


# --- published directions ------------------------------------------------------------------------------------------


def table_of(study: StudyConfig) -> list[dict[str, Any]]:
    """Return a results table of the study's chains, whose loss is the chain's number plus a tenth of the generation."""
    rows = []
    chains = [(arm, regime) for arm in arms(study) for regime in arm.config.regimes]
    for number, (arm, regime) in enumerate(chains):
        for seed in study.seeds:
            for t in range(arm.config.generations):
                place = {"regime": regime.label, **arm.axes, "seed": seed, "generation": t}
                rows.append(place | {"nll": number + t / 10 + seed * 1e-6})
    return rows


@pytest.mark.parametrize("name", PUBLISHED)
def test_each_direction_is_of_chains_that_exist(name: str) -> None:
    study = load_study(name)
    assert study.published and study.published.directions
    for direction in study.published.directions:
        finding = check_direction(direction, study, table_of(study))
        assert finding.seeds == len(study.seeds), finding


def test_the_check_holds_every_mini_against_its_directions() -> None:
    check = load("checks/check_experiments.py")
    assert set(check.STUDIES) == set(MINIS)
    lines = check.lines_of("hodel-2025-mini", table_of(load_study("hodel-2025-mini")))
    assert [(line["generation"], line["a"], line["n"]) for line in lines] == [
        (0, "replace, population 4", 3),
        ("last", "replace, population 1, above its generation 0", 3),
        ("last", "replace, population 1", 3),
    ]
