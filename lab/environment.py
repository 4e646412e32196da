"""Environment variables of a run: which ones are dropped, and which ones are part of a key.

A run is one process with workers of its own, also where a launcher (MPI, torchrun, accelerate, a batch system)
started it.  Libraries would read what the launcher left, and then wait for processes that do not exist, or compute
something else under the same key.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

LAUNCHED = (
    *("ACCELERATE_", "DEEPSPEED_", "FSDP_", "MEGATRON_LM_", "PARALLELISM_CONFIG_", "SM_", "SMDATAPARALLEL_"),
    *("MPI_LOCALRANKID", "MPI_LOCALNRANKS", "MV2_COMM_WORLD_", "OMPI_COMM_WORLD_", "PMIX_", "PMI_", "TORCHELASTIC_"),
    *("WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT"),
    *("GROUP_RANK", "GROUP_WORLD_SIZE", "ROLE_RANK", "ROLE_WORLD_SIZE", "ROLE_NAME", "FORK_LAUNCHED"),
)
"""What launchers set for several processes.  A name that ends in _ stands for all that begin so."""
ARITHMETIC = (
    *("DNNL_DEFAULT_FPMATH_MODE", "ONEDNN_DEFAULT_FPMATH_MODE", "NVIDIA_TF32_OVERRIDE", "OMP_DYNAMIC", "MKL_DYNAMIC"),
    *("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "OMP_THREAD_LIMIT", "OPENBLAS_CORETYPE", "NPY_DISABLE_CPU_FEATURES"),
    *("TORCH_COMPILE_", "TORCHDYNAMO_", "TORCH_DYNAMO_", "TORCHINDUCTOR_", "USE_TORCH_XLA", "XLA_", "PJRT_DEVICE"),
    *("MKL_DOMAIN_NUM_THREADS", "MKL_DISABLE_FAST_MM", "MKL_NUM_STRIPES", "TORCH_MKLDNN_MATMUL_", "TORCH_BLAS_PREFER_"),
    *("TORCH_LINALG_PREFER_", "TORCH_CUDNN_", "USE_HUB_KERNELS", "TRANSFORMERS_SDPA_FORCE_GQA"),
)
"""What would change the numbers that a study's dtype, device, threads and `train.compile` decide."""
PYTHON = ("PYTHONOPTIMIZE", "PYTHONINSPECT")
"""What would let a worker run without docstrings, which transformers reads, or wait for a keyboard."""
INSTRUCTIONS = (
    *("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS"),
    *("ONEDNN_CPU_ISA_HINTS", "DNNL_CPU_ISA_HINTS"),
)
"""What makes torch use fewer instruction sets than the processor has: part of the key of each step that computes."""


def unwanted(names: Iterable[str], listed: Sequence[str] = (*LAUNCHED, *ARITHMETIC, *PYTHON)) -> list[str]:
    """Return the variables of a launcher, and those that would change a study's arithmetic, sorted."""
    prefixes = tuple(name for name in listed if name.endswith("_"))
    return sorted(name for name in names if name in listed or name.startswith(prefixes))


def clean() -> list[str]:
    """Remove the unwanted variables from this process, before a library reads them, and return those of a launcher.

    numpy has one thread from then on: with several it adds many numbers in another order, whatever a key says.
    """
    launched = unwanted(os.environ, LAUNCHED)
    for name in unwanted(os.environ):
        del os.environ[name]
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    return launched


def instructions() -> str | None:
    """Return the variables that limit torch's instruction sets, such as "ATEN_CPU_CAPABILITY=avx2"; None without."""
    return " ".join(f"{name}={os.environ[name]}" for name in INSTRUCTIONS if os.environ.get(name)) or None
