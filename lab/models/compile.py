"""torch.compile as training uses it (`train.compile`): kernels of its own for a model's forward and backward pass.

What it needs beside torch is a compiler: of C++ on a CPU, where g++ takes half a minute; Triton's on a GPU.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lab.errors import InputError, brief

ENDLESS = 2**30
FOLDERS = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")
"""Where torch's compiler keeps files.  It sets the second itself, to a folder within the first, if nobody has."""


@contextlib.contextmanager
def workshop(wanted: bool) -> Iterator[None]:
    """Where what is compiled meanwhile has its files: a folder of this process's own, gone in the end.

    In torch's usual one, which all processes share for good, a compiler that was killed leaves half a library, and
    every later process fails to load it.
    """
    if not wanted:
        yield
        return
    before = {name: os.environ[name] for name in FOLDERS if name in os.environ}
    with tempfile.TemporaryDirectory(prefix="lab-kernels-") as folder:
        os.environ |= {name: str(Path(folder, name.lower())) for name in FOLDERS}
        try:
            yield
        finally:
            for name in FOLDERS:
                del os.environ[name]
            os.environ |= before


def compiled(work: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`work` as kernels, made anew for each shape of its arguments when it is first called with it.

    None is chosen by timing, so the same machine makes the same ones; torch's cache of graphs, which are pickles, is
    left out; and where a part of the work cannot be compiled this is an error, not a slower step with other bits.
    """
    # At its limit of 8 shapes in a process torch would refuse the ninth.
    torch._dynamo.config.recompile_limit = torch._dynamo.config.accumulated_recompile_limit = ENDLESS
    options: dict[str, Any] = {"deterministic": True, "fx_graph_cache": False, "compile_threads": 1}
    return torch.compile(work, fullgraph=True, dynamic=False, options=options)


def check(device: str) -> None:
    """InputError where nothing can be compiled here."""
    try:
        with workshop(True):
            numbers = torch.ones(8, device=device, requires_grad=True)
            torch.autograd.grad(compiled(lambda x: (x * x).sum())(numbers), numbers)
    except Exception as error:  # whatever compilers and drivers say
        raise InputError(
            f"train.compile is true, but torch.compile does not work here ({type(error).__name__}: "
            f"{brief(error, 200)}); install a C++ compiler (g++), or set train.compile=false"
        ) from error
