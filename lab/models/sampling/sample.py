"""Ancestral sampling from BOS, or from behind a prompt, under a `Decoding`; by default temperature 1, no truncation:
an exact draw from the model's distribution.

The tokens depend on the weights, the seed, the shape, the decoding, the prompts, the stop, the dtype of the products,
the threads and the type of machine, and on nothing else.  Unless told to stop there, EOS does not end a row: the text
goes on with the next document, as it does in the rows trained on.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lab.models.base import Decoder, LanguageModel
from lab.models.sampling.decoding import Decoding, weights
from lab.seeds import generator

BLOCK = 64
"""Tokens of a block in the two-level search of `draw`."""
CACHED = 2**17
"""Logits that a processor's cache holds with what decoding makes of them."""
KEPT = 0.75
"""Rows that have ended are left out of the decoder's state when at most this share of it goes on: it is copied then."""
PLAIN = Decoding()


@torch.inference_mode()
def sample(
    model: LanguageModel,
    *,
    rows: int,
    positions: int,
    bos: int,
    seed: int,
    progress: Callable[[int], None],
    decoding: Decoding = PLAIN,
    prompts: np.ndarray | None = None,
    stop: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """One shard: tokens [rows, positions] (uint16, or uint32 for a large vocabulary) and their nats, float32.

    All rows advance together, one uniform number a row and position.  `progress` is told the tokens drawn so far.

    prompts  [rows, k], any integer type: context read behind BOS.  Neither returned nor counted in `positions`, so a
             model of n positions draws at most n - k.
    stop     the id, EOS, that ends a row when it is drawn; what follows it is filled with it, at 0 nats.  What stands
             before it is the same as without `stop`, but for float sums, whose order depends on how many rows go on.

    nats: what the token costs its writer, the model itself at temperature 1 and unfiltered, whatever the decoding and
    the penalty.  So they mean what a judge's nats mean, but for the dtype of the products, and filtered text costs less
    than the model's entropy.
    ValueError where the shapes do not fit.
    """
    text_TB = _context(model, rows, positions, bos, prompts)
    start = len(text_TB) - positions
    if stop is not None:
        text_TB[start:] = stop
    uniforms_TB = torch.from_numpy(generator(seed).random((positions, rows))).to(model.device)
    nats_TB = torch.zeros(positions, rows, device=model.device)
    here_B = torch.arange(rows, device=model.device)  # the rows that the decoder holds
    ended_B = torch.zeros_like(here_B, dtype=torch.bool)
    decoder = model.decoder(rows)
    for now in range(start - 1):
        decoder.step(text_TB[now])
    for position, uniforms_B in enumerate(uniforms_TB):
        now = start + position
        logits_BV = decoder.step(text_TB[now - 1, here_B])
        seen_TB = text_TB[: now if decoding.repetition_penalty is not None else 0, here_B]  # only a penalty looks
        tokens_B, nats_B = _next(logits_BV, uniforms_B[here_B], decoding, seen_TB.T)
        if stop is not None:
            tokens_B, nats_B = tokens_B.where(~ended_B, stop), nats_B.where(~ended_B, 0.0)
        text_TB[now, here_B], nats_TB[position, here_B] = tokens_B, nats_B
        progress((position + 1) * rows)
        if stop is not None:
            going_K = (tokens_B != stop).nonzero()[:, 0]
            if len(going_K) == 0:
                break
            here_B = _without_ended(decoder, here_B, going_K)
            ended_B = text_TB[now, here_B] == stop
    kind = np.uint16 if model.vocab_size <= 2**16 else np.uint32
    return text_TB[start:].T.cpu().numpy().astype(kind), nats_TB.T.contiguous().cpu().numpy()


def _context(model: LanguageModel, rows: int, positions: int, bos: int, prompts: np.ndarray | None) -> Tensor:
    """BOS, the prompts and room for what will be drawn: int64 [1 + k + positions, B]."""
    prompts = np.empty((rows, 0), dtype=np.int64) if prompts is None else prompts
    if prompts.ndim != 2 or len(prompts) != rows:
        raise ValueError(f"prompts have shape {prompts.shape}; expected [{rows}, k], one for each row")
    length, limit = prompts.shape[1], getattr(model, "positions", None)
    if limit is not None and length + positions > limit:
        raise ValueError(
            f"{length} tokens of prompt and {positions} to draw exceed the model's {limit} positions; "
            f"draw at most {max(limit - length, 0)}"
        )
    text_TB = torch.empty(1 + length + positions, rows, dtype=torch.int64, device=model.device)
    text_TB[0] = bos
    text_TB[1 : 1 + length] = torch.from_numpy(prompts.T.astype(np.int64))
    return text_TB


def _without_ended(decoder: Decoder, here_B: Tensor, going_K: Tensor) -> Tensor:
    """The rows that the decoder holds from now on, if those that go on are few enough to be worth a copy."""
    if len(going_K) > KEPT * len(here_B):
        return here_B
    decoder.keep(going_K)
    return here_B[going_K]


def _next(logits_BV: Tensor, uniforms_B: Tensor, decoding: Decoding, seen_BT: Tensor) -> tuple[Tensor, Tensor]:
    """One token a row, int64 [B], and its nats under the logits as they are, float32 [B]."""
    if decoding.plain:
        probabilities_BV = torch.softmax(logits_BV, dim=-1)
        tokens_B = draw(probabilities_BV, uniforms_B)
        return tokens_B, -probabilities_BV.gather(1, tokens_B[:, None])[:, 0].log()
    batch = max(1, CACHED // logits_BV.shape[1]) if logits_BV.device.type == "cpu" else len(logits_BV)
    groups = zip(*(torch.split(x, batch) for x in (logits_BV, uniforms_B, seen_BT)), strict=True)
    parts = [_decoded(logits, uniforms, decoding, seen) for logits, uniforms, seen in groups]
    return torch.cat([tokens for tokens, _ in parts]), torch.cat([nats for _, nats in parts])


def _decoded(logits_BV: Tensor, uniforms_B: Tensor, decoding: Decoding, seen_BT: Tensor) -> tuple[Tensor, Tensor]:
    tokens_B = draw(weights(logits_BV, decoding, seen_BT), uniforms_B)
    # Not the log of a probability: a token drawn at a high temperature may have none left in float32.
    return tokens_B, F.cross_entropy(logits_BV, tokens_B, reduction="none")


def draw(weights_BV: Tensor, uniforms_B: Tensor) -> Tensor:
    """One token a row, with probability proportional to its weight: int64 [B].

    `weights_BV` are non-negative float32 with a positive sum in each row; `uniforms_B` float64 in [0, 1).
    Inverse CDF in two levels, the block and the token in it, so that float64 sums run over V / 64 + 64 numbers, not V.
    What is left of u x total inside a block is scaled to the float64 sum of its tokens: rounding hides no token.

    weights [0, 1, 0, 3], u = .2 -> 1;  u = .25 -> 3;  tokens 0 and 2 are never drawn
    """
    rows, vocabulary = weights_BV.shape
    if vocabulary % BLOCK:
        weights_BV = torch.nn.functional.pad(weights_BV, (0, -vocabulary % BLOCK))
    blocks_BNK = weights_BV.view(rows, -1, BLOCK)
    sums_BN = blocks_BNK.sum(2)
    block_B1, left_B1 = _search(sums_BN, uniforms_B[:, None], torch.ones_like(sums_BN[:, :1]))
    inside_BK = blocks_BNK[torch.arange(rows, device=sums_BN.device), block_B1[:, 0]]
    token_B1, _ = _search(inside_BK, left_B1, sums_BN.gather(1, block_B1))
    return (block_B1 * BLOCK + token_B1)[:, 0]


def _search(weights_BN: Tensor, target_B1: Tensor, scale_B1: Tensor) -> tuple[Tensor, Tensor]:
    """The first n whose cumulative weight exceeds the target, and by how much the target exceeds the sum before n.

    The target is given on a scale on which the whole row weighs `scale`.  A zero weight is never chosen: its
    cumulative sum is that of the weight before it.
    """
    sums_BN = weights_BN.double().cumsum(1)
    total_B1 = sums_BN[:, -1:]
    # Rounding may carry the target up to the total itself, which no sum exceeds.
    last_B1 = torch.nextafter(total_B1, torch.zeros_like(total_B1))
    target_B1 = torch.minimum(target_B1 * (total_B1 / scale_B1.double()), last_B1)
    index_B1 = torch.searchsorted(sums_BN, target_B1, right=True)
    before_B1 = sums_BN.gather(1, index_B1) - weights_BN.gather(1, index_B1).double()
    return index_B1, (target_B1 - before_B1).clamp(min=0)
