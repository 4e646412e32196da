"""Causal language models of every architecture that transformers knows: pretrained ones, and Llamas from scratch.

A model's predictions come from transformers' own forward pass.  Sampling, scoring and training are the lab's, so seeds,
shards and the loss mean the same as for the GPT-2 of lab/models/gpt2.py.  Dropout is off, also in training.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from lab.errors import InputError
from lab.models.protocols import Decoder
from lab.models.scoring import after_bos, score
from lab.text.tokenizer import quietly


class Causal:
    """A model of transformers as sampling, scoring and training see it: see `lab.models.protocols.Trainable`.

    `module` is transformers' own object.
    """

    def __init__(self, module: PreTrainedModel) -> None:
        """Wrap a model.

        Raises:
            InputError: its configuration names no BOS, or no number of positions.
        """
        config = module.config
        self.module = module.eval()
        bos = "eos_token_id" if config.bos_token_id is None else "bos_token_id"
        self.positions = _whole(config, "max_position_embeddings")
        self.bos = _whole(config, bos)
        self.vocab_size: int = len(self.head()[0])

    @property
    def device(self) -> torch.device:
        device: torch.device = self.head()[0].device
        return device

    def save(self, folder: Path) -> None:
        """Write weights, configuration and generation defaults, as AutoModelForCausalLM.from_pretrained reads them."""
        with quietly():
            self.module.save_pretrained(folder)

    def head(self) -> tuple[Tensor, Tensor | None]:
        layer = self.module.get_output_embeddings()
        return layer.weight, layer.bias

    def hidden(self, ids_BT: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the state that predicts each token of each row after BOS: [B * T, C].  Autocast does bfloat16."""
        return self._last_state(after_bos(self.bos, ids_BT), dtype).flatten(0, 1).to(dtype)

    def _last_state(self, read_BT: Tensor, dtype: torch.dtype) -> Tensor:
        with torch.autocast(read_BT.device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
            state_BTC: Tensor = self.module.base_model(input_ids=read_BT, use_cache=False).last_hidden_state
        return state_BTC

    @torch.no_grad()  # not inference_mode: what a module caches in this pass must serve training too
    def nats(self, rows: np.ndarray) -> np.ndarray:
        return score(self, rows, product=F.linear)

    def decoder(self, rows: int) -> Decoder:
        return CausalDecoder(self)  # whose first step shows how many rows there are

    @torch.no_grad()
    def check(self, name: str) -> None:
        """Check that the model, `hidden` with `head`, and a decoder's `step` give three tokens the same logits.

        This refuses encoders, models that scale or cap the logits after the output matrix, and other kinds of cache.

        Raises:
            InputError: they differ, or the model cannot be run; `name` is what the message calls the model.
        """
        read_13 = torch.arange(3, device=self.device)[None] % self.vocab_size
        try:
            want_3V = self.module(input_ids=read_13, use_cache=False).logits[0]
            decoder = self.decoder(1)
            stepped_3V = torch.cat([decoder.step(read_13[:, position]) for position in range(3)])
            headed_3V = F.linear(self._last_state(read_13, torch.float32)[0], *self.head())
            worst = max(float((got_3V - want_3V).abs().max()) for got_3V in (stepped_3V, headed_3V))
            exact = worst <= 1e-3 * float(want_3V.abs().max())  # False for NaN
            reason = f"the logits differ by {worst:.3g}"
        except Exception as error:  # code of any architecture may have run
            exact, reason = False, f"{type(error).__name__}: {str(error)[:200]}"
        if not exact:
            raise InputError(
                f"{name} holds a {self.module.config.model_type} that the lab cannot sample or train, because it does "
                f"not predict by model(input_ids, past_key_values) and one output matrix ({reason}); "
                "GPT-2, Llama, SmolLM and OPT do"
            )


def _whole(config: PreTrainedConfig, entry: str) -> int:
    """Return a whole number that the configuration must hold."""
    value = getattr(config, entry, None)
    if not isinstance(value, int):
        raise InputError(
            f"{entry} of the {config.model_type} is {value}, but the lab needs a whole number; state it in config.json"
        )
    return value


class CausalDecoder:
    """Rows that grow together, with transformers' own KV cache: see `lab.models.protocols.Decoder`."""

    def __init__(self, model: Causal) -> None:
        self.model = model
        self.steps = 0
        self.cache: Any = None

    @torch.inference_mode()
    def step(self, tokens_B: Tensor) -> Tensor:
        if self.steps == self.model.positions:  # rotary positions would continue without an error
            raise ValueError(f"a row is full: the model reads at most {self.model.positions} tokens")
        out = self.model.module(input_ids=tokens_B[:, None], past_key_values=self.cache, use_cache=True)
        self.steps, self.cache = self.steps + 1, out.past_key_values
        logits_BV: Tensor = out.logits[:, -1]
        return logits_BV

    def keep(self, rows_K: Tensor) -> None:
        self.cache.reorder_cache(rows_K)
