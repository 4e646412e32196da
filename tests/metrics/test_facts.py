"""Facts of the planted world: what notes say, on notes whose answers are known."""

import dataclasses
import math
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from lab.lookup import users_code
from lab.metrics.evidence import Evidence, Training
from lab.metrics.extra import facts
from lab.seeds import generator
from lab.steps.kind import ROOT
from lab.steps.record import RECORD
from lab.text.case_notes import case_notes

WORLD = facts.world()
NAMES = list(WORLD.signs)
HUMAN = [row["text"] for row in case_notes(1_000, rng=generator(1))]


def note(diagnosis: str, *, signs_of: str = "", age: int = 43) -> str:
    first, second = WORLD.signs[signs_of or diagnosis]
    return f"Woman, {age}: {first} and {second} for 12 days. {diagnosis}."


def evidence_of(human: list[str], sample: list[str]) -> Evidence:
    """Evidence of notes, a row each: token 0 is EOS, and token i + 1 is byte i."""
    size = max(map(len, [*human, *sample])) + 1
    human_rows, rows = (
        np.array([[*(byte + 1 for byte in text.encode()), *[0] * (size - len(text))] for text in texts])
        for texts in (human, sample)
    )
    return Evidence(
        test=human_rows,
        member_nats=[np.zeros(human_rows.shape)],
        human=human_rows,
        sample=rows,
        resample=human_rows,
        budget=0,
        prompt=0,
        layout="documents",
        vocab_size=257,
        bos=0,
        eos=0,
        trainings=[Training({"-1": 1}, 1, 1)],
        token_bytes=[b"", *(bytes([byte]) for byte in range(256))],
    )


def numbers(evidence: Evidence) -> dict[str, float]:
    found: dict[str, float] = {}
    for metric in (facts.recall, facts.lost, facts.contradictions, facts.malformed):
        found |= metric(evidence)
    return found


def test_the_world() -> None:
    """128 diagnoses with signs of their own, and the law of Zipf: rank 1 is twice as frequent as rank 2."""
    assert len(NAMES) == len({frozenset(signs) for signs in WORLD.signs.values()}) == facts.DIAGNOSES == 128
    assert all(len(set(signs)) == 2 for signs in WORLD.signs.values())
    law = list(WORLD.law.values())
    assert list(WORLD.law) == NAMES and math.isclose(sum(law), 1)
    assert math.isclose(law[0], 2 * law[1]) and math.isclose(law[0], 128 * law[127])


def test_human_text_against_itself_is_whole() -> None:
    """Recall 1 in every band, no contradiction, nothing lost, nothing malformed."""
    found = numbers(evidence_of(HUMAN, HUMAN))
    assert found.pop("recall_1_3") == found.pop("recall_4_15") == found.pop("recall_16_63") == 1
    assert found.pop("recall_64_up") == 1
    assert len(found) == 4 and set(found.values()) == {0}


def test_two_diagnoses_removed_are_the_loss() -> None:
    """One of the frequent diagnoses and one of the rare ones: each is missing from its own band alone."""
    counts = facts.read_notes(HUMAN).right
    rare = next(name for name in NAMES if 1 <= counts[name] <= 3)
    gone = {NAMES[0], rare}
    kept = [text for text in HUMAN if not gone & set(re.findall(r"\w+", text))]
    assert len(kept) == len(HUMAN) - counts[NAMES[0]] - counts[rare]
    found = numbers(evidence_of(HUMAN, kept))
    few, many = (sum(low <= count <= high for count in counts.values()) for low, high in ((1, 3), (64, 1_000)))
    assert found["lost_diagnoses"] == 2 and found["lost_diagnoses_share"] == 2 / len(counts)
    assert found["recall_1_3"] == pytest.approx(1 - 1 / few) and found["recall_64_up"] == pytest.approx(1 - 1 / many)
    assert found["recall_4_15"] == found["recall_16_63"] == 1 and found["contradictions"] == 0


