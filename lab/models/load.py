"""Models read from a folder: one that the lab saved, or a pretrained one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from lab.errors import InputError
from lab.models import counting
from lab.models.counted import Counted
from lab.store.manifest import PRUNED
from lab.text.untrusted import config_of

if TYPE_CHECKING:
    from lab.models.causal import Causal


def counting_kind(folder: Path) -> str | None:
    """Return the kind of counting model that a folder holds; None for a network.

    Raises:
        InputError: the folder has no readable config.json.
    """
    kind = config_of(folder).get("model_type")
    return kind if kind in counting.KINDS else None


def load(folder: Path, device: str | torch.device = "cpu", *, decoding: str = "float32") -> Causal | Counted:
    """Read the model of a local folder.

    `decoding` is the dtype of a GPT-2's matrix products when it samples; scoring is float32.

    Raises:
        InputError: the folder holds no model that the lab can use, or its weights were pruned.
    """
    if (folder / PRUNED).exists():
        raise InputError(
            f"{folder}: the weights of this model were dropped to save room (keep_models, lab prune); to have them "
            "again, remove this folder and run its study again with --set keep_models=all"
        )
    if (kind := counting_kind(folder)) is not None:
        return Counted(counting.KINDS[kind].load(folder), device)
    from lab.models.pretrained import load_network  # imports transformers, which takes seconds

    return load_network(folder, device, decoding=decoding)
