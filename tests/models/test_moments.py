"""Moments of a model's laws, against transformers' own logits and closed forms."""

from typing import Any

import numpy as np
import pytest
import torch

from lab.models import counting
from lab.models.counted import Counted
from lab.models.initial_weights import fresh
from lab.models.moments import moments, most_likely

ROWS = np.random.default_rng(0).integers(0, 30, (5, 16))


def network(seed: int, spread: float = 8.0) -> Any:
    shape = {"n_positions": 16, "n_layer": 1, "n_head": 2, "n_embd": 8}
    model = fresh("gpt2", shape, vocab_size=32, bos=31, seed=seed, device="cpu")
    with torch.no_grad():
        for weight in model.module.parameters():
            weight.mul_(spread)  # else all laws are nearly uniform
    return model


def test_a_networks_moments_are_those_of_its_laws() -> None:
    judge, observer = network(0), network(1)
    laws = []
    for model in (judge, observer):
        decoder, read = model.decoder(5), np.pad(ROWS, ((0, 0), (1, 0)), constant_values=31)
        steps = [decoder.step(torch.from_numpy(read[:, t])).double().softmax(dim=1).numpy().copy() for t in range(16)]
        laws.append(np.stack(steps, axis=1))
    p, q = laws
    cost = -np.log(p)
    mean = (p * cost).sum(axis=2)
    expected = [
        np.take_along_axis(cost, ROWS[:, :, None], axis=2)[:, :, 0],
        mean,
        (p * (cost - mean[:, :, None]) ** 2).sum(axis=2),
        (q * cost).sum(axis=2),
    ]
    found = moments(judge, ROWS, bos=31, observer=observer)
    assert found == pytest.approx(np.stack(expected, axis=2), rel=1e-4, abs=1e-4)
    assert found[:, :, 2].max() > 0.1 and (found[:, :, 3] >= found[:, :, 1] - 9).all()
    assert (moments(judge, ROWS, bos=31) == found[:, :, :3]).all()
    assert found[:, :, 0] == pytest.approx(judge.nats(ROWS), rel=1e-4, abs=1e-4)


def test_a_uniform_model_has_no_variance() -> None:
    found = moments(network(0, 0.0), ROWS, bos=31)
    assert found[:, :, :2] == pytest.approx(np.log(32)) and found[:, :, 2] == pytest.approx(0, abs=1e-5)


def test_a_counting_model_reads_the_same_rows() -> None:
    special = {"vocab_size": 32, "bos": 31, "eos": 30}
    model = Counted(counting.fit({"kind": "ngram", "order": 2, "smoothing": "interpolated"}, ROWS, **special))
    found = moments(model, ROWS, bos=31, observer=model)
    assert found[:, :, 0] == pytest.approx(model.nats(ROWS), rel=1e-4)
    assert found[:, :, 3] == pytest.approx(found[:, :, 1])  # its own law's cross-entropy is its entropy


def test_the_most_likely_tokens_are_those_of_the_laws() -> None:
    judge = network(0)
    decoder, read = judge.decoder(5), np.pad(ROWS, ((0, 0), (1, 0)), constant_values=31)
    laws = np.stack([decoder.step(torch.from_numpy(read[:, t])).log_softmax(dim=1).numpy() for t in range(16)], axis=1)
    nats, ids, logs = most_likely(judge, ROWS, bos=31, count=4, never=[2, 31])
    laws[:, :, [2, 31]] = -np.inf
    assert (ids == np.argsort(-laws, axis=2, kind="stable")[:, :, :4]).all()
    assert logs == pytest.approx(np.take_along_axis(laws, ids, axis=2), rel=1e-4, abs=1e-4)
    assert nats == pytest.approx(judge.nats(ROWS), rel=1e-4, abs=1e-4)
    assert most_likely(judge, ROWS, bos=31, count=99, never=[31])[1].shape == (5, 16, 31)
