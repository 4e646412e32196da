"""Measure a generation: every column of lab/metrics/columns.py as a pure function of Evidence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from lab.metrics import columns
from lab.metrics.evidence import Evidence
from lab.metrics.groups import shares
from lab.metrics.letters import UNSPACED_SHARE
from lab.metrics.tails import loss_by_domain, loss_by_token_bin, loss_by_word_bin
from lab.metrics.texts import text_blocks
from lab.metrics.words import single_letters


@dataclass(frozen=True)
class Measured:
    """The numbers of one generation."""

    columns: Mapping[str, float]
    """One number per column of the evidence's kind of corpus.  NaN: the number does not exist."""
    shares: Mapping[str, float]
    """Share of each origin in the rows fed to the models: "-1" human, "-2" archive, "3" generation 3's sample."""
    bins: Mapping[str, list[dict[str, Any]]]
    """Held-out loss by training frequency: level ("token", "word" where there is text) -> bins.

    Level "letter" holds the words that are single letters of scripts without spaces, where they are a share above
    UNSPACED_SHARE, and level "domain" the loss by domain where there are several.
    """


def measure(evidence: Evidence) -> Measured:
    """Compute all columns, shares and bins of one generation.  Needs no model, no GPU and no disk: seconds."""
    existing = [column for column in columns.COLUMNS if evidence.kind in column.kinds]
    numbers = {column.name: math.nan for column in existing}
    for group in dict.fromkeys(column.group for column in existing):
        assert group is not None
        numbers |= group(evidence)
    return Measured(numbers, shares(evidence), _bins(evidence))


def _bins(evidence: Evidence) -> dict[str, list[dict[str, Any]]]:
    """Return the held-out loss by how often a token, and a word, occurs in the human training rows, and by domain."""
    human = text_blocks(evidence.human, evidence.end)
    tokens = loss_by_token_bin(evidence.scored_test, evidence.scored_nats, human, evidence.vocab_size)
    bins = {"token": [asdict(each) for each in tokens]}
    if evidence.kind == "text":
        words = loss_by_word_bin(evidence.test_words, evidence.nats, evidence.training_counts)
        bins["word"] = [asdict(each) for each in words]
        single = single_letters(evidence.test_words)
        if len(single.word) > UNSPACED_SHARE * len(evidence.test_words.word):
            letters = loss_by_word_bin(single, evidence.nats, evidence.training_counts)
            bins["letter"] = [asdict(each) for each in letters]
    if evidence.test_domain is not None and len(evidence.domains) > 1:
        domains = loss_by_domain(evidence.test_domain[evidence.scored], evidence.scored_nats, evidence.domains)
        bins["domain"] = [asdict(each) for each in domains]
    return bins