def test_swapped_diagnoses_are_contradictions() -> None:
    """Two diagnoses have exchanged their names in all notes: their notes are well-formed, wrong, and make neither."""
    counts, a, b = facts.read_notes(HUMAN).right, NAMES[0], NAMES[1]
    swapped = [re.sub(f"{a}|{b}", lambda found: b if found[0] == a else a, text) for text in HUMAN]
    found = numbers(evidence_of(HUMAN, swapped))
    assert found["contradictions"] == pytest.approx((counts[a] + counts[b]) / len(HUMAN))
    assert found["malformed_notes"] == 0 and found["lost_diagnoses"] == 2


def test_by_hand() -> None:
    """Human notes: A 4 times, B once, C once.  Of 6 generated notes 2 are right (A), 1 is wrong, 3 are malformed."""
    a, b, c = NAMES[:3]
    human = [*(note(a, age=age) for age in (20, 30, 40, 50)), note(b), note(c)]
    sample = [note(a), note(a), note(b, signs_of=c), note(b)[:-1], note(b).replace(b, "Nonsensitis"), ""]
    found = numbers(evidence_of(human, sample))
    assert math.isnan(found.pop("recall_16_63")) and math.isnan(found.pop("recall_64_up"))
    assert found == {
        "recall_1_3": 0,
        "recall_4_15": 1,
        "lost_diagnoses": 2,
        "lost_diagnoses_share": 2 / 3,
        "contradictions": pytest.approx(1 / 3),
        "malformed_notes": 0.5,
    }


def test_signs_have_no_order_and_a_wrong_pair_is_wrong() -> None:
    first, second = WORLD.signs[NAMES[0]]
    texts = [f"Man, 10: {one} and {two} for 2 days. {NAMES[0]}." for one, two in ((second, first), (first, first))]
    assert facts.read_notes(texts) == facts.Notes(2, Counter({NAMES[0]: 1}), 1)
    assert facts.read_notes(["Man, 10: fever and gout for 2 days. " + NAMES[0] + "."]).well_formed == 0


def test_a_note_without_its_end_is_malformed() -> None:
    """A row that is full of text has no EOS: what it holds may go on."""
    whole = evidence_of([note(NAMES[0])], [note(NAMES[0])])
    cut = dataclasses.replace(whole, sample=whole.sample[:, :-1])
    assert facts.malformed(whole) == {"malformed_notes": 0} and facts.malformed(cut) == {"malformed_notes": 1}


def test_recall_by_chance_is_that_of_fresh_notes() -> None:
    """1 - (1 - p)^n, averaged over a band: 40 fresh texts of 1,000 notes make as many diagnoses within 4 errors."""
    expected = facts.recall_by_chance(evidence_of(HUMAN, HUMAN))["recall_1_3_by_chance"]
    counts = facts.read_notes(HUMAN).right
    rare = [name for name in NAMES if 1 <= counts[name] <= 3]
    rng, law = generator(2), [WORLD.law[name] for name in NAMES]
    fresh = [(rng.multinomial(1_000, law)[[NAMES.index(name) for name in rare]] > 0).mean() for _ in range(40)]
    assert abs(np.mean(fresh) - expected) < 4 * np.std(fresh) / math.sqrt(40)


def test_blocks_and_known_sources_are_refused() -> None:
    whole = evidence_of([note(NAMES[0])], [note(NAMES[0])])
    for changes in ({"layout": "blocks"}, {"token_bytes": ()}):
        with pytest.raises(ValueError, match=r"set corpus\.layout to documents"):
            facts.lost(dataclasses.replace(whole, **changes))


def test_the_key_of_a_metric_hears_its_file_and_that_of_a_record_does_not() -> None:
    """A study names a module of the lab as it names one of the user's; a new file here repeats no other study."""
    file = Path(facts.__file__)
    assert users_code("lab.metrics.extra.facts") == {"lab.metrics.extra.facts": file.read_text()}
    assert file not in {heard for pattern in RECORD.modules for heard in ROOT.glob(pattern)}
