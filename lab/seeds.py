"""Random numbers.  Every generator of the lab is made here, from a seed that does not depend on the regime."""

from __future__ import annotations

import hashlib

import numpy as np


def derive_seed(seed: int, generation: int, step: str, shard: int = 0) -> int:
    """Return a 63-bit seed for one purpose.  Regimes share it, so that they are compared in pairs.

    The four fields are hashed, so that the seeds of neighbouring steps are unrelated:
    derive_seed(0, 1, "train") != derive_seed(1, 0, "train").
    """
    text = f"{seed}/{generation}/{step}/{shard}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1


def generator(seed: int) -> np.random.Generator:
    """Return a counter-based generator (Philox), which gives the same numbers on every machine and numpy version."""
    return np.random.Generator(np.random.Philox(key=seed))


def permutation(seed: int, epoch: int, n: int) -> np.ndarray:
    """Return the order of n rows in one epoch.  It depends on the arguments only, so a checkpoint need not save it."""
    return generator(derive_seed(seed, epoch, "permutation")).permutation(n)
