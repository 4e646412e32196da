"""Evidence: all that metrics may know of one generation, as arrays and facts.

`measure(evidence)` (lab/metrics/measure.py) and a user's own metric are functions of it.  Nothing here reads a disk or
needs a model.  Shapes: N = rows, T = tokens of a row, V = vocabulary, K = types of a known source.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lab.metrics.texts import head, is_text, level
from lab.metrics.words import Words, count_words, find_words

Tokens = NDArray[np.integer[Any]]
Nats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Training:
    """What one model of the generation was trained on."""

    fed_rows: Mapping[str, int]
    """Rows of all batches by origin: "-1" human, "-2" the archive of human text, "3" generation 3's sample."""
    fed_tokens: int
    """Tokens of text in all batches; a row fed twice counts twice."""
    unique_tokens: int
    """Tokens of text in the recipe."""
    validation: float | None = None
    """Loss on the validation fold at the end of training, nats per token.  None for models without a curve."""


@dataclass(frozen=True)
class Law:
    """The known distribution that stands in the place of human text."""

    first: NDArray[np.float64]
    """[K] the probability of each type as the first token of a row."""
    then: NDArray[np.float64]
    """[K, K] the probability of the next token, a row for each token before it."""
    test_nats: Nats
    """[N, T] the exact loss of each token of the test rows."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """The arrays and facts of one generation.  Arrays may be memory-mapped: treat them as read-only."""

    test: Tokens
    """[N, T] the held-out human rows that every model is scored on."""
    member_nats: Sequence[Nats]
    """The loss of each test token, [N, T], under each model: one array, several in a population."""
    human: Tokens
    """[N, T] the seed's own human training rows."""
    sample: Tokens
    """[N, T] the generation's whole sample, prompts included.  Row i was written by model i mod M, for M models."""
    resample: Tokens
    """[N, T] a second human text of equal size: its scores show what unchanged text would get."""
    budget: int
    """All compared texts are cut to this number of tokens (metrics.tokens)."""
    prompt: int
    """Human tokens at the beginning of each sampled row, left out of all texts that are compared."""
    layout: str
    """blocks: all tokens of a row are text.  documents: those up to the first EOS."""
    vocab_size: int
    bos: int
    eos: int
    trainings: Sequence[Training]
    """One for each model."""
    token_bytes: Sequence[bytes] = ()
    """The bytes of each vocabulary entry, b"" for special tokens.  Empty for a known source, which has no words."""
    law: Law | None = None
    """Where a known source stands in the place of human text."""
    domains: Sequence[str] = ()
    """The domains of the human text; empty where it has none."""
    test_domain: NDArray[np.integer[Any]] | None = None
    """[N, T] the index in `domains` of each test token; None where there are none."""

    @property
    def kind(self) -> str:
        """The kind of corpus: "text" or "source"."""
        return "text" if self.law is None else "source"

    @property
    def end(self) -> int | None:
        """The token that ends the text of a row; None in the layout `blocks`."""
        return self.eos if self.layout == "documents" else None

    @cached_property
    def nats(self) -> Nats:
        """The loss of each test token, [N, T]: the mean over the models."""
        return np.mean(self.member_nats, axis=0) if len(self.member_nats) > 1 else self.member_nats[0]

    @cached_property
    def scored(self) -> NDArray[np.bool_]:
        """Which test tokens are text and count, [N, T]."""
        return is_text(self.test, self.end)

    @cached_property
    def scored_test(self) -> Tokens:
        """The test tokens that count, flat."""
        return self.test[self.scored]

    @cached_property
    def scored_nats(self) -> Nats:
        """The mean loss of each test token that counts, flat."""
        return self.nats[self.scored]

    @cached_property
    def sample_text(self) -> Tokens | None:
        """The sample's first `budget` tokens of text as rows, without prompts; None where the models wrote less."""
        return head(self.sample, self.prompt, self.budget, self.end)

    @cached_property
    def compared(self) -> Sequence[Tokens] | None:
        """Sample, human text and resample at one budget with equally many rows; None where one text is too short."""
        human, resample = (head(rows, self.prompt, self.budget, self.end) for rows in (self.human, self.resample))
        return level([self.sample_text, human, resample], self.eos)

    @cached_property
    def compared_words(self) -> Sequence[Words] | None:
        """The words of the texts that are compared: sample, human text, resample."""
        return None if self.compared is None else [self.words(text) for text in self.compared]

    @cached_property
    def test_words(self) -> Words:
        """The words of the test rows."""
        return self.words(self.test)

    @cached_property
    def training_counts(self) -> Mapping[str, int]:
        """How often each word occurs in the human training rows."""
        return count_words(self.human, self.token_bytes, self.eos)

    def words(self, rows: Tokens) -> Words:
        """Return the words of rows [N, T].  ValueError for a known source, whose tokens spell nothing."""
        return find_words(rows, self.token_bytes, self.eos)
