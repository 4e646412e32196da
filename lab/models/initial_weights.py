"""The weights that a training starts from: random ones, those of a pretrained base, or the previous generation's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import (
    GenerationConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
)

from lab.config.model import Network
from lab.errors import InputError, brief
from lab.models.causal import Causal
from lab.models.counted import Counted
from lab.models.gpt2 import Gpt2
from lab.models.load import load


def fresh(
    kind: str, shape: Mapping[str, Any], *, vocab_size: int, bos: int, seed: int, device: str | torch.device = "cpu"
) -> Causal:
    """Return a network with random weights, of the kind and shape that a study's `model` names.

    The weights depend on the arguments only: they are drawn on the CPU, and torch's own generator is left as it was.
    """
    make = random_llama if kind == "llama" else random_gpt2
    return make(Network(**shape), vocab_size=vocab_size, bos=bos, seed=seed, device=device)


def random_gpt2(shape: Network, *, vocab_size: int, bos: int, seed: int, device: str | torch.device = "cpu") -> Gpt2:
    """Return a GPT-2 with random weights: see `fresh`."""
    config = GPT2Config(
        vocab_size=vocab_size,
        n_positions=shape.n_positions,
        n_embd=shape.n_embd,
        n_layer=shape.n_layer,
        n_head=shape.n_head,
        initializer_range=shape.initializer_range,
        activation_function="gelu",  # the exact one: torch's CPU kernel is 5 times faster than gelu_new's tanh
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=bos,
        eos_token_id=bos,
    )
    return Gpt2(_random(GPT2LMHeadModel, config, shape.n_positions, seed).to(device))


def random_llama(shape: Network, *, vocab_size: int, bos: int, seed: int, device: str | torch.device = "cpu") -> Causal:
    """Return a Llama with random weights: see `fresh`.

    It has what LlamaConfig gives: RMSNorm, rotary positions, SwiGLU, no biases, and an output matrix that is not the
    embeddings'.  The MLP is 8/3 n_embd wide, rounded up to a multiple of 8 (Touvron et al. 2023: 2/3 of 4 n_embd).
    """
    config = LlamaConfig(
        vocab_size=vocab_size,
        max_position_embeddings=shape.n_positions,
        hidden_size=shape.n_embd,
        intermediate_size=8 * math.ceil(shape.n_embd / 3),
        num_hidden_layers=shape.n_layer,
        num_attention_heads=shape.n_head,
        initializer_range=shape.initializer_range,
        bos_token_id=bos,
        eos_token_id=bos,
        attn_implementation="eager" if torch.device(device).type == "cpu" else "sdpa",
    )
    return Causal(_random(LlamaForCausalLM, config, shape.n_positions, seed).to(device))


def _random(kind: type[PreTrainedModel], config: PreTrainedConfig, positions: int, seed: int) -> Any:
    """Return transformers' model with weights that are drawn on the CPU."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = kind(config)
    module.generation_config = _ancestral(positions=positions, bos=config.bos_token_id, eos=config.eos_token_id)
    return module


def fetched(path: str, revision: str | None) -> Path:
    """Return the folder of a pretrained model: `path` itself if it is a folder, else a download from the hub.

    Only JSON, safetensors and text files are downloaded, so no code.
    """
    if Path(path).is_dir():
        return Path(path)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(path, revision=revision, allow_patterns=["*.json", "*.safetensors", "*.txt"]))
    except Exception as error:
        raise InputError(
            f"model.path {path} is no local folder, and the hub did not give it: {brief(error, 120)}"
        ) from error


def start(folder: Path, *, vocab_size: int, bos: int, positions: int, device: str | torch.device = "cpu") -> Causal:
    """Return the network of a folder, a base or the previous generation, ready to train on rows of `positions` tokens.

    Many bases pad their vocabulary with entries that no token has.  Entries past the tokenizer's `vocab_size` are cut
    off, because they stand for no text.  Rows begin with `bos`, whatever token the base has begun its texts with.

    Raises:
        InputError: the folder holds no network, or one with a smaller vocabulary or fewer positions.
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
    module.generation_config = _ancestral(positions=model.positions, bos=bos, eos=eos)
    return type(model)(module)


def _ancestral(*, positions: int, bos: int, eos: int | list[int]) -> GenerationConfig:
    """Return generation defaults under which transformers' `generate` draws from the model's exact distribution."""
    return GenerationConfig(
        do_sample=True, top_k=0, max_length=positions, bos_token_id=bos, eos_token_id=eos, pad_token_id=bos
    )
