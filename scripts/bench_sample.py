"""Sampling speed: the lab beside transformers' `generate` and CTranslate2, on the same random GPT-2.

    python scripts/bench_sample.py                    # two sizes, every setting of the peers
    python scripts/bench_sample.py --fast             # about a minute
    python scripts/bench_sample.py --threads 1 --json sample.json
    python scripts/bench_sample.py --device cuda      # 124 million weights beside the small sizes

All draw from the model's own distribution (temperature 1, nothing cut off), every row full length, weights and products
float32 on a CPU.  Weights are random and wide (initializer_range .2), so that the distributions are not flat.
CTranslate2 is timed where it is installed (pip install ctranslate2), vLLM likewise on a GPU.

The roofline of one token: operations / matrix peak + bytes of cache read / memory bandwidth, with
    operations = 2 x (weights of the blocks and of the vocabulary product) + 4 x width x layers x mean position
    bytes      = 2 x width x layers x mean position x bytes of a number
(on a GPU also the weights, read once a step for all rows).  The two do not overlap in a step, so they add.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import bench_common as bench
import torch
import transformers

from lab import machine
from lab.models import Gpt2
from lab.sample import sample
from lab.sections import ModelConfig

GOALS = {"HF generate": 5.0, "CTranslate2": 3.0}
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
        return Gpt2.fresh(config, vocab_size=self.vocabulary, bos=0, seed=0, device=device)

    def best_speed(self, peaks: bench.Peaks, rows: int, device: str) -> float:
        """Tokens a second if products ran at the matrix peak and the cache were read at the memory's bandwidth."""
        cuda = device == "cuda"
        weights = 12 * self.layers * self.width**2 + self.width * self.vocabulary
        mean = (self.positions + 1) / 2
        operations = 2 * weights + 4 * self.width * self.layers * mean
        number = 2 if cuda else 4
        read = 2 * self.width * self.layers * mean * number + (number * weights / rows if cuda else 0)
        return 1 / (operations / (peaks.bfloat16 if cuda else peaks.float32) + read / peaks.bandwidth)


QUICK = Size(2, 128, 2, 2_048, 128)
LARGER = Size(4, 256, 8, 8_192, 256)
GPT2_SMALL = Size(12, 768, 12, 50_257, 256)
ROWS = {QUICK: 400, LARGER: 256, GPT2_SMALL: 1_024}
"""Rows of the lab's shard: those of the study `quick`, and as many tokens again or fewer."""


@dataclass(frozen=True)
class Peer:
    name: str
    setting: str
    rows: int
    setup: bench.Setup


def ours(size: Size, rows: int, device: str) -> Callable[[], Any]:
    machine.keep_memory()  # as the lab's workers do
    model = size.model(device)
    model.decoding = "bfloat16"  # on a GPU, as a study has it
    torch.use_deterministic_algorithms(device == "cuda", warn_only=True)
    return lambda: sample(model, rows=rows, positions=size.positions, bos=0, seed=1, progress=lambda _: None)


def hf(size: Size, rows: int, device: str, *, static: bool = False, compiled: bool = False) -> Callable[[], Any]:
    """One token fewer: with BOS in the row, transformers' GPT-2 has no position for the last one."""
    transformers.utils.logging.set_verbosity_error()
    model = size.model(device).module
    if device == "cuda":
        model = model.to(torch.bfloat16)
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


def hf_peers(size: Size, device: str, fast: bool) -> Iterator[Peer]:
    batches = [256] if fast else [64, 256, 1_024] if size == QUICK else [32, 128]
    batches = [256, 1_024] if device == "cuda" else batches
    for rows in batches:
        yield Peer("HF generate", f"batch {rows}, dynamic cache", rows, partial(hf, size, rows, device))
    if not fast:
        rows = batches[-2]
        yield Peer("HF generate", f"batch {rows}, static cache", rows, partial(hf, size, rows, device, static=True))
        compiled = partial(hf, size, rows, device, static=True, compiled=True)
        yield Peer("HF generate", f"batch {rows}, static cache, torch.compile", rows, compiled)


