"""The step `entropy`: how uncertain a model is of the next token of held-out human text, decoding included."""

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
from lab.text import tokenizer as tokenizers

if TYPE_CHECKING:
    from lab.models.protocols import LanguageModel
    from lab.models.sampling.decoding import Decoding

MOST_TOKENS = 16_384
"""Held-out tokens at which the entropy is measured: its mean has a standard error of about 0.02 nats."""


@dataclass(frozen=True)
class EntropyParams:
    machine: Mapping[str, Any]
    decoding: Mapping[str, Any]
    """As of the step `sample`."""
    rows: int


def entropy(place: Place, model: Step) -> Step | None:
    """Declare the entropy of a model's next-token law.

    None for beam search, which draws from no law, and for marked sampling, whose law this does not know.
    """
    study = place.study
    if study.sample.beams or study.sample.watermark:
        return None
    rows = max(1, min(study.rows(study.metrics.test_tokens), MOST_TOKENS // place.row))
    params = EntropyParams(place.machine.keyed("dtype"), study.sample.decoding, rows)
    tokens = rows * place.row
    return make_step(
        ENTROPY,
        params,
        {"model": model, "test": place.human.test, "tokenizer": place.human.tokenizer},
        label=f"entropy {model.chain}",
        tokens=tokens,
        work=operations(study, tokens, passes=1, drawn=True),
        disk=2 * tokens + FILES,
    )


def _run_entropy(params: EntropyParams, inputs: Folders, out: Path, attempt: Attempt) -> None:
    """Write entropy.npy, float16 [N, T]: in nats, of the law that each token would be drawn from."""
    from lab.models.load import load
    from lab.models.sampling.decoding import Decoding

    rows = np.load(inputs["test"] / "tokens.npy", mmap_mode="r")[: params.rows]
    model = load(inputs["model"], device=params.machine["device"])
    found = entropies(
        model,
        np.asarray(rows),
        bos=tokenizers.load_special(inputs["tokenizer"])["bos"],
        decoding=Decoding(**params.decoding),
        progress=attempt.progress,
    )
    np.save(out / "entropy.npy", found.astype(np.float16))


def entropies(
    model: LanguageModel, rows: np.ndarray, *, bos: int, decoding: Decoding, progress: Callable[[int], None]
) -> np.ndarray:
    """Return the entropy at every position of rows [N, T], in nats: float64 [N, T].

    That of position t is of the decoded law after BOS and the t tokens before it: 0 at temperature 0, ln k at most
    under top-k k, ln V for a uniform model.  Sums are in float64.
    """
    from torch.special import entr  # torch takes seconds to import

    from lab.models.sampling.decoding import weights
    from lab.models.stepping import stepped

    found = np.empty(rows.shape)
    for position, (read_BT, logits_BV) in enumerate(stepped(model, rows, bos)):
        law_BV = weights(logits_BV, decoding, read_BT).double()
        total_B = law_BV.sum(dim=1)
        found[:, position] = (total_B.log() + entr(law_BV).sum(dim=1) / total_B).cpu().numpy()
        progress((position + 1) * len(rows))
    return found


ENTROPY = Kind(
    "entropy",
    EntropyParams,
    _run_entropy,
    ("steps/evidence/entropy.py", "models/stepping.py", "models/sampling/*.py", *MODELS),
    version="1",
    cost=Cost(cpu=4e10, cuda=1e12),
    takes="evidence",
)
