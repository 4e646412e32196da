"""A whole study: the lab beside a plain script of HF Trainer, `generate` and a loop over the loss.

    python scripts/bench_study.py                     # `quick`, whole, as it is and at one epoch; some ten minutes
    python scripts/bench_study.py --fast              # one seed and two generations of it
    python scripts/bench_study.py --json study.json

The lab is timed as a whole process with an empty store: start-up, human text, tables and all.  The plain script does,
for every generation, what public collapse repositories do: a new GPT-2, HF Trainer, `generate` in batches, perplexity
of the test text, distinct-n and the loss of rare tokens in plain Python.  It does so for every regime, seed and
generation, as it shares nothing.  One of its generations is timed in each turn, and all are taken to last as long,
which is so by construction: each trains on, draws and scores the same number of tokens.  Its settings are the fastest
that bench_train.py and bench_sample.py found for these sizes: bfloat16 where the processor has it, generation in
batches of 256.  Not counted for it: reading text and training the tokenizer.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import bench_common as bench
import numpy as np
import torch
import transformers
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

from lab import machine
from lab.config import StudyConfig
from lab.studies import load_study

GOALS = {"as it is": 3.0, "at one epoch": 4.0}
DRAWN_AT_ONCE, SCORED_AT_ONCE = 256, 16
TIMED = 1
"""Generations of the plain script in a turn."""


class Rows(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    def __init__(self, tokens: torch.Tensor) -> None:
        self.tokens = tokens

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, place: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self.tokens[place], "labels": self.tokens[place]}


class Plain:
    """One generation of the plain script, part by part."""

    def __init__(self, study: StudyConfig, folder: Path) -> None:
        self.study, self.folder = study, folder
        transformers.utils.logging.set_verbosity_error()
        shape, vocabulary = study.model, study.words.vocab_size
        self.config = GPT2Config(
            vocab_size=vocabulary,
            n_positions=shape.n_positions,
            n_embd=shape.n_embd,
            n_layer=shape.n_layer,
            n_head=shape.n_head,
            bos_token_id=0,
            eos_token_id=0,
            initializer_range=shape.initializer_range,
            activation_function="gelu",  # as the lab's
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
        )
        # Zipf's law stands in for text: the time depends on the number of tokens, not on which they are.
        chances = 1 / np.arange(1, vocabulary + 1)
        drawn = np.random.default_rng(0).choice(
            vocabulary, (study.rows(study.corpus.tokens), shape.n_positions), p=chances / chances.sum()
        )
        self.human = torch.from_numpy(drawn.astype(np.int64))
        self.test = self.human[: study.rows(study.metrics.test_tokens)]

    def train(self, seed: int) -> GPT2LMHeadModel:
        config = self.study.train
        assert config is not None and config.tokens is not None
        steps = config.tokens // self.study.model.n_positions // config.batch_rows
        arguments = TrainingArguments(
            output_dir=str(self.folder),
            max_steps=steps,
            per_device_train_batch_size=config.batch_rows,
            learning_rate=config.lr,
            lr_scheduler_type="cosine",
            warmup_steps=round(config.warmup * steps),
            weight_decay=config.weight_decay,
            max_grad_norm=config.clip,
            optim="adamw_torch_fused",
            bf16=machine.resolve_dtype("auto", "cpu") == "bfloat16",
            use_cpu=True,
            seed=seed,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        torch.manual_seed(seed)
        model = GPT2LMHeadModel(self.config)
        Trainer(model=model, args=arguments, train_dataset=Rows(self.human)).train()
        return model.eval()

    def draw(self, model: GPT2LMHeadModel) -> torch.Tensor:
        rows, length = self.study.sample_rows, self.study.model.n_positions
        found = []
        for first in range(0, rows, DRAWN_AT_ONCE):
            start = torch.zeros(min(DRAWN_AT_ONCE, rows - first), 1, dtype=torch.int64)
            drawn = model.generate(
                start,
                attention_mask=torch.ones_like(start),
                do_sample=True,
                top_k=0,
                max_new_tokens=length - 1,
                eos_token_id=None,
                pad_token_id=0,
            )
            found.append(drawn)
        return torch.cat(found)

    @torch.inference_mode()
    def measure(self, model: GPT2LMHeadModel, drawn: torch.Tensor) -> dict[str, float]:
        losses = []
        for first in range(0, len(self.test), SCORED_AT_ONCE):
            ids = self.test[first : first + SCORED_AT_ONCE]
            logits = model(ids).logits[:, :-1]
            losses.append(torch.nn.functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none"))
        nats = torch.cat(losses)
        counts = Counter(self.human.flatten().tolist())
        rare = torch.tensor([counts[token] <= 3 for token in range(self.config.vocab_size)])[self.test[:, 1:]]
        grams = [Counter[tuple[int, ...]]() for _ in range(3)]
        for row in drawn.tolist():
            for n, found in enumerate(grams, 1):
                found.update(zip(*(row[i:] for i in range(n)), strict=False))
        return {
            "perplexity": float(nats.mean().exp()),
            "nll_rare": float(nats[rare].mean()),
            **{f"distinct_{n}": len(found) / found.total() for n, found in enumerate(grams, 1)},
        }

    def generation(self) -> None:
        model = self.train(0)
        self.measure(model, self.draw(model))


def lab(overrides: list[str], threads: int, keep: Path | None) -> None:
    """The whole of it, in processes of its own, from an empty store; one-thread workers, one a core."""
    with tempfile.TemporaryDirectory(prefix="bench-study-") as folder:
        command = [sys.executable, "-m", "lab", "run", "quick", "--checkpoints", str(keep or folder)]
        command += ["--workers", str(threads)]
        command += [word for override in overrides for word in ("--set", override)]
        subprocess.run(command, check=True, capture_output=True)


def measured(name: str, changes: list[str], options: Any, folder: Path) -> Iterator[bench.Record]:
    study = load_study("quick", changes)
    chains = len(study.regimes) * len(study.seeds) * study.generations
    plain, whole = [], []
    player = bench.Player(partial(lambda: Plain(study, folder).generation), options.threads, "cpu")
    with player:
        for _ in range(options.repetitions):
            one = [player.play() for _ in range(TIMED)]
            plain.append(bench.median(one))
            start = time.perf_counter()
            lab(changes, options.threads, options.keep if name == "as it is" else None)
            whole.append(time.perf_counter() - start)
            parts = ", ".join(f"{spent:.1f}" for spent in one)
            print(f"{name}: the lab {whole[-1]:.0f} s; {TIMED} of {chains} plain generations: {parts} s", flush=True)
    ours, theirs = [1 / spent for spent in whole], [1 / (spent * chains) for spent in plain]
    yield bench.Record(
        name=f"study `quick` {name}: {chains} generations of {len(study.regimes)} regimes, {len(study.seeds)} seed(s)",
        peer="plain script of HF Trainer + generate",
        unit="studies/s",
        ours=bench.Spread.of(ours),
        theirs=bench.Spread.of(theirs),
        ratio=bench.ratio(ours, theirs),
        goal=None if options.fast else GOALS[name],
        best=True,
        note=f"the lab {bench.median(whole):.0f} s, the plain script {bench.median(plain) * chains:.0f} s (scaled)",
        machine=bench.describe("cpu", options.threads),
    )


def main() -> int:
    parser = bench.parser(__doc__)
    parser.set_defaults(repetitions=1)
    parser.add_argument(
        "--keep", type=Path, help="an empty folder to leave the lab's run of `quick` in; one repetition"
    )
    options = parser.parse_args()
    less = [f"{name}={tokens}" for name, tokens in (("train.tokens", 102_400), ("sample.tokens", 102_400))]
    small = ["seeds=[0]", "generations=2", "regimes=[human,replace]", *less] if options.fast else []
    variants = {"as it is": small, "at one epoch": [*small, "train.tokens=204800"]}
    if options.fast:
        del variants["at one epoch"]
    records: list[bench.Record] = []
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        for name, changes in variants.items():
            records += measured(name, changes, options, Path(folder))
    bench.print_table(records)
    for record in records:
        print(f"{record.name}: {record.note}")
    bench.write_json(options.json, records, None)
    return 0


if __name__ == "__main__":
    sys.exit(main())
