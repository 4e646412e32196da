"""The machine side of a study as steps: pools, models, samples, evidence, records.  Nothing runs here.

lab/steps/human.py has the human side, lab/steps/runners.py what each step does.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab import regimes
from lab.config.model import AnyModel, LlamaConfig, ModelConfig, Network, NgramConfig, PositionsConfig, PretrainedConfig
from lab.config.study import RegimeConfig, StudyConfig
from lab.config.text import SourceConfig
from lab.config.train import TrainConfig
from lab.errors import InputError
from lab.hashing import code_hash, reached
from lab.seeds import derive_seed
from lab.steps.human import FILES, TOKENIZER, Human, layout, make_step, where_at
from lab.store.space import CHECKPOINTS
from lab.store.step import Step

DISTINCT = (1.0, 0.4, 0.8, 0.9, 1.0)
"""Share of the n-grams of a text that are different ones, about, for n = 1 to 5."""
LORA_WIDTH = 512
"""An adapter of rank r on all matrices of a model of width 768 has r / 512 of its weights; fewer of a wider one's."""
UNKNOWN_PARAMETERS = 124_000_000
"""Of a hub model, before it is read: GPT-2's."""


@dataclass(frozen=True)
class Machine:
    """The arithmetic, resolved: part of the key of every step that multiplies matrices."""

    device: str
    dtype: str
    threads: int


@dataclass(frozen=True)
class Place:
    """Where in a study a step stands, and on what machine."""

    study: StudyConfig
    machine: Machine
    human: Human
    seed: int
    t: int

    @property
    def row(self) -> int:
        return self.study.model.n_positions


def parameters(model: AnyModel, vocab_size: int) -> int:
    """Weights of a network of this shape, about.  A counting model has none."""
    if isinstance(model, PretrainedConfig):
        sizes = [file.stat().st_size for file in Path(model.path).glob("*.safetensors")]
        return sum(sizes) // 4 or UNKNOWN_PARAMETERS
    if isinstance(model, LlamaConfig):
        return 2 * vocab_size * model.n_embd + model.n_layer * 12 * model.n_embd**2
    if isinstance(model, ModelConfig):
        block = 12 * model.n_embd**2 + 13 * model.n_embd
        return (vocab_size + model.n_positions) * model.n_embd + model.n_layer * block + 2 * model.n_embd
    return 0


def vocabulary(study: StudyConfig) -> int:
    """Its size, about: what a pretrained tokenizer holds is not known before it is read."""
    if isinstance(study.corpus, SourceConfig):
        return study.corpus.types + 1
    return study.words.vocab_size or 50_257


def model_bytes(study: StudyConfig, rows: int) -> int:
    """Bytes of a model's artifact, about: its weights, or the counts of so many rows, and its copy of the tokenizer."""
    model, vocab = study.model, vocabulary(study)
    size = 4 * parameters(model, vocab) + 4 * FILES
    if isinstance(model, PositionsConfig):
        size += 8 * vocab * model.n_positions
    elif isinstance(model, NgramConfig):
        # Two int64 for each pair of a context and a token, and for each context.  About so many pairs are distinct.
        tokens = rows * model.n_positions
        pairs = [min(vocab**k, int(share * tokens)) for k, share in zip(range(1, 6), DISTINCT, strict=True)]
        size += sum(16 * (pairs[k] + (pairs[k - 1] if k else 1)) for k in range(model.order))
    return size + (0 if isinstance(study.corpus, SourceConfig) else TOKENIZER * vocab)


def checkpoint_bytes(study: StudyConfig, config: TrainConfig, began: Step | None) -> int:
    """Bytes of one checkpoint of a training, about: float32 weights, and AdamW's two moments of each."""
    share = min(1.0, config.lora.rank / LORA_WIDTH) if config.lora is not None and began is not None else 1.0
    return int(3 * 4 * share * parameters(study.model, vocabulary(study)))


def _work(study: StudyConfig, tokens: int, passes: int) -> float:
    """Operations of so many passes (forward 1, with its backward 3) over tokens: 2 a weight, and the attention."""
    model = study.model
    attention = model.n_layer * model.n_positions * model.n_embd if isinstance(model, Network) else 0
    return float(passes * tokens * 2 * (parameters(model, vocabulary(study)) + attention))


