"""Training: the lab's `fit` beside transformers' Trainer, on the same model, rows, order, schedule and threads.

Both train the same initial weights by the same batches, AdamW (fused), schedule and clipping.  Each contestant is a
process of its own, so that neither lives with the other's settings, and the two take turns.  Timed are all steps of a
training but the first few.  The lab multiplies in bfloat16; of Trainer's settings all are shown, and the fastest with
its default attention is the one compared (*).  It scores nothing, saves nothing and logs nothing meanwhile.

Operations a token, forward and backward:   6 x (12 L C^2 + V C) + 12 L T C

    L layers of width C: 12 C^2 weights each in matrix products, V C in the output; each takes part in a
    multiplication and an addition forward and two of each backward.  Attention: 2 products of T x C, as computed on a
    CPU, with what the mask hides; on a GPU, where that is left out, half of it.  The roofline is that, times tokens/s,
    over the machine's bfloat16 peak: the highest seen before and after.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import multiprocessing
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from bench_common import Peaks, Record, answered, clock, describe, parser, peaks, pin, print_table, spreads, write_json
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import SequentialSampler
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.utils import logging

from lab import machine
from lab.config.model import ModelConfig
from lab.config.text import CorpusConfig
from lab.config.train import TrainConfig
from lab.models.gpt2 import Gpt2
from lab.models.initial_weights import random_gpt2
from lab.models.schedule import batch_at, lr_at
from lab.models.train import fit
from lab.run.worker import set_arithmetic
from lab.text.corpus import read_documents
from lab.text.tokenizer import train_tokenizer

CORPUS = Path(__file__).parents[2] / "data" / "human-small.parquet"
BOS, SEED, SKIPPED = 0, 0, 3
GOAL = 2.0
QUARTERS = 4
LEAST_STEPS = 10 * QUARTERS
"""Of a training whose losses are compared."""


@dataclass(frozen=True)
class Shape:
    n_layer: int
    n_embd: int
    n_head: int
    vocab: int
    positions: int

    @property
    def name(self) -> str:
        return f"{self.n_layer} x {self.n_embd}, vocabulary {self.vocab:,}, rows of {self.positions}"

    def operations(self, device: str) -> int:
        """Return the operations per token, forward and backward."""
        weights = self.n_layer * 12 * self.n_embd**2 + self.vocab * self.n_embd
        attention = 12 * self.n_layer * self.positions * self.n_embd
        return 6 * weights + (attention // 2 if device == "cuda" else attention)

    def model(self, device: str, attention: str = "sdpa") -> Gpt2:
        config = ModelConfig(
            n_layer=self.n_layer,
            n_head=self.n_head,
            n_embd=self.n_embd,
            n_positions=self.positions,
            initializer_range=0.04,
        )
        model = random_gpt2(config, vocab_size=self.vocab, bos=BOS, seed=SEED, device=device)
        model.module.set_attn_implementation(attention)
        return model


QUICK = Shape(2, 128, 2, 2048, 128)
LARGER = Shape(4, 256, 8, 8192, 256)
GPT2_SMALL = Shape(12, 768, 12, 50_257, 1024)
"""124 million weights: on a GPU only."""
QUICK_BATCHES, LARGER_BATCHES, SMALL_BATCHES = (4, 16, 64), (16, 64), (16,)
TIMED = {QUICK: 60_000, LARGER: 30_000, GPT2_SMALL: 400_000}
"""Tokens of a turn, about: a second or a few."""


@dataclass(frozen=True)
class Setting:
    """Whose training, and how."""

    peer: bool
    bf16: bool = True
    attention: str = "sdpa"
    compiled: bool = False
    kept: bool = False
    """With the memory setting that the lab gives its workers (machine.keep_memory)."""

    @property
    def name(self) -> str:
        if not self.peer:
            return "lab, bfloat16" + ", compiled" * self.compiled
        words = ["bfloat16" if self.bf16 else "float32", self.attention]
        return "Trainer, " + ", ".join(words + ["compiled"] * self.compiled + ["memory kept"] * self.kept)


LAB = Setting(peer=False, kept=True)
LAB_COMPILED = Setting(peer=False, kept=True, compiled=True)
"""With `train.compile`."""
FLOAT32, BF16 = Setting(peer=True, bf16=False), Setting(peer=True)
COMPARED = (FLOAT32, BF16)
EXTRA = (
    Setting(peer=True, attention="eager"),
    Setting(peer=True, bf16=False, attention="eager"),
    Setting(peer=True, kept=True),
)
COMPILED = Setting(peer=True, compiled=True)


@dataclass(frozen=True)
class Work:
    """One training: of which model, and how much."""

    shape: Shape
    batch_rows: int
    steps: int
    device: str
    rows: Path
    """Token rows [N, T]; the last validation_rows of them are for validation."""
    validation_rows: int

    def config(self, *, compiled: bool = False) -> TrainConfig:
        fields = {"steps": self.steps, "batch_rows": self.batch_rows, "lr": 3e-3, "warmup": 0.2, "clip": 1.0}
        return TrainConfig.model_validate(fields | {"validation_tokens": self.shape.positions, "compile": compiled})


class _Rows:
    """Rows of an array, as `fit` takes them."""

    def __init__(self, tokens: np.ndarray) -> None:
        self.tokens = tokens

    def __len__(self) -> int:
        return len(self.tokens)

    def take(self, indices: np.ndarray) -> np.ndarray:
        return self.tokens[indices]

    def weights(self, indices: np.ndarray) -> None:
        """Return None: all rows count the same."""

    def learned(self, indices: np.ndarray, rows: np.ndarray) -> None:
        """All of them."""


class _Watch(TrainerCallback):
    """The clock at the end of step SKIPPED and of the last; or the loss on validation rows at each quarter."""

    def __init__(self, work: Work, model: Gpt2, validation: np.ndarray | None) -> None:
        self.work, self.model, self.validation = work, model, validation
        self.step, self.marks, self.curve = 0, [], []
        self.score()

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        self.step += 1
        if self.step in (SKIPPED, self.work.steps):
            self.marks.append(clock(self.work.device))
        if self.step * QUARTERS // self.work.steps > (self.step - 1) * QUARTERS // self.work.steps:
            self.score()

    def score(self) -> None:
        if self.validation is not None:
            self.curve.append(float(self.model.nats(self.validation).mean(dtype=np.float64)))
            self.model.module.train()

    def found(self) -> Any:
        return self.marks[1] - self.marks[0] if self.validation is None else self.curve


def _lab(setting: Setting, work: Work, tokens: np.ndarray, validation: np.ndarray, *, curve: bool) -> Any:
    model = work.shape.model(work.device)
    watch = _Watch(work, model, validation if curve else None)
    fit(
        model,
        _Rows(tokens),
        work.config(compiled=setting.compiled),
        validation=validation[:1],
        seed=SEED,
        dtype="bfloat16",
        progress=lambda seen: watch.on_step_end(None, None, None),
    )
    return watch.found()


class _Trainer(Trainer):
    """The lab's order of rows and learning rates; all else is transformers' own."""

    config: TrainConfig

    def _get_train_sampler(self, *args: Any, **others: Any) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> LambdaLR:
        last = num_training_steps - 1
        self.lr_scheduler = LambdaLR(
            optimizer or self.optimizer,
            lambda step: lr_at(min(step, last), num_training_steps, self.config) / self.config.lr,
        )
        return self.lr_scheduler


def _peer(setting: Setting, work: Work, tokens: np.ndarray, validation: np.ndarray, *, curve: bool, folder: str) -> Any:
    config = work.config()
    model = work.shape.model(work.device, setting.attention)
    watch = _Watch(work, model, validation if curve else None)
    total = work.steps * work.batch_rows
    order = np.concatenate(
        [
            batch_at(step, seed=SEED, rows=len(tokens), batch_rows=work.batch_rows, total=total)
            for step in range(work.steps)
        ]
    )
    ids_NT = torch.from_numpy(tokens[order].astype(np.int64))
    read_NT = torch.nn.functional.pad(ids_NT[:, :-1], (1, 0), value=BOS)
    rows = [{"input_ids": read, "labels": ids, "shift_labels": ids} for read, ids in zip(read_NT, ids_NT, strict=True)]
    trainer = _Trainer(
        model=model.module,
        args=TrainingArguments(
            output_dir=folder,
            use_cpu=work.device == "cpu",
            per_device_train_batch_size=work.batch_rows,
            max_steps=work.steps,
            learning_rate=config.lr,
            weight_decay=config.weight_decay,
            adam_beta1=config.beta1,
            adam_beta2=config.beta2,
            max_grad_norm=config.clip,
            optim="adamw_torch_fused",
            bf16=setting.bf16,
            torch_compile=setting.compiled,
            logging_strategy="no",
            logging_nan_inf_filter=False,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            dataloader_num_workers=0,
            remove_unused_columns=False,
        ),
        train_dataset=rows,
        callbacks=[watch],
    )
    trainer.config = config
    trainer.model_accepts_loss_kwargs = False  # the plain mean of a batch, as the lab has it, and no count each step
    trainer.train()
    return watch.found()


def _contestant(setting: Setting, threads: int, device: str, pipe: Connection) -> None:
    """Train once per piece of work in a contestant's process, until there is no more work."""
    pin(threads)
    if not setting.peer:
        set_arithmetic({"threads": threads, "device": device}, strict=True)  # as a worker does for a training
    warnings.simplefilter("ignore")
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    if setting.kept:
        machine.keep_memory()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        for work, curve in _requests(pipe):
            rows = np.load(work.rows)
            tokens, validation = rows[: -work.validation_rows], rows[-work.validation_rows :]
            if setting.peer:
                pipe.send(_peer(setting, work, tokens, validation, curve=curve, folder=folder))
            else:
                pipe.send(_lab(setting, work, tokens, validation, curve=curve))
            if device == "cuda":  # all contestants share its memory
                gc.collect()
                torch.cuda.empty_cache()


