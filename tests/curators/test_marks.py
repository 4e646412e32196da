"""The secrets of a watermark, bit for bit those of transformers' processors."""

import numpy as np
import pytest
import torch
from transformers import SynthIDTextWatermarkLogitsProcessor, WatermarkLogitsProcessor

from lab.curators.marks import GreenLists, TournamentBits, context_hashes, green_size, layer_keys
from lab.seeds import generator


@pytest.mark.parametrize(
    ("vocabulary", "ratio", "key"), [(97, 0.25, 15485863), (1000, 0.1, 3), (2048, 0.5, 2**40 + 7), (5, 0.9, 1)]
)
def test_green_lists_are_those_of_transformers(vocabulary: int, ratio: float, key: int) -> None:
    processor = WatermarkLogitsProcessor(vocabulary, "cpu", ratio, hashing_key=key)
    before = np.array([0, 1, vocabulary - 1, 2, 1])
    found = GreenLists(vocabulary, ratio, key)(before)
    for token, green in zip(before, found, strict=True):
        theirs = processor._get_greenlist_ids(torch.tensor([token]))
        assert sorted(theirs.tolist()) == np.flatnonzero(green).tolist()
        assert green.sum() == green_size(vocabulary, ratio)
    assert (GreenLists(vocabulary, ratio, key + 1)(before)[0] == found[0]).all(), "after token 0 no key counts"


def test_a_large_vocabulary_is_shuffled_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    before, tokens = np.array([3, 1, 3, 2, 0]), np.array([9, 8, 7, 6, 5])
    whole = GreenLists(40, 0.25, 7)
    expected, holds = whole(before), whole.holds(before, tokens)
    monkeypatch.setattr("lab.curators.marks.BLOCK", 41)
    parts = GreenLists(40, 0.25, 7)
    assert (parts(before) == expected).all()
    assert parts.holds(before, tokens).tolist() == holds.tolist() == expected[np.arange(5), tokens].tolist()
    assert parts(before[:0]).shape == (0, 40)


def test_bits_are_those_of_transformers() -> None:
    keys = [654, 400, 836, 123, 340, 443, 597, 160, 2**40 + 57]
    theirs = SynthIDTextWatermarkLogitsProcessor(5, keys, 2**16, 0, 1024, torch.device("cpu"))
    rows = generator(1).integers(0, 50_257, (3, 40))
    windows = np.lib.stride_tricks.sliding_window_view(rows, 5, axis=1)
    found = TournamentBits(keys).of(context_hashes(windows[..., :4]), windows[..., 4])
    assert (np.moveaxis(found, 0, -1) == theirs.compute_g_values(torch.from_numpy(rows)).numpy()).all()
    assert TournamentBits(keys).mean == pytest.approx(theirs.sampling_table.double().mean().item())


def test_keys_of_layers_differ() -> None:
    assert len({key % 2**16 for key in layer_keys(5, 30)}) == 30
    assert layer_keys(5, 9) != layer_keys(6, 9)
