"""Ancestral sampling from BOS at temperature 1, without truncation: an exact draw from the model's distribution.

The tokens depend on the weights, the seed, the shape, the threads and the type of machine, and on nothing else.
EOS does not end a row: the text goes on with the next document, as it does in the rows trained on.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from lab.models import LanguageModel
from lab.seeds import generator

BLOCK = 64
"""Tokens of a block in the two-level search of `draw`."""


@torch.inference_mode()
def sample(
    model: LanguageModel, *, rows: int, positions: int, bos: int, seed: int, progress: Callable[[int], None]
) -> tuple[np.ndarray, np.ndarray]:
    """One shard: tokens [rows, positions] (uint16, or uint32 for a large vocabulary) and their nats, float32.

    All rows advance together, one uniform number a token.  `progress` is told the tokens drawn so far.
    """
    uniforms_TB = torch.from_numpy(generator(seed).random((positions, rows))).to(model.device)
    tokens_TB = torch.empty(positions, rows, dtype=torch.int64, device=model.device)
    nats_TB = torch.empty(positions, rows, device=model.device)
    decoder = model.decoder(rows)
    tokens_B = torch.full((rows,), bos, device=model.device)
    for position in range(positions):
        probabilities_BV = torch.softmax(decoder.step(tokens_B), dim=-1)
        tokens_B = draw(probabilities_BV, uniforms_TB[position])
        tokens_TB[position] = tokens_B
        nats_TB[position] = -probabilities_BV.gather(1, tokens_B[:, None])[:, 0].log()
        progress((position + 1) * rows)
    kind = np.uint16 if model.vocab_size <= 2**16 else np.uint32
    return tokens_TB.T.cpu().numpy().astype(kind), nats_TB.T.contiguous().cpu().numpy()


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
