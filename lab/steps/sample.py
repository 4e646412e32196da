"""Steps that write text: `sample`, some rows drawn from one model, and `synthetic`, a generation's corpus of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lab.config.cost import FILES, operations
from lab.config.text import SourceConfig
from lab.config.voices import writers
from lab.errors import InputError
from lab.metrics.texts import before_end
from lab.seeds import derive_seed, generator
from lab.steps.kind import Cost, Folders, Kind, make_step
from lab.steps.place import Place, end_of, row_nats, speller
from lab.steps.train import MODELS
from lab.store.step import Attempt, Step
from lab.text import rows as cutting
from lab.text import tokenizer as tokenizers

PROMPTS = 16
"""Prompts of the telephone view."""


@dataclass(frozen=True)
class SampleParams:
    rows: int
    positions: int
    seed: int
    decoding: Mapping[str, Any]
    """What is not left as it is by default; {"beams": n} for beam search."""
    layout: str
    member: int
    """The model of the generation that writes these rows."""
    machine: Mapping[str, Any]
    prompt: int = 0
    """Human tokens at the head of each row."""
    prompts: int | None = None
    """Seed of the order in which human rows prompt.  None without prompts."""
    first: int | None = None
    """Place of these rows' first prompt in that order."""


def sample(place: Place, models: Sequence[Step]) -> Step:
    """Declare a generation's synthetic corpus: shards of rows, gathered.  lab/config/voices.py says who writes what."""
    study = place.study
    shards: dict[str, Step] = {}
    drawn = 0
    for m, (model, total) in enumerate(zip(models, study.written, strict=True)):
        for first in range(0, total, study.sample.shard_rows):
            rows = min(study.sample.shard_rows, total - first)
            shards[f"shard-{len(shards):06d}"] = _shard(place, model, len(shards), range(drawn, drawn + rows), m)
            drawn += rows
    inputs = {**shards, "tokenizer": place.human.tokenizer}
    writers = tuple(shard.params["member"] for shard in shards.values())
    params = SyntheticParams(place.t, writers, study.corpus.layout)
    tokens = study.sample_rows * place.row
    disk = (3 if isinstance(study.corpus, SourceConfig) else 5) * tokens + FILES  # of a source there is no text
    label = f"write {models[0].chain.partition(' member')[0]}"
    return make_step(SYNTHETIC, params, inputs, label=label, disk=disk)


def _shard(place: Place, model: Step, shard: int, rows: range, member: int) -> Step:
    """Declare some rows of the sample; `rows` says which, counted over all members in turn."""
    study = place.study
    inputs = {"model": model, "tokenizer": place.human.tokenizer}
    prompting: dict[str, Any] = {}
    if study.sample.prompt_tokens:
        inputs["human"] = place.human.human
        order = derive_seed(place.seed, place.t, "prompts")
        prompting = {"prompt": study.sample.prompt_tokens, "prompts": order, "first": rows.start}
    params = SampleParams(
        rows=len(rows),
        positions=place.row,
        seed=derive_seed(place.seed, place.t, "sample", shard),
        decoding=study.sample.decoding,
        layout=study.corpus.layout,
        member=member,
        machine=place.machine.keyed(),
        **prompting,
    )
    tokens = len(rows) * place.row
    return make_step(
        SAMPLE,
        params,
        inputs,
        label=f"write {model.chain} part {shard + 1}",
        tokens=tokens,
        work=operations(study, tokens, passes=study.sample.beams or 1, drawn=True),
        disk=6 * tokens + FILES,
    )


def telephone(place: Place, model: Step) -> Step:
    """Declare 16 held-out prompts that a model continues, with the same uniform numbers in all generations and regimes.

    Of a population the first model writes.
    """
    study, human = place.study, place.human
    seed = derive_seed(place.seed, 0, "telephone")
    params = SampleParams(
        rows=PROMPTS,
        positions=place.row,
        seed=seed,
        decoding=study.sample.decoding,
        layout=study.corpus.layout,
        member=0,
        machine=place.machine.keyed(),
        prompt=telephone_prompt(place.row),
        prompts=seed,
        first=0,
    )
    inputs, tokens = {"model": model, "tokenizer": human.tokenizer, "human": human.test}, PROMPTS * place.row
    work = operations(study, tokens, passes=study.sample.beams or 1, drawn=True)
    rows = make_step(SAMPLE, params, inputs, label=f"continue {model.chain}", tokens=tokens, work=work, disk=6 * tokens)
    joined = {"shard-000000": rows, "tokenizer": human.tokenizer}
    told = SyntheticParams(place.t, (0,), study.corpus.layout)
    return make_step(SYNTHETIC, told, joined, label=f"join telephone {model.chain}", disk=FILES)