def pool(place: Place, regime: RegimeConfig, samples: Mapping[int, Step]) -> Step:
    """What is on the table for generation t.  Without synthetic text it is the same step for every regime."""
    source, t = place.human, place.t
    inputs = {"human": source.human}
    params: dict[str, Any] = {"regime": "human", "options": {}, "seed": place.seed, "generation": t}
    if samples:
        params |= {"regime": regime.name, "options": regime.options}
        params["source"] = regime_hash(regime.name)
        seen = regimes.visible(regime.name, regime.options, len(samples))
        inputs |= {f"synthetic-{t}": step for t, step in samples.items() if t in seen}
        if source.archive is not None and regimes.regime(regime.name).archive(regime.options):
            inputs["archive"] = source.archive
    label = f"pool {regime.label if samples else 'shared'} seed {place.seed} gen {t}"
    return make_step("pool", params, inputs, label=label, disk=FILES)


def regime_hash(regime: str) -> str:
    """Hash the code of a regime: of the lab's own what the function reaches, of a user's own its whole module.

    A user's module may call anything, so its import statements count too.

    Raises:
        InputError: the function has no Python source, so its versions cannot be told apart.
    """
    function = regimes.regime(regime).pool
    try:
        source = inspect.getsource(inspect.getmodule(function) or function)
    except (TypeError, OSError) as error:
        raise InputError(f'regime "{regime}" has no Python source to tell its versions apart: {error}') from error
    if regime in regimes.REGIMES:
        return code_hash(reached(source, function.__name__))
    return code_hash(source, imports=True)


def base(place: Place, identity: Mapping[str, str]) -> Step | None:
    """What generations start from: a pretrained model, or one fitted to human text that the study never uses."""
    study = place.study
    if study.train is None or study.train.start == "scratch":
        return None
    if isinstance(study.model, PretrainedConfig):
        params = {"identity": identity["model"], "positions": study.model.n_positions}
        where = where_at(study.model.path, identity["model"])
        size = 4 * parameters(study.model, vocabulary(study))
        return make_step("base", params, {"tokenizer": place.human.tokenizer}, label="base", disk=size, where=where)
    if study.train.base is None or place.human.base is None:
        return None
    params = {"regime": "human", "options": {}, "seed": place.seed, "generation": -1}
    recipe = make_step("pool", params, {"human": place.human.base}, label=f"pool base seed {place.seed}", disk=FILES)
    alone = {"tokens": None, "steps": None, "epochs": study.train.base.epochs, "start": "scratch", "base": None}
    fitted = study.train.model_copy(update={**alone, "lora": None})
    rows = study.rows(study.train.base.tokens)
    return _network(Place(study, place.machine, place.human, place.seed, -1), fitted, recipe, rows, None, (0, 1))


