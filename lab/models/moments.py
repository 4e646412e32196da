"""What a model's law says of every token of some rows: the loss, and the mean and spread that the loss would have.

Of a token x after its context, with the law p of the model and q of an observer, these are the SCORES of curators:
nats, -ln p(x); entropy, the mean of -ln p under p; variance, its variance under p; and cross, its mean under q.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import linear

from lab.models.counted import Counted
from lab.models.protocols import LanguageModel
from lab.models.stepping import stepped

BLOCK = 256
"""Tokens whose laws exist at one time."""


def moments(model: LanguageModel, rows: np.ndarray, *, bos: int, observer: LanguageModel | None = None) -> np.ndarray:
    """Return the SCORES of every token of rows [B, T] after one BOS: float64 [B, T, 4], without an observer [B, T, 3].

    The observer is a model of the same kind.  What a law gives probability 0 adds nothing to its means.
    """
    out = np.empty((rows.size, 3 if observer is None else 4))
    ids_N = torch.from_numpy(rows.astype(np.int64)).flatten()
    with torch.no_grad():
        seen = repeat(None) if observer is None else (law for _, law in _laws(observer, rows, bos))
        for (place, log_KV), other_KV in zip(_laws(model, rows, bos), seen, strict=False):
            ids_K = ids_N[torch.from_numpy(place)].to(log_KV.device)
            out[place] = _moments(log_KV, ids_K, other_KV).cpu().numpy()
    return out.reshape(*rows.shape, -1)


def most_likely(
    model: LanguageModel, rows: np.ndarray, *, bos: int, count: int, never: Sequence[int] = ()
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what the law at every token of rows [B, T] holds likely, each place after the row's own tokens before it.

    Args:
        model: the model whose laws these are.
        rows: tokens [B, T].
        bos: the token before each row.
        count: how many tokens are wanted: K of them, or all of a smaller vocabulary.
        never: tokens that are not among them.

    Returns:
        the loss of the row's own tokens, float64 [B, T]; the most likely tokens, int64 [B, T, K], the likeliest first;
        and the logarithms of their probabilities, float64 [B, T, K].
    """
    count = min(count, model.vocab_size - len(never))
    nats, ids, logs = np.empty(rows.size), np.empty((rows.size, count), np.int64), np.empty((rows.size, count))
    ids_N, never_M = torch.from_numpy(rows.astype(np.int64)).flatten(), torch.tensor(never, dtype=torch.int64)
    with torch.no_grad():
        for place, log_KV in _laws(model, rows, bos):
            ids_K = ids_N[torch.from_numpy(place)].to(log_KV.device)
            nats[place] = -log_KV.gather(1, ids_K[:, None])[:, 0].double().cpu().numpy()
            best = log_KV.index_fill(1, never_M.to(log_KV.device), -torch.inf).topk(count, dim=1)
            ids[place], logs[place] = best.indices.cpu().numpy(), best.values.double().cpu().numpy()
    shape = (*rows.shape, count)
    return nats.reshape(rows.shape), ids.reshape(shape), logs.reshape(shape)


def _moments(log_KV: Tensor, ids_K: Tensor, other_KV: Tensor | None) -> Tensor:
    p_KV = log_KV.exp()
    costs_KV = torch.where(p_KV > 0, -log_KV, 0)
    mean_K = (p_KV * costs_KV).sum(dim=1, dtype=torch.float64)
    spread_K = (p_KV * costs_KV.square()).sum(dim=1, dtype=torch.float64) - mean_K.square()
    found = [-log_KV.gather(1, ids_K[:, None])[:, 0].double(), mean_K, spread_K.clamp(min=0)]
    if other_KV is not None:
        q_KV = other_KV.exp()
        found.append(torch.where(q_KV > 0, -q_KV * log_KV, 0).sum(dim=1, dtype=torch.float64))
    return torch.stack(found, dim=1)


def likeliest(model: LanguageModel, rows: np.ndarray, *, bos: int) -> np.ndarray:
    """Return the likeliest token at each position of rows [B, T], after BOS and the tokens before it: int64 [B, T]."""
    out = np.empty(rows.size, np.int64)
    with torch.no_grad():
        for place, log_KV in _laws(model, rows, bos):
            out[place] = log_KV.argmax(dim=1).cpu().numpy()
    return out.reshape(rows.shape)


def _laws(model: LanguageModel, rows: np.ndarray, bos: int) -> Iterator[tuple[np.ndarray, Tensor]]:
    """Yield places [K] in the flattened rows, and the logarithms of the laws there: float32 [K, V]."""
    ids_BT = torch.from_numpy(rows.astype(np.int64)).to(model.device)
    if isinstance(model, Counted):  # it has no logits of whole rows
        for position, (_, logits_BV) in enumerate(stepped(model, rows, bos)):
            yield np.arange(len(rows)) * rows.shape[1] + position, logits_BV.log_softmax(dim=1)
        return
    network: Any = model
    x_NC, (weight_VC, bias_V) = network.hidden(ids_BT, torch.float32), network.head()
    for first in range(0, rows.size, BLOCK):
        place = np.arange(first, min(first + BLOCK, rows.size))
        yield place, linear(x_NC[first : first + BLOCK], weight_VC, bias_V).log_softmax(dim=1)
