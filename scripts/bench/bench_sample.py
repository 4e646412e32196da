"""Sampling speed: the lab beside transformers' `generate` and CTranslate2, on the same random GPT-2.

    python scripts/bench/bench_sample.py                    # two sizes, every setting of the peers
    python scripts/bench/bench_sample.py --fast             # about a minute
    python scripts/bench/bench_sample.py --threads 1 --json sample.json
    python scripts/bench/bench_sample.py --device cuda      # 124 million weights

All draw from the model's own distribution (temperature 1, nothing cut off), every row full length.  The lab runs twice
on a CPU that has bfloat16: with float32 and with bfloat16 products in the blocks, and caches; each in as many workers
of one thread as there are threads, as `lab run` does, with a shard each.  Weights are random and wide
(initializer_range .2), so that the distributions are not flat.  CTranslate2 is timed where it is installed
(pip install ctranslate2), vLLM likewise on a GPU.

Every setting of every peer takes --repetitions turns with the lab, a few settings at a time, after a turn that does not
count.  The goal speaks of the setting with the least ratio, which favours the peer: of many, the least is partly luck.
A peer in several workers shares its rows out as the lab does.  "memory kept" is the allocator's setting that the lab
gives its own workers.

The roofline of one token: operations / matrix peak + bytes of cache read / memory bandwidth, with
    operations = 2 x (weights of the blocks and of the vocabulary product) + 4 x width x layers x mean position
    bytes      = 2 x width x layers x mean position x bytes of a number
at the data types used, and at the highest peaks seen before and after: on a CPU the vocabulary product is float32
always (on a GPU also the weights are read, once a step for all rows).  The two do not overlap in a step, so they add.
"""

from __future__ import annotations

import importlib.util
import itertools
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import bench_common as bench
import torch
import transformers

from lab import machine
from lab.config.model import ModelConfig
from lab.models.gpt2 import Gpt2
from lab.models.initial_weights import random_gpt2
from lab.models.sampling.sample import sample
from lab.run.worker import set_arithmetic

GOALS = {"HF generate": 5.0, "CTranslate2": 3.0}
CTRANSLATE2 = {"float32": "CTranslate2", "int8": "CTranslate2 int8"}
GPU_GOALS = {"HF generate": 10.0}
HALF = 0.5
"""The share of the roofline that is aimed at."""


@dataclass(frozen=True)
class Size:
    layers: int
    width: int
    heads: int
    vocabulary: int
    positions: int

    def __str__(self) -> str:
        return f"sample {self.layers} x {self.width}, vocabulary {self.vocabulary:,}, {self.positions} tokens"

    def model(self, device: str) -> Gpt2:
        config = ModelConfig(
            n_layer=self.layers,
            n_embd=self.width,
            n_head=self.heads,
            n_positions=self.positions,
            initializer_range=0.2 if self.width < 512 else 0.02,
        )
        return random_gpt2(config, vocab_size=self.vocabulary, bos=0, seed=0, device=device)

    def best_speed(self, peaks: bench.Peaks, rows: int, device: str, dtype: str) -> float:
        """Tokens a second if products ran at the matrix peak and the cache were read at the memory's bandwidth."""
        blocks, output = 12 * self.layers * self.width**2, self.width * self.vocabulary
        mean = (self.positions + 1) / 2
        number, peak = (2, peaks.bfloat16) if dtype == BFLOAT16 else (4, peaks.float32)
        last = peak if device == "cuda" else peaks.float32
        work = (2 * blocks + 4 * self.width * self.layers * mean) / peak + 2 * output / last
        read = 2 * self.width * self.layers * mean * number
        read += number * (blocks + output) / rows if device == "cuda" else 0
        return 1 / (work + read / peaks.bandwidth)


QUICK = Size(2, 128, 2, 2_048, 128)
LARGER = Size(4, 256, 8, 8_192, 256)
GPT2_SMALL = Size(12, 768, 12, 50_257, 256)
ROWS = {QUICK: 400, LARGER: 256, GPT2_SMALL: 1_024}
"""Rows of the lab's shard: those of the study `quick`, and about as many."""
FLOAT32, BFLOAT16 = "float32", "bfloat16"
HEAT = {"cpu": 4, "cuda": 2}
"""Settings that take turns with the lab at a time: each holds the memory of its caches meanwhile."""
Turns = tuple[Sequence[float], Sequence[float]]
"""Speeds of the lab and of a peer, turn by turn."""
Measured = tuple[list[bench.Record], bench.Peaks]


