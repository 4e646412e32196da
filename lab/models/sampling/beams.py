"""Beam search, by transformers' `generate`: the decoding of Shumailov et al. (2024), five beams behind real prompts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import GenerationConfig

from lab.models.causal import Causal
from lab.models.gpt2 import Gpt2

BATCH_ROWS = 32
"""Prompts that are searched together."""


def beam_search(
    model: Gpt2 | Causal,
    prompts: np.ndarray,
    *,
    positions: int,
    num_beams: int,
    progress: Callable[[int], None],
    stop: int | None = None,
) -> np.ndarray:
    """What beam search finds likeliest behind BOS and each prompt [N, P] (any integer type): int64 [N, positions].

    Nothing is drawn, so there is no seed: equal prompts give equal rows, and P = 0 the same row N times.  The prompt is
    not part of the row.  EOS is a token like any other, unless `stop` names it: then it ends a row, it fills what is
    left, and beams of different lengths compete by their mean loss.  `progress` is told the tokens found so far.
    ValueError where prompt and row together are longer than the model can read.
    """
    if prompts.ndim != 2 or prompts.shape[1] + positions > model.positions:
        raise ValueError(
            f"prompts have shape {prompts.shape}; expected [N, P] with P at most {model.positions - positions}, "
            f"so that {positions} more tokens fit into the model's {model.positions}"
        )
    found = np.empty((len(prompts), positions), dtype=np.int64)
    for start in range(0, len(prompts), BATCH_ROWS):
        ids_BP = torch.from_numpy(prompts[start : start + BATCH_ROWS].astype(np.int64)).to(model.device)
        found[start : start + BATCH_ROWS] = _search(model, ids_BP, positions, num_beams, stop).cpu().numpy()
        progress(min(start + BATCH_ROWS, len(prompts)) * positions)
    return found


def _search(model: Gpt2 | Causal, ids_BP: Tensor, positions: int, num_beams: int, stop: int | None) -> Tensor:
    read_BP = F.pad(ids_BP, (1, 0), value=model.bos)
    settings = GenerationConfig(
        num_beams=num_beams,
        do_sample=False,
        max_new_tokens=positions,
        eos_token_id=model.vocab_size if stop is None else stop,  # no token; None would mean the model's own
        pad_token_id=model.bos if stop is None else stop,
    )
    module, own = model.module, model.module.generation_config
    module.generation_config = GenerationConfig()  # generate takes whatever `settings` leaves open from here
    try:
        out_BT = module.generate(read_BP, attention_mask=torch.ones_like(read_BP), generation_config=settings)
    finally:
        module.generation_config = own
    found_BT: Tensor = out_BT[:, read_BP.shape[1] :]
    return F.pad(found_BT, (0, positions - found_BT.shape[1]), value=settings.pad_token_id)
