"""Language models behind one protocol: GPT-2, other architectures (lab/models/causal.py), and the counting models.

A row is T tokens of text.  BOS stands before it and is not part of it:

    n_positions 4, row a b c d:   the model reads <bos> a b c   and is scored on   a b c d

Shapes: B = rows, T = positions, V = vocabulary, C = n_embd, H = heads, D = C // H.  Losses are in nats.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel

from lab.config.sections import ModelConfig
from lab.models import causal, counting
from lab.models.causal import NATS_TOKENS, Causal, at_once, behind, scored
from lab.models.gpt2_ops import norm, product
from lab.models.sampling import cpu as caches
from lab.models.sampling import cuda as graphs
from lab.recipe import InputError
from lab.store.manifest import PRUNED
from lab.text.tokenizer import quietly

GELU = {"gelu": "none", "gelu_new": "tanh", "gelu_pytorch_tanh": "tanh"}
"""transformers' names of the activations that torch has as one kernel, and torch's `approximate`."""
EAGER_POSITIONS = 512
"""On a CPU, attention by plain matrix products trains faster than torch's fused kernel up to about so many."""


class Decoder(Protocol):
    """The state of B rows that grow together, one token at a time."""

    def step(self, tokens_B: Tensor) -> Tensor:
        """Append a token to each row (BOS first); logits_BV of the next one, float32.  They may be overwritten."""

    def keep(self, rows_K: Tensor) -> None:
        """Go on with these of the rows (int64), in this order."""


class LanguageModel(Protocol):
    """What sampling, scoring and the store ask of a model."""

    @property
    def vocab_size(self) -> int: ...

    @property
    def device(self) -> torch.device: ...

    def nats(self, rows: np.ndarray) -> np.ndarray:
        """Loss of every token of rows [N, T] (any integer type) behind one BOS: float32 [N, T], in nats."""

    def decoder(self, rows: int) -> Decoder:
        """An empty state for so many rows."""

    def save(self, folder: Path) -> None:
        """Write the model into an existing folder, for `load`."""


class Trainable(LanguageModel, Protocol):
    """What training asks of a model beside."""

    @property
    def module(self) -> nn.Module: ...

    @property
    def positions(self) -> int:
        """The longest row it can be trained on."""

    def hidden(self, ids_BT: Tensor, dtype: torch.dtype) -> Tensor:
        """The state that predicts each token of each row behind BOS: [B * T, C], by matrix products in `dtype`."""

    def head(self) -> tuple[Tensor, Tensor | None]:
        """The output matrix [V, C] and its bias [V], if it has one: logits = hidden @ matrix.T + bias."""


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
        said = " ".join(str(error).split())[:120]
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


class Counted:
    """A counting model as sampling and scoring see it."""

    def __init__(self, model: counting.CountingModel, device: str | torch.device = "cpu") -> None:
        self.model = model
        self.vocab_size = model.vocab_size
        self.device = torch.device(device)

    def nats(self, rows: np.ndarray) -> np.ndarray:
        return self.model.nats(rows)

    def decoder(self, rows: int) -> Decoder:
        return _CountedDecoder(self, rows)

    def save(self, folder: Path) -> None:
        self.model.save(folder)


class _CountedDecoder:
    def __init__(self, counted: Counted, rows: int) -> None:
        self.counted = counted
        self.before = np.empty((rows, 0), dtype=np.int64)

    def step(self, tokens_B: Tensor) -> Tensor:
        self.before = np.append(self.before, tokens_B.cpu().numpy()[:, None], axis=1)
        weights_BV = torch.tensor(self.counted.model.weights(self.before), device=self.counted.device)
        return weights_BV.log()

    def keep(self, rows_K: Tensor) -> None:
        self.before = self.before[rows_K.cpu().numpy()]


