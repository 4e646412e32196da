"""The power of watermark detection: the share of marked rows found, by bias, length of the row and edits.

    python scripts/checks/watermark_power.py                                          # the table, as Markdown
    python scripts/checks/watermark_power.py --json data/results/watermark-power.json

A trigram model of half of the shipped documents writes rows of 256 tokens with each mark.  The threshold of a mark and
a length is the z above which 1 % of human rows lie, rows of the other half.  Edits replace a share of all tokens by
uniform ones.  How much of a mark a row carries depends on how free the next token is: other models have other numbers.

It takes less than a minute of one core.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from lab.config.watermark import WatermarkConfig
from lab.curators.watermark import edited, power
from lab.models.counted import Counted
from lab.models.marked import Marked
from lab.models.ngram import Ngram
from lab.models.sampling.decoding import Decoding
from lab.models.sampling.sample import sample
from lab.seeds import generator
from lab.text.tokenizer import train_tokenizer

ROOT = Path(__file__).resolve().parents[2]
CORPUS = ROOT / "data" / "human-small.parquet"
VOCABULARY, POSITIONS, BOS, FPR = 1024, 256, 0, 0.01
LENGTHS, EDITS = (32, 64, 128, 256), (0.0, 0.1, 0.25, 0.5)
MARKS = [WatermarkConfig(scheme="kgw", bias=bias) for bias in (0.5, 1, 2)] + [WatermarkConfig(scheme="synthid")]


def human_rows() -> tuple[np.ndarray, np.ndarray]:
    """Return rows of every second document, and rows of the others."""
    texts = pq.read_table(CORPUS, columns=["text"])["text"].to_pylist()
    tokenizer = train_tokenizer(texts, VOCABULARY)
    halves = []
    for half in (texts[::2], texts[1::2]):
        tokens = np.concatenate([np.array(each.ids) for each in tokenizer.encode_batch(half)])
        rows = len(tokens) // POSITIONS
        halves.append(tokens[: rows * POSITIONS].reshape(rows, POSITIONS))
    return halves[0], halves[1]


def measured(fitted: np.ndarray, human: np.ndarray, rows: int, seed: int) -> Iterator[dict[str, Any]]:
    """Yield the power for each mark, share of edits and length, from so many marked rows."""
    model = Counted(Ngram.fit(fitted, order=3, vocab_size=VOCABULARY, bos=BOS, smoothed=True))
    for mark in MARKS:
        writer = Marked(model, Decoding(), mark.settings)
        text, _ = sample(writer, rows=rows, positions=POSITIONS, bos=BOS, seed=seed, progress=lambda tokens: None)
        for share in EDITS:
            changed = edited(text, share, VOCABULARY, generator(seed))
            for found in power(human, changed, LENGTHS, FPR, settings=mark.settings, vocabulary=VOCABULARY):
                yield {"mark": mark.title.removeprefix("marked by "), "edits": share, **found}


def main() -> None:
    """Print or write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=400, help="marked rows of each mark")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the numbers here")
    options = parser.parse_args()
    fitted, human = human_rows()
    human = human[generator(options.seed).permutation(len(human))[:2000]]
    found = list(measured(fitted, human, options.rows, options.seed))
    if options.json:
        facts = {"rows": options.rows, "human_rows": len(human), "fpr": FPR, "seed": options.seed, "power": found}
        options.json.write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    for each in found:
        print(
            "  ".join(f"{name} {value:.3g}" if isinstance(value, float) else str(value) for name, value in each.items())
        )


if __name__ == "__main__":
    main()
