"""The step `plurality`: how far the next-token laws of a population's models lie apart after held-out human text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lab.collapse.plurality import divergence
from lab.config.cost import FILES, operations
from lab.steps.evidence.entropy import MOST_TOKENS
from lab.steps.kind import Cost, Folders, Kind, make_step
from lab.steps.place import Place
from lab.steps.train import MODELS
from lab.store.step import Attempt, Step
from lab.text import tokenizer as tokenizers

if TYPE_CHECKING:
    from lab.models.protocols import LanguageModel


@dataclass(frozen=True)
class PluralityParams:
    machine: Mapping[str, Any]
    rows: int


def plurality(place: Place, models: Sequence[Step]) -> Step:
    """Declare how far the laws of a generation's models lie apart, without temperature and filters."""
    study, human = place.study, place.human
    rows = max(1, min(study.rows(study.metrics.test_tokens), MOST_TOKENS // place.row))
    tokens = rows * place.row
    inputs = {f"model-{m}": model for m, model in enumerate(models)}
    return make_step(
        PLURALITY,
        PluralityParams(place.machine.keyed("dtype"), rows),
        {**inputs, "test": human.test, "tokenizer": human.tokenizer},
        label=f"compare models {models[0].chain}",
        tokens=tokens,
        work=operations(study, tokens, passes=len(models), drawn=True),
        disk=4 * tokens + FILES,
    )


def _run_plurality(params: PluralityParams, inputs: Folders, out: Path, attempt: Attempt) -> None:
    """Write divergence.npy, float32 [N, T]: in nats, of the laws of the token at each position."""
    from lab.models.load import load

    models = [load(inputs[f"model-{m}"], device=params.machine["device"]) for m in range(_models(inputs))]
    rows = np.asarray(np.load(inputs["test"] / "tokens.npy", mmap_mode="r")[: params.rows])
    bos = tokenizers.load_special(inputs["tokenizer"])["bos"]
    np.save(out / "divergence.npy", divergences(models, rows, bos=bos, progress=attempt.progress).astype(np.float32))


def _models(inputs: Folders) -> int:
    return sum(role.startswith("model-") for role in inputs)


def divergences(
    models: Sequence[LanguageModel], rows: np.ndarray, *, bos: int, progress: Callable[[int], None]
) -> np.ndarray:
    """Return the divergence of the models' laws at every position of rows, after BOS and the tokens before: [N, T]."""
    from lab.models.stepping import stepped  # torch takes seconds to import

    found = np.empty(rows.shape)
    for position, steps in enumerate(zip(*(stepped(model, rows, bos) for model in models), strict=True)):
        laws = [logits_BV.double().softmax(dim=1).cpu().numpy() for _, logits_BV in steps]
        found[:, position] = divergence(np.stack(laws))
        progress((position + 1) * len(rows))
    return found


PLURALITY = Kind(
    "plurality",
    PluralityParams,
    _run_plurality,
    ("steps/evidence/plurality.py", "models/stepping.py", "collapse/plurality.py", *MODELS),
    version="1",
    cost=Cost(cpu=4e10, cuda=1e12),
    takes="evidence",
)
