"""What this machine is, without importing torch: device, dtype, CPU, versions.  `lab plan` needs no more than this."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

from lab.errors import InputError

LIBRARIES = ("torch", "transformers", "accelerate", "tokenizers", "datasets", "numpy", "pyarrow", "safetensors")


def resolve_device(device: str) -> str:
    """ "auto" -> "cuda" where torch can use a GPU, else "cpu".  InputError where "cuda" is asked for in vain."""
    if device == "cpu":
        return "cpu"
    missing = no_cuda_because()
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


def cpu_quota() -> float | None:
    """Cores that the control group grants to this process, such as 1.5; None where it sets no limit."""
    for _, text in _control_group("cpu.max"):
        granted, period = text.split()
        return None if granted == "max" else int(granted) / int(period)
    return None


def memory_available() -> int | None:
    """Bytes of memory that programs can still take: the system's, or less where a control group sets a limit."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    fields = {line.partition(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.endswith("kB")}
    group = dict(_control_group("memory.max", "memory.current", "memory.stat"))
    if group.get("memory.max", "max").strip() == "max":
        return fields.get("MemAvailable")
    pages = dict(line.split() for line in group.get("memory.stat", "").splitlines())
    taken = int(group.get("memory.current", 0)) - int(pages.get("inactive_file", 0))  # pages that it gives back
    return min(fields.get("MemAvailable", 0), int(group["memory.max"]) - taken)


def _control_group(*names: str) -> list[tuple[str, str]]:
    """(name, text) of those of these files that this process's control group (version 2) has."""
    try:
        own = Path("/proc/self/cgroup").read_text().partition("0::")[2].strip().lstrip("/")
    except OSError:
        return []
    found = []
    for name in names:
        with contextlib.suppress(OSError):
            found.append((name, (Path("/sys/fs/cgroup") / own / name).read_text()))
    return found


@functools.cache
def _gpu() -> tuple[str, str] | None:
    """Model and driver of the first GPU, as nvidia-smi says; None where there is none."""
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
        name, driver = (part.strip() for part in said.splitlines()[0].split(","))
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None
    return name, driver


def gpu_name() -> str | None:
    """Model of the first GPU, such as "NVIDIA H100 80GB HBM3"; None where there is none."""
    found = _gpu()
    return found[0] if found else None


def gpu_driver() -> str | None:
    found = _gpu()
    return found[1] if found else None


def here() -> dict[str, str]:
    """What equal bits depend on beside threads and device, which are in the keys: versions, CPU, GPU."""
    return {**versions(), "cpu": cpu_name(), "gpu": gpu_name() or "none"}


def keep_memory() -> None:
    """Let this process keep what it frees, for its next arrays: under glibc, and until it ends.

    glibc gives large blocks back to the system and gets them anew, page by page.  In training, whose every step asks
    for the same arrays, that costs more than a quarter of the time.
    """
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # another C library
        return
    for enough in (2**30, 2**25):  # older versions refuse more than 32 MB, and the other setting alone does harm
        if mallopt(mmap_threshold, enough):
            mallopt(trim_threshold, 2**30)
            return


@functools.cache
def versions() -> dict[str, str]:
    """Python's version and that of each library that is installed; the metadata is read, nothing imported."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        installed = version(name)
        if installed is not None:
            found[name] = installed
    return found


def version(name: str) -> str | None:
    """Of an installed library, or of Python; None where it is not installed."""
    if name == "python":
        return platform.python_version()
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def no_cuda_because() -> str | None:
    """Why torch cannot use a GPU here, or None."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1"):
        return "CUDA_VISIBLE_DEVICES hides every GPU"
    torch = version("torch") or ""
    if torch.endswith("+cpu"):
        return f"torch {torch} is built without CUDA"
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
