"""What a profile says of its judge."""

from typing import Any

import pytest
from support.tiny import tiny_config

from lab.report.profile import judge_note

BASE = {"train__start": "base", "train__base": {"tokens": 512, "epochs": 1}}


@pytest.mark.parametrize(
    ("changes", "profile", "said"),
    [({}, {}, False), (BASE, {}, True), (BASE, {"judge": False}, False), ({"train__start": "continue"}, {}, False)],
    ids=["scratch", "base", "no judge", "own weights"],
)
def test_a_judge_that_shares_the_base_of_the_generations_is_said(
    changes: dict[str, Any], profile: dict[str, Any], said: bool
) -> None:
    note = judge_note(tiny_config("corpus.jsonl", **changes, profile=profile))
    assert ("starts from a base model, as the generations do" in note) == said and bool(note) == said
