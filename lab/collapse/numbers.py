"""Every number of the profile of one generation, as a pure function of ProfileEvidence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import compress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lab.collapse.evidence import ProfileEvidence
from lab.collapse.memory import memorised
from lab.collapse.modes import NaiveBayes, cluster, entanglement, fit_temperature, indices
from lab.collapse.plurality import effective_number
from lab.collapse.verbatim import inside_copies, outside_copies, overlap
from lab.metrics.evidence import Tokens
from lab.metrics.tails import RARE, bin_label, frequency_bins
from lab.metrics.texts import is_text
from lab.metrics.words import Words
from lab.seeds import derive_seed, generator

VERBATIM = 8
"""Tokens of an n-gram that counts as copied: a rare word inside one is memorised, not preserved."""
LONG = 13
"""Tokens of the longer n-grams of the overlap (Brown et al. 2020 take 13 words)."""
TAIL = 0.01
"""Share of human rows above, and below, the bounds of the judge."""
CLUSTER = "cluster"


@dataclass(frozen=True)
class Profiled:
    """The numbers of one generation that the definitions of collapse read."""

    columns: Mapping[str, float]
    """One number per column of lab/metrics/columns_profile.py.  NaN: it does not exist or was not asked for."""
    groups: Sequence[Mapping[str, Any]]
    """Per column of labels and group: tokens and loss of held-out text, which rows of `documents` are its own, and rows
    of human and of generated text."""
    written: Sequence[Mapping[str, Any]]
    """Share of the written words by their count in human training text: of the sample and of a human resample."""
    rare_words: int
    """Rare words of human text, of which new_survival is a share."""
    documents: NDArray[np.float64]
    """[D, 2] loss in nats and scored tokens of each test document; of a known source, of each row."""


def measure_profile(evidence: ProfileEvidence, lexicon: AbstractSet[str] | None) -> Profiled:
    """Compute the profile's numbers.  `lexicon`: the words of all human text but the test fold; None of a source."""
    numbers = {**_unigram(evidence), **_entropy(evidence), **_judged(evidence), **memorised(evidence.memories)}
    groups: list[Mapping[str, Any]] = []
    written: list[Mapping[str, Any]] = []
    rare = 0
    if evidence.base.kind == "text":
        tails, written, rare = _tails(evidence, lexicon or frozenset())
        modes, groups = _modes(evidence)
        numbers |= {**tails, **modes, **_overlap(evidence)}
    return Profiled(numbers, groups, written, rare, _documents(evidence))


def _unigram(evidence: ProfileEvidence) -> dict[str, float]:
    """Return the loss of the seed's own unigram, counts + 1/2, on the held-out tokens."""
    base = evidence.base
    kept = base.human[is_text(base.human, base.end)]
    counts = np.bincount(kept, minlength=base.vocab_size) + 0.5
    return {"unigram_nll": float(-np.log(counts / counts.sum())[base.scored_test].mean())}


def _entropy(evidence: ProfileEvidence) -> dict[str, float]:
    """Return the mean entropy of the next token and how many models tell it apart, of positions whose token is text."""

    def mean(found: NDArray[np.floating[Any]] | None) -> float:
        return math.nan if found is None else float(found[evidence.base.scored[: len(found)]].mean(dtype=np.float64))

    return {"next_entropy": mean(evidence.entropies), "effective_models": math.exp(mean(evidence.divergence))}


