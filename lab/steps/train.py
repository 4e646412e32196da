"""Steps that make models: `train`, the models of a generation, and `base`, the model that generations start from."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lab.config.cost import checkpoint_bytes, model_bytes, operations, parameters, vocabulary
from lab.config.model import PretrainedConfig
from lab.config.study import StudyConfig
from lab.config.train import TrainConfig
from lab.errors import InputError
from lab.metrics.texts import before_end
from lab.models import counting
from lab.models.feed import RecipeRows, load_recipe, load_weights
from lab.seeds import derive_seed
from lab.steps.kind import Cost, Folders, Kind, make_step, unkeyed, write_json
from lab.steps.place import Place, end_of, where_at
from lab.steps.pool import SYNTHETIC, corpora, corpora_of, human_pool
from lab.store.space import CHECKPOINTS
from lab.store.step import Attempt, Step
from lab.text import tokenizer as tokenizers

MODELS = (
    "models/protocols.py",
    "models/load.py",
    "models/pretrained.py",
    "models/initial_weights.py",
    "models/scoring.py",
    "models/gpt2.py",
    "models/gpt2_ops.py",
    "models/causal.py",
    "models/counted.py",
    "models/counting.py",
    "models/ngram.py",
    "seeds.py",
)
"""Code that every step with a model depends on."""


@dataclass(frozen=True)
class BaseParams:
    identity: str
    """What the pretrained model is, by content."""
    positions: int
    path: str = unkeyed()
    revision: str | None = unkeyed()


def base(place: Place, identity: Mapping[str, str]) -> Step | None:
    """Declare what generations start from; None where they start from random weights.

    It is a pretrained model, or one fitted to human text that the study never uses.
    """
    study = place.study
    if study.train is None or study.train.start == "scratch":
        return None
    if isinstance(study.model, PretrainedConfig):
        where = where_at(study.model.path, identity["model"])
        params = BaseParams(identity["model"], study.model.n_positions, **where)
        size = 4 * parameters(study.model, vocabulary(study))
        return make_step(BASE, params, {"tokenizer": place.human.tokenizer}, disk=size)
    if study.train.base is None or place.human.base is None:
        return None
    recipe = human_pool(place.human.base, place.seed, -1, f"mix base seed {place.seed}")
    alone = {"tokens": None, "steps": None, "epochs": study.train.base.epochs, "start": "scratch", "base": None}
    fitted = study.train.plain.model_copy(update={**alone, "lora": None})
    rows = study.rows(study.train.base.tokens)
    return _network(Place(study, place.machine, place.human, place.seed, -1), fitted, recipe, rows, None, (0, 1))


def _run_base(params: BaseParams, inputs: Folders, out: Path, attempt: Attempt) -> None:
    from lab.models.initial_weights import fetched, start

    folder = fetched(params.path, params.revision)
    special = tokenizers.load_special(inputs["tokenizer"])
    model = start(folder, vocab_size=special["vocab_size"], bos=special["bos"], positions=params.positions)
    model.save(out)


@dataclass(frozen=True)
class TrainParams:
    model: Mapping[str, Any]
    """Kind and shape, as the study names them."""
    layout: str
    context: int = 0
    """Tokens at the head of each synthetic row that are a prompt: read, but not learned."""
    train: Mapping[str, Any] | None = None
    """How a network is trained.  None: a counting model, which is fitted at once."""
    machine: Mapping[str, Any] | None = None
    seed: int | None = None
    """None for a single counting model, which is a function of its recipe."""
    generation: int | None = None
    member: int = 0
    members: int = 1
    """Models in the generation.  Each is trained on a share of the rows that no other one sees."""


def train(place: Place, recipe: Step, recipe_rows: int, began: Sequence[Step | None]) -> tuple[Step, ...]:
    """Declare the models of a generation: one, or several in a population.

    A counting model is a function of its recipe.  A network is one also of the seed, the generation, the arithmetic and
    the model whose weights it starts from, `began`, if these are not random.
    """
    config, members = place.study.train, place.study.population
    rows = recipe_rows // members
    if config is None:
        return tuple(_counted(place, recipe, rows, (m, members)) for m in range(members))
    return tuple(_network(place, config, recipe, rows, began[m], (m, members)) for m in range(members))


def train_on_share(place: Place, recipe: Step, recipe_rows: int, began: Step | None, parts: int) -> Step:
    """Declare a model like a generation's own, trained on one of so many parts of its rows with as many passes.

    The rows of 1 of 8 parts are among those of 1 of 4, because rows are dealt in one order.
    """
    config, rows = place.study.train, recipe_rows // parts
    part = (0, parts)
    step = _network(place, config, recipe, rows, began, part) if config else _counted(place, recipe, rows, part)
    return replace(step, label=f"train {recipe.chain} on 1/{parts}")


def _counted(place: Place, recipe: Step, rows: int, member: tuple[int, int]) -> Step:
    study, (m, members) = place.study, member
    seed, generation = (place.seed, place.t) if members > 1 else (None, None)
    shape, layout = study.model.model_dump(), study.corpus.layout
    params = TrainParams(shape, layout, seed=seed, generation=generation, member=m, members=members)
    inputs = {**corpora_of(recipe), "pool": recipe, "tokenizer": place.human.tokenizer}
    work = operations(study, rows * place.row, passes=1)
    return make_step(TRAIN, params, inputs, label=_label(recipe, member), work=work, disk=model_bytes(study, rows))


def _network(
    place: Place, config: TrainConfig, recipe: Step, recipe_rows: int, began: Step | None, member: tuple[int, int]
) -> Step:
    study, (m, members) = place.study, member
    assert place.human.validation is not None  # there is one wherever a study trains
    config = config.divided(members)
    # Where the weights begin is an input, `began`, or its absence.  A key says nothing of what is not used.
    unused = {name for name in ("truncate", "token_weights") if getattr(config, name) is None}
    unused |= ({"lora"} if began is None else set()) | (set() if config.compile else {"compile"})
    params = TrainParams(
        model=study.model.model_dump(exclude={"path", "revision"}),
        layout=study.corpus.layout,
        context=_context(study, recipe),
        train=config.model_dump(exclude={"base", "start"} | unused),
        machine=place.machine.keyed(),
        seed=place.seed,
        generation=place.t,
        member=m,
        members=members,
    )
    inputs = {
        **corpora_of(recipe),
        "pool": recipe,
        "tokenizer": place.human.tokenizer,
        "validation": place.human.validation,
    }
    if began is not None:
        inputs["began"] = began
    tokens = config.rows(recipe_rows, place.row) * place.row
    return make_step(
        TRAIN,
        params,
        inputs,
        label=_label(recipe, member),
        tokens=tokens,
        work=operations(study, tokens, passes=3),
        disk=model_bytes(study, 0),
        scratch=(CHECKPOINTS + 1) * checkpoint_bytes(study, config, adapted=began is not None),
    )


def _label(recipe: Step, member: tuple[int, int]) -> str:
    label = f"train {recipe.chain}"
    return f"{label} member {member[0]}" if member[1] > 1 else label


def _context(study: StudyConfig, recipe: Step) -> int:
    """Return the tokens of a row that are not learned: the prompt, unless the study asks for it.

    Only sampled rows have prompts: trainings on human text alone are the same whatever the prompts are.
    """
    synthetic = any(role.startswith(SYNTHETIC) for role in recipe.inputs)
    return study.sample.prompt_tokens if synthetic and not study.sample.train_on_prompt else 0


def _run_train(params: TrainParams, inputs: Folders, out: Path, attempt: Attempt) -> None:
    rows = RecipeRows(
        load_recipe(inputs["pool"]),
        corpora(inputs),
        context=params.context,
        eos=end_of(params.layout, inputs["tokenizer"]),
        share=(params.member, params.members),
        seed=_chance(params, "members") if params.members > 1 else 0,
        weights=load_weights(inputs["pool"]),
    )
    if not len(rows):
        raise InputError(f"model {params.member} of {params.members} has no row to train on: curators left too few")
    if params.train is not None:
        curve = _train_network(params, inputs, rows, out, attempt)
    else:
        curve, special = [], tokenizers.load_special(inputs["tokenizer"])
        every = np.arange(len(rows))
        weights = None if (own := rows.weights(every)) is None else own.astype(np.float64)
        counting.fit(params.model, rows.take(every), **special, weights=weights).save(out)
    rows.check_shares()
    for file in inputs["tokenizer"].glob("tokenizer*.json"):
        shutil.copyfile(file, out / file.name)
    fed = {"fed_rows": rows.fed_by_origin(), "fed_tokens": rows.fed_tokens, "unique_tokens": rows.unique_tokens()}
    write_json(out / "training.json", {"curve": curve, **fed})


def _chance(params: TrainParams, purpose: str, member: int = 0) -> int:
    """Derive the seed of one purpose from the step's seed and generation."""
    assert params.seed is not None and params.generation is not None
    return derive_seed(params.seed, params.generation, purpose, member)


