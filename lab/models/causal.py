"""Causal language models of any architecture that transformers knows: a pretrained base, or a Llama from scratch.

Only weights and settings are read, from a local folder of JSON and safetensors: no pickle, no code of the folder's.
A model's predictions come from transformers' own forward pass; sampling, scoring and training are the lab's, so seeds,
shards and the loss mean for it what they mean for the GPT-2 of lab/models/gpt2.py.  Dropout is off, also in training.

Shapes: B = rows, T = positions, V = vocabulary, C = width of the last hidden state.  Losses are in nats.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.pytorch_utils import Conv1D

from lab.errors import InputError
from lab.text.tokenizer import quietly
from lab.text.untrusted import check_untrusted_checkpoint, weights_in
from lab.text.untrusted import config_of as config_of

KINDS = frozenset(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
"""Every model_type that AutoModelForCausalLM knows without code from elsewhere."""
NATS_TOKENS = 2048
"""Tokens per batch of a scoring pass."""
LOGIT_TOKENS = 256
"""Tokens whose logits exist at one time in a scoring pass: they stay in the processor's cache, and a pretrained
vocabulary may have 150,000 entries."""

GPU_SHARE = 16
"""On a GPU both are so many times as many: it has no such cache, and a kernel of 256 tokens leaves most of it idle."""


def at_once(tokens: int, device: torch.device) -> int:
    """NATS_TOKENS or LOGIT_TOKENS on this device."""
    return tokens if device.type == "cpu" else GPU_SHARE * tokens


def behind(bos: int, ids_BT: Tensor) -> Tensor:
    """What the model reads to be scored on these tokens: [<bos>, a, b, c] for [a, b, c, d]."""
    return F.pad(ids_BT[:, :-1], (1, 0), value=bos)


def scored(
    x_NC: Tensor, weight_VC: Tensor, bias_V: Tensor | None, ids_N: Tensor, *, product: Callable[..., Tensor]
) -> Tensor:
    """Loss of each token behind its state, [N], without keeping logits: x @ weight.T + bias, by `product`."""
    nats_N = torch.empty(len(ids_N), device=x_NC.device)
    size = at_once(LOGIT_TOKENS, x_NC.device)
    for first in range(0, len(ids_N), size):
        part = slice(first, first + size)
        nats_N[part] = F.cross_entropy(product(x_NC[part], weight_VC, bias_V), ids_N[part], reduction="none")
    return nats_N


def read(folder: Path, device: str | torch.device) -> PreTrainedModel:
    """transformers' model of a local folder, in float32.  InputError where it is incomplete or not plain data."""
    check_untrusted_checkpoint(folder)
    _check_size(folder)
    try:
        with quietly():
            module, report = AutoModelForCausalLM.from_pretrained(
                folder,
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
                dtype=torch.float32,
                # Said here, so that config.json cannot name a kernel of the hub's.  On a CPU, attention by plain matrix
                # products trains a small Llama 1.5 times as fast as torch's fused kernel, and samples 2.2 times.
                attn_implementation="eager" if torch.device(device).type == "cpu" else "sdpa",
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # refused below, by name
            )
    except Exception as error:  # whatever transformers makes of a broken file is said in one line
        raise InputError(f"{folder} cannot be loaded: {type(error).__name__}: {str(error)[:300]}") from error
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if report[what]:
            names = ", ".join(sorted(key if isinstance(key, str) else str(key[0]) for key in report[what])[:3])
            raise InputError(
                f"the weights in {folder} are not those that its config.json describes: {len(report[what])} "
                f"{what.replace('_', ' ')}, such as {names}; get the model again"
            )
    return module.to(device)


