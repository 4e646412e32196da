"""Evaluation speed: held-out scoring, the metrics at 10 million tokens, and the `record` step at the sizes of `quick`.

    python scripts/bench/bench_evaluate.py                  # two sizes of model, 10 million tokens
    python scripts/bench/bench_evaluate.py --fast           # about a minute
    python scripts/bench/bench_evaluate.py --threads 1 --json evaluate.json
    python scripts/bench/bench_evaluate.py --device cuda    # scoring alone: metrics and records are a CPU's work

Scoring: the lab's pass beside transformers' own forward and cross_entropy on the same GPT-2 and tokens, in several
batch sizes, and beside the loop of public repositories: model(ids, labels=ids).loss, a batch of texts at a time (it
gives one mean a batch and scores no first token; it is timed on the same tokens).  All in float32, on the same rows.

The roofline of a token: operations / the matrix peak, with
    operations = 2 x (12 layers x width^2 + width x vocabulary) + 2 x layers x width x positions
(causal attention needs half of the full square: scores and mixing, 2 x width x positions / 2 each).

Metrics: tokens are Zipf-distributed over the vocabulary, in rows of 128; a vocabulary entry is a random piece of a
word, with or without a space before it, so distinct words are many more than in real text.  Plain Python (dictionaries
and loops, the usual way) is timed on a slice and scaled linearly, which favours it: its tables outgrow the caches.
self-BLEU is compared on the same 200 rows with sacrebleu, where that is installed.
"""

from __future__ import annotations

import logging
import math
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import bench_common as bench
import numpy as np
import torch
import torch.nn.functional as F

from lab.config.model import ModelConfig
from lab.metrics.diversity import compression_ratio, distinct_n, self_bleu
from lab.metrics.tails import loss_by_token_bin, loss_by_word_bin, rare_survival
from lab.metrics.variety import token_entropy, zipf_exponent
from lab.metrics.words import Words, find_words, word_counts
from lab.models.initial_weights import random_gpt2
from lab.run.worker import set_arithmetic

SIZES = {"2 x 128": (2, 128, 2, 2_048, 128), "4 x 256": (4, 256, 4, 8_192, 256)}
"""Layers, width, heads, vocabulary, positions."""
SCORED = 65_536
ROW = 128
SLICE = 200_000
"""Tokens on which plain Python is timed."""


# --- held-out scoring ------------------------------------------------------------------------------------------------


@torch.inference_mode()
def forward(model: Any, read: torch.Tensor, rows: torch.Tensor, batch: int) -> torch.Tensor:
    """Return the loss of each token by transformers' forward on rows after BOS."""
    losses = []
    for start in range(0, len(rows), batch):
        logits = model(read[start : start + batch], use_cache=False).logits
        losses.append(F.cross_entropy(logits.transpose(1, 2), rows[start : start + batch], reduction="none"))
    return torch.cat(losses)


@torch.inference_mode()
def labels(model: Any, rows: torch.Tensor, batch: int) -> float:
    """Score rows in the usual loop: one mean loss per batch."""
    parts = [rows[start : start + batch] for start in range(0, len(rows), batch)]
    return float(np.mean([model(part, labels=part).loss.item() for part in parts]))


