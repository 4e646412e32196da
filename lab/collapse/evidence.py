"""What the profile may know of one generation: its Evidence, and what the judge and the entropy probe found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lab.collapse.memory import Memory
from lab.metrics.evidence import Evidence, Tokens
from lab.metrics.texts import is_text


@dataclass(frozen=True, eq=False)
class Judged:
    """Losses of whole rows under the judge: the sum over the tokens of their text, in nats."""

    sample: NDArray[np.float64]
    """[N] of the generation's sample, prompts left out of the sum."""
    test: NDArray[np.float64]
    """[N] of the held-out rows."""


@dataclass(frozen=True, eq=False)
class ProfileEvidence:
    """The arrays and facts behind the profile of one generation.  Arrays may be memory-mapped and are read-only."""

    base: Evidence
    """What every metric of the lab sees."""
    human_groups: Mapping[str, Sequence[str]]
    """Column ("domain", "author") -> its value for each human training row.  Empty where the text has none."""
    test_groups: Mapping[str, Sequence[str]]
    """Column -> its value for each document of the test fold."""
    test_document: NDArray[np.integer[Any]] | None
    """[N, T] the document of each test token.  None for a known source, whose rows are independent."""
    writer_nats: NDArray[np.float64]
    """[N] the loss of each sampled row under the model that wrote it, before temperature and filters."""
    plain: bool
    """Whether tokens were drawn from the model's own law, without temperature and filters."""
    judged: Judged | None = None
    """None where the study fits no judge."""
    entropies: NDArray[np.floating[Any]] | None = None
    """The entropy of the decoded next-token law at held-out positions, the mean over the models.  None: not probed."""
    divergence: NDArray[np.floating[Any]] | None = None
    """How far the models' next-token laws lie apart at held-out positions, nats.  None: one model, or not probed."""
    canary: NDArray[np.bool_] | None = None
    """[N] which human training rows are canaries, which are text of no group.  None for a known source."""

    memories: Sequence[Memory] = ()
    """What each model of the generation has memorised.  Empty: not probed."""

    @cached_property
    def sample_rows(self) -> Tokens:
        """[N, T] the whole sample without prompts."""
        return self.base.sample[:, self.base.prompt :]

    def lengths(self, rows: Tokens) -> NDArray[np.int64]:
        """Return the tokens of text in each row, [N]."""
        return np.asarray(is_text(rows, self.base.end).sum(axis=1))
