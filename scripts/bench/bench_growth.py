"""Growth: peak memory and seconds of each kind of step, for longer chains and for larger corpora; no peer.

    python scripts/bench/bench_growth.py                    # generations 1, 10, 30; corpora of 7, 40 and 400 MB
    python scripts/bench/bench_growth.py --fast --json growth.json
    python scripts/bench/bench_growth.py --corpora 7,40,400 --given-tokenizer   # only corpora, one tokenizer for all
    of them

Every measured step runs in a process of its own (Linux only).  Printed are the most memory that it had resident above
what it had with its libraries loaded (VmHWM), and beside it the most that was no mapped file (RssAnon, looked at every
2 ms): pages of a memory-mapped file count while there is room, and are given back when there is none.

Corpora are data/human-small.parquet over and over, each copy of a document beginning with a number of its own, so that
no two documents are equal and groups are as many as documents.  The study is a GPT-2 of 1 x 32 with 2,048 tokens; it
takes half of the train fold as its human text, and trains on, samples and compares amounts that stay the same.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import bench_common as bench
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lab import regimes
from lab.config.files import parse_study
from lab.loop import Study, build
from lab.models.feed import RecipeRows, load_recipe, save_recipe
from lab.run.plan import make_plan
from lab.run.worker import UNATTENDED, run_job
from lab.steps import job_of
from lab.steps.place import lineage
from lab.store.step import Step
from lab.store.store import Job, Store

SEED_TEXT = Path(__file__).parents[2] / "data" / "human-small.parquet"
POSITIONS = 128
TOKENS = 16_384
"""Of training, of a sample and of what is compared, where it is not they that grow."""
BYTES_PER_TOKEN = 3.3
"""Of human text at a vocabulary of 2,048, about."""


def study(
    corpus: Path, tokens: int, generations: int, *, sampled: int = TOKENS, tokenizer: Path | None = None, **train: Any
) -> Study:
    return build(
        parse_study(
            {
                "name": "growth",
                "seeds": [0],
                "generations": generations,
                "regimes": ["accumulate"],
                "corpus": {"path": str(corpus), "domain": "domain", "tokens": tokens},
                "tokenizer": {"pretrained": str(tokenizer)} if tokenizer else {"vocab_size": 2048},
                "model": {"n_layer": 1, "n_head": 2, "n_embd": 32, "n_positions": POSITIONS},
                "train": {**(train or {"tokens": TOKENS}), "batch_rows": 16, "lr": 5e-3, "validation_tokens": 4096},
                "sample": {"tokens": sampled, "shard_rows": 128},
                "metrics": {"tokens": TOKENS, "test_tokens": TOKENS},
                "compute": {"device": "cpu", "dtype": "float32"},
            }
        )
    )


def write_corpus(path: Path, megabytes: float) -> int:
    """Write a corpus of so much text and return its size in bytes."""
    documents = pq.read_table(SEED_TEXT, columns=["text", "domain"]).to_pylist()
    schema, written, copy = pa.schema([("text", pa.string()), ("domain", pa.string())]), 0, 0
    with pq.ParquetWriter(path, schema) as writer:
        while written < megabytes * 1e6:
            some = [{**d, "text": f"Copy {copy} of {number}. {d['text']}"} for number, d in enumerate(documents)]
            kept = []
            for document in some:
                if written < megabytes * 1e6:
                    kept.append(document)
                    written += len(document["text"].encode())
            writer.write_table(pa.Table.from_pylist(kept, schema=schema))
            copy += 1
    return written


def forked(work: Callable[[], Any]) -> Any:
    """Return the result of `work` through JSON, from a process with the libraries of this one and none of its data."""
    reading, writing = os.pipe()
    process = os.fork()
    if not process:
        status = 1
        try:
            os.write(writing, json.dumps(work()).encode())
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        found = pipe.read()
    if os.waitpid(process, 0)[1]:
        raise RuntimeError("the measured process failed; its error stands above")
    return json.loads(found)


class Watch:
    """Memory of this process from now on, in megabytes above what it has now."""

    def __init__(self) -> None:
        Path("/proc/self/clear_refs").write_text("5")  # the most memory so far is forgotten
        self.idle, self.anonymous = memory("VmRSS"), memory("RssAnon")
        self.most, self.over = self.anonymous, threading.Event()
        self.thread = threading.Thread(target=self._look)
        self.start = time.perf_counter()
        self.thread.start()

    def _look(self) -> None:
        while not self.over.wait(0.002):
            self.most = max(self.most, memory("RssAnon"))

    def stop(self) -> dict[str, float]:
        spent = time.perf_counter() - self.start
        self.over.set()
        self.thread.join()
        most = {"peak": memory("VmHWM") - self.idle, "own": self.most - self.anonymous}
        return {"idle": self.idle, **most, "seconds": spent}


def memory(field: str) -> float:
    """Megabytes, by the kernel's account of this process."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1e3


