"""What this machine is, without importing torch: device, dtype, CPU, versions.  `lab plan` needs no more than this."""

from __future__ import annotations

import functools
import os
import platform
from importlib import metadata
from pathlib import Path

from lab.types import InputError

LIBRARIES = ("torch", "transformers", "accelerate", "tokenizers", "datasets", "numpy", "pyarrow", "safetensors")


def resolve_device(device: str) -> str:
    """ "auto" -> "cuda" where torch can use a GPU, else "cpu".  InputError where "cuda" is asked for in vain."""
    if device == "cpu":
        return "cpu"
    missing = _no_cuda_because()
    if device == "cuda" and missing:
        raise InputError(f"compute.device is cuda, but {missing}; set compute.device=cpu or auto")
    return "cpu" if missing else "cuda"


def resolve_dtype(dtype: str, device: str) -> str:
    """ "auto" -> "bfloat16" where the machine multiplies it in hardware (any GPU is taken to), else "float32"."""
    if dtype != "auto":
        return dtype
    fast = device == "cuda" or bool(_cpu_flags() & {"avx512_bf16", "amx_bf16", "bf16"})
    return "bfloat16" if fast else "float32"


def cpu_name() -> str:
    """Model name of the processor, such as "AMD EPYC 9654 96-Core Processor"."""
    return _cpuinfo().get("model name") or platform.processor() or platform.machine()


def cpu_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@functools.cache
def versions() -> dict[str, str]:
    """Python's version and that of each library that is installed; the metadata is read, nothing imported."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        version = _version(name)
        if version is not None:
            found[name] = version
    return found


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _no_cuda_because() -> str | None:
    """Why torch cannot use a GPU here, or None."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1"):
        return "CUDA_VISIBLE_DEVICES hides every GPU"
    version = _version("torch") or ""
    if version.endswith("+cpu"):
        return f"torch {version} is built without CUDA"
    if not any(Path("/dev").glob("nvidia[0-9]*")) and not Path("/dev/dxg").exists():
        return "this machine shows no NVIDIA GPU (no /dev/nvidia0)"
    return None


def _cpuinfo() -> dict[str, str]:
    """Fields of the first processor in /proc/cpuinfo; empty where there is none."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return {}
    pairs = (line.partition(":") for line in text.split("\n\n")[0].splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _cpu_flags() -> set[str]:
    info = _cpuinfo()
    return set((info.get("flags") or info.get("Features") or "").split())
