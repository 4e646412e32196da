"""`evaluate` module: held-out loss by how often a token occurs in the training text."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import datasets
import evaluate
import numpy as np

from lab.metrics.tails import loss_by_token_bin

DESCRIPTION = """
Mean loss of held-out tokens, binned by the count of their type in the training text: 0, 1, 2-3, 4-7, 8-15, ...

Unit: nats per token.  Lower = better.  Bins with no held-out token are left out.
Give the *human* training text also for a model that was trained on generated text: the bins say what is rare in human
text, and must not move with the generations.
"""

INPUTS = """
predictions: list of lists of token ids, the held-out text.
nats: list of lists of float, the loss of each of these tokens.
training: list of lists of token ids, the human training text.   vocab_size: token ids are below it.

Returns bins: a list of {label, tokens, types, nats_per_token}.

>>> metric = evaluate.load(lab.metric_path("rare_token_loss"))
>>> metric.compute(predictions=[[0, 1]], nats=[[1.0, 4.0]], training=[[0, 0]], vocab_size=2)
{'bins': [{'label': '0', 'tokens': 1, 'types': 1, 'nats_per_token': 4.0},
          {'label': '2-3', 'tokens': 1, 'types': 1, 'nats_per_token': 1.0}]}
"""


class RareTokenLoss(evaluate.Metric):  # type: ignore[misc]
    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation="",
            inputs_description=INPUTS,
            features=datasets.Features(
                {
                    "predictions": datasets.Sequence(datasets.Value("int64")),
                    "nats": datasets.Sequence(datasets.Value("float32")),
                }
            ),
        )

    def _compute(
        self,
        predictions: list[Sequence[int]],
        nats: list[Sequence[float]],
        training: Sequence[Sequence[int]],
        vocab_size: int,
    ) -> dict[str, list[dict[str, Any]]]:
        for i, (row, losses) in enumerate(zip(predictions, nats, strict=True)):
            if len(row) != len(losses):
                raise ValueError(f"prediction {i} has {len(row)} tokens and {len(losses)} nats: give a loss for each")
        bins = loss_by_token_bin(
            _flat(predictions, np.int64), _flat(nats, np.float32), _flat(training, np.int64), vocab_size
        )
        return {"bins": [asdict(item) for item in bins]}


def _flat(rows: Sequence[Sequence[Any]], dtype: type) -> np.ndarray:
    return np.concatenate([np.asarray(row, dtype=dtype) for row in rows]) if len(rows) else np.empty(0, dtype=dtype)
