"""One generation's numbers, from the evidence that its steps left.  No model, no GPU: seconds."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
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
from lab.rows import before_end
from lab.sources import Source, is_source
from lab.tokenizer import load_special, load_tokenizer, token_bytes
from lab.types import ARCHIVE, HUMAN, Recipe

FED = ("train_tokens", "unique_tokens", "human_share")
RISK = ("nll", "perplexity")
DISTINCT = ("distinct_1", "distinct_2", "distinct_3")
VARIETY = ("entropy", "zipf", "self_bleu")
POPULATION = ("distinct_2_within", "distinct_2_between", "disagreement")
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
        *POPULATION,
        "validation_nll",
    ),
    "source": (
        *FED,
        *RISK,
        "source_nll",
        "excess_nll",
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
        *POPULATION,
        "validation_nll",
    ),
}
"""The measured columns of the results table, in order, for each kind of corpus."""
SELF_BLEU_ROWS = 200
"""Rows of the sample that self-BLEU compares, or all within the budget where there are fewer."""


def measure(inputs: Mapping[str, Path], *, budget: int, prompt: int, layout: str) -> dict[str, Any]:
    """{"columns": one number for each column, "bins": losses by training frequency, at token and word level}.

    `inputs` are the folders of a record step; `budget` the tokens at which texts are compared (metrics.tokens); the
    first `prompt` tokens of every sampled row are human, and left out of all texts that are compared.
    A number that does not exist, such as the loss inside rare words where there are none, is null.
    """
    special = load_special(inputs["tokenizer"])
    test, human, sample, resample = (
        np.load(inputs[name] / "tokens.npy") for name in ("test", "human", "synthetic", "resample")
    )
    folders = [inputs[role] for role in sorted(inputs, key=_number) if role.startswith("heldout-")]
    members = [np.load(folder / "nats.npy") for folder in folders]
    nats = np.mean(members, axis=0) if len(members) > 1 else members[0]
    measured = {**_feeding(inputs, test.shape[1]), **_population(sample[:, prompt:], members, budget, special)}
    if layout == "documents":
        eos, kept = special["eos"], before_end(test, special["eos"])
        measured |= {"nll": mean_nats(nats[kept]), "perplexity": perplexity(nats[kept])}
        test, nats = _packed(test, kept), _packed(nats, kept)
        human, sample, resample = (_packed(rows, before_end(rows, eos)) for rows in (human, sample, resample))
    else:
        measured |= {"nll": mean_nats(nats), "perplexity": perplexity(nats)}
    texts = _compared(sample[:, prompt:], human[:, prompt:], resample[:, prompt:], budget)
    measured |= _diversity(texts[0], special)
    bins = {"token": [asdict(bin) for bin in loss_by_token_bin(test, nats, human, special["vocab_size"])]}
    if is_source(inputs["tokenizer"]):
        measured |= _against_source(Source.load(inputs["tokenizer"]), inputs["test"], nats, human, sample)
    else:
        of_words, bins["word"] = _words(inputs["tokenizer"], test, nats, human, *texts)
        measured |= of_words
    return {"columns": {k: None if math.isnan(v) else v for k, v in measured.items()}, "bins": bins}


def _number(role: str) -> tuple[str, int]:
    name, _, number = role.rpartition("-")
    return name, int(number) if number.isdigit() else 0


def _packed(rows: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """What is kept of rows [N, T], joined and cut into rows of T again; a last incomplete one is dropped."""
    positions = rows.shape[1]
    flat = rows[kept]
    return np.asarray(flat[: len(flat) // positions * positions].reshape(-1, positions))


def _compared(
    sample: np.ndarray, human: np.ndarray, resample: np.ndarray, budget: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same number of rows of each, within the budget.  ValueError where a text has not so many tokens."""
    rows = budget // sample.shape[1]
    for name, text in (("sample", sample), ("human text", human), ("human resample", resample)):
        if len(text) < min(rows, len(resample)):
            raise ValueError(
                f"the {name} has {text.size:,} tokens, fewer than metrics.tokens = {budget:,}: documents have become "
                "short; lower metrics.tokens or raise sample.rows"
            )
    rows = min(rows, len(resample))
    return sample[:rows], human[:rows], resample[:rows]


def _population(
    sample: np.ndarray, members: Sequence[np.ndarray], budget: int, special: Mapping[str, int]
) -> dict[str, float]:
    """Diversity within and between the models of a generation, at equal tokens: an M-th of the budget.

    distinct_2_within: of one model's own text, the mean over models; distinct_2_between: of a text to which each model
    gives an equal part.  disagreement: mean loss of the models minus the loss of their average, nats per held-out
    token; 0 for one model or equal ones.  Source of the last: Jensen's inequality, as in ensembles (Krogh & Vedelsby).
    """
    count = len(members)
    rows = budget // count // sample.shape[1]
    # Row i is of model i modulo their number.
    own = [
        distinct_n(sample[m::count][:rows], n=2, eos=special["eos"], tokens=rows * sample.shape[1])
        for m in range(count)
    ]
    together = distinct_n(sample[:rows], n=2, eos=special["eos"], tokens=rows * sample.shape[1])
    nats = np.stack(members).astype(np.float64)
    average = -np.logaddexp.reduce(-nats, axis=0) + math.log(count)
    return {
        "distinct_2_within": float(np.mean(own)),
        "distinct_2_between": together,
        "disagreement": float((nats.mean(axis=0) - average).mean()) if count > 1 else 0.0,
    }


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
    human_beside: np.ndarray,
    resample: np.ndarray,
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """What only text has: words and bytes.  The last three are compared, and hold equally many rows."""
    tokenizer, special = load_tokenizer(tokenizer_folder)
    spelled, eos = token_bytes(tokenizer), special["eos"]
    train_counts = word_counts(find_words(human, spelled, eos))
    test_words = find_words(test, spelled, eos)
    mark, written, again = (find_words(text, spelled, eos) for text in (human_beside, sample, resample))
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
    source_nll = mean_nats(np.load(test / "nats.npy"))
    return {
        "source_nll": source_nll,
        "excess_nll": mean_nats(nats) - source_nll,
        "unseen": float(np.isinf(nats).mean()),
        "zipf": zipf_exponent(written.sum(axis=0)),
        "heterozygosity": float(loci.heterozygosity(written).mean()),
        "distance": float(loci.squared_distance(written, law).mean()),
        "types": float(loci.types_seen(written).mean()),
        "share_first": float(written[:, 0].sum() / written.sum()),
        **{f"lost_{count}": loci.share_lost(mine, written, count) for count in (1, 2, 3)},
    }


def _feeding(inputs: Mapping[str, Path], positions: int) -> dict[str, float]:
    """What the models were fed: tokens seen, tokens in the recipe, and the share of human rows in the batches."""
    folders = [path for role, path in inputs.items() if role.startswith("model-")]
    trainings = [json.loads((folder / "training.json").read_text()) for folder in folders]
    recipe = Recipe.from_json(json.loads((inputs["pool"] / "recipe.json").read_text()))
    fed = Counter[str]()
    for training in trainings:
        fed.update(training["fed_rows"])
    ends = [training["curve"][-1]["validation"] for training in trainings if training["curve"]]
    return {
        "train_tokens": fed.total() * positions,
        "unique_tokens": recipe.unique_rows * positions,
        "human_share": sum(fed[str(origin)] for origin in (HUMAN, ARCHIVE)) / fed.total(),
        "validation_nll": float(np.mean(ends)) if ends else math.nan,
    }