def ctranslate2_peers(size: Size, folder: Path, threads: int, fast: bool) -> Iterator[Peer]:
    if importlib.util.find_spec("ctranslate2") is None:
        print("CTranslate2 is not installed (pip install ctranslate2): left out")
        return
    bench.apart(partial(convert_for_ctranslate2, size, folder))
    for kind in ("float32",) if fast else ("float32", "int8"):
        name = "CTranslate2" if kind == "float32" else f"CTranslate2 {kind}"
        for rows in (256,) if fast else (64, 256, 1_024) if size == QUICK else (32, 64, 256):
            yield Peer(name, f"{kind}, batch {rows}", rows, partial(ctranslate2_, size, folder, kind, rows, threads))


def convert_for_ctranslate2(size: Size, folder: Path) -> None:
    """CTranslate2's converter reads a tokenizer for its vocabulary: here t0, t1, ..."""
    from ctranslate2.converters import TransformersConverter
    from tokenizers import Tokenizer, models

    size.model("cpu").save(folder / "hf")
    words = Tokenizer(models.WordLevel({f"t{i}": i for i in range(size.vocabulary)}, unk_token="t0"))
    special = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "t0")
    transformers.PreTrainedTokenizerFast(tokenizer_object=words, **special).save_pretrained(folder / "hf")
    TransformersConverter(str(folder / "hf")).convert(str(folder / "ct2"))


def ctranslate2_(size: Size, folder: Path, kind: str, rows: int, threads: int) -> Callable[[], Any]:
    import ctranslate2

    generator = ctranslate2.Generator(str(folder / "ct2"), compute_type=kind, inter_threads=1, intra_threads=threads)

    def draw() -> None:
        found = generator.generate_batch(
            [["t0"]] * rows,
            max_batch_size=rows,
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


def measure(size: Size, options: Any, peaks: bench.Peaks, folder: Path) -> list[bench.Record]:
    device, rows = options.device, ROWS[size]
    peers = list(hf_peers(size, device, options.fast))
    if device == "cpu":
        peers += ctranslate2_peers(size, folder, options.threads, options.fast)
    else:
        peers += vllm_peers(size, folder)
    contestants: dict[str, bench.Setup] = {"ours": partial(ours, size, rows, device)}
    contestants |= {f"{peer.name}: {peer.setting}": peer.setup for peer in peers}
    taken = bench.alternate(contestants, options.repetitions, options.threads, device)
    mine = bench.speeds(rows * size.positions, taken["ours"])
    share = bench.Spread.of(mine).median / size.best_speed(peaks, rows, device)
    best = fastest(peers, size, taken)
    goals = GOALS if device == "cpu" else GPU_GOALS
    where = bench.describe(device, options.threads)
    records = []
    for peer in peers:
        theirs = bench.speeds(peer.rows * size.positions, taken[f"{peer.name}: {peer.setting}"])
        is_best = best[peer.name] == peer.setting
        records.append(
            bench.Record(
                name=str(size),
                peer=f"{peer.name}, {peer.setting}",
                unit="tokens/s",
                ours=bench.Spread.of(mine),
                theirs=bench.Spread.of(theirs),
                ratio=bench.ratio(mine, theirs),
                roofline=share,
                goal=goals.get(peer.name) if is_best else None,
                best=is_best,
                note=f"the lab: one shard of {rows} rows",
                machine=where,
            )
        )
    return records


def fastest(peers: list[Peer], size: Size, taken: dict[str, list[float]]) -> dict[str, str]:
    """The setting of each peer with the highest median speed."""
    best: dict[str, tuple[float, str]] = {}
    for peer in peers:
        speed = bench.Spread.of(bench.speeds(peer.rows, taken[f"{peer.name}: {peer.setting}"])).median
        best[peer.name] = max(best.get(peer.name, (0.0, "")), (speed, peer.setting))
    return {name: setting for name, (_, setting) in best.items()}


def main() -> int:
    options = bench.parser(__doc__).parse_args()
    peaks = bench.peaks(options.device, options.threads)
    print(bench.describe(options.device, options.threads))
    print(peaks.text())
    sizes = [QUICK] if options.fast else [QUICK, LARGER]
    if options.device == "cuda" and not options.fast:
        sizes.append(GPT2_SMALL)
    records = []
    for size in sizes:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            records += measure(size, options, peaks, Path(folder))
        share = records[-1].roofline
        print(f"\n{size}: {share:.0%} of the roofline (goal {HALF:.0%}: {'met' if share >= HALF else 'MISSED'})")
    print()
    bench.print_table(records)
    print("* the fastest setting of this peer, which the goal speaks of")
    bench.write_json(options.json, records, peaks)
    return 0


if __name__ == "__main__":
    sys.exit(main())
