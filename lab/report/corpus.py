"""What a corpus holds, and how it would be divided into folds, for `lab corpus`."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from lab.config.text import CorpusConfig
from lab.errors import plural, printable
from lab.metrics.contamination import OVERLAP_N, grams, shared, shared_line
from lab.metrics.letters import UNSPACED_NOTE, UNSPACED_SHARE, unspaced_share, words_of
from lab.text.corpus import SHARES, Counts, read_counted
from lab.text.files import find_files
from lab.text.formats.marks import marks_line

OWN_SPLITS = "the folds are the corpus's own; the reference fold is taken from its train split, 20 parts of 85 of it"
UNEVEN = 0.5
"""Part of its share below which a fold is spoken of."""


def describe(config: CorpusConfig) -> dict[str, Any]:
    """Describe a corpus: which files are read, which rows are left out, and what lies in each domain and fold.

    For each domain and fold there are documents, groups, words, bytes, and the 13-gram overlap with the train fold.
    """
    table, counts = read_counted(config)
    documents, found = table.to_pylist(), find_files(config)
    for document in documents:
        document["words"] = words_of(document["text"])
    trained = _grams([document for document in documents if document["fold"] == "train"])
    rows = []
    names = sorted({document["domain"] for document in documents})
    for domain in (*(names if len(names) > 1 else ()), None):
        for fold in SHARES:
            part = [d for d in documents if d["fold"] == fold and domain in (None, d["domain"])]
            rows.append({"domain": domain or "all", "fold": fold, **_sizes(part, trained)})
    folds_of_group = defaultdict(set)
    for document in documents:
        folds_of_group[document["group"]].add(document["fold"])
    split = sum(len(folds) > 1 for folds in folds_of_group.values())
    summary = (
        f"{printable(config.path)}: {plural(len(documents), 'document')} in "
        f"{plural(len(folds_of_group), 'group')}, {split} of them on two sides; overlap = share of a "
        f"fold's {OVERLAP_N}-word sequences that the train fold holds too"
    )
    alone = unspaced_share(word for document in documents for word in document["words"])
    if alone > UNSPACED_SHARE:
        summary += f"; {alone:.0%} of the words are {UNSPACED_NOTE}"
    groups = {"groups": len(folds_of_group), "groups_on_two_sides": split}
    read = {"files": found.to_json(), "rows": counts.to_json()} if found.files else {"rows": counts.to_json()}
    lines = [*([found.line()] if found.files else []), _rows_line(counts)]
    lines += [marks_line(counts.marks)] if counts.marks else []
    if config.splits is None:
        return {
            "domains": rows,
            "summary": summary,
            **groups,
            **read,
            "lines": lines + _uneven(rows[-len(SHARES) :], config),
        }
    common = shared(lambda fold: (document["text"] for document in documents if document["fold"] == fold))
    lines += [shared_line(common), OWN_SPLITS]
    return {"domains": rows, "summary": summary, **groups, **read, "shared": common, "lines": lines}


def _rows_line(counts: Counts) -> str:
    """Return how many rows are left out, on one line."""
    kept = counts.rows - counts.without_text - counts.copies
    return (
        f"kept {kept:,} of {counts.rows:,} rows; left out: {counts.without_text:,} without text, {counts.copies:,} "
        "copies of an earlier row"
    )


def _uneven(rows: list[dict[str, Any]], config: CorpusConfig) -> list[str]:
    """Return a line for each fold that holds far less than its share, given the rows of all domains together."""
    total = sum(row["bytes"] for row in rows)
    why = "each domain is divided by itself, and some are too small" if config.domain else "there are too few groups"
    shares = [(row["fold"], row["bytes"] / total, SHARES[row["fold"]]) for row in rows]
    return [
        f"the {fold} fold holds {share:.1%} of the text instead of {wanted:.0%}: {why}"
        for fold, share, wanted in shares
        if share < UNEVEN * wanted
    ]


def _grams(documents: list[dict[str, Any]]) -> set[int]:
    return {gram for document in documents for gram in grams(document["words"])}


def _sizes(documents: list[dict[str, Any]], trained: set[int]) -> dict[str, Any]:
    grams = _grams(documents)
    return {
        "documents": len(documents),
        "groups": len({document["group"] for document in documents}),
        "words": sum(len(document["words"]) for document in documents),
        "bytes": sum(len(document["text"].encode()) for document in documents),
        "overlap": len(grams & trained) / len(grams) if grams else 0.0,
    }