def _train_network(
    params: TrainParams, inputs: Folders, rows: RecipeRows, out: Path, attempt: Attempt
) -> list[dict[str, Any]]:
    """Train and save a network; return its learning curve."""
    from lab.models.checkpoints import Checkpoints
    from lab.models.train import fit

    assert params.train is not None and params.machine is not None
    config, eos = TrainConfig(**params.train), end_of(params.layout, inputs["tokenizer"])
    validation = np.load(inputs["validation"] / "tokens.npy")
    model = _first_weights(params, inputs, config, positions=validation.shape[1])
    curve = fit(
        model,
        rows,
        config,
        validation=validation,
        counted=None if eos is None else before_end(validation, eos),
        row_tokens=float(rows.lengths().mean()),
        seed=_chance(params, "train", params.member),
        dtype=params.machine["dtype"],
        progress=attempt.report,
        checkpoints=Checkpoints(attempt),
    )
    model.save(out)
    return curve


def _first_weights(params: TrainParams, inputs: Folders, config: TrainConfig, positions: int) -> Any:
    """Return a network with random weights, or with those of the base or the generation before; LoRA where asked."""
    from lab.models.initial_weights import fresh, start
    from lab.models.lora import Lora

    assert params.machine is not None
    special = tokenizers.load_special(inputs["tokenizer"])
    vocabulary_of = {"vocab_size": special["vocab_size"], "bos": special["bos"]}
    device, seed = params.machine["device"], _chance(params, "init", params.member)
    if "began" not in inputs:
        shape = {name: value for name, value in params.model.items() if name != "kind"}
        return fresh(params.model["kind"], shape, **vocabulary_of, seed=seed, device=device)
    model = start(inputs["began"], **vocabulary_of, positions=positions, device=device)
    return model if config.lora is None else Lora(model.module, **config.lora.model_dump(), seed=seed)


BASE = Kind("base", BaseParams, _run_base, ("steps/train.py", *MODELS), version="1", takes="models")
LEARNING = ("train", "schedule", "loss", "lora", "torch_compile", "checkpoints", "feed")
TRAIN = Kind(
    "train",
    TrainParams,
    _run_train,
    ("steps/train.py", *(f"models/{name}.py" for name in LEARNING), *MODELS),
    version="2",
    cost=Cost(cpu=1e11, cuda=4e13),
    takes="models",
    trains=True,
)
