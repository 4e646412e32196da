"""Measuring is a function of Evidence: made by hand, without a model, a store or a disk."""

import dataclasses
import math

import numpy as np
import pytest

from lab.metrics import columns
from lab.metrics.evidence import Evidence, Law, Training
from lab.metrics.groups import shares
from lab.metrics.measure import measure

BYTES = [b"", b" the", b" cat", b" dog", b" saw", b"."]
"""A vocabulary of six: EOS, four words and a full stop."""


def by_hand(**changes: object) -> Evidence:
    """Two rows of six tokens in each text.  The model gives each test token probability 1/2."""
    rows = np.array([[5, 1, 2, 4, 1, 5], [5, 3, 4, 1, 2, 5]])
    evidence = Evidence(
        test=rows,
        member_nats=[np.full(rows.shape, math.log(2))],
        human=rows,
        sample=np.array([[5, 1, 2, 1, 2, 5], [5, 1, 2, 1, 2, 5]]),
        resample=rows,
        budget=12,
        prompt=0,
        layout="blocks",
        vocab_size=6,
        bos=0,
        eos=0,
        trainings=[Training({"-1": 30}, 180, 60, 1.5), Training({"-1": 30, "-2": 20}, 300, 60, 2.5)],
        token_bytes=BYTES,
    )
    return dataclasses.replace(evidence, **changes)


def test_the_numbers_of_evidence_made_by_hand() -> None:
    found = measure(by_hand())
    assert found.columns["perplexity"] == pytest.approx(2)
    assert found.columns["bits_per_byte"] == pytest.approx(12 / sum(len(BYTES[i]) for i in by_hand().test.ravel()))
    assert found.columns["nll_rare"] == pytest.approx(math.log(2))
    assert found.columns["rare_survival"] == 2 / 4 and found.columns["rare_survival_human"] == 1
    assert found.columns["train_tokens"] == 480 and found.columns["human_share"] == 1
    assert found.columns["validation_nll"] == 2
    assert found.shares == {"-2": 0.25, "-1": 0.75}
    assert [each["label"] for each in found.bins["word"]] == ["1", "2-3"]


def test_loss_by_domain_of_evidence_made_by_hand() -> None:
    """The first row is of one domain and costs ln 2 a token, the second is of another and costs ln 4."""
    nats = np.array([[math.log(2)] * 6, [math.log(4)] * 6])
    of_rows = np.array([[0] * 6, [1] * 6])
    found = measure(by_hand(member_nats=[nats], domains=["sea", "land"], test_domain=of_rows)).bins["domain"]
    assert found == [
        {"label": "land", "tokens": 6, "nats_per_token": pytest.approx(math.log(4))},
        {"label": "sea", "tokens": 6, "nats_per_token": pytest.approx(math.log(2))},
    ]
    one = by_hand(domains=["all"], test_domain=np.zeros((2, 6), int))
    assert "domain" not in measure(one).bins and "domain" not in measure(by_hand()).bins


def test_every_column_is_computed_by_the_group_that_the_table_names() -> None:
    law = Law(np.full(6, 1 / 6), np.full((6, 6), 1 / 6), np.full((2, 6), math.log(6)))
    for evidence in (by_hand(), by_hand(law=law, token_bytes=())):
        assert tuple(measure(evidence).columns) == columns.names(evidence.kind)
        for column in columns.COLUMNS:
            if evidence.kind in column.kinds:
                assert column.group is not None and column.name in column.group(evidence)


def test_a_sample_that_is_too_short_loses_its_diversity_alone() -> None:
    eos = by_hand().sample.copy()
    eos[:, 2:] = 0
    found = measure(by_hand(sample=eos, layout="documents")).columns
    assert math.isnan(found["distinct_2"]) and math.isnan(found["rare_survival"]) and math.isnan(found["zipf"])
    assert found["perplexity"] == pytest.approx(2)


@pytest.mark.parametrize("prompt", [0, 1, 4])
@pytest.mark.parametrize("members", [1, 2])
def test_every_budget_of_blocks_has_every_text_column(prompt: int, members: int) -> None:
    """A resample has compared_rows rows; a budget that is no multiple of a row is rounded down to whole rows."""
    text = np.random.default_rng(0).integers(1, 61, (40, 8))
    words = [b"", *(f" w{chr(97 + i % 26)}{chr(97 + i // 26)}".encode() for i in range(60))]
    for budget in range(2 * (8 - prompt), 65):
        rows = budget // (8 - prompt)
        evidence = by_hand(human=text, sample=text[20:], resample=text[10 : 10 + rows], test=text[:2], prompt=prompt)
        changes = {"budget": budget, "member_nats": [np.ones((2, 8))] * members, "token_bytes": words, "vocab_size": 61}
        evidence = dataclasses.replace(evidence, **changes)
        assert evidence.compared is not None and {each.shape for each in evidence.compared} == {(rows, 8 - prompt)}
        missing = {name for name, value in measure(evidence).columns.items() if math.isnan(value)}
        assert not missing - {"nll_unseen"}, budget


def test_single_letters_are_a_level_of_the_bins() -> None:
    """Of the four inner words of a row two are Chinese letters: half of all held-out words."""
    spelled = [b"", " 海".encode(), b" cat", " 山".encode(), b" saw", b"."]
    bins = measure(by_hand(token_bytes=spelled)).bins
    assert sum(each["words"] for each in bins["letter"]) == 4 and sum(each["words"] for each in bins["word"]) == 8
    assert sum(each["types"] for each in bins["letter"]) == 2
    assert "letter" not in measure(by_hand()).bins


def test_evidence_is_not_copied() -> None:
    """A text of layout blocks that is compared is a view of the rows."""
    evidence = by_hand(budget=6)
    assert evidence.sample_text is not None and evidence.sample_text.base is evidence.sample
    assert evidence.sample_text.shape == (1, 6)


def test_shares_of_no_rows_are_none() -> None:
    assert shares(by_hand(trainings=[Training({}, 0, 0)])) == {}