def measured(root: Path, job: Job) -> dict[str, float]:
    store, watch = Store(root), Watch()
    run_job(store, job, lambda _: None, UNATTENDED, fresh=False)
    return watch.stop()


def run(study: Study, root: Path, watched: set[Step]) -> Iterator[tuple[Step, dict[str, float]]]:
    """All steps in order, those that are watched in processes of their own."""
    store = Store(root)
    for step in study.steps:
        job = job_of(step)
        store.forget(job)
        if store.whole(job):
            continue
        if step in watched:
            yield step, forked(partial(measured, root, job))
        else:
            forked(partial(run_job, store, job, lambda _: None, UNATTENDED, fresh=False))


def row(name: str, step: str, numbers: dict[str, float], tokens: int | None = None) -> dict[str, Any]:
    """`tokens`: of human text, that the step's time is divided by."""
    each = {} if tokens is None else {"microseconds_per_token": numbers["seconds"] / tokens * 1e6}
    print(
        f"{name:28}  {step:12}  {numbers['peak']:8,.0f} MB  {numbers['own']:8,.0f} MB  {numbers['seconds']:8,.2f} s"
        + "".join(f"  {number:8.3f} us/token" for number in each.values()),
        flush=True,
    )
    return {"name": f"{name}: {step}", "resident_megabytes": numbers["peak"], "own_megabytes": numbers["own"]} | {
        "idle_megabytes": numbers["idle"],
        "seconds": numbers["seconds"],
        **each,
    }


def of_corpora(folder: Path, sizes: list[int], *, given_tokenizer: bool) -> Iterator[dict[str, Any]]:
    """Each kind of step of generation 1, for corpora of so many megabytes.

    given_tokenizer: only the first corpus has its tokenizer trained, and the others are cut by that one.
    """
    tokenizer: Path | None = None
    for size in sizes:
        path = folder / f"{size}.parquet"
        written = forked(partial(write_corpus, path, size))
        tokens = int(0.65 * written / BYTES_PER_TOKEN / 2) // POSITIONS * POSITIONS
        chain = study(path, tokens, 2, tokenizer=tokenizer)
        last = chain.generations[-1]
        watched = {step for step in chain.steps if step.label != "validation rows" and "gen 0" not in step.label}
        shards = set(last.synthetic.inputs.values()) - {last.synthetic.inputs["shard-000000"]}
        watched -= {step for step in shards if step.name == "sample"}
        for step, numbers in run(chain, folder / f"store-{size}", watched):
            kind = "resample" if step.label.startswith("resample") else step.name
            kind = "tokenizer, given" if tokenizer and step.name == "tokenizer" else kind
            yield row(f"corpus of {size} MB", kind, numbers, tokens)
        if given_tokenizer and tokenizer is None:
            job = next(job_of(step) for step in chain.steps if step.name == "tokenizer")
            tokenizer = Store(folder / f"store-{size}").folder(job.name, job.key)


def of_generations(folder: Path, generations: list[int]) -> Iterator[dict[str, Any]]:
    """Measure the steps of some generations of `accumulate`, whose recipe grows by one sample each time."""
    path = folder / "seven.parquet"
    if not path.exists():
        forked(partial(write_corpus, path, 7))
    chain = study(path, 16 * TOKENS, max(generations) + 1, sampled=4 * TOKENS)
    chosen = [chain.generations[t] for t in generations]
    watched = {step for g in chosen for step in (g.recipe, *g.models, *g.probes["heldout"], g.synthetic, g.record)}
    watched |= {g.synthetic.inputs["shard-000000"] for g in chosen}
    for step, numbers in run(chain, folder / "store-chain", watched):
        generation = next(g.t for g in chosen if f"gen {g.t} " in f"{step.label} ")
        yield row(f"accumulate, generation {generation}", step.name, numbers)


