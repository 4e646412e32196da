"""Beam search against the best of all rows, greedy decoding, and rows that stop."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from support.pretrained import (
    BOS,
    GPT2,
    LLAMA,
    T,
    V,
    base,
    checkpoint,
    read_of,
    rows_of,
)
from support.training import quiet
from transformers import (
    GPT2Config,
    LlamaConfig,
)

from lab.config.model import ModelConfig
from lab.models.counted import Counted
from lab.models.initial_weights import random_gpt2
from lab.models.load import load
from lab.models.sampling.beams import beam_search

torch.set_num_threads(1)


SMALL = {"vocab_size": 5, "bos_token_id": 0, "eos_token_id": 0}


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_enough_beams_find_the_likeliest_row(kind: str, tmp_path: Path) -> None:
    """25 beams over 5 tokens miss nothing of 3 positions: the best of all 125 rows, EOS (0) among their tokens."""
    configs = {"gpt2": GPT2Config(**GPT2 | SMALL), "llama": LlamaConfig(**LLAMA | SMALL, num_attention_heads=2)}
    model = load(checkpoint(tmp_path, configs[kind]))
    assert not isinstance(model, Counted)
    model.module.generation_config.repetition_penalty = 5.0  # the base's own settings have no effect
    own, reported = model.module.generation_config, []
    prompts = np.array(list(itertools.product(range(5), repeat=2)) * 2, dtype=np.uint16)
    tokens = beam_search(model, prompts, positions=3, num_beams=25, progress=reported.append)
    assert tokens.shape == (50, 3) and tokens.dtype == np.int64 and reported == [96, 150]
    assert model.module.generation_config is own
    every = np.array(list(itertools.product(range(5), repeat=3)))
    for prompt, row in zip(prompts[:25], tokens[:25], strict=True):
        nats = model.nats(np.hstack([np.tile(prompt, (125, 1)), every]))[:, 2:].sum(1)
        assert nats[(every == row).all(1)] == pytest.approx(nats.min(), abs=1e-4)
    assert np.array_equal(tokens[:25], tokens[25:]) and (tokens[:, :2] == 0).any()


def test_one_beam_is_greedy_and_rows_are_full(bases: dict[str, Path]) -> None:
    model, prompts = base(bases, "opt"), rows_of(4, 6)
    tokens = beam_search(model, prompts, positions=T - 6, num_beams=1, progress=quiet)
    for position in range(T - 6):
        with torch.no_grad():
            logits_BV = model.module(read_of(np.hstack([prompts, tokens[:, :position]]))).logits[:, -1]
        assert np.array_equal(tokens[:, position], logits_BV.argmax(-1).numpy())
    same = beam_search(model, prompts[:, :0], positions=T, num_beams=2, progress=quiet)
    assert same.shape == (4, T) and (same == same[0]).all()
    with pytest.raises(ValueError, match=r"\(4, 6\).*P at most 5, so that 11 more"):
        beam_search(model, prompts, positions=T - 5, num_beams=2, progress=quiet)


def test_a_row_may_stop_at_the_end_of_its_document(tmp_path: Path) -> None:
    """One beam is greedy, so the tokens before the EOS are the same as without `stop`."""
    model = load(checkpoint(tmp_path, GPT2Config(**GPT2 | SMALL)))
    assert not isinstance(model, Counted)
    prompts = rows_of(40, 4) % 5
    free, stopped = (
        beam_search(model, prompts, positions=8, num_beams=1, stop=stop, progress=quiet) for stop in (None, 2)
    )
    ended = np.cumsum(free == 2, axis=1) > 0
    assert ended.any() and not ended.all()
    assert np.array_equal(stopped, np.where(ended, 2, free))
    early = ended[:, 5] & ~ended[:, 0]  # all of them end before the last position
    assert early.sum() > 1
    alone = beam_search(model, prompts[early], positions=8, num_beams=1, stop=2, progress=quiet)
    assert np.array_equal(alone, stopped[early])


def test_a_fresh_gpt2_is_searched_too() -> None:
    shape = ModelConfig(n_layer=1, n_head=1, n_embd=16, n_positions=T)
    model = random_gpt2(shape, vocab_size=V, bos=BOS, seed=0)
    assert beam_search(model, rows_of(2, 3), positions=4, num_beams=5, progress=quiet).shape == (2, 4)