def train(place: Place, recipe: Step, recipe_rows: int, began: Sequence[Step | None]) -> tuple[Step, ...]:
    """The models of a generation, one but in a population.

    A counting model is a function of its recipe; a network also of the seed, the generation, the arithmetic and the
    model that it `began` as, if that was not random weights.
    """
    study, members = place.study, place.study.population
    if study.train is not None:
        rows = recipe_rows // members
        return tuple(_network(place, study.train, recipe, rows, began[m], (m, members)) for m in range(members))
    params: dict[str, Any] = {"model": study.model.model_dump()}
    inputs = {**recipe.inputs, "pool": recipe, "tokenizer": place.human.tokenizer}
    label = f"train {recipe.label.removeprefix('pool ')}"
    chance = {"seed": place.seed, "generation": place.t}
    return tuple(
        make_step(
            "train",
            params | ({"member": m, "members": members, **chance} if members > 1 else {}),
            inputs,
            label=label + (f" member {m}" if members > 1 else ""),
            disk=model_bytes(study, recipe_rows // members),
        )
        for m in range(members)
    )


def _trained_part(study: StudyConfig, recipe: Step) -> dict[str, Any]:
    """Which tokens of a row are learned: none of a prompt, unless asked for, and none behind a document's end.

    Only sampled rows have prompts: trainings on human text alone are the same whatever the prompts are.
    """
    synthetic = any(role.startswith("synthetic-") for role in recipe.inputs)
    context = study.sample.prompt_tokens if synthetic and not study.sample.train_on_prompt else 0
    return ({"context": context} if context else {}) | layout(study)


def _network(
    place: Place, config: TrainConfig, recipe: Step, recipe_rows: int, began: Step | None, member: tuple[int, int]
) -> Step:
    study, (m, members) = place.study, member
    assert place.human.validation is not None  # there is one wherever a study trains
    model = study.model.model_dump(exclude={"path", "revision"})
    config = config.divided(members)
    # Where the weights begin is an input, `began`, or its absence.  A key says nothing of what is not used.
    unused = ({"lora"} if began is None else set()) | (set() if config.compile else {"compile"})
    training = config.model_dump(exclude={"base", "start"} | unused)
    params: dict[str, Any] = {"model": model, "train": training, **_trained_part(study, recipe)}
    params |= {"machine": place.machine.__dict__, "seed": place.seed, "generation": place.t}
    inputs = {**recipe.inputs, "pool": recipe, "tokenizer": place.human.tokenizer, "validation": place.human.validation}
    if began is not None:
        inputs["began"] = began
    label = f"train {recipe.label.removeprefix('pool ')}"
    if members > 1:
        params, label = params | {"member": m, "members": members}, f"{label} member {m}"
    tokens = config.rows(recipe_rows, place.row) * place.row
    work, disk = _work(study, tokens, passes=3), model_bytes(study, 0)
    scratch = (CHECKPOINTS + 1) * checkpoint_bytes(study, config, began)
    return make_step("train", params, inputs, label=label, tokens=tokens, work=work, disk=disk, scratch=scratch)


def sample(place: Place, models: Sequence[Step]) -> Step:
    """The synthetic corpus of a generation: its shards, gathered.  Row i is written by model i modulo their number."""
    study, members = place.study, len(models)
    shards: dict[str, Step] = {}
    drawn = 0
    for m, model in enumerate(models):
        total = len(range(m, study.sample_rows, members))
        for first in range(0, total, study.sample.shard_rows):
            rows = min(study.sample.shard_rows, total - first)
            shards[f"shard-{len(shards):06d}"] = _shard(place, model, len(shards), range(drawn, drawn + rows), m)
            drawn += rows
    gathered = {**shards, "tokenizer": place.human.tokenizer}
    members_of = [shard.params["member"] for shard in shards.values()]
    params = {"origin": place.t, "members": members_of, **layout(study)}
    tokens = study.sample_rows * place.row
    disk = (3 if isinstance(study.corpus, SourceConfig) else 5) * tokens + FILES  # of a source there is no text
    label = f"gather {models[0].label.removeprefix('train ').partition(' member')[0]}"
    return make_step("synthetic", params, gathered, label=label, disk=disk)


def _shard(place: Place, model: Step, shard: int, rows: range, member: int) -> Step:
    """Some rows of the sample; `rows` says which, counted over all members in turn."""
    study = place.study
    params = {
        "rows": len(rows),
        "positions": place.row,
        "seed": derive_seed(place.seed, place.t, "sample", shard),
        "decoding": study.sample.decoding,
        "prompt": study.sample.prompt_tokens,
        "layout": study.corpus.layout,
        "member": member,
        "machine": vars(place.machine),
    }
    inputs = {"model": model, "tokenizer": place.human.tokenizer}
    if study.sample.prompt_tokens:
        inputs["human"] = place.human.human
        params |= {"prompts": derive_seed(place.seed, place.t, "prompts"), "first": rows.start}
    tokens = len(rows) * place.row
    label = f"sample {model.label.removeprefix('train ')} shard {shard}"
    work, disk = _work(study, tokens, passes=study.sample.beams or 1), 6 * tokens + FILES
    return make_step("sample", params, inputs, label=label, tokens=tokens, work=work, disk=disk)


def heldout(place: Place, model: Step) -> Step:
    """The probe of held-out human text: the loss of each token under the model."""
    study, machine = place.study, place.machine
    params = {"machine": {"device": machine.device, "threads": machine.threads}}
    tokens = study.rows(study.metrics.test_tokens) * place.row
    label = f"heldout {model.label.removeprefix('train ')}"
    inputs, disk = {"model": model, "test": place.human.test}, 4 * tokens + FILES
    work = _work(study, tokens, passes=1)
    return make_step("heldout", params, inputs, label=label, tokens=tokens, work=work, disk=disk)


def record(place: Place, models: Sequence[Step], sampled: Step, evidence: Sequence[Step]) -> Step:
    """Every number of one generation, from evidence alone."""
    study, source = place.study, place.human
    inputs = {
        "tokenizer": source.tokenizer,
        "test": source.test,
        "human": source.human,
        "resample": source.resample,
        "synthetic": sampled,
    }
    inputs |= {f"model-{m}": model for m, model in enumerate(models)}
    inputs |= {f"heldout-{m}": found for m, found in enumerate(evidence)}
    params = {
        "tokens": study.metrics.tokens,
        "prompt": study.sample.prompt_tokens,
        "layout": study.corpus.layout,
    }
    label = f"measure {sampled.label.removeprefix('gather ')}"
    return make_step("record", params, inputs, label=label, disk=3 * FILES)
