"""Facts: a small planted world of diagnoses, and what generated case notes still say of it.

The world has 128 diagnoses.  The diagnosis of rank r has a probability proportional to 1/r (Zipf's law), and two signs
that no other diagnosis has together.  A note is a document of one line:

    Woman, 43: fever and rash for 12 days. Varnelitis.

Sex, age and duration say nothing about the diagnosis.  A note is *well-formed* if it has this form, and its signs and
its diagnosis exist in the world; it is *right* if the diagnosis also belongs to the signs.  So no judge is needed.
lab/text/case_notes.py draws notes from the world, and scripts/studies/rare-facts.yaml is a study of them.  The world
stands here, because the key of a metric of a study hears the file of its function.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lab.metrics.evidence import Evidence, Tokens
from lab.metrics.texts import before_end
from lab.seeds import generator

SEED = 16
DIAGNOSES = 128
SIGNS: tuple[str, ...] = ("fever", "rash", "cough", "itch", "chills", "cramps", "nausea", "vertigo", "fatigue")
SIGNS += ("pallor", "tremor", "swelling", "numbness", "thirst", "hiccups", "insomnia", "jaundice", "headache")
"""They have 153 pairs, of which 128 belong to a diagnosis."""
SYLLABLES = ["".join(parts) for parts in itertools.product("bdgklmprtv", "aeou", "lnr")]
ENDINGS = ("itis", "osis", "emia", "oma")
BANDS = {"1_3": (1, 3), "4_15": (4, 15), "16_63": (16, 63), "64_up": (64, np.inf)}
"""Name of a band -> the least and the most human notes of a diagnosis in it."""
NOTE = re.compile(r"(?:Woman|Man), [1-9]\d: ([a-z]+) and ([a-z]+) for [1-9]\d? days\. ([A-Z][a-z]+)\.")


@dataclass(frozen=True)
class World:
    """Which signs a diagnosis has, and how frequent it is.  The most frequent diagnosis comes first."""

    signs: Mapping[str, tuple[str, str]]
    law: Mapping[str, float]


@functools.cache
def world() -> World:
    """Build the world from SEED."""
    rng = generator(SEED)
    pairs, names = list(itertools.combinations(SIGNS, 2)), list(itertools.product(SYLLABLES, SYLLABLES, ENDINGS))
    named = ["".join(names[i]).capitalize() for i in rng.choice(len(names), DIAGNOSES, replace=False)]
    signs = [pairs[i][:: rng.choice([-1, 1])] for i in rng.choice(len(pairs), DIAGNOSES, replace=False)]
    weights = 1 / np.arange(1, DIAGNOSES + 1)
    law = (weights / weights.sum()).tolist()
    return World(dict(zip(named, signs, strict=True)), dict(zip(named, law, strict=True)))


@dataclass(frozen=True)
class Notes:
    """What a number of notes say."""

    total: int
    right: Counter[str]
    """Right notes by diagnosis."""
    wrong: int
    """Well-formed notes whose diagnosis does not belong to their signs."""

    @property
    def well_formed(self) -> int:
        """Number of well-formed notes."""
        return self.right.total() + self.wrong


def read_notes(texts: Sequence[str]) -> Notes:
    """Read one note per text."""
    wrong, right = 0, Counter[str]()
    for text in texts:
        found = NOTE.fullmatch(text)
        if found is None or not {found[1], found[2]} <= set(SIGNS) or found[3] not in world().signs:
            continue
        if {found[1], found[2]} == set(world().signs[found[3]]):
            right[found[3]] += 1
        else:
            wrong += 1
    return Notes(len(texts), right, wrong)


def notes_of(rows: Tokens, evidence: Evidence) -> Notes:
    """Read one note per row [N, T], up to its EOS.  A row without EOS holds no whole note, so it is malformed.

    Raises:
        ValueError: the layout is blocks, in which rows cut notes, or the tokens are no text.
    """
    if evidence.end is None or not evidence.token_bytes:
        raise ValueError("it reads one note per row: give text, and set corpus.layout to documents")
    spelled = np.array([*evidence.token_bytes, b"(cut)"], dtype=object)
    ends = np.where((rows == evidence.eos).any(axis=1), evidence.eos, len(spelled) - 1)
    kept = before_end(rows, evidence.eos)
    texts = (b"".join([*spelled[row[keep]], spelled[end]]) for row, keep, end in zip(rows, kept, ends, strict=True))
    return read_notes([text.decode("utf-8", "replace") for text in texts])


def by_band(human: Counter[str], made: Mapping[str, float]) -> dict[str, float]:
    """Return the mean of `made` over the diagnoses of each band; NaN for a band without one."""
    bands = {}
    for band, (least, most) in BANDS.items():
        values = [made[name] for name, count in human.items() if least <= count <= most]
        bands[f"recall_{band}"] = float(np.mean(values)) if values else np.nan
    return bands


def recall(evidence: Evidence) -> dict[str, float]:
    """Share of the human notes' diagnoses that a right note still makes, by number of human notes."""
    human, sample = notes_of(evidence.human, evidence).right, notes_of(evidence.sample, evidence).right
    return by_band(human, {name: float(name in sample) for name in human})


def recall_by_chance(evidence: Evidence) -> dict[str, float]:
    """Share of these diagnoses that as many fresh human notes would make, by number of human notes.

    A diagnosis of probability p is made by n notes with probability 1 - (1 - p)^n.
    """
    made = {name: 1 - (1 - p) ** len(evidence.sample) for name, p in world().law.items()}
    human = notes_of(evidence.human, evidence).right
    return {f"{name}_by_chance": share for name, share in by_band(human, made).items()}


def lost(evidence: Evidence) -> dict[str, float]:
    """Diagnoses of the human notes that no right note makes any more."""
    human, sample = notes_of(evidence.human, evidence).right, notes_of(evidence.sample, evidence).right
    count = len(human.keys() - sample.keys())
    return {"lost_diagnoses": count, "lost_diagnoses_share": count / len(human) if human else np.nan}


def contradictions(evidence: Evidence) -> dict[str, float]:
    """Share of the well-formed notes whose diagnosis does not belong to their signs."""
    notes = notes_of(evidence.sample, evidence)
    return {"contradictions": notes.wrong / notes.well_formed if notes.well_formed else np.nan}


def malformed(evidence: Evidence) -> dict[str, float]:
    """Share of the notes that break the form, or name a sign or a diagnosis that does not exist."""
    notes = notes_of(evidence.sample, evidence)
    return {"malformed_notes": 1 - notes.well_formed / notes.total}
