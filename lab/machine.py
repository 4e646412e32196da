"""This machine: device, number type, processor and versions, found without importing torch, which takes seconds."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import platform
import subprocess
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from lab.errors import InputError

LIBRARIES = ("torch", "transformers", "accelerate", "tokenizers", "datasets", "numpy", "pyarrow", "safetensors")
"""Libraries whose versions decide whether results are equal to the bit."""


def resolve_device(device: str) -> str:
    """Return "cuda" or "cpu" for "auto", "cuda" or "cpu".  InputError where a study asks for cuda and there is none."""
    if device == "cpu":
        return "cpu"
    missing = no_cuda_because()
    if device == "cuda" and missing:
        raise InputError(f"compute.device is cuda, but {missing}; set compute.device=cpu or auto")
    return "cpu" if missing else "cuda"


def resolve_dtype(dtype: str, device: str) -> str:
    """Return "bfloat16" for "auto" where the hardware multiplies it, as every GPU is assumed to, else "float32"."""
    if dtype != "auto":
        return dtype
    fast = device == "cuda" or bool(_cpu_flags() & {"avx512_bf16", "amx_bf16", "bf16"})
    return "bfloat16" if fast else "float32"


def cpu_name() -> str:
    """Return the model name of the processor, such as "AMD EPYC 9654 96-Core Processor"."""
    return _cpuinfo().get("model name") or platform.processor() or platform.machine()


def cpu_cores() -> int:
    """Return the number of cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def usable_cores() -> int:
    """Return the number of cores that this process may keep busy: `cpu_cores`, or fewer under a quota; at least 1."""
    quota = cpu_quota()
    return cpu_cores() if quota is None else max(1, min(cpu_cores(), int(quota)))


def cpu_quota() -> float | None:
    """Return the cores that control groups grant to this process, such as 1.5, or None where none sets a limit.

    In version 2 the smallest limit of the group and the groups above it counts.  Version 1 has two files.
    """
    limits = [text.split() for text in _control_groups("cpu.max")]
    first = Path("/sys/fs/cgroup/cpu")
    with contextlib.suppress(OSError):
        limits.append([(first / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period")])
    return min((int(granted) / int(period) for granted, period in limits if granted.isdigit()), default=None)


def memory_available() -> int | None:
    """Return the bytes of memory that are still free: the system's, or fewer where a control group sets a limit."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    fields = {line.partition(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.endswith("kB")}
    limit = _control_group("memory.max").strip()
    if limit in ("", "max"):
        return fields.get("MemAvailable")
    pages = dict(line.split() for line in _control_group("memory.stat").splitlines())
    # The pages of inactive files are freed on demand.
    taken = int(_control_group("memory.current") or 0) - int(pages.get("inactive_file", 0))
    return min(fields.get("MemAvailable", 0), int(limit) - taken)


def _control_group(name: str) -> str:
    """Return the text of a file of this process's control group (version 2), or "" where there is none."""
    return next(_control_groups(name, above=False), "")


def _control_groups(name: str, *, above: bool = True) -> Iterator[str]:
    """Yield the text of a file of this process's control group (version 2), and of the groups above that have it."""
    root = Path("/sys/fs/cgroup")
    try:
        own = root / Path("/proc/self/cgroup").read_text().partition("0::")[2].strip().lstrip("/")
    except OSError:
        return
    for group in (own, *own.parents) if above else (own,):
        if group.is_relative_to(root):
            with contextlib.suppress(OSError):
                yield (group / name).read_text()


@functools.cache
def _gpu() -> tuple[str, str] | tuple[None, None]:
    """Return the model and the driver of the first GPU, which nvidia-smi prints, or None for both without one."""
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        printed = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
        name, driver = (part.strip() for part in printed.splitlines()[0].split(","))
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None, None
    return name, driver


def gpu_name() -> str | None:
    """Return the model of the first GPU, such as "NVIDIA H100 80GB HBM3", or None where there is none."""
    return _gpu()[0]


def gpu_driver() -> str | None:
    """Return the driver version of the first GPU, or None where there is none."""
    return _gpu()[1]


def here() -> dict[str, str]:
    """Return what equal bits depend on besides threads and device, which are in the keys: versions, CPU and GPU."""
    return {**versions(), "cpu": cpu_name(), "gpu": gpu_name() or "none"}


def keep_memory() -> None:
    """Let this process reuse the memory that it frees, under glibc and until the process ends.

    By default glibc returns large blocks to the system and later requests them again, page by page.  Each step of
    training allocates the same arrays, so that takes more than a quarter of the time.
    """
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # another C library
        return
    for size in (2**30, 2**25):  # older versions refuse more than 32 MB, and the other setting alone slows down
        if mallopt(mmap_threshold, size):
            mallopt(trim_threshold, 2**30)
            return


@functools.cache
def versions() -> dict[str, str]:
    """Return the version of Python and of each installed library.  It reads metadata and imports nothing."""
    return {name: number for name in ("python", *LIBRARIES) if (number := version(name)) is not None}


def version(name: str) -> str | None:
    """Return the version of a library, or of Python; None where the library is not installed."""
    if name == "python":
        return platform.python_version()
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def no_cuda_because() -> str | None:
    """Return why torch cannot use a GPU here, or None where it can."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1"):
        return "CUDA_VISIBLE_DEVICES hides every GPU"
    torch = version("torch") or ""
    if torch.endswith("+cpu"):
        return f"torch {torch} is built without CUDA"
    if not any(Path("/dev").glob("nvidia[0-9]*")) and not Path("/dev/dxg").exists():
        return "this machine shows no NVIDIA GPU (no /dev/nvidia0)"
    return None


def _cpuinfo() -> dict[str, str]:
    """Return the fields of the first processor in /proc/cpuinfo, or nothing where there is no such file."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return {}
    pairs = (line.partition(":") for line in text.split("\n\n")[0].splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _cpu_flags() -> set[str]:
    """Return the instruction sets of the processor, such as avx512_bf16."""
    info = _cpuinfo()
    return set((info.get("flags") or info.get("Features") or "").split())
