"""Marked sampling against transformers' processors, and its known answers."""

import numpy as np
import pytest
import torch
from support.training import gpt2, quiet
from transformers import SynthIDTextWatermarkLogitsProcessor, WatermarkLogitsProcessor

from lab.curators.marks import green_lists, layer_keys
from lab.models.counted import Counted
from lab.models.counting import Uniform
from lab.models.marked import Marked
from lab.models.sampling.decoding import Decoding, weights
from lab.models.sampling.sample import sample
from lab.seeds import generator

KGW = {"scheme": "kgw", "bias": 2.0, "ratio": 0.25, "key": 15485863}
SYNTHID = {"scheme": "synthid", "layers": 9, "key": 7}

torch.set_num_threads(1)


def along(marked: Marked, rows: np.ndarray) -> list[torch.Tensor]:
    """Return the law of each next token while rows [B, T] are read: [B, V] for each position."""
    decoder = marked.decoder(len(rows))
    return [torch.softmax(decoder.step(column).clone(), dim=1) for column in torch.from_numpy(rows.T.copy())]


def test_kgw_is_transformers_processor_after_all_filters() -> None:
    """What top-k removed stays impossible, and the bias comes after the temperature."""
    model, decoding = gpt2(97, 16), Decoding(temperature=0.7, top_k=20)
    rows = generator(3).integers(0, 97, (3, 8))
    theirs = WatermarkLogitsProcessor(97, "cpu", 0.25, 2.0, KGW["key"])
    decoder = model.decoder(3)
    for position, law in enumerate(along(Marked(model, decoding, KGW), rows)):
        seen = torch.from_numpy(rows[:, : position + 1])
        scores = weights(decoder.step(seen[:, -1]), decoding, seen).log()
        expected = torch.softmax(theirs(seen, scores), dim=1)
        assert torch.allclose(law, expected, atol=1e-6)
        assert ((law > 0).sum(1) == 20).all()


@pytest.mark.parametrize("prompt", [0, 3])
def test_synthid_is_transformers_processor_along_a_row_with_a_repeated_context(prompt: int) -> None:
    model, decoding = gpt2(97, 16), Decoding(temperature=4, top_p=0.9)
    rows = generator(4).integers(1, 97, (2, 16))
    rows[0, 10:14] = rows[0, 5:9]  # the context of position 14 has been seen; in row 1 none has
    theirs = SynthIDTextWatermarkLogitsProcessor(5, layer_keys(7, 9), 2**16, 0, 1024, torch.device("cpu"))
    decoder, same = model.decoder(2), []
    for position, law in enumerate(along(Marked(model, decoding, SYNTHID, prompt=prompt), rows)):
        seen = torch.from_numpy(rows[:, : position + 1])
        logits = decoder.step(seen[:, -1])
        if position < prompt:
            continue
        plain = weights(logits, decoding, seen)
        assert (law - torch.softmax(theirs(seen, plain.log()), dim=1)).abs().max() < 1e-6
        same.append(torch.isclose(law, plain / plain.sum(1, keepdim=True), atol=1e-6).all(1).tolist())
    assert [place + prompt for place, (repeated, _) in enumerate(same) if repeated] == [13]
    assert not any(fresh for _, fresh in same)


def test_rows_that_end_are_dropped_with_their_state() -> None:
    """A row's law depends on its own text alone, so dropping others changes none of its tokens."""
    for settings in (KGW, SYNTHID):
        marked = Marked(Counted(Uniform(7)), Decoding(repetition_penalty=1.3), settings)
        whole, _ = sample(marked, rows=40, positions=30, bos=0, seed=5, progress=quiet)
        ended, _ = sample(marked, rows=40, positions=30, bos=0, seed=5, progress=quiet, stop=3)
        for row, cut in zip(whole, ended, strict=True):
            end = int(np.argmax(row == 3)) if (row == 3).any() else len(row)
            assert (row[:end] == cut[:end]).all() and (cut[end:] == 3).all()


def test_green_share_of_a_uniform_model() -> None:
    """Ratio e^b / (ratio e^b + 1 - ratio): .7112 at ratio .25 and bias 2.  A bias near 0 leaves the ratio."""
    for bias, share in ((2.0, 0.7112), (1e-9, 0.25)):
        marked = Marked(Counted(Uniform(400)), Decoding(), {**KGW, "bias": bias})
        rows, _ = sample(marked, rows=100, positions=200, bos=0, seed=1, progress=quiet)
        before = np.pad(rows[:, :-1].astype(np.int64), ((0, 0), (1, 0)))
        green = green_lists(400, 0.25, KGW["key"]).holds(before.ravel(), rows.ravel().astype(np.int64))
        assert green.mean() == pytest.approx(share, abs=4 * 0.5 / 20_000**0.5)
