"""The sampler: rows of text from BOS, or after a prompt, under a `Decoding`.

By default the temperature is 1 and nothing is truncated: an exact draw from the model's distribution.

The tokens depend on the weights, the seed, the shape, the decoding, the prompts, the stop, the dtype of the products,
the threads and the type of machine, and on nothing else.  EOS does not end a row unless it is given as `stop`: the text
continues with the next document, as it does in the rows trained on.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lab.models.counted import Counted
from lab.models.protocols import Decoder, LanguageModel
from lab.models.sampling.decoding import Decoding, weights
from lab.models.sampling.draw import GROUP, draw
from lab.seeds import generator
from lab.text.rows import token_type

CACHED = 2**17
"""Logits that fit into a processor's cache together with what decoding computes from them."""
KEPT = 0.75
"""Rows that have ended are dropped from the decoder's state once at most this share of it continues.  To drop them
copies the state."""
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
    """Draw one shard of text and return its tokens and their nats.

    All rows advance together.  Each row and position has one uniform number, which `seed` decides.

    Args:
        positions: tokens to draw for each row.
        progress: called after each position with the tokens drawn so far.
        prompts: [rows, k], any integer type: context that the model reads after BOS.  It is neither returned nor
            counted in `positions`, so a model of n positions draws at most n - k.
        stop: the token (EOS) that ends a row when it is drawn.  The rest of the row is filled with it, at 0 nats.  The
            tokens before it are the same as without `stop`, except that float sums have another order once rows end.

    Returns:
        Tokens [rows, positions], uint16, or uint32 for a large vocabulary, and nats of the same shape, float32.

        The nats are what a token costs the model itself, at temperature 1 and without filters, whatever the decoding.
        So they are comparable to the nats of any other model, except for the dtype of the products, and filtered text
        costs less than the model's entropy.

    Raises:
        ValueError: the shapes do not fit.
    """
    text_TB = _context(model, rows, positions, bos, prompts)
    start = len(text_TB) - positions
    if stop is not None:
        text_TB[start:] = stop
    uniforms_TB = torch.from_numpy(generator(seed).random((positions, rows))).to(model.device)
    nats_TB = torch.zeros(positions, rows, device=model.device)
    if stop is None and decoding.repetition_penalty is None and isinstance(model, Counted) and model.by_position:
        _draw_by_position(model, text_TB[start:], nats_TB, start - 1, uniforms_TB, decoding, progress)
        return _as_arrays(text_TB[start:], nats_TB, model.vocab_size)
    _draw_in_turn(model, text_TB, nats_TB, uniforms_TB, decoding, stop, progress)
    return _as_arrays(text_TB[start:], nats_TB, model.vocab_size)


def _draw_in_turn(
    model: LanguageModel,
    text_TB: Tensor,
    nats_TB: Tensor,
    uniforms_TB: Tensor,
    decoding: Decoding,
    stop: int | None,
    progress: Callable[[int], None],
) -> None:
    """Fill in the last tokens and their nats, one position after the other."""
    rows, start = text_TB.shape[1], len(text_TB) - len(uniforms_TB)
    held_B = torch.arange(rows, device=model.device)  # the rows that the decoder holds
    ended_B = torch.zeros_like(held_B, dtype=torch.bool)  # which of them have ended
    decoder = model.decoder(rows)
    for now in range(start - 1):
        decoder.step(text_TB[now])
    for position, uniforms_B in enumerate(uniforms_TB):
        now = start + position
        logits_BV = decoder.step(text_TB[now - 1, held_B])
        seen_TB = text_TB[: now if decoding.repetition_penalty is not None else 0, held_B]  # only a penalty reads it
        tokens_B, nats_B = _next(logits_BV, uniforms_B[held_B], decoding, seen_TB.T)
        if stop is not None:
            tokens_B, nats_B = tokens_B.where(~ended_B, stop), nats_B.where(~ended_B, 0.0)
        text_TB[now, held_B], nats_TB[position, held_B] = tokens_B, nats_B
        progress((position + 1) * rows)
        if stop is not None:
            going_K = (tokens_B != stop).nonzero()[:, 0]
            if len(going_K) == 0:
                break
            held_B = _without_ended(decoder, held_B, going_K)
            ended_B = text_TB[now, held_B] == stop


def _draw_by_position(
    model: Counted,
    text_TB: Tensor,
    nats_TB: Tensor,
    first: int,
    uniforms_TB: Tensor,
    decoding: Decoding,
    progress: Callable[[int], None],
) -> None:
    """Fill in tokens and nats from position `first` on, many positions at once: no token depends on another one."""
    positions, rows = text_TB.shape
    size = max(1, CACHED // (rows * max(GROUP, model.vocab_size)))
    for at in range(0, positions, size):
        end = min(at + size, positions)
        logits_TV = model.logits(range(first + at, first + end))
        logits_NV = logits_TV[:, None].expand(-1, rows, -1).reshape(-1, model.vocab_size)
        nothing_seen = text_TB.new_empty(len(logits_NV), 0)
        tokens_N, nats_N = _next(logits_NV, uniforms_TB[at:end].reshape(-1), decoding, nothing_seen)
        text_TB[at:end], nats_TB[at:end] = tokens_N.view(-1, rows), nats_N.view(-1, rows)
        progress(end * rows)


def _as_arrays(text_TB: Tensor, nats_TB: Tensor, vocabulary: int) -> tuple[np.ndarray, np.ndarray]:
    """Return what was drawn, row by row."""
    return text_TB.T.cpu().numpy().astype(token_type(vocabulary)), nats_TB.T.contiguous().cpu().numpy()


def _context(model: LanguageModel, rows: int, positions: int, bos: int, prompts: np.ndarray | None) -> Tensor:
    """Return BOS, the prompts and room for what will be drawn: int64 [1 + k + positions, B]."""
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


def _without_ended(decoder: Decoder, held_B: Tensor, going_K: Tensor) -> Tensor:
    """Drop the rows that have ended if enough have to be worth a copy; return the rows that the decoder holds."""
    if len(going_K) > KEPT * len(held_B):
        return held_B
    decoder.keep(going_K)
    return held_B[going_K]


def _next(logits_BV: Tensor, uniforms_B: Tensor, decoding: Decoding, seen_BT: Tensor) -> tuple[Tensor, Tensor]:
    """Return one token per row, int64 [B], and its nats under the unfiltered logits, float32 [B]."""
    if decoding.plain:
        probabilities_BV = torch.softmax(logits_BV, dim=-1)
        tokens_B = draw(probabilities_BV, uniforms_B)
        return tokens_B, -probabilities_BV.gather(1, tokens_B[:, None])[:, 0].log()
    size = max(1, CACHED // logits_BV.shape[1]) if logits_BV.device.type == "cpu" else len(logits_BV)
    batches = zip(*(torch.split(x, size) for x in (logits_BV, uniforms_B, seen_BT)), strict=True)
    parts = [_decoded(logits, uniforms, decoding, seen) for logits, uniforms, seen in batches]
    return torch.cat([tokens for tokens, _ in parts]), torch.cat([nats for _, nats in parts])


def _decoded(logits_BV: Tensor, uniforms_B: Tensor, decoding: Decoding, seen_BT: Tensor) -> tuple[Tensor, Tensor]:
    tokens_B = draw(weights(logits_BV, decoding, seen_BT), uniforms_B)
    # Not the log of a probability: a token drawn at a high temperature may have none left in float32.
    return tokens_B, F.cross_entropy(logits_BV, tokens_B, reduction="none")
