"""What bfloat16 does to a distribution: models that are not there, and attention made sharper."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.scripts import load

from lab.config.model import ModelConfig
from lab.models.gpt2 import Gpt2
from lab.models.initial_weights import random_gpt2

bench_dtype = load("bench/bench_dtype.py")


def model() -> Gpt2:
    shape = ModelConfig(n_layer=1, n_embd=16, n_head=2, n_positions=8)
    return random_gpt2(shape, vocab_size=40, bos=0, seed=0)


def test_scores_grow_by_the_square_and_values_stay() -> None:
    plain, sharp = model(), model()
    bench_dtype.sharpen(sharp, 3.0)
    hidden = torch.randn(5, 16, generator=torch.Generator().manual_seed(0))
    (q, k, v), (sharp_q, sharp_k, sharp_v) = (
        one.module.transformer.h[0].attn.c_attn(hidden).split(16, -1) for one in (plain, sharp)
    )
    assert torch.allclose(sharp_q @ sharp_k.T, 9 * (q @ k.T)) and torch.equal(sharp_v, v)


def test_a_model_that_is_not_there_is_a_line_and_the_others_follow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tiny").mkdir()
    model().save(tmp_path / "tiny")
    arguments = [str(tmp_path / "gone"), str(tmp_path / "tiny"), "--sharper", "1", "4"]
    monkeypatch.setattr("sys.argv", ["bench_dtype.py", *arguments])
    assert bench_dtype.main() == 0
    gone, tiny, sharp = capsys.readouterr().out.splitlines()
    assert gone.startswith("gone  ") and "KL" not in gone
    assert tiny.startswith("tiny  KL mean ") and sharp.startswith("tiny  x 4: KL mean ")
