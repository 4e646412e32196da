"""`lab corpus`: what a corpus holds and how it would be divided."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

from lab.config.text import CorpusConfig
from lab.errors import printable
from lab.text.corpus import SHARES, read_documents

WORD = re.compile(r"[^\W\d_]+")
OVERLAP_N = 13
"""Words of an n-gram that counts as overlap, as is usual in contamination checks (Brown et al. 2020)."""


def describe(config: CorpusConfig) -> dict[str, Any]:
    """Documents, groups, words and bytes by domain and fold, and the 13-gram overlap of test text with train text."""
    documents = read_documents(config).to_pylist()
    words = {id(document): WORD.findall(document["text"].lower()) for document in documents}
    seen = {gram for d in documents if d["fold"] == "train" for gram in grams(words[id(d)], OVERLAP_N)}
    rows = []
    for domain in sorted({document["domain"] for document in documents}):
        for fold in SHARES:
            mine = [d for d in documents if d["domain"] == domain and d["fold"] == fold]
            rows.append({"domain": domain, "fold": fold, **_sizes(mine, words, seen)})
    for fold in SHARES:
        mine = [d for d in documents if d["fold"] == fold]
        rows.append({"domain": "all", "fold": fold, **_sizes(mine, words, seen)})
    folds = defaultdict(set)
    for document in documents:
        folds[document["group"]].add(document["fold"])
    split = sum(len(found) > 1 for found in folds.values())
    summary = (
        f"{printable(config.path)}: {len(documents):,} documents in {len(folds):,} groups, "
        f"{split} of them on two sides; overlap = share of a fold's {OVERLAP_N}-word sequences that the train fold "
        "holds too"
    )
    return {"domains": rows, "summary": summary, "groups": len(folds), "groups_on_two_sides": split}


def grams(words: list[str], n: int) -> set[int]:
    """Hashes of the n-word sequences.  In one process, so Python's own hash will do."""
    return {hash(tuple(words[i : i + n])) for i in range(len(words) - n + 1)}


def _sizes(documents: list[dict[str, Any]], words: dict[int, list[str]], seen: set[int]) -> dict[str, Any]:
    found = set().union(*(grams(words[id(document)], OVERLAP_N) for document in documents)) if documents else set()
    return {
        "documents": len(documents),
        "groups": len({document["group"] for document in documents}),
        "words": sum(len(words[id(document)]) for document in documents),
        "bytes": sum(len(document["text"].encode()) for document in documents),
        "overlap": len(found & seen) / len(found) if found else 0.0,
    }