def _requests(pipe: Connection) -> Iterator[tuple[Work, bool]]:
    """Yield the pieces of work until None, or until the process that sends them has ended."""
    with contextlib.suppress(EOFError):
        while (request := pipe.recv()) is not None:
            yield request


class Contestants:
    """Processes, one for each setting, that train when they are asked to, one at a time."""

    def __init__(self, settings: Sequence[Setting], threads: int, device: str) -> None:
        context, self.pipes, self.processes = multiprocessing.get_context("spawn"), {}, []
        for setting in settings:
            self.pipes[setting], theirs = context.Pipe()
            self.processes.append(
                context.Process(target=_contestant, args=(setting, threads, device, theirs), daemon=True)
            )
            self.processes[-1].start()
            theirs.close()

    def __enter__(self) -> Contestants:
        return self

    def __exit__(self, *error: object) -> None:
        for pipe, process in zip(self.pipes.values(), self.processes, strict=True):
            with contextlib.suppress(OSError):  # it may have ended before
                pipe.send(None)
            process.join()

    def ask(self, work: Work, *, curve: bool, settings: Sequence[Setting] | None = None) -> dict[Setting, Any]:
        """Of each contestant the seconds that it took, or its learning curve."""
        found = {}
        for setting in settings or self.pipes:
            with answered(setting.name):
                self.pipes[setting].send((work, curve))
                found[setting] = self.pipes[setting].recv()
        return found


