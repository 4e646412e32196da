"""What `lab corpus` says: words with their marks, scripts without spaces, and the overlap of both."""

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from lab.config.files import parse_corpus
from lab.report.corpus import OVERLAP_N, describe


def described(folder: Path, texts: list[str]) -> tuple[dict[str, Any], str]:
    """Return the row of each fold, over all domains, and the summary."""
    path = folder / "corpus.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    found = describe(parse_corpus({"path": str(path), "tokens": 1}))
    return {row["fold"]: row for row in found["domains"] if row["domain"] == "all"}, found["summary"]


@pytest.mark.parametrize(
    ("text", "words"), [("हिन्दी भाषा", 2), ("cafe\u0301 don't 4", 3), ("日本語 test", 4), ("ภาษา", 4)]
)
def test_words_are_counted_by_script(text: str, words: int, tmp_path: Path) -> None:
    """An apostrophe cuts a word here, as in other checks of contamination."""
    folds, summary = described(tmp_path, [f"{text} {number}" for number in range(40)])
    assert sum(row["words"] for row in folds.values()) == 40 * words
    assert ("single letters of scripts without spaces" in summary) == (words == 4)


@pytest.mark.parametrize("text", ["日本語" * 9, "कि " * 20, "e\u0301t "])
def test_overlap_is_seen_in_every_script(text: str, tmp_path: Path) -> None:
    """All documents have one text, typed in either form, so that the test fold repeats the train fold."""
    forms = [text * OVERLAP_N, unicodedata.normalize("NFC", text) * OVERLAP_N]
    folds, _ = described(tmp_path, [f"{n}. {forms[n % 2]}" for n in range(60)])
    assert folds["test"]["words"] > OVERLAP_N and folds["test"]["overlap"] == 1
