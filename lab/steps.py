"""The step constructors: name, parameters, inputs.  Nothing runs here; lab/runners.py holds what each step does."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lab import regimes, runners
from lab.config import AnyModel, ModelConfig, StudyConfig
from lab.seeds import derive_seed
from lab.types import InputError, Step


def _step(
    name: str,
    params: dict[str, Any],
    inputs: dict[str, Step],
    *,
    label: str = "",
    tokens: int = 0,
    work: float = 0.0,
    where: Mapping[str, Any] | None = None,
) -> Step:
    version = runners.KINDS[name].version or runners.source_hash(name)
    return Step(name, version, params, inputs, tokens, work, label or name, where or {})


def parameters(model: AnyModel, vocab_size: int) -> int:
    """Weights of a GPT-2 of this shape, its output matrix shared with the embedding.  A counting model has none."""
    if not isinstance(model, ModelConfig):
        return 0
    block = 12 * model.n_embd**2 + 13 * model.n_embd
    return (vocab_size + model.n_positions) * model.n_embd + model.n_layer * block + 2 * model.n_embd


def _work(study: StudyConfig, tokens: int, passes: int) -> float:
    """Operations of so many passes (forward 1, with its backward 3) over tokens: 2 a weight, and the attention."""
    vocab_size, model = study.tokenizer.vocab_size or 50_257, study.model
    attention = model.n_layer * model.n_positions * model.n_embd if isinstance(model, ModelConfig) else 0
    return float(passes * tokens * 2 * (parameters(model, vocab_size) + attention))


@dataclass(frozen=True)
class Human:
    """What a chain needs of human text: the tokenizer, held-out rows, this seed's own rows, and as many others."""

    tokenizer: Step
    validation: Step | None
    """None for counting models, which are fitted at once."""
    test: Step
    human: Step
    resample: Step


@dataclass(frozen=True)
class Machine:
    """The arithmetic, resolved: part of the key of every step that multiplies matrices."""

    device: str
    dtype: str
    threads: int


def _where(path: str | None, identity: str) -> dict[str, str | None]:
    """Where the content lies: a local path, or a hub id with the commit that was resolved."""
    at_hub = path is not None and identity.startswith(f"{path}@")
    return {"path": path, "revision": identity.partition("@")[2] if at_hub else None}


def human(study: StudyConfig, identity: Mapping[str, str], seed: int) -> Human:
    """The human side of one seed.  `identity` says by content what the corpus and a pretrained tokenizer are."""
    config = study.corpus.model_dump(exclude={"tokens", "path", "revision"})
    text = _step(
        "corpus",
        {"corpus": config, "identity": identity["corpus"]},
        {},
        where=_where(study.corpus.path, identity["corpus"]),
    )
    tokenizer = _step(
        "tokenizer",
        {"vocab_size": study.tokenizer.vocab_size, "identity": identity["tokenizer"]},
        {"corpus": text},
        where=_where(study.tokenizer.pretrained, identity["tokenizer"]),
    )
    rows = _step("rows", {"positions": study.model.n_positions}, {"corpus": text, "tokenizer": tokenizer})

    def held_out(fold: str, tokens: int) -> Step:
        return _step("heldout-rows", {"fold": fold, "rows": study.rows(tokens)}, {"rows": rows}, label=f"{fold} rows")

    mine, others = study.rows(study.corpus.tokens), study.rows(study.metrics.tokens)
    drawn = _step(
        "human", {"seed": seed, "rows": mine}, {"rows": rows, "tokenizer": tokenizer}, label=f"human seed {seed}"
    )
    again = _step(
        "resample", {"seed": seed, "after": mine, "rows": others}, {"rows": rows}, label=f"resample seed {seed}"
    )
    validation = held_out("validation", study.train.validation_tokens) if study.train else None
    test = held_out("test", study.metrics.test_tokens)
    return Human(tokenizer, validation, test, drawn, again)


