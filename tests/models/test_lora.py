"""LoRA: only the additions learn, and what is saved is a plain model."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from support.pretrained import (
    BOS,
    T,
    V,
    base,
    llama,
    rows_of,
    train,
)

from lab.errors import InputError
from lab.models.initial_weights import start
from lab.models.load import load
from lab.models.lora import Lora

torch.set_num_threads(1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gpt2", "gpt2 untied", "smollm", "opt 350m"])
def test_lora(name: str, bases: dict[str, Path], tmp_path: Path) -> None:
    """Only the additions learn; from the same seeds the same bytes; what is saved is a plain model, the same."""
    pytest.importorskip("peft")
    frozen = {key: value.clone() for key, value in base(bases, name).module.state_dict().items()}
    saved = []
    for folder, seed in ((tmp_path / "first", 1), (tmp_path / "again", 1), (tmp_path / "other", 2)):
        before = torch.random.get_rng_state()
        module = start(bases[name], vocab_size=V, bos=BOS, positions=T).module
        model = Lora(module, rank=4, alpha=8, seed=seed)
        assert torch.equal(torch.random.get_rng_state(), before)
        assert np.allclose(model.nats(rows_of(3)), base(bases, name).nats(rows_of(3)), atol=1e-5)
        learning = {key for key, value in module.named_parameters() if value.requires_grad}
        assert learning and all("lora_" in key for key in learning)
        log = train(model, lr=1e-2)
        assert log[-1]["validation"] < 0.9 * log[0]["validation"]
        nats = model.nats(rows_of(3))
        folder.mkdir()
        model.save(folder)
        saved.append((folder / "model.safetensors").read_bytes())
        assert not (folder / "adapter_config.json").exists()
        plain = load(folder)
        assert type(plain) is type(base(bases, name)) and np.allclose(plain.nats(rows_of(3)), nats, atol=1e-4)
    assert saved[0] == saved[1] != saved[2]
    merged = plain.module.state_dict()
    assert merged.keys() == frozen.keys()
    changed = {key for key in frozen if not torch.equal(merged[key], frozen[key])}
    assert changed and not any("embed" in key or "wte" in key or "lm_head" in key or "norm" in key for key in changed)


def test_lora_without_peft_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(InputError, match=r'pip install "collapse-lab\[lora\]"'):
        Lora(llama().module, rank=4, alpha=8, seed=0)