def scoring(name: str, arguments: Any, peaks: bench.Peaks) -> Iterator[bench.Record]:
    layers, width, heads, vocabulary, positions = SIZES[name]
    shape = ModelConfig(n_layer=layers, n_embd=width, n_head=heads, n_positions=positions, initializer_range=0.04)
    tokens = SCORED // 4 if arguments.device == "cpu" and (arguments.fast or layers > 2) else SCORED
    rows = np.random.default_rng(0).integers(0, vocabulary, (tokens // positions, positions)).astype(np.uint16)
    device = arguments.device
    ids = torch.from_numpy(rows.astype(np.int64))
    read = F.pad(ids[:, :-1], (1, 0), value=0)

    def ours() -> Callable[[], Any]:
        set_arithmetic({"threads": torch.get_num_threads(), "device": device}, strict=False)  # as a worker does
        model = random_gpt2(shape, vocab_size=vocabulary, bos=0, seed=0, device=device)
        want = forward(model.module, read.to(device), ids.to(device), 8).cpu().numpy()
        assert np.allclose(want, model.nats(rows), rtol=1e-5)
        return partial(model.nats, rows)

    def theirs(kind: str, work: Callable[..., Any], *inputs: Any) -> Callable[[], Any]:
        model = random_gpt2(shape, vocab_size=vocabulary, bos=0, seed=0, device=device).module
        model.set_attn_implementation(kind)
        return partial(work, model, *(part.to(device) if isinstance(part, torch.Tensor) else part for part in inputs))

    contestants: dict[str, bench.Setup] = {"ours": ours}
    for kind in ("sdpa", "eager"):
        for batch in (8, 32) if arguments.fast else (1, 8, 32, 128):
            contestants[f"HF forward, {kind}, batch {batch}"] = partial(theirs, kind, forward, read, ids, batch)
        for batch in (16,) if arguments.fast else (1, 4, 16):
            contestants[f"loop over model(labels=...), {kind}, batch {batch}"] = partial(
                theirs, kind, labels, ids, batch
            )
    taken = bench.alternate(contestants, arguments.repetitions, arguments.threads, device)
    peaks = peaks.raised(bench.peaks(device, arguments.threads))
    best = min((sum(spent), peer) for peer, spent in taken.items() if peer != "ours")[1]
    operations = 2 * (12 * layers * width**2 + width * vocabulary) + 2 * layers * width * positions
    fast = bench.speeds(rows.size, taken.pop("ours"))
    for peer, spent in taken.items():
        slow = bench.speeds(rows.size, spent)
        yield bench.Record(
            name=f"score held-out text, {name}, vocabulary {vocabulary:,}, rows of {positions}",
            peer=peer,
            unit="tokens/s",
            **bench.spreads(fast, slow),
            roofline=bench.median(fast) * operations / peaks.float32,
            best=peer == best,
            machine=bench.describe(device, arguments.threads),
        )


# --- metrics ---------------------------------------------------------------------------------------------------------


class Texts:
    """Two texts of Zipf-distributed tokens, losses for the first, and the spelling of the vocabulary."""

    def __init__(self, vocabulary: int, tokens: int) -> None:
        rng = np.random.default_rng(0)
        weights = 1 / np.arange(1, vocabulary + 1)
        chances = np.cumsum(weights / weights.sum())
        shape, dtype = (tokens // ROW, ROW), np.uint16 if vocabulary <= 2**16 else np.uint32
        drawn = [np.searchsorted(chances, rng.random(shape)).clip(0, vocabulary - 1) for _ in range(2)]
        self.vocabulary, (self.rows, self.human) = vocabulary, [rows.astype(dtype) for rows in drawn]
        self.nats = rng.random(shape, dtype=np.float32)
        pieces = [bytes([byte]) for byte in range(256)]
        while len(pieces) < vocabulary - 1:
            letters = rng.integers(97, 123, rng.integers(1, 7)).astype(np.uint8).tobytes()
            pieces.append(b" " * int(rng.random() < 0.6) + letters)
        self.spelled = [b"", *(pieces[place] for place in rng.permutation(vocabulary - 1))]
        self.words: dict[str, Words] = {}

    def cut(self, tokens: int) -> Texts:
        found = object.__new__(Texts)
        found.__dict__ |= self.__dict__
        found.rows, found.human, found.nats = (array[: tokens // ROW] for array in (self.rows, self.human, self.nats))
        return found

    def plain(self, rows: np.ndarray) -> list[str]:
        """Return the words of rows by a regular expression, including those at the edges of rows."""
        texts = (b"".join(self.spelled[token] for token in row).decode(errors="replace") for row in rows)
        return [word.lower() for text in texts for word in re.findall(r"[^\W\d_]+(?:'[^\W\d_]+)*", text)]


def plain_distinct(texts: Texts) -> float:
    grams = Counter[tuple[int, ...]]()
    for row in texts.rows.tolist():
        grams.update(zip(row, row[1:], row[2:], strict=False))
    return len(grams) / grams.total()


def plain_survival(texts: Texts) -> float:
    human, written = Counter(texts.plain(texts.human)), set(texts.plain(texts.rows))
    rare = {word for word, count in human.items() if count <= 3}
    return len(rare & written) / len(rare)


def plain_bins(texts: Texts) -> dict[int, float]:
    seen = Counter(token for row in texts.human.tolist() for token in row)
    total, count = Counter[int](), Counter[int]()
    for row, losses in zip(texts.rows.tolist(), texts.nats.tolist(), strict=True):
        for token, loss in zip(row, losses, strict=True):
            total[seen[token].bit_length()] += loss
            count[seen[token].bit_length()] += 1
    return {index: total[index] / count[index] for index in count}


def plain_entropy(texts: Texts) -> float:
    counts = Counter(token for row in texts.rows.tolist() for token in row)
    total = counts.total()
    return -sum(count / total * math.log(count / total) for count in counts.values())


def bins(texts: Texts) -> None:
    loss_by_token_bin(texts.rows, texts.nats, texts.human, texts.vocabulary)


def word_bins(texts: Texts) -> None:
    words = find_words(texts.rows, texts.spelled, 0)
    loss_by_word_bin(words, texts.nats, word_counts(find_words(texts.human, texts.spelled, 0)))


def survival(texts: Texts) -> float:
    return rare_survival(*(find_words(rows, texts.spelled, 0) for rows in (texts.human, texts.rows)))


def distinct(texts: Texts) -> float:
    return distinct_n(texts.rows, n=3, eos=0, tokens=texts.rows.size)


def issue(texts: Texts) -> None:
    """Measure what must take less than 10 seconds: distinct-3, rare-word survival, loss by bins of tokens and words."""
    distinct(texts)
    bins(texts)
    human, words = (find_words(rows, texts.spelled, 0) for rows in (texts.human, texts.rows))
    rare_survival(human, words)
    loss_by_word_bin(words, texts.nats, word_counts(human))


METRICS: dict[str, tuple[Callable[[Texts], Any], Callable[[Texts], Any] | None]] = {
    "distinct-3": (distinct, plain_distinct),
    "survival of rare words": (survival, plain_survival),
    "loss by token bin": (bins, plain_bins),
    "loss by word bin": (word_bins, None),
    "distinct-3, survival and bins together": (issue, None),
    "entropy": (lambda texts: token_entropy(texts.rows, eos=0, tokens=texts.rows.size), plain_entropy),
    "Zipf exponent of the words": (
        lambda texts: zipf_exponent(list(word_counts(find_words(texts.rows, texts.spelled, 0)).values())),
        None,
    ),
    "compression (zlib, level 9)": (
        lambda texts: compression_ratio(b"".join(map(texts.spelled.__getitem__, texts.rows.ravel().tolist()))),
        None,
    ),
}


def metrics(vocabulary: int, arguments: Any) -> Iterator[bench.Record]:
    texts = Texts(vocabulary, 1_000_000 if arguments.fast else 10_000_000)
    small = texts.cut(SLICE)
    for name, (ours, plain) in METRICS.items():
        contestants: dict[str, bench.Setup] = {"ours": lambda ours=ours: partial(ours, texts)}
        if plain is not None:
            contestants["plain"] = lambda plain=plain: partial(plain, small)
        taken = bench.alternate(contestants, 1 if arguments.fast else 2, arguments.threads)
        fast = bench.speeds(texts.rows.size, taken["ours"])
        slow = bench.speeds(small.rows.size, taken.get("plain", taken["ours"]))
        yield bench.Record(
            name=f"{name}, {texts.rows.size:,} tokens, vocabulary {vocabulary:,}: {bench.median(taken['ours']):.2f} s",
            peer="none" if plain is None else f"plain Python on {small.rows.size:,} tokens, scaled",
            unit="tokens/s",
            ours=bench.Spread.of(fast),
            theirs=bench.Spread.of(slow) if plain else None,
            ratio=bench.ratio(fast, slow) if plain else None,
            machine=bench.describe("cpu", arguments.threads),
        )
    yield from bleu(texts, arguments)


def bleu(texts: Texts, arguments: Any) -> Iterator[bench.Record]:
    """Our numbers are sacrebleu's own (tests/promises/test_references.py)."""
    try:
        from sacrebleu import BLEU
    except ImportError:
        print("sacrebleu is not installed (pip install sacrebleu): left out")
        return
    logging.getLogger("sacrebleu").setLevel(logging.ERROR)
    count = 50 if arguments.fast else 200
    lines = [" ".join(map(str, row)) for row in texts.rows[:count].tolist()]

    def theirs() -> float:
        score = BLEU(tokenize="none", effective_order=False)
        found = [
            score.sentence_score(line, lines[:place] + lines[place + 1 :]).score for place, line in enumerate(lines)
        ]
        return float(np.mean(found)) / 100

    def ours() -> float:
        return self_bleu(texts.rows, texts=count, eos=None)

    assert abs(ours() - theirs()) < 1e-9
    contestants: dict[str, bench.Setup] = {"ours": lambda: ours, "sacrebleu": lambda: theirs}
    taken = bench.alternate(contestants, 1 if arguments.fast else 3, arguments.threads)
    fast, slow = (bench.speeds(count, spent) for spent in taken.values())
    yield bench.Record(
        name=f"self-BLEU of {count} rows of {ROW}, vocabulary {texts.vocabulary:,}",
        peer="sacrebleu, row by row",
        unit="rows/s",
        **bench.spreads(fast, slow),
        machine=bench.describe("cpu", arguments.threads),
    )


# --- the record step -------------------------------------------------------------------------------------------------


def record_step(arguments: Any) -> Iterator[bench.Record]:
    """Measure the whole step at the shapes of `quick`, from artifacts of generation 0, and its scoring alone."""
    from lab.config.files import load_study
    from lab.loop import build
    from lab.run.worker import UNATTENDED, run_job
    from lab.steps import STEPS, job_of
    from lab.store.step import Attempt
    from lab.store.store import Store

    changes = ["seeds=[0]", "generations=1", "regimes=[human]", "train.tokens=16384"]
    study = build(load_study("quick", [*changes, "compute.dtype=float32"]))
    with tempfile.TemporaryDirectory(prefix="lab-evaluate-") as folder:
        store = Store(Path(folder))

        def make() -> None:
            for step in study.steps:
                run_job(store, job_of(step), lambda _: None, UNATTENDED, fresh=False)

        bench.apart(make)
        attempt = Attempt(lambda _: None, lambda: False, Path(folder), 1e9, print)
        works: dict[str, bench.Setup] = {}
        for step in study.steps:
            if step.name in ("record", "heldout", "synthetic", "pool", "human"):
                job = job_of(step)
                out = Path(tempfile.mkdtemp(dir=folder))
                kind = STEPS[job.name]
                work = partial(kind.run, kind.params(**job.params), store.paths(job), out, attempt)
                works[step.name] = lambda work=work: work
        taken = bench.alternate(works, arguments.repetitions, arguments.threads)
    for name in ("record", "synthetic", "pool", "human"):
        ours, theirs = (bench.speeds(1, taken[step]) for step in (name, "heldout"))
        yield bench.Record(
            name=f"step {name} at the sizes of `quick`",
            peer="the step heldout: 131,072 tokens scored",
            unit="steps/s",
            **bench.spreads(ours, theirs),
            machine=bench.describe("cpu", arguments.threads),
        )


def main() -> None:
    arguments = bench.parser(__doc__).parse_args()
    if arguments.fast:
        arguments.repetitions = min(arguments.repetitions, 2)
    peaks = bench.peaks(arguments.device, arguments.threads)
    bench.pin(1)  # here; a contestant that is forked from a process with more threads waits for them for ever
    print(peaks.text())
    on_cpu = arguments.device == "cpu"
    records = list(record_step(arguments)) if on_cpu else []
    for name in list(SIZES)[: 1 if arguments.fast else None]:
        records += scoring(name, arguments, peaks)
    for vocabulary in () if not on_cpu else (2_048,) if arguments.fast else (2_048, 50_257):
        records += metrics(vocabulary, arguments)
    bench.print_table(records)
    bench.write_json(arguments.json, records, peaks)


if __name__ == "__main__":
    main()