def pool(regime: str, source: Human, samples: Mapping[int, Step], seed: int, t: int) -> Step:
    """What is on the table for generation t.  Without synthetic text it is the same step for every regime."""
    seen = {t: step for t, step in samples.items() if t in regimes.visible(regime, len(samples))}
    params: dict[str, Any] = {"regime": "human", "seed": seed, "generation": t}
    if samples:
        params["regime"] = regime
        params["source"] = hashlib.sha256(_regime_source(regime).encode()).hexdigest()
    inputs = {"human": source.human} | {f"synthetic-{t}": step for t, step in seen.items()}
    return _step("pool", params, inputs, label=f"pool {regime if samples else 'shared'} seed {seed} gen {t}")


def _regime_source(regime: str) -> str:
    """The function's own source for a regime of the lab, the whole module for a user's: it may call anything there."""
    function = regimes.regime(regime).pool
    try:
        return inspect.getsource(function if regime in regimes.REGIMES else inspect.getmodule(function) or function)
    except (TypeError, OSError) as error:
        raise InputError(f'regime "{regime}" has no Python source to tell its versions apart: {error}') from error


def train(study: StudyConfig, machine: Machine, recipe: Step, source: Human, seed: int, t: int) -> Step:
    """A counting model is a function of its recipe; a network also of the seed, the generation and the arithmetic."""
    params: dict[str, Any] = {"model": study.model.model_dump()}
    inputs = {**recipe.inputs, "pool": recipe, "tokenizer": source.tokenizer}
    label, tokens = f"train {recipe.label.removeprefix('pool ')}", 0
    if study.train is not None and source.validation is not None:
        chance = {"seed": seed, "generation": t}
        params |= {"train": study.train.model_dump(), "machine": machine.__dict__, **chance}
        inputs["validation"] = source.validation
        tokens = study.rows(study.train.tokens) * study.model.n_positions
    return _step("train", params, inputs, label=label, tokens=tokens, work=_work(study, tokens, passes=3))


def sample(study: StudyConfig, machine: Machine, model: Step, source: Human, seed: int, t: int) -> Step:
    """The synthetic corpus of a generation: its shards, gathered."""
    total, most = study.rows(study.sample.tokens), study.sample.shard_rows
    positions, name = study.model.n_positions, model.label.removeprefix("train ")
    shards = {}
    for shard, first in enumerate(range(0, total, most)):
        rows = min(most, total - first)
        params = {
            "rows": rows,
            "positions": positions,
            "seed": derive_seed(seed, t, "sample", shard),
            "machine": {"device": machine.device, "threads": machine.threads},
        }
        inputs = {"model": model, "tokenizer": source.tokenizer}
        tokens = rows * positions
        shards[f"shard-{shard:04d}"] = _step(
            "sample",
            params,
            inputs,
            label=f"sample {name} shard {shard}",
            tokens=tokens,
            work=_work(study, tokens, passes=1),
        )
    gathered = {**shards, "tokenizer": source.tokenizer}
    return _step("synthetic", {"origin": t}, gathered, label=f"gather {name}")


def heldout(study: StudyConfig, machine: Machine, model: Step, source: Human) -> Step:
    """The probe of held-out human text: the loss of each token under the model."""
    params = {"machine": {"device": machine.device, "threads": machine.threads}}
    tokens = study.rows(study.metrics.test_tokens) * study.model.n_positions
    label = f"heldout {model.label.removeprefix('train ')}"
    work = _work(study, tokens, passes=1)
    return _step("heldout", params, {"model": model, "test": source.test}, label=label, tokens=tokens, work=work)


def record(study: StudyConfig, source: Human, recipe: Step, model: Step, sampled: Step, evidence: Step) -> Step:
    """Every number of one generation, from evidence alone."""
    inputs = {
        "tokenizer": source.tokenizer,
        "test": source.test,
        "human": source.human,
        "resample": source.resample,
        "pool": recipe,
        "model": model,
        "synthetic": sampled,
        "heldout": evidence,
    }
    label = f"measure {model.label.removeprefix('train ')}"
    return _step("record", {"tokens": study.rows(study.metrics.tokens) * study.model.n_positions}, inputs, label=label)
