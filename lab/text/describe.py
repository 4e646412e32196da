"""What a corpus holds, and how it would be divided into folds, for `lab corpus`."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from lab.config.text import CorpusConfig
from lab.errors import printable
from lab.metrics.letters import UNSPACED_NOTE, UNSPACED_SHARE, unspaced_share, words_of
from lab.text.corpus import SHARES, read_documents

OVERLAP_N = 13
"""Words of an n-gram that counts as overlap, as is usual in contamination checks (Brown et al. 2020).

Words are those of lab/metrics/letters.py: with their marks, in NFC, and in scripts without spaces single letters.
"""


def describe(config: CorpusConfig) -> dict[str, Any]:
    """Return documents, groups, words and bytes by domain and fold, and the 13-gram overlap with the train fold."""
    documents = read_documents(config).to_pylist()
    for document in documents:
        document["words"] = words_of(document["text"])
    trained = _grams([document for document in documents if document["fold"] == "train"])
    rows = []
    for domain in (*sorted({document["domain"] for document in documents}), None):
        for fold in SHARES:
            part = [d for d in documents if d["fold"] == fold and domain in (None, d["domain"])]
            rows.append({"domain": domain or "all", "fold": fold, **_sizes(part, trained)})
    folds_of_group = defaultdict(set)
    for document in documents:
        folds_of_group[document["group"]].add(document["fold"])
    split = sum(len(folds) > 1 for folds in folds_of_group.values())
    summary = (
        f"{printable(config.path)}: {len(documents):,} documents in {len(folds_of_group):,} groups, "
        f"{split} of them on two sides; overlap = share of a fold's {OVERLAP_N}-word sequences that the train fold "
        "holds too"
    )
    alone = unspaced_share(word for document in documents for word in document["words"])
    if alone > UNSPACED_SHARE:
        summary += f"; {alone:.0%} of the words are {UNSPACED_NOTE}"
    return {"domains": rows, "summary": summary, "groups": len(folds_of_group), "groups_on_two_sides": split}


def _grams(documents: list[dict[str, Any]]) -> set[int]:
    """Return hashes of the 13-word sequences. They stay in one process, so Python's own hash is enough."""
    return {
        hash(tuple(words[i : i + OVERLAP_N]))
        for words in (document["words"] for document in documents)
        for i in range(len(words) - OVERLAP_N + 1)
    }


def _sizes(documents: list[dict[str, Any]], trained: set[int]) -> dict[str, Any]:
    grams = _grams(documents)
    return {
        "documents": len(documents),
        "groups": len({document["group"] for document in documents}),
        "words": sum(len(document["words"]) for document in documents),
        "bytes": sum(len(document["text"].encode()) for document in documents),
        "overlap": len(grams & trained) / len(grams) if grams else 0.0,
    }
