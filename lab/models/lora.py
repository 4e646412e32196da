"""LoRA: a network whose own weights are frozen and that learns a low-rank addition to each linear layer."""

from __future__ import annotations

import importlib
from pathlib import Path

import torch
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from lab.errors import InputError
from lab.models.causal import Causal


class Lora(Causal):
    """A model whose weights are frozen, except for a low-rank addition to each linear layer (Hu et al. 2021).

    The additions have rank `rank` and are scaled by alpha / rank.  The output matrix and the embeddings have none.
    All additions are zero at first: the first factor is drawn from the seed, on the CPU, and the second is zero.
    """

    def __init__(self, module: PreTrainedModel, *, rank: int, alpha: float, seed: int) -> None:
        """Wrap a model and change it in place.

        Raises:
            InputError: peft is not installed.
        """
        try:
            peft = importlib.import_module("peft")
        except ImportError:
            raise InputError('LoRA needs peft, which is not installed: pip install "collapse-lab[lora]"') from None
        super().__init__(module)
        device = self.device
        config = peft.LoraConfig(
            r=rank,
            lora_alpha=alpha,
            target_modules="all-linear",
            fan_in_fan_out=any(isinstance(layer, Conv1D) for layer in module.modules()),
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.adapted = peft.LoraModel(module.cpu(), config, "lora").to(device).eval()

    def save(self, folder: Path) -> None:
        """Fold the additions into the weights, which cannot be undone, and write a plain model."""
        self.module = self.adapted.merge_and_unload()
        super().save(folder)