def of_plans(folder: Path, tokens: int) -> Iterator[dict[str, Any]]:
    """Ten generations of so many tokens each, planned; and the last recipe drawn and its rows begun, without text."""
    path = folder / "one.parquet"
    forked(partial(write_corpus, path, 1))
    for positions in (128, 1024):
        for regime in ("accumulate", "accumulate_subsample", {"mix": {"human": 0.25, "older": 0.25}}):
            found = forked(partial(planned, path, tokens, positions, regime))
            label = regime if isinstance(regime, str) else "mix"
            for what, numbers in found.items():
                yield row(f"{tokens:.0e} tokens, rows of {positions}", f"{label}: {what}", numbers)


def planned(path: Path, tokens: int, positions: int, regime: Any) -> dict[str, dict[str, float]]:
    config = study(path, TOKENS, 1).config.model_dump(exclude_none=True)
    config |= {"regimes": [regime], "generations": 10}
    config["corpus"]["tokens"] = config["sample"]["tokens"] = tokens // positions * positions
    config["model"]["n_positions"] = positions
    config["sample"]["shard_rows"] = 4096
    config["train"] |= {"epochs": 1}
    del config["train"]["tokens"]
    found: dict[str, dict[str, float]] = {}
    watch = Watch()
    built = build(parse_study(config))
    with tempfile.TemporaryDirectory() as folder:
        make_plan(built, Store(Path(folder)), 2)
        found["build and plan"] = watch.stop()
        watch = Watch()
        chosen = built.config.regimes[0]
        recipe = regimes.recipe(chosen.name, chosen.options, lineage(built.config, 9), 0, 9)
        save_recipe(recipe, Path(folder))
        found["pool of generation 9"] = watch.stop()
        del recipe
        watch = Watch()
        recipe = load_recipe(Path(folder))
        corpus = np.broadcast_to(np.uint16(1), (tokens // positions, positions))
        rows = RecipeRows(recipe, {part.corpus: corpus for part in recipe.parts})
        rows.unique_tokens()
        float(rows.lengths().mean())
        rows.take(np.arange(16))
        found["its rows begin"] = watch.stop()
    return found


def megabytes(text: str) -> list[int]:
    sizes = text.split(",")
    if not all(size.isdecimal() and int(size) for size in sizes):
        raise argparse.ArgumentTypeError(f"{text} are no whole numbers of at least 1 with commas between them")
    return list(map(int, sizes))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fast", action="store_true", help="about a minute: smaller corpora, fewer generations")
    parser.add_argument("--json", type=bench.new_file, help="write one record a step")
    parser.add_argument("--corpora", type=megabytes, help="megabytes of the corpora, with commas: measure nothing else")
    parser.add_argument("--given-tokenizer", action="store_true", help="train it for the first corpus only")
    arguments = parser.parse_args()
    sizes = arguments.corpora
    bench.pin(1)
    print(f"{'what':28}  {'step':12}  {'above idle':>11}  {'own':>11}  {'time':>10}")
    found: list[dict[str, Any]] = []
    for library in (
        "datasets",
        "lab.models.gpt2",
        "lab.models.train",
        "lab.models.sampling.sample",
        "lab.steps.record",
    ):
        importlib.import_module(library)  # what steps load counts as there before
    with tempfile.TemporaryDirectory(prefix="lab-growth-") as name:
        folder = Path(name)
        if sizes is None:
            found += of_plans(folder, 10**8 if arguments.fast else 10**9)
            found += of_generations(folder, [1, 4] if arguments.fast else [1, 10, 30])
            sizes = [2, 7] if arguments.fast else [7, 40, 400]
        found += of_corpora(folder, sizes, given_tokenizer=arguments.given_tokenizer)
    if arguments.json is not None:
        machine = bench.describe("cpu", 1)
        bench.replace(arguments.json, [{**row, "machine": machine} for row in found])


if __name__ == "__main__":
    main()
