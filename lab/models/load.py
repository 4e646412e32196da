"""Models by name and by folder: from scratch, saved, or pretrained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lab.config.model import ModelConfig
from lab.errors import InputError, brief
from lab.models import causal, counting
from lab.models.causal import Causal
from lab.models.counted import Counted
from lab.models.gpt2 import Gpt2
from lab.store.manifest import PRUNED


def load(folder: Path, device: str | torch.device = "cpu", *, decoding: str = "float32") -> Gpt2 | Causal | Counted:
    """A model from a local folder: one that was saved, or a pretrained one.  InputError where it cannot be used.

    `decoding` is the dtype of a GPT-2's matrix products when it samples; scoring is float32.
    """
    if (folder / PRUNED).exists():
        raise InputError(
            f"{folder}: the weights of this model were dropped to save room (keep_models, lab prune); to have them "
            "again, remove this folder and run its study again with --set keep_models=all"
        )
    kind = causal.config_of(folder).get("model_type")
    if kind in counting.KINDS:
        return Counted(counting.KINDS[kind].load(folder), device)
    if kind not in causal.KINDS:
        raise InputError(
            f'{folder} holds a model of type "{kind}"; known: {", ".join(counting.KINDS)}, gpt2, llama, opt and '
            "every other causal language model of the installed transformers"
        )
    module = causal.read(folder, device)
    if Gpt2.serves(module):
        return Gpt2(module, decoding=decoding)
    model = Causal(module)
    model.check(str(folder))
    return model


def fresh(
    kind: str, shape: Mapping[str, Any], *, vocab_size: int, bos: int, seed: int, device: str | torch.device = "cpu"
) -> Gpt2 | Causal:
    """A network from scratch, of the kind and shape that a study's `model` names.  Its arguments alone decide it."""
    if kind == "llama":
        return Causal.fresh(**shape, vocab_size=vocab_size, bos=bos, seed=seed, device=device)
    config = ModelConfig(**shape)
    return Gpt2.fresh(config, vocab_size=vocab_size, bos=bos, seed=seed, device=device)


def fetched(path: str, revision: str | None) -> Path:
    """The folder of a pretrained model: a local one, or what the hub has under this id, without any code of its own."""
    if Path(path).is_dir():
        return Path(path)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(path, revision=revision, allow_patterns=["*.json", "*.safetensors", "*.txt"]))
    except Exception as error:
        said = brief(error, 120)
        raise InputError(f"model.path {path} is no local folder, and the hub did not give it: {said}") from error


def start(
    folder: Path, *, vocab_size: int, bos: int, positions: int, device: str | torch.device = "cpu"
) -> Gpt2 | Causal:
    """A network to train further, with this tokenizer, on rows of so many tokens: a base, or the previous generation.

    Vocabulary entries behind the tokenizer's, with which many bases are padded, are cut off: they stand for no text.
    Rows begin with `bos`, whatever the base has begun its texts with.  InputError where the folder holds no network, or
    one with a smaller vocabulary or fewer positions.
    """
    model = load(folder, device)
    if isinstance(model, Counted):
        raise InputError(f"{folder} holds counts, which are not trained further; start from a network")
    if model.vocab_size < vocab_size:
        raise InputError(
            f"{folder} has a vocabulary of {model.vocab_size:,}, the tokenizer has {vocab_size:,} entries; "
            "use the tokenizer that belongs to the model"
        )
    if model.positions < positions:
        raise InputError(
            f"{folder} reads at most {model.positions:,} tokens, fewer than the {positions:,} of a row; "
            f"lower n_positions to {model.positions:,}"
        )
    module = model.module
    if model.vocab_size > vocab_size:
        module.resize_token_embeddings(vocab_size)
    config = module.config
    config.bos_token_id = bos
    # Rows have no padding: the token that some bases pad with, often their EOS, must learn like any other.
    config.pad_token_id = module.get_input_embeddings().padding_idx = None
    eos = bos if config.eos_token_id is None else config.eos_token_id
    module.generation_config = causal.ancestral(positions=model.positions, bos=bos, eos=eos)
    return type(model)(module)
