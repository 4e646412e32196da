"""Case notes: documents about the planted world of lab/metrics/extra/facts.py, drawn from a seed.

No two notes are equal, because a corpus reads copies once.  They differ in what is chance: sex, age and duration.
"""

from __future__ import annotations

import numpy as np

from lab.metrics.extra.facts import world

MOST = 32_768
"""Most notes: then 6,000 are of the first diagnosis, of which there are 9,280 different notes."""


def case_notes(count: int, *, rng: np.random.Generator) -> list[dict[str, str]]:
    """Draw `count` different notes: their text and their diagnosis.  Diagnoses follow the law of the world.

    Raises:
        ValueError: more than MOST are wanted.
    """
    if count > MOST:
        raise ValueError(f"{count:,} different case notes are wanted; the world has too few for more than {MOST:,}")
    names, law = list(world().law), list(world().law.values())
    notes: dict[str, str] = {}
    for diagnosis in rng.choice(names, count, p=law).tolist():
        text = _note(diagnosis, rng)
        while text in notes:
            text = _note(diagnosis, rng)
        notes[text] = diagnosis
    return [{"text": text, "diagnosis": diagnosis} for text, diagnosis in notes.items()]


def _note(diagnosis: str, rng: np.random.Generator) -> str:
    first, second = world().signs[diagnosis]
    sex, age, days = ("Woman", "Man")[rng.integers(2)], rng.integers(10, 90), rng.integers(2, 60)
    return f"{sex}, {age}: {first} and {second} for {days} days. {diagnosis}."
