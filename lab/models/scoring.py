"""Scoring with a network: the loss of every token of many rows, without keeping their logits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lab.models.protocols import Trainable

BATCH_TOKENS = 2048
"""Tokens per batch of a scoring pass."""
LOGIT_TOKENS = 256
"""Tokens whose logits exist at one time in a scoring pass: they stay in the processor's cache, and a pretrained
vocabulary may have 150,000 entries."""
GPU_FACTOR = 16
"""On a GPU both numbers are this many times as large: it has no such cache, and a kernel of 256 tokens leaves most of
it idle."""


def score(model: Trainable, rows: np.ndarray, *, product: Callable[..., Tensor]) -> np.ndarray:
    """Return the loss of every token of rows [B, T] (any integer type) after one BOS: float32 [B, T], in nats.

    `product(x, weight, bias)` is the matrix product that makes the logits.

    Raises:
        ValueError: the rows are longer than the model reads.
    """
    if rows.ndim != 2 or rows.shape[1] > model.positions:
        raise ValueError(f"rows have shape {rows.shape}; expected [N, T] with T at most {model.positions}")
    nats = np.empty(rows.shape, dtype=np.float32)
    batch = max(1, _at_once(BATCH_TOKENS, model.device) // rows.shape[1])
    for start in range(0, len(rows), batch):
        ids_BT = torch.from_numpy(rows[start : start + batch].astype(np.int64)).to(model.device)
        nats_N = _losses(model.hidden(ids_BT, torch.float32), *model.head(), ids_BT.flatten(), product)
        nats[start : start + batch] = nats_N.view(ids_BT.shape).cpu().numpy()
    return nats


def after_bos(bos: int, ids_BT: Tensor) -> Tensor:
    """Return what the model reads to be scored on these tokens: [<bos>, a, b, c] for [a, b, c, d]."""
    return F.pad(ids_BT[:, :-1], (1, 0), value=bos)


def _losses(
    x_NC: Tensor, weight_VC: Tensor, bias_V: Tensor | None, ids_N: Tensor, product: Callable[..., Tensor]
) -> Tensor:
    """Return the loss [N] of each token under the logits x @ weight.T + bias of the state that predicts it."""
    nats_N = torch.empty(len(ids_N), device=x_NC.device)
    size = _at_once(LOGIT_TOKENS, x_NC.device)
    for first in range(0, len(ids_N), size):
        part = slice(first, first + size)
        nats_N[part] = F.cross_entropy(product(x_NC[part], weight_VC, bias_V), ids_N[part], reduction="none")
    return nats_N


def _at_once(tokens: int, device: torch.device) -> int:
    """Return BATCH_TOKENS or LOGIT_TOKENS for this device."""
    return tokens if device.type == "cpu" else GPU_FACTOR * tokens