def timings(contestants: Contestants, work: Work, repetitions: int) -> dict[Setting, list[float]]:
    """Tokens a second of each turn, after one that does not count."""
    tokens = (work.steps - SKIPPED) * work.batch_rows * work.shape.positions
    contestants.ask(work, curve=False)
    turns = [contestants.ask(work, curve=False) for _ in range(repetitions)]
    return {setting: [tokens / turn[setting] for turn in turns] for setting in contestants.pipes}


def records(work: Work, threads: int, found: Mapping[Setting, list[float]], peak: Peaks) -> list[Record]:
    """Of the lab beside each setting of Trainer's.  A compiled training is held to Trainer's compiled one too."""
    used = "" if work.device == "cuda" else f", {counted(threads)}"
    best = {
        lab: max(
            (setting for setting in found if setting in COMPARED or (lab.compiled and setting == COMPILED)),
            key=lambda setting: median(found[setting]),
        )
        for lab in found
        if not lab.peer
    }
    return [
        Record(
            name=f"train {work.shape.name}, batch {work.batch_rows}{used}" + ", compiled" * lab.compiled,
            peer=setting.name,
            unit="tokens/s",
            **spreads(ours, theirs),
            roofline=work.shape.operations(work.device) * median(ours) / peak.bfloat16,
            goal=GOAL if setting == best[lab] else None,
            best=setting == best[lab],
            machine=describe(work.device, threads) | {"peaks": asdict(peak)},
        )
        for lab, ours in found.items()
        for setting, theirs in found.items()
        if setting.peer and lab in best
    ]


def counted(threads: int) -> str:
    return f"{threads} thread{'s' * (threads > 1)}"