@dataclass(frozen=True)
class Peer:
    name: str
    setting: str
    rows: int
    setup: bench.Setup | None
    """None: it is not installed."""
    dtype: str = FLOAT32
    kept: bool = False
    """With the memory setting that the lab gives its workers."""

    def __str__(self) -> str:
        return f"{self.name}, {self.setting}" + ", memory kept" * self.kept

    def work(self) -> Callable[[], Any]:
        assert self.setup is not None
        if self.kept:
            machine.keep_memory()
        return self.setup()


def together(setup: bench.Setup, workers: int) -> Callable[[], Any]:
    """Return the same work done in so many processes of one thread at once."""
    team = [bench.Player(setup, 1, "cpu", daemon=True) for _ in range(workers)]

    def work() -> None:
        for player in team:
            player.here.send(True)
        for player in team:
            player.here.recv()

    return work


def ours(size: Size, rows: int, device: str, dtype: str) -> Callable[[], Any]:
    model = size.model(device)
    model.decoding = dtype
    set_arithmetic({"threads": torch.get_num_threads(), "device": device}, strict=False)  # as a worker does
    return lambda: sample(model, rows=rows, positions=size.positions, bos=0, seed=1, progress=lambda _: None)


def hf(
    size: Size, rows: int, device: str, dtype: str, *, static: bool = False, compiled: bool = False
) -> Callable[[], Any]:
    """One token fewer: with BOS in the row, transformers' GPT-2 has no position for the last one."""
    transformers.utils.logging.set_verbosity_error()
    model = size.model(device).module.to(getattr(torch, dtype))
    if compiled:
        model.forward = torch.compile(model.forward, dynamic=True)
    model.generation_config = transformers.GenerationConfig(
        do_sample=True, top_k=0, bos_token_id=0, pad_token_id=0, max_new_tokens=size.positions - 1
    )
    start = torch.zeros(rows, 1, dtype=torch.int64, device=device)
    options = {"cache_implementation": "static"} if static else {}

    def draw() -> None:
        found = model.generate(start, attention_mask=torch.ones_like(start), **options)
        assert found.shape == (rows, size.positions)

    return draw