def _judged(evidence: ProfileEvidence) -> dict[str, float]:
    """Return how the judge finds the sample: rows beyond its bounds for human text, and KL(model || judge).

    Counts without smoothing give some human rows no probability: then there are no bounds.
    """
    sample, test = evidence.lengths(evidence.sample_rows), evidence.lengths(evidence.base.test)
    tokens = max(1, int(sample.sum()))
    numbers = {"writer_nll": float(evidence.writer_nats.sum() / tokens)}
    if evidence.judged is None:
        return numbers
    human = np.sort(evidence.judged.test[test > 0] / test[test > 0])
    rows = evidence.judged.sample[sample > 0] / sample[sample > 0]
    if np.isfinite(human).all():
        low, high = np.quantile(human, [TAIL, 1 - TAIL])
        numbers |= {"above_human": float((rows > high).mean()), "below_human": float((rows < low).mean())}
    numbers["judge_nll"] = float(evidence.judged.sample.sum() / tokens)
    return numbers | ({"kl_to_judge": numbers["judge_nll"] - numbers["writer_nll"]} if evidence.plain else {})


def _tails(
    evidence: ProfileEvidence, lexicon: AbstractSet[str]
) -> tuple[dict[str, float], list[Mapping[str, Any]], int]:
    """Return survival outside of copies and the share of unknown words; words by human count; how many are rare."""
    base = evidence.base
    if base.compared is None or base.compared_words is None:
        return {}, [], 0
    words, (text, _, fresh) = base.compared_words, base.compared
    kept = [
        _types(found, outside_copies(found, inside_copies(rows, base.human, VERBATIM, is_text(rows, base.end))))
        for found, rows in ((words[0], text), (words[2], fresh))
    ]
    counts = np.bincount(words[1].word, minlength=len(words[1].types))
    rare = set(compress(words[1].types, ((counts >= RARE.start) & (counts < RARE.stop)).tolist()))
    survival = [len(rare & types) / len(rare) if rare else math.nan for types in kept]
    unknown = np.array([word not in lexicon for word in words[0].types], np.bool_)
    share = float(unknown[words[0].word].mean()) if len(words[0].word) else math.nan
    numbers = {"new_survival": survival[0], "new_survival_human": survival[1], "unknown_words": share}
    return numbers, _written(words[0], words[2], base.training_counts), len(rare)


def _types(words: Words, chosen: NDArray[np.bool_]) -> set[str]:
    return {words.types[index] for index in np.unique(words.word[chosen]).tolist()}


def _written(sample: Words, resample: Words, training: Mapping[str, int]) -> list[Mapping[str, Any]]:
    shares = []
    for words in (sample, resample):
        counts = np.fromiter((training.get(word, 0) for word in words.types), np.int64, len(words.types))
        found = np.bincount(frequency_bins(counts)[words.word])
        shares.append(found / max(1, found.sum()))
    size = max(map(len, shares))
    padded = [np.pad(share, (0, size - len(share))).tolist() for share in shares]
    return [{"bin": bin_label(b), "sample": padded[0][b], "human": padded[1][b]} for b in range(size)]


def _modes(evidence: ProfileEvidence) -> tuple[dict[str, float], list[Mapping[str, Any]]]:
    """Return the entanglement of modes, and loss and rows of each group of each column of labels.

    Canaries belong to no group and to no mode.
    """
    groups: list[Mapping[str, Any]] = []
    kept = slice(None) if evidence.canary is None else ~evidence.canary
    human_rows = evidence.base.human[kept]
    given = {name: np.array(values, object)[kept].tolist() for name, values in evidence.human_groups.items()}
    columns = {name: values for name, values in given.items() if len(set(values)) > 1}
    numbers: dict[str, float] = {}
    if "domain" not in columns:
        columns[CLUSTER] = _clusters(evidence, human_rows)
    for column, labels in columns.items():
        names = sorted(set(labels))
        mode = indices(labels, names)
        fitted = NaiveBayes.fit(human_rows, mode, len(names), evidence.base.vocab_size, evidence.base.eos)
        scores = fitted.scores(evidence.sample_rows)
        rows = np.bincount(scores.argmax(axis=1), minlength=len(names))
        if column in ("domain", CLUSTER):
            numbers["mode_entropy"] = entanglement(scores, _temperature(evidence, fitted, names, column))
            numbers |= _concentrated(rows)
        human = np.bincount(mode, minlength=len(names))
        groups += _listed(evidence, column, names, rows, human)
    return numbers, groups


