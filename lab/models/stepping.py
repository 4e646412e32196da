"""Rows read token by token, for whoever needs the law at every position as it would be drawn from."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from lab.models.protocols import LanguageModel


@torch.inference_mode()  # as a decorator it is left while the generator waits
def stepped(model: LanguageModel, rows: np.ndarray, bos: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield, for each position of rows [B, T], the tokens before it and the logits of the token there.

    The tokens are int64 [B, position + 1] and begin with BOS.  The logits are float32 [B, V]; the next step may
    overwrite them.
    """
    read_BT = torch.from_numpy(np.pad(rows.astype(np.int64), ((0, 0), (1, 0)), constant_values=bos)).to(model.device)
    decoder = model.decoder(len(rows))
    for position in range(rows.shape[1]):
        yield read_BT[:, : position + 1], decoder.step(read_BT[:, position])
