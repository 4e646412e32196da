"""A language model that writes with a watermark: decoding as the study asks, then the mark, handed to the sampler.

The sampler draws from logits with plain decoding.  `Marked` gives it the logarithms of decoded and marked weights as
such logits, so that the mark comes after all filters and what they removed stays impossible.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from lab.curators.marks import HISTORY, NGRAM, TABLE, TournamentBits, context_hashes, green_lists, layer_keys
from lab.models.protocols import Decoder, LanguageModel
from lab.models.sampling.decoding import Decoding, weights


class Mark(Protocol):
    """The mark on B rows that grow together."""

    def apply(self, weights_BV: Tensor, before_B: Tensor, first: bool) -> Tensor:
        """Return the marked weights of the next token: [B, V].

        Args:
            before_B: the last token of each row, BOS or of a prompt if nothing has been drawn.
            first: whether the next token is the first that is drawn.
        """

    def keep(self, rows_K: Tensor) -> None:
        """Drop all rows except these."""


class Marked:
    """A model behind its decoding and a watermark; see `lab.models.protocols.LanguageModel`.

    Args:
        settings: {"scheme": "kgw", "bias", "ratio", "key"} or {"scheme": "synthid", "layers", "key"}.
        prompt: tokens of text that every row begins with.  They are read after BOS and are neither drawn nor marked.
    """

    def __init__(self, model: LanguageModel, decoding: Decoding, settings: Mapping[str, Any], prompt: int = 0) -> None:
        self.model, self.decoding, self.settings, self.prompt = model, decoding, settings, prompt
        self.vocab_size, self.device = model.vocab_size, model.device
        self.positions = getattr(model, "positions", None)

    def nats(self, rows: np.ndarray) -> np.ndarray:
        """Return what rows cost the model itself, without decoding and mark."""
        return self.model.nats(rows)

    def decoder(self, rows: int) -> Decoder:
        return _MarkedDecoder(self, rows)

    def save(self, folder: Path) -> None:
        self.model.save(folder)

    def mark(self, rows: int) -> Mark:
        """Return an empty state of the mark for so many rows."""
        if self.settings["scheme"] == "kgw":
            return _GreenMark(self.settings, self.vocab_size)
        return _TournamentMark(layer_keys(self.settings["key"], self.settings["layers"]), self.vocab_size, rows)


class _MarkedDecoder:
    """The decoder of the model, and the state of the mark."""

    def __init__(self, marked: Marked, rows: int) -> None:
        self.marked, self.decoder, self.mark = marked, marked.model.decoder(rows), marked.mark(rows)
        self.seen_BT = torch.empty(rows, 0, dtype=torch.int64, device=marked.device)

    def step(self, tokens_B: Tensor) -> Tensor:
        logits_BV = self.decoder.step(tokens_B)
        self.seen_BT = torch.cat([self.seen_BT, tokens_B[:, None]], dim=1)
        drawn = self.seen_BT.shape[1] - 1 - self.marked.prompt
        if drawn < 0:
            return logits_BV
        weights_BV = weights(logits_BV, self.marked.decoding, self.seen_BT)
        return self.mark.apply(weights_BV, tokens_B, first=drawn == 0).log()

    def keep(self, rows_K: Tensor) -> None:
        self.decoder.keep(rows_K)
        self.mark.keep(rows_K)
        self.seen_BT = self.seen_BT[rows_K]


class _GreenMark:
    """KGW: green tokens weigh e^bias times as much (Kirchenbauer et al. 2023)."""

    def __init__(self, settings: Mapping[str, Any], vocabulary: int) -> None:
        self.lists = green_lists(vocabulary, settings["ratio"], settings["key"])
        self.bias = settings["bias"]

    def apply(self, weights_BV: Tensor, before_B: Tensor, first: bool) -> Tensor:
        green_BV = torch.from_numpy(self.lists(before_B.cpu().numpy())).to(weights_BV.device)
        return weights_BV * torch.where(green_BV, float(np.exp(self.bias)), 1.0)

    def keep(self, rows_K: Tensor) -> None:
        """Keep nothing: the list follows from the token before."""


class _TournamentMark:
    """SynthID text: a tournament of layers, p <- p (1 + g - sum g p), as transformers' processor has it.

    The first context is zeros, whatever the prompt.  A context that a row has seen before is not marked again.
    """

    def __init__(self, keys: list[int], vocabulary: int, rows: int) -> None:
        bits = TournamentBits(keys).bits
        wrapped = np.pad(bits, ((0, 0), (0, vocabulary)), mode="wrap").astype(np.float32)
        # Entry (hash + v) mod TABLE of each candidate v: a window into the layer's bits that begins at the hash.
        self.windows = torch.from_numpy(wrapped).unfold(1, vocabulary, 1)
        self.context = np.zeros((rows, NGRAM - 1), np.int64)
        self.known = np.zeros((rows, 0), np.uint64)

    def apply(self, weights_BV: Tensor, before_B: Tensor, first: bool) -> Tensor:
        if not first:
            self.context = np.append(self.context[:, 1:], before_B.cpu().numpy()[:, None], axis=1)
        hashes = context_hashes(self.context)
        fresh = ~(self.known == hashes[:, None]).any(axis=1)
        self.known = np.append(hashes[:, None], self.known, axis=1)[:, :HISTORY]
        starts_B = torch.from_numpy((hashes % np.uint64(TABLE)).astype(np.int64))
        law_BV = weights_BV / weights_BV.sum(dim=1, keepdim=True)
        marked_BV = law_BV
        for layer in self.windows:
            bits_BV = layer[starts_B].to(weights_BV.device)
            marked_BV = marked_BV * (1 + bits_BV - (bits_BV * marked_BV).sum(dim=1, keepdim=True))
        return torch.where(torch.from_numpy(fresh).to(weights_BV.device)[:, None], marked_BV, law_BV)

    def keep(self, rows_K: Tensor) -> None:
        kept = rows_K.cpu().numpy()
        self.context, self.known = self.context[kept], self.known[kept]
