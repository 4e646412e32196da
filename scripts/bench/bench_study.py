"""A whole study: the lab beside a plain script of HF Trainer, `generate` and a loop over the loss.

    python scripts/bench/bench_study.py                     # `quick`, whole, as it is and at one epoch; some eleven
    minutes
    python scripts/bench/bench_study.py --fast              # one seed and two generations of it
    python scripts/bench/bench_study.py --json study.json
    python scripts/bench/bench_study.py --device cuda       # both on the GPU

The lab is timed as a whole process with an empty store: start-up, human text, tables and all; from what it wrote of its
own time comes the share that its workers spent in training, sampling and scoring (lab/run/timings.py).  The plain
script
does, for every generation, what public collapse repositories do: a new GPT-2, HF Trainer, `generate` in batches,
perplexity of the test text, distinct-n and the loss of rare tokens in plain Python.  It does so for every regime, seed
and generation, as it shares nothing.  Three of its generations are timed in each turn, one before the lab and two after
it, and all are taken to last as long as each of these: every one trains on, draws and scores the same number of tokens.
So a turn has three ratios.  It is one process with all threads, as such scripts are; within that its settings are the
fastest that bench_train.py and bench_sample.py found for these sizes: bfloat16 where the processor has it, generation
with a cache of keys and values in batches of 256 (on a GPU 1,024).  On a CPU it is timed again, as an extra row, with
the memory setting that the lab gives its workers.  Not counted for it: reading text and training the tokenizer.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import bench_common as bench
import numpy as np
import torch
import transformers
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

from lab import machine
from lab.config.files import load_study
from lab.config.study import StudyConfig
from lab.run import timings

GOALS = {"as it is": 3.0, "at one epoch": 4.0}
DRAWN_AT_ONCE, SCORED_AT_ONCE = {"cpu": 256, "cuda": 1_024}, 16
BEFORE, AFTER = 1, 2
"""Generations of the plain script in a turn, before the lab's study and after it."""
PARTS = ("train", "generate", "measure")
PLAIN = "plain script of HF Trainer + generate"
PLAIN_KEPT = f"{PLAIN}, memory kept"


class Rows(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    def __init__(self, tokens: torch.Tensor) -> None:
        self.tokens = tokens

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, place: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self.tokens[place], "labels": self.tokens[place]}


class Plain:
    """One generation of the plain script, part by part."""

    def __init__(self, study: StudyConfig, folder: Path, device: str = "cpu") -> None:
        self.study, self.folder, self.device = study, folder, device
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
            bf16=machine.resolve_dtype("auto", self.device) == "bfloat16",
            use_cpu=self.device == "cpu",
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
        most = DRAWN_AT_ONCE[self.device]
        for first in range(0, rows, most):
            start = torch.zeros(min(most, rows - first), 1, dtype=torch.int64, device=self.device)
            drawn = model.generate(
                start,
                attention_mask=torch.ones_like(start),
                do_sample=True,
                top_k=0,
                use_cache=True,  # Trainer turns it off in the config, which all models of the script have
                max_new_tokens=length - 1,
                eos_token_id=None,
                pad_token_id=0,
            )
            found.append(drawn.cpu())
        return torch.cat(found)

    @torch.inference_mode()
    def measure(self, model: GPT2LMHeadModel, drawn: torch.Tensor) -> dict[str, float]:
        losses = []
        for first in range(0, len(self.test), SCORED_AT_ONCE):
            ids = self.test[first : first + SCORED_AT_ONCE].to(self.device)
            logits = model(ids).logits[:, :-1]
            losses.append(torch.nn.functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none"))
        nats = torch.cat(losses).cpu()
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
        """All parts of one, and how long each took."""
        spent = [time.perf_counter()]
        model = self.train(0)
        spent.append(time.perf_counter())
        drawn = self.draw(model)
        spent.append(time.perf_counter())
        self.measure(model, drawn)
        spent.append(time.perf_counter())
        parts = (f"{name} {b - a:.1f} s" for name, a, b in zip(PARTS, spent, spent[1:], strict=False))
        print(f"a plain generation: {', '.join(parts)}", flush=True)


def lab(overrides: list[str], workers: list[str], keep: Path | None) -> tuple[float, float]:
    """Seconds of the whole of it, in processes of its own, from an empty store, and its workers' share in kernels."""
    with tempfile.TemporaryDirectory(prefix="bench-study-") as folder:
        place = keep or Path(folder)
        command = [sys.executable, "-m", "lab", "run", "quick", "--checkpoints", str(place), *workers]
        command += [word for override in overrides for word in ("--set", override)]
        start = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True)
        spent = time.perf_counter() - start
        if done.returncode:
            sys.exit(f"error: lab run quick ended with {done.returncode}: {done.stderr[-2000:]}")
        return spent, in_kernels(place / "quick")


