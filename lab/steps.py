"""The step constructors: name, parameters, inputs.  Nothing runs here; lab/runners.py holds what each step does."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lab import regimes, runners
from lab.config import AnyModel, ModelConfig, RegimeConfig, SourceConfig, StudyConfig
from lab.seeds import derive_seed
from lab.types import ARCHIVE, HUMAN, InputError, Lineage, Source, Step


def _step(
    name: str,
    params: dict[str, Any],
    inputs: dict[str, Step],
    *,
    label: str = "",
    tokens: int = 0,
    work: float = 0.0,
    disk: int = 0,
    where: Mapping[str, Any] | None = None,
) -> Step:
    version = runners.KINDS[name].version or runners.source_hash(name)
    return Step(name, version, params, inputs, tokens, work, disk, label or name, where or {})


def parameters(model: AnyModel, vocab_size: int) -> int:
    """Weights of a GPT-2 of this shape, its output matrix shared with the embedding.  A counting model has none."""
    if not isinstance(model, ModelConfig):
        return 0
    block = 12 * model.n_embd**2 + 13 * model.n_embd
    return (vocab_size + model.n_positions) * model.n_embd + model.n_layer * block + 2 * model.n_embd


def vocabulary(study: StudyConfig) -> int:
    """Its size, about: what a pretrained tokenizer holds is not known before it is read."""
    if isinstance(study.corpus, SourceConfig):
        return study.corpus.types + 1
    return (study.tokenizer.vocab_size if study.tokenizer else None) or 50_257


def _work(study: StudyConfig, tokens: int, passes: int) -> float:
    """Operations of so many passes (forward 1, with its backward 3) over tokens: 2 a weight, and the attention."""
    model = study.model
    attention = model.n_layer * model.n_positions * model.n_embd if isinstance(model, ModelConfig) else 0
    return float(passes * tokens * 2 * (parameters(model, vocabulary(study)) + attention))


@dataclass(frozen=True)
class Human:
    """What a chain needs of human text: the tokenizer, held-out rows, this seed's own rows, and as many others."""

    tokenizer: Step
    validation: Step | None
    """None for counting models, which are fitted at once."""
    test: Step
    human: Step
    resample: Step
    archive: Step | None
    """Human rows beside the seed's own; None where the study keeps none."""


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
    if isinstance(study.corpus, SourceConfig):
        return _from_source(study, study.corpus, seed)
    config = study.corpus.model_dump(exclude={"kind", "tokens", "archive_tokens", "path", "revision"})
    text = _step(
        "corpus",
        {"corpus": config, "identity": identity["corpus"]},
        {},
        where=_where(study.corpus.path, identity["corpus"]),
    )
    assert study.tokenizer is not None  # StudyConfig asks for one where the corpus is text
    tokenizer = _step(
        "tokenizer",
        {"vocab_size": study.tokenizer.vocab_size, "identity": identity["tokenizer"]},
        {"corpus": text},
        where=_where(study.tokenizer.pretrained, identity["tokenizer"]),
    )
    rows = _step("rows", {"positions": study.model.n_positions}, {"corpus": text, "tokenizer": tokenizer})

    def held_out(fold: str, tokens: int) -> Step:
        return _step("heldout-rows", {"fold": fold, "rows": study.rows(tokens)}, {"rows": rows}, label=f"{fold} rows")

    def own(name: str, tokens: int, after: int, origin: int) -> Step:
        params = {"seed": seed, "after": after, "rows": study.rows(tokens), "origin": origin}
        inputs = {"rows": rows, "tokenizer": tokenizer}
        return _step("human", params, inputs, label=f"{name} seed {seed}", disk=10 * tokens)

    mine, others = study.rows(study.corpus.tokens), study.rows(study.metrics.tokens)
    archive = study.corpus.archive_tokens
    return Human(
        tokenizer,
        validation=held_out("validation", study.train.validation_tokens) if study.train else None,
        test=held_out("test", study.metrics.test_tokens),
        human=own("human", study.corpus.tokens, 0, HUMAN),
        resample=own("resample", study.metrics.tokens, mine, HUMAN),
        archive=own("archive", archive, mine + others, ARCHIVE) if archive else None,
    )


def _from_source(study: StudyConfig, config: SourceConfig, seed: int) -> Human:
    """The same from a known distribution.  Held-out rows are the same for every seed, as a text's are."""
    law = config.model_dump(exclude={"tokens", "archive_tokens"})
    source = _step("source", {"source": law}, {}, label=config.title)

    def rows(purpose: str, tokens: int, own: bool, origin: int = HUMAN) -> Step:
        params = {
            "purpose": purpose,
            "rows": study.rows(tokens),
            "positions": study.model.n_positions,
            "seed": seed if own else 0,
            "origin": origin,
        }
        label = f"{purpose} seed {seed}" if own else f"{purpose} rows"
        return _step("source-rows", params, {"source": source}, label=label, disk=10 * tokens)

    archive = config.archive_tokens
    return Human(
        source,
        validation=rows("validation", study.train.validation_tokens, own=False) if study.train else None,
        test=rows("test", study.metrics.test_tokens, own=False),
        human=rows("human", config.tokens, own=True),
        resample=rows("resample", study.metrics.tokens, own=True),
        archive=rows("archive", archive, own=True, origin=ARCHIVE) if archive else None,
    )


