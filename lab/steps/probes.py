"""Probes: passes over a model that collect evidence.  Metrics are functions of evidence and need no model.

Each probe is a step of its own, so that adding one repeats none of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lab.config.cost import FILES, operations
from lab.steps.kind import Cost, Folders, Kind, make_step
from lab.steps.place import Place
from lab.steps.train import MODELS
from lab.store.step import Attempt, Step

if TYPE_CHECKING:
    from lab.models.protocols import LanguageModel

ROWS = 512
"""Rows between two reports of progress; the model batches within them."""


@dataclass(frozen=True)
class HeldoutParams:
    machine: Mapping[str, Any]
    """Device and threads: scoring is float32 whatever the dtype of training is."""


def heldout(place: Place, model: Step, synthetic: Step) -> Step:
    """Declare the probe of held-out human text: the loss of each token under the model."""
    study = place.study
    tokens = study.rows(study.metrics.test_tokens) * place.row
    return make_step(
        HELDOUT,
        HeldoutParams(place.machine.keyed("dtype")),
        {"model": model, "test": place.human.test},
        label=f"score {model.chain}",
        tokens=tokens,
        work=operations(study, tokens, passes=1),
        disk=4 * tokens + FILES,
    )


def _run_heldout(params: HeldoutParams, inputs: Folders, out: Path, attempt: Attempt) -> None:
    from lab.models.load import load

    model = load(inputs["model"], device=params.machine["device"])
    np.save(out / "nats.npy", held_out_nats(model, np.load(inputs["test"] / "tokens.npy"), attempt.progress))


def held_out_nats(model: LanguageModel, rows: np.ndarray, progress: Callable[[int], None]) -> np.ndarray:
    """Score every token of held-out rows, each row after one BOS: [N, T] -> losses in nats, float32 [N, T].

    `progress` is called with the number of tokens scored so far.
    """
    nats = np.empty(rows.shape, dtype=np.float32)
    for start in range(0, len(rows), ROWS):
        stop = min(start + ROWS, len(rows))
        nats[start:stop] = model.nats(rows[start:stop])
        progress(stop * rows.shape[1])
    return nats


HELDOUT = Kind(
    "heldout",
    HeldoutParams,
    _run_heldout,
    ("steps/probes.py", *MODELS),
    version="1",
    cost=Cost(cpu=8e10, cuda=4e13),
    takes="evidence",
    probe=heldout,
)
