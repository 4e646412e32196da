"""Editors by hand: what ToEdit leaves, how often it changes a token, and what it is refused for."""

from typing import Any

import numpy as np
import pytest

from lab.curators import check_curator, check_order, stage_of
from lab.curators.edits import Row, toedit
from lab.errors import InputError
from lab.seeds import generator


def row(top: float, tokens: int, candidates: int = 8) -> Row:
    """Return a row of the likeliest token, 0, of probability `top`; seven others share what is left equally."""
    law = np.array([top, *[(1 - top) / (candidates - 1)] * (candidates - 1)])
    ids, logs = np.tile(np.arange(candidates), (tokens, 1)), np.tile(np.log(law), (tokens, 1))
    return Row(ids[:, 0], -logs[:, 0], ids, logs)


@pytest.mark.parametrize(("beta", "changed"), [(1.5, 0.0821), (1.0, 0.01)])
def test_the_share_that_changes_is_the_published_forms(beta: float, changed: float) -> None:
    """P = .99 and seven equal others: .0821 of the tokens change at beta 1.5, .01 at 1 (science notes, by hand)."""
    tokens = 400_000
    edited = toedit(row(0.99, tokens), rng=generator(0), above=0.98, beta=beta)
    deviation = (changed * (1 - changed) / tokens) ** 0.5
    assert abs((edited != 0).mean() - changed) < 4 * deviation
    others = np.bincount(edited, minlength=8)[1:] / tokens
    assert np.abs(others - changed / 7).max() < 4 * deviation


def test_tokens_at_or_under_the_threshold_stay() -> None:
    """A threshold of .5: P = .5 stays, and so does a token that is unlikely itself beside a likely candidate."""
    half, sure, unlikely = row(0.5, 1000), row(0.9, 1000), row(0.9, 1000)
    unlikely = Row(unlikely.candidates[:, 7], -unlikely.logs[:, 7], unlikely.candidates, unlikely.logs)
    parts = (half, sure, unlikely)
    joined = Row(*(np.concatenate([getattr(part, name) for part in parts]) for name in vars(half)))
    edited = toedit(joined, rng=generator(1), above=0.5)
    changed = edited != joined.tokens
    assert not changed[:1000].any() and changed[1000:2000].any() and not changed[2000:].any()
    assert np.array_equal(toedit(joined, rng=generator(1), above=0.95), joined.tokens)


def test_a_candidate_of_probability_0_is_never_drawn() -> None:
    law = np.array([0.99, 0.01, 0.0])
    with np.errstate(divide="ignore"):
        logs = np.tile(np.log(law), (10_000, 1))
    ids = np.tile(np.array([4, 2, 9]), (10_000, 1))
    drawn = toedit(Row(ids[:, 0], -logs[:, 0], ids, logs), rng=generator(2), above=0.5, beta=50)
    assert set(drawn.tolist()) == {4, 2}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"above": 1}, "above is 1 and beta 1.5; 0 <= above < 1"),
        ({"beta": 0}, "above is 0.99 and beta 0; 0 <= above < 1, and beta is above 0"),
        ({"beta": True}, "toedit: beta is True; it is a number"),
        ({"candidates": 1}, "candidates is 1; it is a whole number from 2 to 1,024"),
        ({"candidate": 9}, 'curator toedit has no option "candidate" - did you mean "candidates"'),
    ],
)
def test_bad_options_are_refused_before_anything_runs(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        check_curator("toedit", options)


def test_stages_come_in_order() -> None:
    assert [stage_of(name) for name in ("archive", "toedit", "random")] == ["archive", "editor", "rule or resampler"]
    check_order(["archive", "toedit", "toedit", "duplicates", "oracle"])
    with pytest.raises(InputError, match='"toedit" stands after "random"; the order is the archive, then every editor'):
        check_order(["random", "toedit"])
    with pytest.raises(InputError, match='"archive" is named 2 times; name it once'):
        check_order(["archive", "archive"])
