"""Reading a folder: what is refused in one line, and which other architectures are welcome."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.pretrained import (
    GPT2,
    LLAMA,
    SPECIAL,
    T,
    base,
    checkpoint,
    rows_of,
)
from transformers import (
    BertConfig,
    GemmaConfig,
    GPT2Config,
    GPTNeoConfig,
    GPTNeoXConfig,
    GraniteConfig,
    LlamaConfig,
    OpenAIGPTConfig,
    PreTrainedConfig,
)

from lab.errors import InputError
from lab.models.causal import Causal, CausalDecoder
from lab.models.load import load

torch.set_num_threads(1)


def edit(folder: Path, name: str, **entries: Any) -> None:
    """Change entries of a JSON file of the folder."""
    path = folder / name
    old = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(old | entries))


def config(**entries: Any) -> Callable[[Path], None]:
    return lambda folder: edit(folder, "config.json", **entries)


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def replace(name: str, text: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).write_text(text)

    return change


def shards(second: str, **entries: Any) -> Callable[[Path], None]:
    """Two shards, of which the second is missing."""

    def change(folder: Path) -> None:
        (folder / "model.safetensors").rename(folder / "model-1.safetensors")
        weights = {"lm_head.weight": "model-1.safetensors", "model.norm.weight": second}
        edit(folder, "model.safetensors.index.json", **{"metadata": {}, "weight_map": weights} | entries)

    return change


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch executed'\ntR.")


def own_code(folder: Path) -> None:
    edit(folder, "config.json", auto_map={"AutoModelForCausalLM": "own.Model"})
    (folder / "own.py").write_text("open('executed', 'w')\n")


def adapter(folder: Path) -> None:
    edit(folder, "adapter_config.json", base_model_name_or_path="x/y")


REFUSALS: dict[str, tuple[Callable[[Path], None], str]] = {
    "no config": (remove("config.json"), "no readable config.json: give the folder of a saved model"),
    "broken config": (replace("config.json", "{"), "no readable config.json"),
    "a list": (replace("config.json", "[]"), "holds a list, not the settings"),
    "own code": (own_code, 'an entry "auto_map": it asks for Python code of its own, which the lab never runs'),
    "own weight file": (config(transformers_weights="adapter_model.bin"), "rename that file to model.safetensors"),
    "quantized": (config(quantization_config={"bits": 4}), "describes quantized weights"),
    "adapter": (adapter, "an adapter of peft: merge it"),
    "pickle": (pickled, r"no model.safetensors \(it has pytorch_model.bin\): only safetensors are read"),
    "no weights": (remove("model.safetensors"), "it has no weights"),
    "missing shard": (shards("model-2.safetensors"), "lacks model-2.safetensors, one of its 2 shards"),
    "shard elsewhere": (shards("../model-2.safetensors"), r"names \.\./model-2.safetensors; a shard is"),
    "pickled shard": (shards("model-2.bin"), "names model-2.bin; a shard is a safetensors file"),
    "broken index": (shards("model-2.safetensors", weight_map=3), "is no index of weights"),
    "cut weights": (replace("model.safetensors", "1234"), "cannot be loaded: SafetensorError"),
    "missing layer": (config(num_hidden_layers=3), r"9 missing keys, such as model.layers.2"),
    "layer too many": (config(num_hidden_layers=1), r"9 unexpected keys, such as model.layers.1"),
    "other width": (config(intermediate_size=40), "6 mismatched keys, such as model.layers.0.mlp"),
    "no positions": (config(max_position_embeddings=None), "max_position_embeddings|cannot be loaded"),
    "no bos": (config(bos_token_id=None, eos_token_id=[1, 2]), r"eos_token_id of the llama is \[1, 2\]"),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_refusals_are_one_line_and_run_nothing(
    what: str, bases: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "base"
    shutil.copytree(bases["llama"], folder)
    monkeypatch.chdir(tmp_path)
    spoil, message = REFUSALS[what]
    spoil(folder)
    with pytest.raises(InputError, match=message) as caught:
        load(folder)
    assert "\n" not in str(caught.value) and not (tmp_path / "executed").exists()


def test_sharded_weights_are_read(bases: dict[str, Path], tmp_path: Path) -> None:
    whole = base(bases, "smollm")
    whole.module.save_pretrained(tmp_path, max_shard_size="10KB")
    assert not (tmp_path / "model.safetensors").exists()
    assert np.array_equal(load(tmp_path).nats(rows_of(3)), whole.nats(rows_of(3)))


MASK, NUMBER = torch.ones(1, 1, T, T).tril(), torch.tensor(-1e9)
NEO = SPECIAL | {"max_position_embeddings": T, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2}
NEO |= {"num_layers": 2, "attention_types": [[["global", "local"], 1]], "window_size": 4}
NEOX = LLAMA | {"num_attention_heads": 2}


def put(folder: Path, head: str, layers: int, **constants: torch.Tensor) -> None:
    """Add constants to each layer of a checkpoint, as older versions of transformers saved them."""
    weights = load_file(folder / "model.safetensors")
    weights |= {
        f"{head.format(i)}.{k.replace('__', '.')}": v.clone() for k, v in constants.items() for i in range(layers)
    }
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


OLD: dict[str, tuple[PreTrainedConfig, str, dict[str, torch.Tensor]]] = {
    "gpt2": (GPT2Config(**GPT2), "transformer.h.{}.attn", {"bias": MASK.bool(), "masked_bias": NUMBER}),
    "gpt2 in bytes": (GPT2Config(**GPT2), "transformer.h.{}.attn", {"bias": MASK.to(torch.uint8)}),
    "gpt2 in halves": (GPT2Config(**GPT2), "transformer.h.{}.attn", {"bias": MASK.half()}),
    "gpt2 in bfloat16": (
        GPT2Config(**GPT2),
        "transformer.h.{}.attn",
        {"bias": MASK.bfloat16(), "masked_bias": NUMBER.bfloat16()},
    ),
    "name of CodeGen": (GPT2Config(**GPT2), "transformer.h.{}.attn", {"causal_mask": MASK.bool()}),
    "gpt neo": (
        GPTNeoConfig(**NEO),
        "transformer.h.{}.attn.attention",
        {"bias": MASK.triu(-3).bool(), "masked_bias": NUMBER},
    ),
    "gpt neox": (
        GPTNeoXConfig(**NEOX),
        "gpt_neox.layers.{}.attention",
        {"bias": MASK.bool(), "masked_bias": NUMBER, "rotary_emb__inv_freq": torch.ones(4)},
    ),
    "llama": (LlamaConfig(**NEOX), "model.layers.{}.self_attn", {"rotary_emb__inv_freq": torch.ones(8)}),
}


@pytest.mark.parametrize("what", OLD)
def test_masks_of_old_checkpoints_are_passed_over(what: str, tmp_path: Path) -> None:
    kind, head, constants = OLD[what]
    folder = checkpoint(tmp_path, kind)
    before = load(folder).nats(rows_of(2))
    put(folder, head, 2, **constants)
    assert np.array_equal(load(folder).nats(rows_of(2)), before)


def test_masks_of_a_checkpoint_without_a_head_are_passed_over(tmp_path: Path) -> None:
    """The GPT-2 of 2019 names its entries h.0.attn.bias."""
    folder = checkpoint(tmp_path, GPT2Config(**GPT2))
    before = load(folder).nats(rows_of(2))
    put(folder, "transformer.h.{}.attn", 2, bias=MASK, masked_bias=NUMBER)
    weights = load_file(folder / "model.safetensors")
    short = {name.removeprefix("transformer."): value for name, value in weights.items()}
    save_file(short, folder / "model.safetensors", {"format": "pt"})
    assert np.array_equal(load(folder).nats(rows_of(2)), before)


NO_MASKS = {"sees ahead": MASK.flip(-1), "a vector": torch.ones(96), "sees nothing": torch.zeros(1, 1, T, T)}


@pytest.mark.parametrize("what", NO_MASKS)
def test_an_unknown_entry_that_is_no_mask_is_refused(what: str, tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, GPTNeoConfig(**NEO))
    put(folder, "transformer.h.{}.attn.attention", 2, bias=NO_MASKS[what])
    with pytest.raises(InputError, match=r"2 unexpected keys, such as transformer.h.0.attn.attention.bias"):
        load(folder)


BESIDE = {
    "no cache": OpenAIGPTConfig(**GPT2),
    "an encoder": BertConfig(**LLAMA, num_attention_heads=2, pad_token_id=1),
    "scaled logits": GraniteConfig(**LLAMA, num_attention_heads=2, logits_scaling=8.0),
}


@pytest.mark.parametrize("what", BESIDE)
def test_models_that_predict_otherwise_are_refused(what: str, tmp_path: Path) -> None:
    kind = BESIDE[what].model_type
    with pytest.raises(InputError, match=f"holds a {kind} that the lab cannot sample or train.*GPT-2, Llama"):
        load(checkpoint(tmp_path, BESIDE[what]))


def test_a_model_that_forgets_what_it_has_read_is_refused(
    bases: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(bases["llama"])
    assert isinstance(model, Causal)
    model.check("it")
    monkeypatch.setattr(model, "decoder", lambda rows: Forgetful(model))
    with pytest.raises(InputError, match=r"it holds a llama that the lab cannot .*the logits differ by"):
        model.check("it")


class Forgetful(CausalDecoder):
    def step(self, tokens_B: torch.Tensor) -> torch.Tensor:
        self.cache = None
        return super().step(tokens_B)


def test_other_architectures_are_welcome(tmp_path: Path) -> None:
    """Gemma scales its embeddings, which is inside the model."""
    model = load(checkpoint(tmp_path, GemmaConfig(**LLAMA, num_attention_heads=2, num_key_value_heads=1, head_dim=16)))
    assert type(model) is Causal and model.nats(rows_of(2)).shape == (2, T)
