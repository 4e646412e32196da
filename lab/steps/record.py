"""One generation's numbers, from the evidence that its steps left.  No model, no GPU: seconds."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lab.metrics import drift as loci
from lab.metrics.diversity import compression_ratio, distinct_n, self_bleu
from lab.metrics.risk import bits_per_byte, mean_nats, perplexity
from lab.metrics.tails import loss_by_token_bin, loss_by_word_bin, rare_losses, rare_survival
from lab.metrics.texts import ROWS, before_end
from lab.metrics.variety import token_entropy, zipf_exponent
from lab.metrics.words import count_words, find_words, word_counts
from lab.recipe import ARCHIVE, HUMAN
from lab.steps.cost import FILES
from lab.steps.kind import Folders, Kind, make_step, write_json
from lab.steps.place import Place
from lab.store.step import Attempt, Step
from lab.text.known_source import KnownSource, is_known_source
from lab.text.tokenizer import load_special, load_tokenizer, token_bytes

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
    """{"columns": one number for each column, "shares": of the rows fed, by origin, "bins": losses by training
    frequency, at token and word level}.

    `inputs` are the folders of a record step; `budget` the tokens at which texts are compared (metrics.tokens); the
    first `prompt` tokens of every sampled row are human, and left out of all texts that are compared.  In the layout
    `documents` only text counts, nothing behind a document's end.
    A number that does not exist is null: the loss inside rare words where there are none, or the diversity of a sample
    whose documents have become so short that they hold fewer than `budget` tokens.
    """
    special = load_special(inputs["tokenizer"])
    eos = special["eos"] if layout == "documents" else None
    test, human, sample, resample = (
        np.load(inputs[name] / "tokens.npy", mmap_mode="r") for name in ("test", "human", "synthetic", "resample")
    )
    folders = [inputs[role] for role in sorted(inputs, key=_number) if role.startswith("heldout-")]
    members = [np.load(folder / "nats.npy") for folder in folders]
    nats = np.mean(members, axis=0) if len(members) > 1 else members[0]
    known, scored = is_known_source(inputs["tokenizer"]), _text(test, eos)
    measured = {
        **dict.fromkeys(COLUMNS["source" if known else "text"], math.nan),
        **_feeding(inputs),
        **{"nll": mean_nats(nats[scored]), "perplexity": perplexity(nats[scored])},
        **{"disagreement": _disagreement([nats[scored] for nats in members])},
    }
    by_token = loss_by_token_bin(test[scored], nats[scored], _texts(human, eos), special["vocab_size"])
    bins = {"token": [asdict(bin) for bin in by_token]}
    texts = [head(rows, prompt, budget, eos) for rows in (sample, human, resample)]
    if texts[0] is not None:
        measured |= _diversity(texts[0], special) | _within(sample, len(members), prompt, budget, special["eos"], eos)
    if known:
        measured |= _against_source(
            KnownSource.load(inputs["tokenizer"]), inputs["test"], np.stack(members), human, sample
        )
    else:
        of_words, bins["word"] = _words(inputs["tokenizer"], test, nats, scored, human, _level(texts, special["eos"]))
        measured |= of_words
    columns = {k: None if math.isnan(v) else v for k, v in measured.items()}
    return {"columns": columns, "shares": _shares(inputs), "bins": bins}


def _number(role: str) -> tuple[str, int]:
    name, _, number = role.rpartition("-")
    return name, int(number) if number.isdigit() else 0


def _text(rows: np.ndarray, eos: int | None) -> np.ndarray:
    """Which tokens of rows [N, T] are text: all, or in the layout `documents`, where `eos` is given, up to the end."""
    return np.ones(rows.shape, np.bool_) if eos is None else before_end(rows, eos)


def _texts(rows: np.ndarray, eos: int | None) -> Iterator[np.ndarray]:
    """The tokens of text in rows, a block of rows at a time."""
    for start in range(0, len(rows), ROWS):
        block = rows[start : start + ROWS]
        yield block[_text(block, eos)]


def head(rows: np.ndarray, prompt: int, budget: int, eos: int | None) -> np.ndarray | None:
    """The first `budget` tokens of text behind the prompts of rows [N, T]; None where there is less text.

    Blocks: whole rows, so up to a row less.  Documents, where `eos` is given: to the token; what is no text is EOS.
    head([[1, 2, 0, 0], [3, 0, 0, 0], [4, 5, 6, 0]], 0, 6, 0) -> [[1, 2, 0, 0], [3, 0, 0, 0], [4, 0, 0, 0]]
    """
    text = rows[:, prompt:]
    if eos is None:
        return text[: budget // text.shape[1]] if text.size >= budget else None
    parts, found = [], 0
    for start in range(0, len(text), ROWS):
        block = slice(start, start + ROWS)
        kept = before_end(rows[block], eos)[:, prompt:]
        upto = found + np.cumsum(kept).reshape(kept.shape)
        parts.append(np.where(kept & (upto <= budget), text[block], eos))
        found = int(upto[-1, -1]) if upto.size else 0
        if found >= budget and upto.size:
            parts[-1] = parts[-1][: int(np.searchsorted(upto[:, -1], budget)) + 1]
            return np.concatenate(parts)
    return None


def _level(texts: Sequence[np.ndarray | None], eos: int) -> list[np.ndarray] | None:
    """Texts of equal budget with equally many rows: those of documents are filled up with empty ones."""
    there = [text for text in texts if text is not None]
    if len(there) < len(texts):
        return None
    rows = max(map(len, there))
    return [np.pad(text, ((0, rows - len(text)), (0, 0)), constant_values=eos) for text in there]


def _within(
    sample: np.ndarray, count: int, prompt: int, budget: int, special_eos: int, eos: int | None
) -> dict[str, float]:
    """Diversity within and between the models of a generation, at equal tokens: an M-th of the budget.

    distinct_2_within: of one model's own text, the mean over models; distinct_2_between: of a text to which each model
    gives an equal part.  Row i is of model i modulo their number.  NaN where a model has written too little.
    """
    texts = [head(sample[m::count], prompt, budget // count, eos) for m in range(count)]
    together = head(sample, prompt, budget // count, eos)
    distinct = [
        math.nan if text is None else distinct_n(text, n=2, eos=special_eos, tokens=text.size)
        for text in (*texts, together)
    ]
    return {"distinct_2_within": float(np.mean(distinct[:-1])), "distinct_2_between": distinct[-1]}


def _disagreement(members: Sequence[np.ndarray]) -> float:
    """Mean loss of the models minus the loss of their average, over held-out tokens: 0 for one model or equal ones.

    Unit: nats per token.  Higher = the models differ more.  Source: Jensen's inequality, as in ensembles (Krogh &
    Vedelsby 1995).  NaN where no model gives a token any chance.
    """
    if len(members) == 1:
        return 0.0
    nats = np.stack(members).astype(np.float64)
    average = math.log(len(members)) - np.logaddexp.reduce(-nats, axis=0)
    with np.errstate(invalid="ignore"):
        return float((nats.mean(axis=0) - average).mean())


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
    scored: np.ndarray,
    human: np.ndarray,
    compared: Sequence[np.ndarray] | None,
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """What only text has: words and bytes.  `compared` are sample, human text and resample, equally long."""
    tokenizer, special = load_tokenizer(tokenizer_folder)
    spelled, eos = token_bytes(tokenizer), special["eos"]
    train_counts = count_words(human, spelled, eos)
    test_words = find_words(test, spelled, eos)
    measured = {
        "bits_per_byte": bits_per_byte(test[scored], nats[scored], spelled),
        **rare_losses(test_words, nats, train_counts),
    }
    if compared is not None:
        written, mark, again = (find_words(text, spelled, eos) for text in compared)
        measured |= {
            "zipf": zipf_exponent(list(word_counts(written).values())),
            "compression": compression_ratio(b"".join(map(spelled.__getitem__, compared[0].ravel().tolist()))),
            "rare_survival": rare_survival(mark, written),
            "rare_survival_human": rare_survival(mark, again),
        }
    return measured, [asdict(bin) for bin in loss_by_word_bin(test_words, nats, train_counts)]


def _against_source(
    source: KnownSource, test: Path, members: np.ndarray, human: np.ndarray, sample: np.ndarray
) -> dict[str, float]:
    """What only a known distribution has: its own loss, and drift at each position of a row."""
    law = np.append(source.first, 0.0)  # a model may write the token that begins rows; the source never does
    mine, written = (loci.locus_counts(rows, len(law)) for rows in (human, sample))
    source_nll = mean_nats(np.load(test / "nats.npy"))
    return {
        "source_nll": source_nll,
        "excess_nll": mean_nats(members.mean(axis=0)) - source_nll,
        "unseen": float(np.isinf(members).mean()),
        "zipf": zipf_exponent(written.sum(axis=0)),
        "heterozygosity": float(loci.heterozygosity(written).mean()),
        "distance": float(loci.squared_distance(written, law).mean()),
        "types": float(loci.types_seen(written).mean()),
        "share_first": float(written[:, 0].sum() / written.sum()),
        **{f"lost_{count}": loci.share_lost(mine, written, count) for count in (1, 2, 3)},
    }


def _trainings(inputs: Mapping[str, Path]) -> list[dict[str, Any]]:
    folders = [path for role, path in inputs.items() if role.startswith("model-")]
    return [json.loads((folder / "training.json").read_text()) for folder in folders]


def _shares(inputs: Mapping[str, Path]) -> dict[str, float]:
    """Share of each origin ("-1" is human, "-2" the archive, "3" generation 3's sample) in the rows of all batches."""
    fed = Counter[str]()
    for training in _trainings(inputs):
        fed.update(training["fed_rows"])
    return {origin: rows / fed.total() for origin, rows in sorted(fed.items(), key=lambda item: int(item[0]))}


def _feeding(inputs: Mapping[str, Path]) -> dict[str, float]:
    """What the models were fed: tokens of text seen, prompts included, tokens in the recipe, share of human rows."""
    trainings, shares = _trainings(inputs), _shares(inputs)
    ends = [training["curve"][-1]["validation"] for training in trainings if training["curve"]]
    return {
        "train_tokens": sum(training["fed_tokens"] for training in trainings),
        "unique_tokens": sum(training["unique_tokens"] for training in trainings),
        "human_share": sum(shares.get(str(origin), 0.0) for origin in (HUMAN, ARCHIVE)),
        "validation_nll": float(np.mean(ends)) if ends else math.nan,
    }


@dataclass(frozen=True)
class RecordParams:
    tokens: int
    """Tokens at which texts are compared."""
    prompt: int
    layout: str


def record(place: Place, models: Sequence[Step], sampled: Step, probed: Mapping[str, Sequence[Step]]) -> Step:
    """Declare the step that computes every number of one generation, from evidence alone."""
    study, human = place.study, place.human
    inputs = {
        "tokenizer": human.tokenizer,
        "test": human.test,
        "human": human.human,
        "resample": human.resample,
        "synthetic": sampled,
    }
    inputs |= {f"model-{m}": model for m, model in enumerate(models)}
    inputs |= {f"{name}-{m}": step for name, steps in probed.items() for m, step in enumerate(steps)}
    params = RecordParams(study.metrics.tokens, study.sample.prompt_tokens, study.corpus.layout)
    return make_step(RECORD, params, inputs, label=f"measure {sampled.chain}", disk=3 * FILES)


def _run_record(params: RecordParams, inputs: Folders, out: Path, attempt: Attempt) -> None:
    measured = measure(inputs, budget=params.tokens, prompt=params.prompt, layout=params.layout)
    write_json(out / "record.json", measured)


RECORD = Kind(
    "record",
    RecordParams,
    _run_record,
    ("steps/record.py", "metrics/*.py", "text/known_source.py", "text/tokenizer.py"),
    takes="evidence",
    libraries=frozenset({"tokenizers"}),
    reads_weights=False,
)
