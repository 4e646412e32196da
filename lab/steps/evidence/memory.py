"""The step `memory`: what a model has memorised of human training rows, beside held-out ones, and of canaries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lab.collapse.memory import Memory
from lab.config.cost import FILES, operations
from lab.metrics.texts import is_text
from lab.steps.kind import Cost, Folders, Kind, make_step
from lab.steps.place import Place, end_of
from lab.steps.train import MODELS
from lab.store.step import Attempt, Step
from lab.text import canaries
from lab.text.tokenizer import load_special

SUFFIX = 50
"""Tokens of a suffix, and of the prefix before it (Carlini et al. 2023); half of a row each where rows are shorter."""
ROWS = 256
"""k: most rows of either kind, training and held-out."""


@dataclass(frozen=True)
class MemoryParams:
    machine: Mapping[str, Any]
    layout: str
    suffix: int
    canaries: Sequence[int]
    """Copies of each canary among the human rows."""
    seed: int | None = None
    """Of the canaries.  None where there is none."""


def memory(place: Place, model: Step) -> Step:
    """Declare the losses of suffixes of human training rows, of held-out rows, and of canaries."""
    study, human = place.study, place.human
    planted = list(study.corpus.canaries or ()) if study.corpus.kind == "text" else []
    suffix = min(SUFFIX, place.row // 2)
    tokens = 4 * ROWS * suffix + len(planted) * canaries.CANDIDATES * canaries.RANKED
    seed = place.seed if planted else None
    params = MemoryParams(place.machine.keyed("dtype"), study.corpus.layout, suffix, planted, seed)
    return make_step(
        MEMORY,
        params,
        {"model": model, "human": human.human, "test": human.test, "tokenizer": human.tokenizer},
        label=f"extract {model.chain}",
        tokens=tokens,
        work=operations(study, tokens, passes=1),
        disk=4 * FILES,
    )


def _run_memory(params: MemoryParams, inputs: Folders, out: Path, attempt: Attempt) -> None:
    """Write suffixes.npy, float32 [2, k, T], and canaries-<copies>.npy: losses in nats, as `Memory` has them."""
    from lab.models.load import load

    model, end = load(inputs["model"], device=params.machine["device"]), end_of(params.layout, inputs["tokenizer"])
    human, test = (np.load(inputs[name] / "tokens.npy", mmap_mode="r") for name in ("human", "test"))
    which = canaries.planted(params.seed or 0, len(human), params.canaries)
    whole = [_whole(rows, 2 * params.suffix, end) for rows in (human[which < 0] if params.canaries else human, test)]
    k = min(map(len, whole))
    nats = [model.nats(rows[:k])[:, params.suffix :] for rows in whole] if k else np.empty((2, 0, params.suffix))
    np.save(out / "suffixes.npy", np.asarray(nats, np.float32))
    for copies in params.canaries:
        drawn = canaries.candidates(params.seed or 0, human.shape[1], **load_special(inputs["tokenizer"]))
        np.save(out / f"canaries-{copies}.npy", canaries.losses(model.nats, drawn, copies))


def _whole(rows: np.ndarray, length: int, end: int | None) -> np.ndarray:
    """Return the first `length` tokens of the first rows that have so much text, at most ROWS."""
    heads = rows[:, :length]
    return np.asarray(heads[np.flatnonzero(is_text(heads, end).all(axis=1))[:ROWS]])


def load_memory(folder: Path) -> Memory:
    """Return what the probe of one model found."""
    found = {int(path.stem.partition("-")[2]): np.load(path) for path in folder.glob("canaries-*.npy")}
    return Memory(np.load(folder / "suffixes.npy"), found)


MEMORY = Kind(
    "memory",
    MemoryParams,
    _run_memory,
    ("steps/evidence/memory.py", "text/canaries.py", "metrics/texts.py", *MODELS),
    version="1",
    cost=Cost(cpu=8e10, cuda=4e13),
    takes="evidence",
)