def hf_peers(size: Size, device: str, threads: int, fast: bool) -> Iterator[Peer]:
    """Batches by caches, and of one batch what else may matter."""
    dtype = BFLOAT16 if device == "cuda" else FLOAT32
    batches = [256, 1_024] if device == "cuda" else [256] if fast else [64, 256, 1_024] if size == QUICK else [128, 256]
    middle = batches[-1] if device == "cuda" else batches[(len(batches) - 1) // 2]
    for rows in batches:
        setup = partial(hf, size, rows, device, dtype)
        yield Peer("HF generate", f"{dtype}, batch {rows}, dynamic cache", rows, setup, dtype)
        if not fast and (size == QUICK or rows == middle):
            setup = partial(hf, size, rows, device, dtype, static=True)
            yield Peer("HF generate", f"{dtype}, batch {rows}, static cache", rows, setup, dtype)
        if not fast and rows == middle:  # a minute each
            setup = partial(hf, size, rows, device, dtype, static=True, compiled=True)
            yield Peer("HF generate", f"{dtype}, batch {rows}, static cache, torch.compile", rows, setup, dtype)
    if device == "cpu" and not fast:
        yield from hf_in_workers(size, batches, middle, threads)


def hf_in_workers(size: Size, batches: Sequence[int], middle: int, threads: int) -> Iterator[Peer]:
    """On a CPU: processes of one thread, bfloat16, and the lab's memory setting."""
    for dtype, workers, kept in itertools.product((FLOAT32, BFLOAT16), sorted({1, threads}), (False, True)):
        for rows in batches if (dtype, kept) == (FLOAT32, False) and workers > 1 else [middle]:
            if (dtype, workers, kept) != (FLOAT32, 1, False):  # hf_peers has that one
                alone = partial(hf, size, rows // workers, "cpu", dtype)
                setup = partial(together, alone, workers) if workers > 1 else alone
                said = f"{dtype}, batch {rows // workers}, dynamic cache{in_workers(workers)}"
                yield Peer("HF generate", said, rows // workers * workers, setup, dtype, kept=kept)
    if threads > 1:
        each = middle // threads
        alone = partial(hf, size, each, "cpu", FLOAT32, static=True, compiled=True)
        said = f"{FLOAT32}, batch {each}, static cache, torch.compile{in_workers(threads)}"
        yield Peer("HF generate", said, each * threads, partial(together, alone, threads))


def in_workers(count: int) -> str:
    return f", in {count} workers of one thread" * (count > 1)


def ctranslate2_peers(size: Size, folder: Path, threads: int, fast: bool) -> Iterator[Peer]:
    if importlib.util.find_spec("ctranslate2") is None:
        print("CTranslate2 is not installed (pip install ctranslate2): left out")
        yield Peer("CTranslate2", "not installed", 0, None)
        return
    bench.apart(partial(convert_for_ctranslate2, size, folder))
    batches = [64] if fast else [64, 256, 1_024] if size == QUICK else [64, 128, 256]
    for (kind, name), rows in itertools.product(CTRANSLATE2.items(), batches):
        if kind == "float32" or not fast:
            setup = partial(ctranslate2_, size, folder, kind, rows, (1, threads))
            yield Peer(name, f"{kind}, batch {rows}", rows, setup)
    if threads > 1 and not fast:
        for rows, kept in itertools.product(batches, (False, True)):
            setup = partial(ctranslate2_, size, folder, "float32", rows, (threads, 1))
            yield Peer("CTranslate2", f"float32, {rows} rows{in_workers(threads)}", rows, setup, kept=kept)
        setup = partial(ctranslate2_, size, folder, "float32", 64, (1, threads))
        yield Peer("CTranslate2", "float32, batch 64", 64, setup, kept=True)


def convert_for_ctranslate2(size: Size, folder: Path) -> None:
    """CTranslate2's converter reads a tokenizer for its vocabulary: here t0, t1, ..."""
    from ctranslate2.converters import TransformersConverter
    from tokenizers import Tokenizer, models

    size.model("cpu").save(folder / "hf")
    words = Tokenizer(models.WordLevel({f"t{i}": i for i in range(size.vocabulary)}, unk_token="t0"))
    special = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "t0")
    transformers.PreTrainedTokenizerFast(tokenizer_object=words, **special).save_pretrained(folder / "hf")
    TransformersConverter(str(folder / "hf")).convert(str(folder / "ct2"))


def ctranslate2_(size: Size, folder: Path, kind: str, rows: int, threads: tuple[int, int]) -> Callable[[], Any]:
    """Workers, and threads of each; the rows are shared out among the workers."""
    import ctranslate2

    workers, each = threads
    generator = ctranslate2.Generator(str(folder / "ct2"), compute_type=kind, inter_threads=workers, intra_threads=each)

    def draw() -> None:
        found = generator.generate_batch(
            [["t0"]] * rows,
            max_batch_size=-(-rows // workers),
            min_length=size.positions,
            max_length=size.positions,
            sampling_topk=0,
            include_prompt_in_result=False,
        )
        assert all(len(result.sequences_ids[0]) >= size.positions - 1 for result in found)

    return draw


def vllm_peers(size: Size, folder: Path) -> Iterator[Peer]:
    if importlib.util.find_spec("vllm") is None:
        print("vLLM is not installed: left out")
        yield Peer("vLLM", "not installed", 0, None)
        return
    rows = ROWS[size]
    yield Peer("vLLM", f"{rows} rows at once", rows, partial(vllm_, size, folder, rows))


def vllm_(size: Size, folder: Path, rows: int) -> Callable[[], Any]:
    import vllm

    size.model("cpu").save(folder / "vllm")
    engine = vllm.LLM(str(folder / "vllm"), skip_tokenizer_init=True, dtype="bfloat16", gpu_memory_utilization=0.5)
    options = vllm.SamplingParams(max_tokens=size.positions - 1, min_tokens=size.positions - 1, ignore_eos=True)
    prompts = [{"prompt_token_ids": [0]}] * rows
    return lambda: engine.generate(prompts, options, use_tqdm=False)


def measure(size: Size, options: Any, peaks: bench.Peaks, folder: Path) -> Iterator[Measured]:
    """After each heat the records so far, and the peaks that their rooflines stand on: at last those behind too."""
    device, threads = options.device, options.threads
    peers = list(hf_peers(size, device, threads, options.fast))
    if device == "cpu":
        peers += ctranslate2_peers(size, folder, threads, options.fast)
    else:
        peers += vllm_peers(size, folder)
    mine = [BFLOAT16] if device == "cuda" else sorted({FLOAT32, machine.resolve_dtype("auto", device)}, reverse=True)
    there, missing = ([peer for peer in peers if (peer.setup is None) == absent] for absent in (False, True))
    heats = [there[first : first + HEAT[device]] for first in range(0, len(there), HEAT[device])]
    taken: dict[tuple[str, Peer], Turns] = {}
    for heat in heats:
        taken |= turns(size, mine, heat, options)
        if heat is heats[-1]:
            peaks = peaks.raised(bench.peaks(device, threads))
        records: list[bench.Record] = []
        for dtype in mine:
            # The lab in float32 is not held to HF in bfloat16.
            mates = [peer for peer in there if (dtype, peer) in taken and peer.dtype in (FLOAT32, dtype)]
            found = {peer: taken[dtype, peer] for peer in mates}
            best_speed = size.best_speed(peaks, ROWS[size], device, dtype)
            records += compared(size, dtype, found, missing, best_speed, options)
        yield records, peaks


def turns(size: Size, mine: Sequence[str], peers: Sequence[Peer], options: Any) -> dict[tuple[str, Peer], Turns]:
    """Speeds of the lab in each data type and of each of these peers, all in turn."""
    rows, workers = ROWS[size], options.threads if options.device == "cpu" else 1
    setups = {dtype: partial(ours, size, rows, options.device, dtype) for dtype in mine}
    contestants: dict[Any, bench.Setup] = {
        dtype: partial(together, setup, workers) if workers > 1 else setup for dtype, setup in setups.items()
    }
    contestants |= {peer: peer.work for peer in peers}
    spent = bench.alternate(contestants, options.repetitions, options.threads, options.device)
    lab = {dtype: bench.speeds(workers * rows * size.positions, spent[dtype]) for dtype in mine}
    theirs = {peer: bench.speeds(peer.rows * size.positions, spent[peer]) for peer in peers}
    return {(dtype, peer): (lab[dtype], theirs[peer]) for dtype in mine for peer in peers}


def compared(
    size: Size, dtype: str, taken: Mapping[Peer, Turns], missing: Sequence[Peer], best_speed: float, options: Any
) -> list[bench.Record]:
    """Return a record per peer, each with its own turns of the lab.  The roofline is of all these turns."""
    best = {peer.name: peer for peer in sorted(taken, key=lambda peer: -bench.ratio(*taken[peer]).median)}
    whole = bench.Spread.of([speed for mine, _ in taken.values() for speed in mine])
    goals = GOALS if options.device == "cpu" else GPU_GOALS
    common: dict[str, Any] = {
        "name": f"{size}, {dtype}",
        "unit": "tokens/s",
        "roofline": whole.median / best_speed,
        "note": f"the lab: shards of {ROWS[size]} rows; {options.repetitions} turns each",
        "machine": bench.describe(options.device, options.threads),
    }
    records = [
        bench.Record(
            peer=str(peer),
            **bench.spreads(mine, theirs),
            goal=goals.get(peer.name) if best[peer.name] == peer else None,
            best=best[peer.name] == peer,
            **common,
        )
        for peer, (mine, theirs) in taken.items()
    ]
    for peer in missing:
        absent: dict[str, Any] = {"theirs": None, "ratio": None, "goal": goals.get(peer.name), "best": True}
        records.append(bench.Record(peer=str(peer), ours=whole, **absent, **common))
    return records


def main() -> int:
    parser = bench.parser(__doc__)
    parser.add_argument("--only", choices=["quick", "larger"], help="one of the two sizes")
    parser.set_defaults(repetitions=3)
    options = parser.parse_args()
    if options.only is not None and (options.fast or options.device == "cuda"):
        parser.error("--only goes with neither --fast nor --device cuda, which have sizes of their own")
    peaks = bench.peaks(options.device, options.threads)
    print(bench.describe(options.device, options.threads))
    print(peaks.text())
    sizes = [QUICK] if options.fast or options.only == "quick" else [LARGER] if options.only else [QUICK, LARGER]
    if options.device == "cuda" and not options.fast:
        sizes = [GPT2_SMALL]  # the goals are for this one
    records: list[bench.Record] = []
    for size in sizes:
        found: list[bench.Record] = []
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            for found, raised in measure(size, options, peaks, Path(folder)):
                bench.write_json(options.json, records + found, raised)
                peaks = raised
        records += found
    for name, share in {record.name: record.roofline for record in records}.items():
        print(f"{name}: {share:.0%} of the roofline (goal {HALF:.0%}: {'met' if share >= HALF else 'MISSED'})")
    print()
    bench.print_table(records)
    print("* the fastest setting of this peer, which the goal speaks of")
    return 0


if __name__ == "__main__":
    sys.exit(main())