def _check_size(folder: Path) -> None:
    """InputError where config.json describes a model far larger than the weights, before memory is taken for it."""
    try:
        with quietly(), torch.device("meta"):
            config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            described = AutoModelForCausalLM.from_config(config, trust_remote_code=False).num_parameters()
    except Exception as error:  # whatever transformers makes of strange settings is said in one line
        raise InputError(f"{folder} cannot be loaded: {type(error).__name__}: {str(error)[:300]}") from error
    there = weights_in(folder)
    if described > 4 * there + 10**6:
        raise InputError(
            f"{folder}/config.json describes a model of {described:,} parameters, and its weights hold {there:,}: get "
            "the model again"
        )


def ancestral(*, positions: int, bos: int, eos: int | list[int]) -> GenerationConfig:
    """Generation defaults for a saved model: in `generate` too, an exact draw from the model's distribution."""
    return GenerationConfig(
        do_sample=True, top_k=0, max_length=positions, bos_token_id=bos, eos_token_id=eos, pad_token_id=bos
    )


class Causal:
    """A model of transformers' as sampling, scoring and training see it.  `module` is the model itself."""

    def __init__(self, module: PreTrainedModel) -> None:
        """InputError where the model states no BOS or no number of positions."""
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

    @classmethod
    def fresh(
        cls,
        *,
        n_layer: int,
        n_head: int,
        n_embd: int,
        n_positions: int,
        initializer_range: float,
        vocab_size: int,
        bos: int,
        seed: int,
        device: str | torch.device = "cpu",
    ) -> Causal:
        """A Llama's initial weights: they depend on the arguments only, and torch's own generator is left alone.

        As LlamaConfig has it: RMSNorm, rotary positions, SwiGLU, no biases, an output matrix of its own.  The MLP is
        8/3 n_embd wide, rounded up to a multiple of 8 (Touvron et al. 2023: 2/3 of 4 n_embd).
        """
        if n_embd % (2 * n_head):
            raise InputError(
                f"n_embd {n_embd} over n_head {n_head} is no even number: rotary positions turn pairs of channels; "
                f"set n_embd to a multiple of {2 * n_head}"
            )
        llama = LlamaConfig(
            vocab_size=vocab_size,
            max_position_embeddings=n_positions,
            hidden_size=n_embd,
            intermediate_size=8 * math.ceil(n_embd / 3),
            num_hidden_layers=n_layer,
            num_attention_heads=n_head,
            initializer_range=initializer_range,
            bos_token_id=bos,
            eos_token_id=bos,
            attn_implementation="eager" if torch.device(device).type == "cpu" else "sdpa",
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = LlamaForCausalLM(llama)
        module.generation_config = ancestral(positions=n_positions, bos=bos, eos=bos)
        return cls(module.to(device))

    def save(self, folder: Path) -> None:
        """Weights, configuration and generation defaults, for AutoModelForCausalLM.from_pretrained as well."""
        with quietly():
            self.module.save_pretrained(folder)

    def head(self) -> tuple[Tensor, Tensor | None]:
        """The output matrix [V, C] and its bias [V], if it has one: logits = hidden @ matrix.T + bias."""
        layer = self.module.get_output_embeddings()
        return layer.weight, layer.bias

    def hidden(self, ids_BT: Tensor, dtype: torch.dtype) -> Tensor:
        """The state that predicts each token of each row behind BOS, before the vocabulary product: [B * T, C].

        Matrix products are done in `dtype`, bfloat16 by autocast.
        """
        return self._base(behind(self.bos, ids_BT), dtype).flatten(0, 1).to(dtype)

    def _base(self, read_BT: Tensor, dtype: torch.dtype) -> Tensor:
        with torch.autocast(read_BT.device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
            state_BTC: Tensor = self.module.base_model(input_ids=read_BT, use_cache=False).last_hidden_state
        return state_BTC

    @torch.no_grad()  # not inference_mode: what a model remembers of a pass must serve training too
    def nats(self, rows: np.ndarray) -> np.ndarray:
        """Loss of every token of rows [N, T] (any integer type) behind one BOS: float32 [N, T], in nats."""
        if rows.ndim != 2 or rows.shape[1] > self.positions:
            raise ValueError(f"rows have shape {rows.shape}; expected [N, T] with T at most {self.positions}")
        nats = np.empty(rows.shape, dtype=np.float32)
        batch = max(1, at_once(NATS_TOKENS, self.device) // rows.shape[1])
        for start in range(0, len(rows), batch):
            ids_BT = torch.from_numpy(rows[start : start + batch].astype(np.int64)).to(self.device)
            nats_N = scored(self.hidden(ids_BT, torch.float32), *self.head(), ids_BT.flatten(), product=F.linear)
            nats[start : start + batch] = nats_N.view(ids_BT.shape).cpu().numpy()
        return nats

    def decoder(self, rows: int) -> CausalDecoder:
        """An empty state; the first step says how many rows there are."""
        return CausalDecoder(self)

    @torch.no_grad()
    def check(self, name: str) -> None:
        """InputError unless three tokens get the same logits from the model, from `hidden` and `head`, and by `step`.

        It refuses encoders, logits that are scaled or capped behind the output matrix, and other kinds of cache.
        """
        read_13 = torch.arange(3, device=self.device)[None] % self.vocab_size
        try:
            want_3V = self.module(input_ids=read_13, use_cache=False).logits[0]
            decoder = self.decoder(1)
            stepped_3V = torch.cat([decoder.step(read_13[:, place]) for place in range(3)])
            headed_3V = F.linear(self._base(read_13, torch.float32)[0], *self.head())
            worst = max(float((got_3V - want_3V).abs().max()) for got_3V in (stepped_3V, headed_3V))
            exact = worst <= 1e-3 * float(want_3V.abs().max())  # False for NaN
            found = f"the logits differ by {worst:.3g}"
        except Exception as error:  # any code of any architecture may have run
            exact, found = False, f"{type(error).__name__}: {str(error)[:200]}"
        if not exact:
            raise InputError(
                f"{name} holds a {self.module.config.model_type} that the lab cannot sample or train, because it does "
                f"not predict by model(input_ids, past_key_values) and one output matrix ({found}); "
                "GPT-2, Llama, SmolLM and OPT do"
            )


def _whole(config: PreTrainedConfig, entry: str) -> int:
    value = getattr(config, entry, None)
    if not isinstance(value, int):
        raise InputError(
            f"{entry} of the {config.model_type} is {value}, but the lab needs a whole number; state it in config.json"
        )
    return value


class CausalDecoder:
    """Rows that grow together, with the model's own key-value cache."""

    def __init__(self, model: Causal) -> None:
        self.model = model
        self.read = 0
        self.cache: Any = None

    @torch.inference_mode()
    def step(self, tokens_B: Tensor) -> Tensor:
        """Append a token to each row (BOS first); logits_BV of the next one, float32."""
        if self.read == self.model.positions:  # rotary positions would go on without a word
            raise ValueError(f"a row is full: the model reads at most {self.model.positions} tokens")
        out = self.model.module(input_ids=tokens_B[:, None], past_key_values=self.cache, use_cache=True)
        self.read, self.cache = self.read + 1, out.past_key_values
        logits_BV: Tensor = out.logits[:, -1]
        return logits_BV

    def keep(self, rows_K: Tensor) -> None:
        """Go on with these of the rows, in this order."""
        self.cache.reorder_cache(rows_K)


class Lora(Causal):
    """A model whose weights stand still but for a low-rank addition to each linear layer (Hu et al. 2021).

    `rank` is that of the additions, and alpha / rank their scale.  The output matrix and the embeddings have none.
    Additions are zero at first: their first factor is drawn from the seed on the CPU, the second is zero.
    """

    def __init__(self, module: PreTrainedModel, *, rank: int, alpha: float, seed: int) -> None:
        """It takes the module over.  InputError where peft is missing."""
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
        """Fold the additions into the weights, for good, and write a plain model."""
        self.module = self.adapted.merge_and_unload()
        super().save(folder)