class Gpt2:
    """transformers' GPT-2, with its parameters read by our own, faster code.  `module` is the model itself."""

    def __init__(self, module: GPT2LMHeadModel, *, decoding: str = "float32") -> None:
        assert self.serves(module), module.config
        self.module = module.eval()
        self.decoding = decoding
        self.gelu = GELU[module.config.activation_function]
        self.vocab_size: int = module.config.vocab_size
        self.positions: int = module.config.n_positions
        self.bos: int = module.config.bos_token_id

    @property
    def device(self) -> torch.device:
        device: torch.device = self.module.transformer.wte.weight.device
        return device

    @staticmethod
    def serves(module: PreTrainedModel) -> bool:
        """Whether the code here computes what this model does; `Causal` runs all others."""
        config = module.config
        return (
            isinstance(module, GPT2LMHeadModel)
            and config.activation_function in GELU
            and config.scale_attn_weights
            and not config.scale_attn_by_inverse_layer_idx
            and not config.reorder_and_upcast_attn
            and not config.add_cross_attention
            and module.lm_head.weight is module.transformer.wte.weight
        )

    @classmethod
    def fresh(
        cls, config: ModelConfig, *, vocab_size: int, bos: int, seed: int, device: str | torch.device = "cpu"
    ) -> Gpt2:
        """Initial weights that depend on the arguments only: drawn on the CPU, torch's own generator left alone."""
        gpt2 = GPT2Config(
            vocab_size=vocab_size,
            n_positions=config.n_positions,
            n_embd=config.n_embd,
            n_layer=config.n_layer,
            n_head=config.n_head,
            initializer_range=config.initializer_range,
            activation_function="gelu",  # the exact one: torch's CPU kernel is 5 times faster than gelu_new's tanh
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=bos,
            eos_token_id=bos,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = GPT2LMHeadModel(gpt2)
        module.generation_config = causal.ancestral(positions=config.n_positions, bos=bos, eos=bos)
        return cls(module.to(device))

    def save(self, folder: Path) -> None:
        """Weights, configuration and generation defaults, for AutoModelForCausalLM.from_pretrained as well."""
        with quietly():
            self.module.save_pretrained(folder)

    def head(self) -> tuple[Tensor, None]:
        """The output matrix [V, C], which is that of the embeddings; there is no bias."""
        return self.module.transformer.wte.weight, None

    def hidden(self, ids_BT: Tensor, dtype: torch.dtype) -> Tensor:
        """The state that predicts each token of each row behind BOS, before the vocabulary product: [B * T, C].

        The maths of transformers' GPT-2.  Matrix products are done in `dtype`, the residual stream in float32; each
        weight is cast once, where autocast would wrap every operation.
        """
        gpt2, (_, positions) = self.module.transformer, ids_BT.shape
        x_BTC = F.embedding(behind(self.bos, ids_BT), gpt2.wte.weight) + gpt2.wpe.weight[:positions]
        x_NC = x_BTC.flatten(0, 1)
        for block in gpt2.h:
            qkv_N3C = _linear(block.attn.c_attn, norm(block.ln_1, x_NC).to(dtype))
            x_NC = x_NC + _linear(block.attn.c_proj, _attention(qkv_N3C, positions, block.attn.num_heads))
            wide = F.gelu(_linear(block.mlp.c_fc, norm(block.ln_2, x_NC).to(dtype)), approximate=self.gelu)
            x_NC = x_NC + _linear(block.mlp.c_proj, wide)
        return norm(gpt2.ln_f, x_NC).to(dtype)

    @torch.inference_mode()
    def nats(self, rows: np.ndarray) -> np.ndarray:
        if rows.ndim != 2 or rows.shape[1] > self.positions:
            raise ValueError(f"rows have shape {rows.shape}; expected [N, T] with T at most {self.positions}")
        nats = np.empty(rows.shape, dtype=np.float32)
        batch = max(1, at_once(NATS_TOKENS, self.device) // rows.shape[1])
        for start in range(0, len(rows), batch):
            ids_BT = torch.from_numpy(rows[start : start + batch].astype(np.int64)).to(self.device)
            nats_N = scored(self.hidden(ids_BT, torch.float32), *self.head(), ids_BT.flatten(), product=product)
            nats[start : start + batch] = nats_N.view(ids_BT.shape).cpu().numpy()
        return nats

    @torch.inference_mode()
    def decoder(self, rows: int) -> Decoder:
        kind = caches.CachedDecoder if self.device.type == "cpu" else graphs.GraphDecoder
        return kind(self.module, rows, dtype=getattr(torch, self.decoding), gelu=self.gelu)


def _attention(qkv_N3C: Tensor, positions: int, heads: int) -> Tensor:
    """Causal attention within rows of T positions: [B * T, 3 C] -> [B * T, C]."""
    width = qkv_N3C.shape[1] // (3 * heads)
    q, k, v = qkv_N3C.view(-1, positions, 3, heads, width).permute(2, 0, 3, 1, 4).unbind(0)
    if qkv_N3C.is_cuda or positions > EAGER_POSITIONS:
        mixed_BHTD = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    else:
        future_TT = torch.full((positions, positions), -math.inf, dtype=q.dtype, device=q.device).triu(1)
        q, k, v = (x.reshape(-1, positions, width) for x in (q, k, v))
        scores = torch.baddbmm(future_TT, q, k.transpose(1, 2), alpha=width**-0.5)
        mixed_BHTD = (scores.softmax(-1) @ v).view(-1, heads, positions, width)
    return mixed_BHTD.transpose(1, 2).reshape(-1, heads * width)


def _linear(layer: Any, x_NC: Tensor) -> Tensor:
    """transformers' Conv1D, whose weight is (in, out), in the dtype of x."""
    return product(x_NC, layer.weight.T, layer.bias)