def lineage(study: StudyConfig, samples: int) -> Lineage:
    """The sizes of all text that exists before generation `samples` is trained: known before anything runs."""
    made = tuple(Source(t, study.rows(study.sample.tokens)) for t in range(samples))
    archive = study.corpus.archive_tokens
    kept = Source(ARCHIVE, study.rows(archive)) if archive else None
    return Lineage(Source(HUMAN, study.rows(study.corpus.tokens)), made, kept)


def pool(regime: RegimeConfig, source: Human, samples: Mapping[int, Step], seed: int, t: int) -> Step:
    """What is on the table for generation t.  Without synthetic text it is the same step for every regime."""
    inputs = {"human": source.human}
    params: dict[str, Any] = {"regime": "human", "options": {}, "seed": seed, "generation": t}
    if samples:
        params |= {"regime": regime.name, "options": regime.options}
        params["source"] = hashlib.sha256(_regime_source(regime.name).encode()).hexdigest()
        seen = regimes.visible(regime.name, regime.options, len(samples))
        inputs |= {f"synthetic-{t}": step for t, step in samples.items() if t in seen}
        if source.archive is not None and regimes.regime(regime.name).archive(regime.options):
            inputs["archive"] = source.archive
    label = f"pool {regime.label if samples else 'shared'} seed {seed} gen {t}"
    return _step("pool", params, inputs, label=label, disk=4_000)


def _regime_source(regime: str) -> str:
    """A regime of the lab: its source and that of the lab's functions it calls.  A user's: the whole module's, as it
    may call anything there."""
    function = regimes.regime(regime).pool
    try:
        if regime in regimes.REGIMES:
            return "".join(inspect.getsource(part) for part in _called(function))
        return inspect.getsource(inspect.getmodule(function) or function)
    except (TypeError, OSError) as error:
        raise InputError(f'regime "{regime}" has no Python source to tell its versions apart: {error}') from error


def _called(function: Any) -> list[Any]:
    """A function and all functions of its own module that it reaches, each once."""
    found = [function]
    for part in found:
        near = (part.__globals__.get(name) for name in part.__code__.co_names)
        found += [f for f in near if inspect.isfunction(f) and f.__module__ == part.__module__ and f not in found]
    return found


def train(
    study: StudyConfig, machine: Machine, recipe: Step, recipe_rows: int, source: Human, seed: int, t: int
) -> Step:
    """A counting model is a function of its recipe; a network also of the seed, the generation and the arithmetic."""
    params: dict[str, Any] = {"model": study.model.model_dump()}
    inputs = {**recipe.inputs, "pool": recipe, "tokenizer": source.tokenizer}
    label, tokens = f"train {recipe.label.removeprefix('pool ')}", 0
    if study.train is not None and source.validation is not None:
        chance = {"seed": seed, "generation": t}
        params |= {"train": study.train.model_dump(), "machine": machine.__dict__, **chance}
        inputs["validation"] = source.validation
        tokens = study.train.rows(recipe_rows, study.model.n_positions) * study.model.n_positions
    disk = 4 * parameters(study.model, vocabulary(study))
    return _step("train", params, inputs, label=label, tokens=tokens, work=_work(study, tokens, passes=3), disk=disk)


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
            "decoding": study.sample.decoding,
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
            disk=6 * tokens,
        )
    gathered = {**shards, "tokenizer": source.tokenizer}
    return _step("synthetic", {"origin": t}, gathered, label=f"gather {name}", disk=8 * study.sample.tokens)


def heldout(study: StudyConfig, machine: Machine, model: Step, source: Human) -> Step:
    """The probe of held-out human text: the loss of each token under the model."""
    params = {"machine": {"device": machine.device, "threads": machine.threads}}
    tokens = study.rows(study.metrics.test_tokens) * study.model.n_positions
    label = f"heldout {model.label.removeprefix('train ')}"
    work, inputs = _work(study, tokens, passes=1), {"model": model, "test": source.test}
    return _step("heldout", params, inputs, label=label, tokens=tokens, work=work, disk=6 * tokens)


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
    budget = study.rows(study.metrics.tokens) * study.model.n_positions
    return _step("record", {"tokens": budget}, inputs, label=label, disk=4_000)
