"""Beam search, by transformers' `generate`: the decoding of Shumailov et al. (2024), five beams after real prompts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import GenerationConfig

from lab.models.causal import Causal

BATCH_ROWS = 32
"""Prompts that are searched together."""


def beam_search(
    model: Causal,
    prompts: np.ndarray,
    *,
    positions: int,
    num_beams: int,
    progress: Callable[[int], None],
    stop: int | None = None,
) -> np.ndarray:
    """Return the likeliest continuation of BOS and each prompt that beam search finds: int64 [N, positions].

    Nothing is drawn, so there is no seed: equal prompts give equal rows, and P = 0 gives the same row N times.

    Args:
        prompts: [N, P], any integer type.  They are not part of the result.
        progress: called after each batch with the tokens found so far.
        stop: the token (EOS) that ends a row and fills the rest of it; beams of different lengths then compete by their
            mean loss.  None: EOS is a token like any other.

    Raises:
        ValueError: prompt and row together are longer than the model can read.
    """
    if prompts.ndim != 2 or prompts.shape[1] + positions > model.positions:
        raise ValueError(
            f"prompts have shape {prompts.shape}; expected [N, P] with P at most {model.positions - positions}, "
            f"so that {positions} more tokens fit into the model's {model.positions}"
        )
    tokens = np.empty((len(prompts), positions), dtype=np.int64)
    for start in range(0, len(prompts), BATCH_ROWS):
        ids_BP = torch.from_numpy(prompts[start : start + BATCH_ROWS].astype(np.int64)).to(model.device)
        tokens[start : start + BATCH_ROWS] = _search(model, ids_BP, positions, num_beams, stop).cpu().numpy()
        progress(min(start + BATCH_ROWS, len(prompts)) * positions)
    return tokens


def _search(model: Causal, ids_BP: Tensor, positions: int, num_beams: int, stop: int | None) -> Tensor:
    read_BP = F.pad(ids_BP, (1, 0), value=model.bos)
    settings = GenerationConfig(
        num_beams=num_beams,
        do_sample=False,
        max_new_tokens=positions,
        eos_token_id=model.vocab_size if stop is None else stop,  # no token; None would mean the model's own
        pad_token_id=model.bos if stop is None else stop,
    )
    module, defaults = model.module, model.module.generation_config
    module.generation_config = GenerationConfig()  # `generate` takes from here what `settings` leaves open
    try:
        out_BT = module.generate(read_BP, attention_mask=torch.ones_like(read_BP), generation_config=settings)
    finally:
        module.generation_config = defaults
    tokens_BT: Tensor = out_BT[:, read_BP.shape[1] :]
    return F.pad(tokens_BT, (0, positions - tokens_BT.shape[1]), value=settings.pad_token_id)