def _concentrated(rows: NDArray[np.integer[Any]]) -> dict[str, float]:
    """Return the share of the largest mode, and how many equal modes would be as diverse."""
    return {"largest_mode": float(rows.max() / rows.sum()), "effective_modes": effective_number(rows)}


def _clusters(evidence: ProfileEvidence, rows: Tokens) -> list[str]:
    """Return the cluster of each human training row.  Clusters are found in held-out rows, which all seeds share."""
    base = evidence.base
    rng = generator(derive_seed(0, 0, "clusters of held-out rows"))
    mode = cluster(base.test, base.vocab_size, base.eos, rng=rng)
    fitted = NaiveBayes.fit(base.test, mode, int(mode.max()) + 1, base.vocab_size, base.eos)
    return [f"cluster {m + 1}" for m in fitted.classify(rows)]


def _temperature(evidence: ProfileEvidence, fitted: NaiveBayes, names: Sequence[str], column: str) -> float:
    """Fit the temperature on held-out rows with their labels; on clusters, whose rows have none, take the likeliest."""
    scores = fitted.scores(evidence.base.test)
    mode = indices(_test_labels(evidence, column), names) if column != CLUSTER else scores.argmax(axis=1)
    known = mode >= 0
    return fit_temperature(scores[known], mode[known]) if known.any() else 1.0


def _test_labels(evidence: ProfileEvidence, column: str) -> list[str]:
    """Return the label of each held-out row: that of the document of its first token."""
    assert evidence.test_document is not None
    return [evidence.test_groups[column][document] for document in evidence.test_document[:, 0]]


def _listed(
    evidence: ProfileEvidence,
    column: str,
    names: Sequence[str],
    rows: NDArray[np.integer[Any]],
    human: NDArray[np.integer[Any]],
) -> list[Mapping[str, Any]]:
    tokens: NDArray[Any] = np.zeros(len(names))
    nats: NDArray[Any] = np.zeros(len(names))
    of_document = np.empty(0, np.int64)
    if column != CLUSTER and evidence.test_document is not None:
        labelled, owner = indices(evidence.test_groups[column], names), evidence.test_document[evidence.base.scored]
        of_document, group = labelled[np.unique(owner)], labelled[owner]  # in the order of _documents
        tokens = np.bincount(group[group >= 0], minlength=len(names))
        nats = np.bincount(group[group >= 0], weights=evidence.base.scored_nats[group >= 0], minlength=len(names))
    return [
        {
            "column": column,
            "group": names[m],
            "test_tokens": int(tokens[m]),
            "nll": float(nats[m] / tokens[m]) if tokens[m] else None,
            "documents": np.flatnonzero(of_document == m).tolist(),
            "human_rows": int(human[m]),
            "rows": int(rows[m]),
        }
        for m in range(len(names))
    ]


def _overlap(evidence: ProfileEvidence) -> dict[str, float]:
    """Return the overlap of the sample with human training text, above that of held-out human text."""
    base = evidence.base
    counted = {
        "sample": is_text(evidence.sample_rows, base.end) if base.end is not None else None,
        "test": base.scored if base.end is not None else None,
    }
    return {
        f"overlap_{n}": overlap(evidence.sample_rows, base.human, n, counted["sample"])
        - overlap(base.test, base.human, n, counted["test"])
        for n in (VERBATIM, LONG)
    }


def _documents(evidence: ProfileEvidence) -> NDArray[np.float64]:
    base = evidence.base
    rows = np.broadcast_to(np.arange(len(base.test))[:, None], base.test.shape)
    owner = (rows if evidence.test_document is None else evidence.test_document)[base.scored]
    found = np.unique(owner, return_inverse=True)[1]
    return np.stack([np.bincount(found, weights=base.scored_nats), np.bincount(found)], axis=1).astype(np.float64)
