"""What a run found in its text, which captions state: words that are letters, byte order marks, small vocabularies."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np

from lab.config.sweep import NAME
from lab.loop import Study
from lab.metrics.letters import UNSPACED_NOTE, UNSPACED_SHARE
from lab.run.folder import RunFolder, read_csv
from lab.steps import job_of
from lab.steps.text import CORPUS, MARKS, ROWS, TOKENIZER_KIND
from lab.store.store import Store
from lab.text.corpus import SHARES, fold_texts
from lab.text.files import local
from lab.text.formats.marks import MARK, marks_line
from lab.text.tokenizer import load_special

VOCABULARY = "vocabulary"
"""Entry of env.json: what `unfilled` and `text_facts` said when the run began."""


def text_notes(folder: RunFolder) -> list[str]:
    """Return what a caption states of the text of a run, in words."""
    share = unspaced_share(folder)
    notes = [f"{share:.0%} of the held-out words are {UNSPACED_NOTE}"] if share > UNSPACED_SHARE else []
    return notes + list(map(str, folder.recorded(VOCABULARY) or []))


def unspaced_share(folder: RunFolder) -> float:
    """Return the share of held-out words that are single letters of scripts without spaces, from bins.csv."""
    counts = Counter[str]()
    if not (folder.path / "bins.csv").exists():
        return 0.0
    for row in read_csv(folder.path / "bins.csv", text={"regime", NAME, "level", "bin"}):
        counts[row["level"]] += row["words"] if row["level"] != "token" else 0
    return counts["letter"] / max(1, counts["word"])


def text_facts(study: Study, store: Store) -> list[str]:
    """Say what is known of a text beyond the vocabularies that it does not fill, as far as the store has it."""
    return marks_notes(study, store) + special_notes(study, store)


def marks_notes(study: Study, store: Store) -> list[str]:
    """Say how many byte order marks were dropped from the text, as far as the store has it.

    The text of a hub data set that an older lab read may still hold them: its key is the same.
    """
    lines = []
    for step in study.human:
        if step.name != CORPUS.name or not store.whole(job_of(step)):
            continue
        folder, path = store.folder(step.name, step.key), step.where["path"]
        if (folder / MARKS).exists():
            dropped = json.loads((folder / MARKS).read_text(encoding="utf-8"))["dropped"]
            lines.append(f"corpus {path}: {marks_line(dropped)}")
        elif local(path) is None and _holds_marks(folder):
            lines.append(
                f"corpus {path} was read by an older lab, with byte order marks (U+FEFF) in the text: run it with "
                "another --checkpoints to train without them"
            )
    return list(dict.fromkeys(lines))


def _holds_marks(folder: Path) -> bool:
    """Return whether a corpus artifact holds a byte order mark in its texts."""
    return any(MARK in text for fold in SHARES for texts in fold_texts(folder, fold) for text in texts)


def special_notes(study: Study, store: Store) -> list[str]:
    """Say which tokens without bytes the held-out text spells, such as <s>, as far as the store has it.

    Only EOS has no bytes today. A tokenizer that an older lab copied has others, under the same key.
    """
    lines = []
    for step in study.human:
        if step.name != ROWS.name or not store.whole(job_of(step)):
            continue
        tokenizer = step.inputs["tokenizer"]
        folder, rows = (store.folder(each.name, each.key) for each in (tokenizer, step))
        added = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["added_tokens"]
        others = [token["id"] for token in added if token["special"] and token["id"] != load_special(folder)["eos"]]
        found = int(np.isin(np.load(rows / "test.npy", mmap_mode="r"), others).sum()) if others else 0
        if found:
            lines.append(
                f"the held-out text spells special tokens {found:,} times, for which an older lab counted no bytes: "
                "bits per byte are too high; run it with another --checkpoints"
            )
    return list(dict.fromkeys(lines))


def unfilled(study: Study, store: Store) -> list[str]:
    """Say which vocabularies have fewer entries than a study asks for, as far as the store has them.

    A byte-level BPE ends where every word of the text is one token.
    """
    lines = []
    for step in study.human:
        asked = step.params.get("vocab_size") if step.name == TOKENIZER_KIND.name else None
        if asked is None or not store.whole(job_of(step)):
            continue
        made = load_special(store.folder(step.name, step.key))["vocab_size"]
        if made < asked:
            lines.append(
                f"the vocabulary has {made:,} entries: the text gives no more of tokenizer.vocab_size {asked:,}"
            )
    return list(dict.fromkeys(lines))
