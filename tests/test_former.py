"""Names of modules of before the rooms: each former module gives a name that it had."""

import importlib

import pytest


@pytest.mark.fast
@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("causal", "Causal"),
        ("causal", "read"),
        ("corpus", "check_tokens"),
        ("decoding", "weights"),
        ("sample", "sample"),
        ("stats", "paired_interval"),
        ("tokenizer", "token_bytes"),
        ("types", "InputError"),
        ("types", "Part"),
        ("types", "Step"),
    ],
)
def test_a_former_module_gives_its_names(module: str, name: str) -> None:
    assert getattr(importlib.import_module(f"lab.{module}"), name)
    with pytest.raises(AttributeError, match="has no nothing"):
        _ = importlib.import_module(f"lab.{module}").nothing