def in_kernels(run: Path) -> float:
    """Share of the workers' time that a run spent in training, sampling and scoring, from what it wrote of itself."""
    found = timings.time_by_kind(timings.read(run))
    if not found:
        sys.exit(f"error: {run / timings.FILE} has no timings: was the run's store empty?")
    return 1 - timings.overhead(found)


def measured(name: str, changes: list[str], options: Any, folder: Path) -> Iterator[bench.Record]:
    study = load_study("quick", changes)
    chains = len(study.regimes) * len(study.seeds) * study.generations
    # On a CPU one-thread workers, one a core; on a GPU as the lab itself has it.
    workers = ["--workers", str(options.threads)] if options.device == "cpu" else []
    device, whole, kernels = options.device, [], []
    plain: dict[str, list[float]] = {}
    with contextlib.ExitStack() as stack:
        players = {
            peer: stack.enter_context(
                bench.Player(partial(script, study, folder, device, kept), options.threads, device, name=peer)
            )
            for peer, kept in ((PLAIN, False), (PLAIN_KEPT, True))
            if device == "cpu" or not kept
        }
        for _ in range(options.repetitions):
            turn = {peer: [player.play() for _ in range(BEFORE)] for peer, player in players.items()}
            spent, share = lab(changes, workers, options.keep if name == "as it is" else None)
            for peer, player in players.items():
                turn[peer] += [player.play() for _ in range(AFTER)]
                plain.setdefault(peer, []).extend(turn[peer])
                parts = ", ".join(f"{one:.1f}" for one in turn[peer])
                print(f"{name}: the lab {spent:.0f} s; {len(turn[peer])} of {chains} generations of {peer}: {parts} s")
            # The lab's one study stands beside each of the turn's generations.
            whole += [spent] * (BEFORE + AFTER)
            kernels.append(share)
    yield from records(name, study, whole, plain, kernels, options)


def script(study: StudyConfig, folder: Path, device: str, kept: bool) -> Callable[[], Any]:
    if kept:
        machine.keep_memory()
    return Plain(study, folder, device).generation


def records(
    name: str,
    study: StudyConfig,
    whole: list[float],
    plain: Mapping[str, list[float]],
    kernels: list[float],
    options: Any,
) -> Iterator[bench.Record]:
    """Of seconds: of the lab's study, and of one generation of each plain script beside it, as many."""
    chains = len(study.regimes) * len(study.seeds) * study.generations
    ours = [1 / spent for spent in whole]
    where = bench.describe(options.device, options.threads)
    for peer, taken in plain.items():
        theirs = [1 / (spent * chains) for spent in taken]
        yield bench.Record(
            name=f"study `quick` {name}: {chains} generations of {len(study.regimes)} regimes, {len(study.seeds)} "
            "seed(s)",
            peer=peer,
            unit="studies/s",
            **bench.spreads(ours, theirs),
            goal=GOALS.get(name) if peer == PLAIN else None,
            best=peer == PLAIN,
            note=f"the lab {bench.median(whole):.0f} s, {peer} {bench.median(taken) * chains:.0f} s (scaled)",
            machine=where,
        )
    outside = 1 - bench.median(kernels)
    yield bench.Record(
        name=f"study `quick` {name}: time in train, sample and heldout",
        peer="",
        unit="share of the workers' time",
        ours=bench.Spread.of(kernels),
        theirs=None,
        ratio=None,
        note=f"{outside:.1%} of the workers' time outside of training, sampling and scoring",
        machine=where,
    )


def main() -> int:
    parser = bench.parser(__doc__)
    parser.set_defaults(repetitions=1)
    parser.add_argument(
        "--keep", type=Path, help="an empty folder to leave the lab's run of `quick` in; one repetition"
    )
    options = parser.parse_args()
    if options.keep is not None and (options.fast or options.repetitions > 1):
        parser.error("--keep goes with neither --fast nor --repetitions above 1: it is for one run of `quick`")
    if (
        options.keep is not None
        and options.keep.exists()
        and (not options.keep.is_dir() or any(options.keep.iterdir()))
    ):
        parser.error(f"{options.keep} is no empty folder: what is in it would not be run again")
    where = [f"compute.device={options.device}"]
    variants = {"as it is": where, "at one epoch": [*where, "train.tokens=204800"]}
    if options.fast:
        small = ["seeds=[0]", "generations=2", "regimes=[human,replace]"]
        variants = {"in small": [*where, *small, "train.tokens=102400", "sample.tokens=102400"]}
    found: list[bench.Record] = []
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        for name, changes in variants.items():
            found += measured(name, changes, options, Path(folder))
    bench.print_table(found)
    for record in found:
        print(f"{record.name}: {record.note}")
    bench.write_json(options.json, found, None)
    return 0


if __name__ == "__main__":
    sys.exit(main())
