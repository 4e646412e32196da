"""What bfloat16 products do to a GPT-2's distribution when it samples, beside float32 ones: the price of the speed.

    python scripts/bench/bench_dtype.py checkpoints/store/train/*            # trained models, each in its folder
    python scripts/bench/bench_dtype.py MODEL --sharper 2 4                  # queries and keys made so many times as
    large

Each model writes 64 rows in float32, and both decoders read them.  Printed are, over all positions of these rows, in
nats a token: the mean and the largest KL(float32 || bfloat16), the entropy, and by how much bfloat16 changes it, with
the standard error over rows.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lab.errors import InputError
from lab.models.gpt2 import Gpt2
from lab.models.load import load
from lab.models.sampling.sample import sample

ROWS, SEED = 64, 3


def log_probabilities(model: Gpt2, read_BT: Tensor, dtype: str) -> Tensor:
    """Of each next token: float64 [B, T, V]."""
    model.decoding = dtype
    decoder = model.decoder(len(read_BT))
    logits = [decoder.step(tokens_B).double() for tokens_B in read_BT.T]
    return torch.stack(logits, 1).log_softmax(-1)


def sharpen(model: Gpt2, factor: float) -> None:
    """Attention as it may be in larger models, which small ones do not learn: scores grow by the factor's square."""
    width = model.module.config.n_embd
    with torch.no_grad():
        for block in model.module.transformer.h:
            block.attn.c_attn.weight[:, : 2 * width] *= factor
            block.attn.c_attn.bias[: 2 * width] *= factor


def compare(model: Gpt2) -> str:
    options = {"rows": ROWS, "positions": model.positions, "bos": model.bos, "seed": SEED}
    tokens, _ = sample(model, **options, progress=lambda _: None)
    read = np.pad(tokens[:, :-1].astype(np.int64), ((0, 0), (1, 0)), constant_values=model.bos)
    p, q = (log_probabilities(model, torch.from_numpy(read), dtype) for dtype in ("float32", "bfloat16"))
    kl = (p.exp() * (p - q)).sum(-1)
    entropy_p, entropy_q = (-(x.exp() * x).sum(-1) for x in (p, q))
    change = (entropy_q - entropy_p).mean(1)
    error = float(change.std()) / len(change) ** 0.5
    return (
        f"KL mean {float(kl.mean()):.1e}, largest {float(kl.max()):.1e}; entropy {float(entropy_p.mean()):.3f}, "
        f"changed by {float(change.mean()):+.1e} ± {error:.1e}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path, help="folders of GPT-2 models")
    parser.add_argument("--sharper", nargs="+", type=float, default=[1.0], metavar="FACTOR")
    options = parser.parse_args()
    for folder in options.models:
        for factor in options.sharper:
            try:
                model = load(folder)
            except InputError as error:
                print(f"{folder.resolve().name[:12]}  {error}")
                break
            if not isinstance(model, Gpt2):
                print(f"{folder.resolve().name[:12]}  no GPT-2: always float32")
                break
            sharpen(model, factor)
            print(f"{folder.resolve().name[:12]}  {f'x {factor:g}: ' * (factor != 1)}{compare(model)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
