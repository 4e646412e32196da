"""The weights that a training starts from: random ones, and pretrained ones with the vocabulary cut."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from support.pretrained import (
    BOS,
    LLAMA,
    T,
    V,
    base,
    checkpoint,
    each_model,
    llama,
    rows_of,
    train,
)
from support.training import ascending, quiet
from transformers import (
    LlamaConfig,
)

from lab.config.files import load_study
from lab.errors import InputError
from lab.models.counted import Counted
from lab.models.counting import Uniform
from lab.models.initial_weights import start
from lab.models.load import load
from lab.models.sampling.sample import sample

torch.set_num_threads(1)


@each_model
def test_a_start_has_the_tokenizers_vocabulary(name: str, bases: dict[str, Path], tmp_path: Path) -> None:
    """Entries that no token has are cut off; the others keep their odds.  Rows may be shorter than the base reads."""
    whole, model = base(bases, name), start(bases[name], vocab_size=V - 6, bos=5, positions=T // 2)
    ids = torch.tensor([[5, 1, 2, 60]])
    with torch.no_grad():
        want = whole.module(ids).logits[..., : V - 6]
        assert torch.allclose(model.module(ids).logits, want, atol=1e-5)
    assert model.nats(ids[:, 1:].numpy())[0, 2] == pytest.approx(-want[0, 2].log_softmax(-1)[60].item(), abs=1e-4)
    log = train(model, positions=T // 2, tokens=25 * T // 2 + 5)
    assert log[-1]["tokens"] == 25 * T // 2
    model.save(tmp_path)
    again = load(tmp_path)
    assert isinstance(again, type(model)) and (again.vocab_size, again.bos, again.positions) == (V - 6, 5, T)
    tokens, _ = sample(again, rows=300, positions=4, bos=5, seed=0, progress=quiet)
    assert tokens.max() < V - 6
    defaults = json.loads((tmp_path / "generation_config.json").read_text())
    assert defaults["do_sample"] and defaults["top_k"] == 0 and defaults["bos_token_id"] == 5


@pytest.mark.parametrize("pad", [BOS, V - 1])
def test_a_start_has_no_padding(pad: int, tmp_path: Path) -> None:
    """torch gives a padding token no gradient; a model whose padding token was cut off could not be loaded again."""
    config = LlamaConfig(**LLAMA, num_attention_heads=2, pad_token_id=pad)
    model = start(checkpoint(tmp_path, config), vocab_size=V - 6, bos=BOS, positions=T)
    before = model.module.get_input_embeddings().weight[BOS].clone()
    train(model, weight_decay=0.0, tokens=8 * T)
    assert not torch.equal(model.module.get_input_embeddings().weight[BOS], before)
    model.save(tmp_path)
    assert np.array_equal(load(tmp_path).nats(ascending(2)), model.nats(ascending(2)))


def test_what_cannot_be_a_start_is_refused(bases: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a vocabulary of 70, the tokenizer has 71 entries"):
        start(bases["llama"], vocab_size=V + 1, bos=0, positions=T)
    with pytest.raises(InputError, match=r"at most 16 tokens, fewer than the 17 of a row; lower n_positions to 16"):
        start(bases["gpt2"], vocab_size=V, bos=0, positions=T + 1)
    Counted(Uniform(V)).save(tmp_path)
    with pytest.raises(InputError, match="holds counts, which are not trained further"):
        start(tmp_path, vocab_size=V, bos=0, positions=T)


def test_a_fresh_llama() -> None:
    before = torch.random.get_rng_state()
    first, again, other = (llama(seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    weights = [model.head()[0] for model in (first, again, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert weights[0].std().item() == pytest.approx(0.02, rel=0.1)
    assert first.module.config.intermediate_size == 88  # 8/3 of 32 is 85.3
    assert first.nats(rows_of(20)).mean() == pytest.approx(np.log(V), rel=0.05)
    assert train(first)[-1]["validation"] < 0.8 * np.log(V)


def test_a_llama_has_an_even_number_of_channels_per_head() -> None:
    """Rotary positions turn pairs of channels."""
    shape = "model={kind: llama, n_layer: 1, n_head: 32, n_embd: 32, n_positions: 16}"
    with pytest.raises(InputError, match=r"n_embd 32 is not divisible by 2 n_head = 64"):
        load_study("smoke", [shape])
