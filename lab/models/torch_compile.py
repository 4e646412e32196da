"""torch.compile for training (`train.compile`): generated kernels for a model's forward and backward pass.

Besides torch this needs a compiler: a C++ compiler on a CPU, where compiling takes half a minute, and Triton's on a
GPU.
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
"""The environment variables that say where torch's compiler keeps files.  If the second is not set, the compiler sets
it to a folder inside the first."""


@contextlib.contextmanager
def private_cache(wanted: bool) -> Iterator[None]:
    """Keep torch.compile's cache in a private temporary folder, and remove it on exit; do nothing if not `wanted`.

    All processes share torch's usual cache, and it is never cleaned.  A compiler that is killed leaves half a library
    there, which no later process can load.
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


def compiled(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return `function` as kernels, which are generated anew for each shape of its arguments.

    No kernel is chosen by timing, so the same machine generates the same ones.  torch's cache of FX graphs, which are
    pickles, is off.  If a part of the function cannot be compiled, that is an error: the function would otherwise run
    slower and give other bits.
    """
    # At its limit of 8 shapes in a process torch would refuse the ninth.
    torch._dynamo.config.recompile_limit = torch._dynamo.config.accumulated_recompile_limit = ENDLESS
    options: dict[str, Any] = {"deterministic": True, "fx_graph_cache": False, "compile_threads": 1}
    return torch.compile(function, fullgraph=True, dynamic=False, options=options)


def check_works(device: str) -> None:
    """Compile a small function and run it.

    Raises:
        InputError: that fails on this machine.
    """
    try:
        with private_cache(True):
            numbers = torch.ones(8, device=device, requires_grad=True)
            torch.autograd.grad(compiled(lambda x: (x * x).sum())(numbers), numbers)
    except Exception as error:  # compilers and drivers raise errors of many types
        raise InputError(
            f"train.compile is true, but torch.compile does not work here ({type(error).__name__}: "
            f"{brief(error, 200)}); install a C++ compiler (g++), or set train.compile=false"
        ) from error