def extra(options: argparse.Namespace) -> tuple[Setting, ...]:
    """Return the settings without a goal: none on a GPU.

    A GPU lacks the memory for eager attention at 1,024 tokens, and glibc's memory setting does not concern it.
    """
    if options.device == "cuda":
        return ()
    return EXTRA[-1:] if options.fast else EXTRA


def print_curves(contestants: Contestants, work: Work) -> dict[str, dict[str, float]]:
    """Print the losses on the same validation rows after the same tokens, and return them for JSON."""
    curves = contestants.ask(work, curve=True, settings=(LAB, *COMPARED))
    tokens = work.steps * work.batch_rows * work.shape.positions
    print(f"\nvalidation loss, nats a token, {work.shape.name}, batch {work.batch_rows}")
    seen = [f"{tokens * quarter // QUARTERS:,}" for quarter in range(QUARTERS + 1)]
    print(f"{'tokens seen':30}" + " ".join(f"{text:>9}" for text in seen))
    for setting, curve in curves.items():
        print(f"{setting.name:30}" + " ".join(f"{nats:9.4f}" for nats in curve))
    return {setting.name: dict(zip(seen, curve, strict=True)) for setting, curve in curves.items()}


def write_rows(shape: Shape, folder: Path) -> Path:
    """Human text in the shape's vocabulary, cut into rows."""
    texts = read_documents(CorpusConfig(path=str(CORPUS), tokens=1))["text"].to_pylist()
    tokenizer = train_tokenizer(texts, shape.vocab)
    stream = np.concatenate([np.array(encoding.ids, np.uint16) for encoding in tokenizer.encode_batch_fast(texts)])
    path = folder / f"{shape.vocab}.npy"
    whole = len(stream) // shape.positions * shape.positions
    np.save(path, np.random.default_rng(SEED).permutation(stream[:whole].reshape(-1, shape.positions)))
    return path


def main() -> None:
    options_of = parser(__doc__)
    options_of.add_argument("--compiled", action="store_true", help="both with torch.compile too: minutes more")
    options_of.add_argument("--only", choices=["quick", "larger"], help="one of the two sizes")
    options = options_of.parse_args()
    if options.only is not None and (options.fast or options.device == "cuda"):
        options_of.error("--only goes with neither --fast nor --device cuda, which have sizes of their own")
    pin(options.threads)
    repetitions = min(options.repetitions, 3) if options.fast else options.repetitions
    # One too: the lab's workers have one thread each.
    counts = [options.threads] if options.fast or options.device == "cuda" else sorted({options.threads, 1})
    settings = (LAB, *COMPARED, *extra(options))
    settings += (LAB_COMPILED, COMPILED) if options.compiled else ()
    shapes = {QUICK: QUICK_BATCHES[:1]} if options.fast else {QUICK: QUICK_BATCHES, LARGER: LARGER_BATCHES}
    if options.only is not None:
        shapes = {QUICK: QUICK_BATCHES} if options.only == "quick" else {LARGER: LARGER_BATCHES[:1]}
    if options.device == "cuda":
        shapes = {GPT2_SMALL: SMALL_BATCHES, LARGER: (64,)}
    found: list[Record] = []
    curves: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        rows = {shape: write_rows(shape, Path(folder)) for shape in shapes}
        for threads in counts:
            peak = peaks(options.device, threads)
            print(f"{counted(threads)}; {peak.text()}", flush=True)
            taken: list[tuple[Work, dict[Setting, list[float]]]] = []
            earlier = found
            with Contestants(settings, threads, options.device) as contestants:
                for shape, batch_rows in [(shape, rows) for shape, batches in shapes.items() for rows in batches]:
                    steps = SKIPPED + max(2, TIMED[shape] // (batch_rows * shape.positions))
                    work = Work(shape, batch_rows, steps, options.device, rows[shape], 1)
                    taken.append((work, timings(contestants, work, repetitions)))
                    peak = peak.raised(peaks(options.device, threads))
                    found = [*earlier, *(row for work, turns in taken for row in records(work, threads, turns, peak))]
                    write_json(options.json, found, None, curves)
                if threads == counts[-1]:
                    for shape, batches in shapes.items():
                        tokens = 50_000 if options.fast else 100_000
                        steps = max(tokens // (batches[0] * shape.positions), LEAST_STEPS)
                        work = Work(shape, batches[0], steps, options.device, rows[shape], 64)
                        curves[f"{shape.name}, batch {batches[0]}"] = print_curves(contestants, work)
    print()
    print_table(found)
    write_json(options.json, found, None, curves)


if __name__ == "__main__":
    main()