def telephone_prompt(row: int) -> int:
    """Return the tokens of a prompt: 32, or a quarter of a row where that is less."""
    return max(1, min(32, row // 4))


def _run_sample(params: SampleParams, inputs: Folders, out: Path, attempt: Attempt) -> None:
    from lab.models.load import load
    from lab.models.sampling.decoding import Decoding
    from lab.models.sampling.sample import sample

    special = tokenizers.load_special(inputs["tokenizer"])
    model = load(inputs["model"], params.machine["device"], decoding=params.machine["dtype"])
    length, stop = params.prompt, end_of(params.layout, inputs["tokenizer"])
    prompts = _prompts(params, inputs, stop) if length else np.empty((params.rows, 0), dtype=np.int64)
    positions = params.positions - length
    if "beams" in params.decoding:
        tokens, nats = _beams(model, prompts, params.decoding["beams"], positions, stop, attempt)
    else:
        tokens, nats = sample(
            model,
            rows=params.rows,
            positions=positions,
            bos=special["bos"],
            seed=params.seed,
            decoding=Decoding(**params.decoding),
            prompts=prompts if length else None,
            stop=stop,
            progress=attempt.progress,
        )
    np.save(out / "tokens.npy", np.concatenate([prompts.astype(tokens.dtype), tokens], axis=1))
    np.save(out / "nats.npy", np.pad(nats, ((0, 0), (length, 0))))


def _prompts(params: SampleParams, inputs: Folders, stop: int | None) -> np.ndarray:
    """Return the first tokens of human training rows, in an order of the generation's own.

    In all shards together each row comes once before one comes again.  Documents that end within the prompt give none.
    """
    assert params.prompts is not None and params.first is not None
    heads = np.load(inputs["human"] / "tokens.npy", mmap_mode="r")[:, : params.prompt]
    if stop is not None:
        heads = heads[(heads != stop).all(axis=1)]
    if not len(heads):
        raise InputError(
            f"no human document is longer than a prompt of {params.prompt} tokens; ask for shorter prompts"
        )
    order = generator(params.prompts).permutation(len(heads))
    numbers = np.arange(params.first, params.first + params.rows)
    return np.asarray(heads[order[numbers % len(heads)]])


def _beams(
    model: Any, prompts: np.ndarray, beams: int, positions: int, stop: int | None, attempt: Attempt
) -> tuple[np.ndarray, np.ndarray]:
    """Return rows found by beam search, and the loss of each of their tokens under the model."""
    from lab.models.sampling.beams import beam_search

    rows = beam_search(model, prompts, positions=positions, num_beams=beams, progress=attempt.progress, stop=stop)
    rows = rows.astype(cutting.token_type(model.vocab_size))
    nats = model.nats(np.concatenate([prompts.astype(rows.dtype), rows], axis=1))[:, prompts.shape[1] :]
    return rows, nats if stop is None else np.where(before_end(rows, stop), nats, 0).astype(np.float32)


@dataclass(frozen=True)
class SyntheticParams:
    origin: int
    """The generation that wrote it."""
    members: Sequence[int]
    """The model that wrote each shard."""
    layout: str


def _run_synthetic(params: SyntheticParams, inputs: Folders, out: Path, attempt: Attempt) -> None:
    """Gather the rows of all shards.  The rows of each model are spread evenly: see lab/config/voices.py."""
    shards = [path for role, path in sorted(inputs.items()) if role.startswith("shard-")]
    lengths = [len(np.load(path / "tokens.npy", mmap_mode="r")) for path in shards]
    members = np.repeat(params.members, lengths)
    order = np.empty(len(members), np.int64)
    order[np.argsort(writers(np.bincount(members).tolist()), kind="stable")] = np.argsort(members, kind="stable")
    starts, spell = np.cumsum([0, *lengths]), speller(params.layout, inputs["tokenizer"])
    arrays = [[np.load(path / f"{name}.npy", mmap_mode="r") for path in shards] for name in ("tokens", "nats")]

    def block(some: slice) -> tuple[np.ndarray, dict[str, Any]]:
        numbers = order[some]
        shard = np.searchsorted(starts, numbers, side="right") - 1
        tokens, nats = (np.empty((len(numbers), kind[0].shape[1]), kind[0].dtype) for kind in arrays)
        for which in np.unique(shard):
            chosen = shard == which
            for gathered, kind in ((tokens, arrays[0]), (nats, arrays[1])):
                gathered[chosen] = kind[which][numbers[chosen] - starts[which]]
        return tokens, {**spell(tokens), "nats": row_nats(nats)}

    cutting.write_rows(out, (len(order), arrays[0][0].shape[1]), block, origin=params.origin)


SAMPLE = Kind(
    "sample",
    SampleParams,
    _run_sample,
    ("steps/sample.py", "models/sampling/*.py", *MODELS),
    version="3",
    cost=Cost(cpu=4e10, cuda=1e12),
    takes="samples",
)
SYNTHETIC = Kind(
    "synthetic",
    SyntheticParams,
    _run_synthetic,
    (
        "steps/sample.py",
        "steps/place.py",
        "config/voices.py",
        "text/rows.py",
        "text/tokenizer.py",
        "text/plain_tokenizer.py",
    ),
    version="1",
    takes="samples",
    libraries=frozenset({"tokenizers", "pyarrow"}),
)
