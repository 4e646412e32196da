"""One generation's numbers, from the evidence that its steps left.  No model, no GPU: seconds."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from lab.metrics import loci
from lab.metrics.diversity import compression_ratio, distinct_n, self_bleu
from lab.metrics.risk import bits_per_byte, mean_nats, perplexity
from lab.metrics.tails import loss_by_token_bin, loss_by_word_bin, rare_losses, rare_survival
from lab.metrics.variety import token_entropy, zipf_exponent
from lab.metrics.words import find_words, word_counts
from lab.sources import Source, is_source
from lab.tokenizer import load_special, load_tokenizer, token_bytes
from lab.types import ARCHIVE, HUMAN, Recipe

FED = ("train_tokens", "unique_tokens", "human_share")
RISK = ("nll", "perplexity")
DISTINCT = ("distinct_1", "distinct_2", "distinct_3")
VARIETY = ("entropy", "zipf", "self_bleu")
COLUMNS = {
    "text": (
        *FED,
        *RISK,
        "bits_per_byte",
        "nll_rare",
        "nll_common",
        "nll_unseen",
        *DISTINCT,
        "rare_survival",
        "rare_survival_human",
        *VARIETY,
        "compression",
        "validation_nll",
    ),
    "source": (
        *FED,
        *RISK,
        "source_nll",
        "unseen",
        *DISTINCT,
        *VARIETY,
        "heterozygosity",
        "distance",
        "types",
        "share_first",
        "lost_1",
        "lost_2",
        "lost_3",
        "validation_nll",
    ),
}
"""The measured columns of the results table, in order, for each kind of corpus."""
SELF_BLEU_ROWS = 200
"""Rows of the sample that self-BLEU compares, or all within the budget where there are fewer."""


def measure(inputs: Mapping[str, Path], *, budget: int) -> dict[str, Any]:
    """{"columns": one number for each column, "bins": losses by training frequency, at token and word level}.

    `inputs` are the folders of a record step; `budget` the tokens at which texts are compared (metrics.tokens).
    A number that does not exist, such as the loss inside rare words where there are none, is null.
    """
    special = load_special(inputs["tokenizer"])
    test, human, sample, resample = (
        np.load(inputs[name] / "tokens.npy") for name in ("test", "human", "synthetic", "resample")
    )
    nats = np.load(inputs["heldout"] / "nats.npy")
    rows = budget // test.shape[1]
    measured = {
        **_feeding(inputs, test.shape[1]),
        "nll": mean_nats(nats),
        "perplexity": perplexity(nats),
        **_diversity(sample[:rows], special),
    }
    bins = {"token": [asdict(bin) for bin in loss_by_token_bin(test, nats, human, special["vocab_size"])]}
    if is_source(inputs["tokenizer"]):
        measured |= _against_source(Source.load(inputs["tokenizer"]), inputs["test"], nats, human, sample)
    else:
        of_words, bins["word"] = _words(inputs["tokenizer"], test, nats, human, *(x[:rows] for x in (sample, resample)))
        measured |= of_words
    return {"columns": {k: None if math.isnan(v) else v for k, v in measured.items()}, "bins": bins}


def _diversity(sample: np.ndarray, special: Mapping[str, int]) -> dict[str, float]:
    eos, tokens = special["eos"], sample.size
    return {
        **{f"distinct_{n}": distinct_n(sample, n=n, eos=eos, tokens=tokens) for n in (1, 2, 3)},
        "entropy": token_entropy(sample, eos=eos, tokens=tokens),
        "self_bleu": self_bleu(sample, texts=min(SELF_BLEU_ROWS, len(sample)), eos=eos),
    }


def _words(
    tokenizer_folder: Path,
    test: np.ndarray,
    nats: np.ndarray,
    human: np.ndarray,
    sample: np.ndarray,
    resample: np.ndarray,
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """What only text has: words and bytes.  `sample` and `resample` hold the budget, and human text is cut to it."""
    tokenizer, special = load_tokenizer(tokenizer_folder)
    spelled, eos = token_bytes(tokenizer), special["eos"]
    train_counts = word_counts(find_words(human, spelled, eos))
    test_words = find_words(test, spelled, eos)
    mark, written, again = (find_words(text, spelled, eos) for text in (human[: len(sample)], sample, resample))
    measured = {
        "bits_per_byte": bits_per_byte(test, nats, spelled),
        **rare_losses(test_words, nats, train_counts),
        "zipf": zipf_exponent(list(word_counts(written).values())),
        "compression": compression_ratio(b"".join(spelled[token] for token in sample.ravel())),
        "rare_survival": rare_survival(mark, written),
        "rare_survival_human": rare_survival(mark, again),
    }
    return measured, [asdict(bin) for bin in loss_by_word_bin(test_words, nats, train_counts)]


def _against_source(
    source: Source, test: Path, nats: np.ndarray, human: np.ndarray, sample: np.ndarray
) -> dict[str, float]:
    """What only a known distribution has: its own loss, and drift at each position of a row."""
    law = np.append(source.first, 0.0)  # a model may write the token that begins rows; the source never does
    mine, written = (loci.locus_counts(rows, len(law)) for rows in (human, sample))
    return {
        "source_nll": mean_nats(np.load(test / "nats.npy")),
        "unseen": float(np.isinf(nats).mean()),
        "zipf": zipf_exponent(written.sum(axis=0)),
        "heterozygosity": float(loci.heterozygosity(written).mean()),
        "distance": float(loci.squared_distance(written, law).mean()),
        "types": float(loci.types_seen(written).mean()),
        "share_first": float(written[:, 0].sum() / written.sum()),
        **{f"lost_{count}": loci.share_lost(mine, written, count) for count in (1, 2, 3)},
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
        "human_share": sum(fed.get(str(origin), 0) for origin in (HUMAN, ARCHIVE)) / total,
        "validation_nll": training["curve"][-1]["validation"] if training["curve"] else math.nan,
    }
