"""Groups of columns: functions from Evidence to named numbers, which lab/metrics/columns.py lists per column.

A number that does not exist is left out or NaN: the loss inside rare words where there are none, or the diversity of a
sample whose documents have become so short that they hold fewer tokens than the budget.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

import numpy as np

from lab.metrics import drift as loci
from lab.metrics.diversity import compression_ratio, distinct_n, self_bleu, within_and_between
from lab.metrics.evidence import Evidence
from lab.metrics.risk import bits_per_byte, disagreement, mean_nats, perplexity
from lab.metrics.tails import rare_losses, rare_survival
from lab.metrics.variety import token_entropy, zipf_exponent
from lab.metrics.words import word_counts
from lab.recipe import ARCHIVE, HUMAN

Numbers = Mapping[str, float]
SELF_BLEU_ROWS = 200
"""Rows of the sample that self-BLEU compares, or all within the budget where there are fewer."""


def shares(evidence: Evidence) -> dict[str, float]:
    """Return the share of each origin in the rows of all batches: "-1" human, "-2" archive, "3" generation 3's sample.

    Two models were fed 30 human rows, and 30 human rows with 20 of the archive: {"-2": 0.25, "-1": 0.75}.
    """
    fed = Counter[str]()
    for training in evidence.trainings:
        fed.update(training.fed_rows)
    return {origin: rows / fed.total() for origin, rows in sorted(fed.items(), key=lambda item: int(item[0]))}


def feeding(evidence: Evidence) -> Numbers:
    """Return what the models were fed, and the loss on the validation fold that they ended with."""
    by_origin = shares(evidence)
    ends = [training.validation for training in evidence.trainings if training.validation is not None]
    return {
        "train_tokens": sum(training.fed_tokens for training in evidence.trainings),
        "unique_tokens": sum(training.unique_tokens for training in evidence.trainings),
        "human_share": sum(by_origin.get(str(origin), 0.0) for origin in (HUMAN, ARCHIVE)),
        "validation_nll": float(np.mean(ends)) if ends else math.nan,
    }


def risk(evidence: Evidence) -> Numbers:
    """Return the loss on held-out human text."""
    return {"nll": mean_nats(evidence.scored_nats), "perplexity": perplexity(evidence.scored_nats)}


def byte_risk(evidence: Evidence) -> Numbers:
    """Return the loss on held-out human text per byte."""
    return {"bits_per_byte": bits_per_byte(evidence.scored_test, evidence.scored_nats, evidence.token_bytes)}


def word_risk(evidence: Evidence) -> Numbers:
    """Return the loss inside rare, common and unseen held-out words."""
    return rare_losses(evidence.test_words, evidence.nats, evidence.training_counts)


def source_risk(evidence: Evidence) -> Numbers:
    """Return the loss of the known source itself on the held-out rows, and what the models lose above it."""
    if evidence.law is None:
        return {}
    members, source_nll = np.stack(evidence.member_nats), mean_nats(evidence.law.test_nats)
    return {
        "source_nll": source_nll,
        "excess_nll": mean_nats(members.mean(axis=0)) - source_nll,
        "unseen": float(np.isinf(members).mean()),
    }


def diversity(evidence: Evidence) -> Numbers:
    """Return how much of the sample repeats itself, at the budget."""
    text, eos = evidence.sample_text, evidence.eos
    if text is None:
        return {}
    return {
        **{f"distinct_{n}": distinct_n(text, n=n, eos=eos, tokens=text.size) for n in (1, 2, 3)},
        "entropy": token_entropy(text, eos=eos, tokens=text.size),
        "self_bleu": self_bleu(text, texts=min(SELF_BLEU_ROWS, len(text)), eos=eos),
    }


def zipf(evidence: Evidence) -> Numbers:
    """Return the Zipf exponent of the sample's words; of a known source, of its tokens."""
    if evidence.law is not None:
        return {"zipf": zipf_exponent(np.bincount(evidence.sample.ravel()))}
    words = evidence.compared_words
    return {} if words is None else {"zipf": zipf_exponent(list(word_counts(words[0]).values()))}


def survival(evidence: Evidence) -> Numbers:
    """Return the compression ratio of the sample's bytes, and how many rare human words the sample still holds."""
    if evidence.compared is None or evidence.compared_words is None:
        return {}
    sample, human, resample = evidence.compared_words
    spelled = b"".join(map(evidence.token_bytes.__getitem__, evidence.compared[0].ravel().tolist()))
    return {
        "compression": compression_ratio(spelled),
        "rare_survival": rare_survival(human, sample),
        "rare_survival_human": rare_survival(human, resample),
    }


def drift(evidence: Evidence) -> Numbers:
    """Return how far the sample of a known source has drifted at each position of a row."""
    if evidence.law is None:
        return {}
    law = np.append(evidence.law.first, 0.0)  # a model may write the token that begins rows; the source never does
    human, written = (loci.locus_counts(rows, len(law)) for rows in (evidence.human, evidence.sample))
    return {
        "heterozygosity": float(loci.heterozygosity(written).mean()),
        "distance": float(loci.squared_distance(written, law).mean()),
        "types": float(loci.types_seen(written).mean()),
        "share_first": float(written[:, 0].sum() / written.sum()),
        **{f"lost_{count}": loci.share_lost(human, written, count) for count in (1, 2, 3)},
    }


def population(evidence: Evidence) -> Numbers:
    """Return how the models of one generation differ."""
    members = [nats[evidence.scored] for nats in evidence.member_nats]
    numbers = {"disagreement": disagreement(members)}
    if evidence.sample_text is None:
        return numbers
    e = evidence
    return numbers | within_and_between(
        e.sample, models=len(members), prompt=e.prompt, budget=e.budget, eos=e.eos, end=e.end
    )
