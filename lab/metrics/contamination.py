"""Text that the held-out folds of a corpus share with its train fold: whole documents and 13-word sequences."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from lab.metrics.letters import words_of

OVERLAP_N = 13
"""Words of an n-gram that counts as overlap, as is usual in contamination checks (Brown et al. 2020).

Words are those of lab/metrics/letters.py: with their marks, in NFC, and in scripts without spaces single letters.
"""
HELD_OUT = ("validation", "test")


def grams(words: Sequence[str]) -> set[int]:
    """Return hashes of the 13-word sequences. They stay in one process, so Python's own hash is enough."""
    return {hash(tuple(words[i : i + OVERLAP_N])) for i in range(len(words) - OVERLAP_N + 1)}


def shared(texts: Callable[[str], Iterable[str]]) -> dict[str, dict[str, float]]:
    """Return for each held-out fold its documents, how many the train fold holds too, and the share of its sequences.

    Args:
        texts: a function from a fold to its texts. Those of the train fold are not kept in memory.
    """
    documents = {fold: list(map(hash, texts(fold))) for fold in HELD_OUT}
    held = {fold: {gram for text in texts(fold) for gram in grams(words_of(text))} for fold in HELD_OUT}
    either, trained, seen = set().union(*held.values()), set[int](), set[int]()
    for text in texts("train"):
        trained.add(hash(text))
        seen |= either & grams(words_of(text))
    return {
        fold: {
            "documents": len(documents[fold]),
            "copies": sum(text in trained for text in documents[fold]),
            "overlap": len(held[fold] & seen) / max(1, len(held[fold])),
        }
        for fold in HELD_OUT
    }


def shared_line(found: Mapping[str, Mapping[str, float]]) -> str:
    """Return what `shared` found, on one line."""
    folds = (
        f"of the {fold} fold {found[fold]['copies']:,} of {found[fold]['documents']:,} documents and "
        f"{found[fold]['overlap']:.2%} of the {OVERLAP_N}-word sequences"
        for fold in HELD_OUT
    )
    return f"the train fold holds, {'; '.join(folds)}"
