"""One generation's numbers, from the evidence that its steps left.  No model, no GPU: seconds."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from lab.metrics.diversity import distinct_n
from lab.metrics.risk import bits_per_byte, mean_nats, perplexity
from lab.metrics.tails import loss_by_token_bin, loss_by_word_bin, rare_losses, rare_survival
from lab.metrics.words import find_words, word_counts
from lab.tokenizer import load_tokenizer, token_bytes
from lab.types import HUMAN, Recipe

COLUMNS = (
    "train_tokens",
    "unique_tokens",
    "human_share",
    "nll",
    "perplexity",
    "bits_per_byte",
    "nll_rare",
    "nll_common",
    "nll_unseen",
    "distinct_1",
    "distinct_2",
    "distinct_3",
    "rare_survival",
    "rare_survival_human",
    "validation_nll",
)
"""The measured columns of the results table, in order."""


def measure(inputs: Mapping[str, Path], *, budget: int) -> dict[str, Any]:
    """{"columns": one number for each of COLUMNS, "bins": losses by training frequency, at token and word level}.

    `inputs` are the folders of a record step; `budget` the tokens at which texts are compared (metrics.tokens).
    """
    tokenizer, special = load_tokenizer(inputs["tokenizer"])
    spelled, eos = token_bytes(tokenizer), special["eos"]
    test = np.load(inputs["test"] / "tokens.npy")
    nats = np.load(inputs["heldout"] / "nats.npy")
    human = np.load(inputs["human"] / "tokens.npy")
    sample = np.load(inputs["synthetic"] / "tokens.npy")
    resample = np.load(inputs["resample"] / "tokens.npy")
    rows = budget // test.shape[1]

    train_counts = word_counts(find_words(human, spelled, eos))
    test_words = find_words(test, spelled, eos)
    mark, written, again = (find_words(text[:rows], spelled, eos) for text in (human, sample, resample))
    measured = {
        **_feeding(inputs, test.shape[1]),
        "nll": mean_nats(nats),
        "perplexity": perplexity(nats),
        "bits_per_byte": bits_per_byte(test, nats, spelled),
        **rare_losses(test_words, nats, train_counts),
        **{f"distinct_{n}": distinct_n(sample, n=n, eos=eos, tokens=budget) for n in (1, 2, 3)},
        "rare_survival": rare_survival(mark, written),
        "rare_survival_human": rare_survival(mark, again),
    }
    return {
        "columns": {name: None if math.isnan(measured[name]) else measured[name] for name in COLUMNS},
        "bins": {
            "token": [asdict(bin) for bin in loss_by_token_bin(test, nats, human, special["vocab_size"])],
            "word": [asdict(bin) for bin in loss_by_word_bin(test_words, nats, train_counts)],
        },
    }


def _feeding(inputs: Mapping[str, Path], positions: int) -> dict[str, float]:
    """What the model was fed: tokens seen, tokens in the recipe, and the share of human rows in the batches."""
    training = json.loads((inputs["model"] / "training.json").read_text())
    recipe = Recipe.from_json(json.loads((inputs["pool"] / "recipe.json").read_text()))
    fed = training["fed_rows"]
    total = sum(fed.values())
    return {
        "train_tokens": total * positions,
        "unique_tokens": recipe.unique_rows * positions,
        "human_share": fed.get(str(HUMAN), 0) / total,
        "validation_nll": training["curve"][-1]["validation"] if training["curve"] else math.nan,
    }
