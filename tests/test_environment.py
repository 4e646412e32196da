"""The environment of a run: what a launcher left is dropped, and what limits the arithmetic is in the key."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.tiny import tiny_config

from lab import environment
from lab.loop import build

PROJECT = Path(__file__).parents[1]
PRINT_PATH = 'printf %s "$PYTHONPATH"'


@pytest.mark.parametrize(
    "name",
    [
        *("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "PMI_SIZE", "PMI_RANK", "OMPI_COMM_WORLD_SIZE"),
        *("MV2_COMM_WORLD_RANK", "ACCELERATE_MIXED_PRECISION", "ACCELERATE_USE_CPU", "FSDP_OFFLOAD_PARAMS"),
        *("TORCHELASTIC_RUN_ID", "ONEDNN_DEFAULT_FPMATH_MODE", "NVIDIA_TF32_OVERRIDE", "OMP_THREAD_LIMIT"),
        *("TORCH_COMPILE_DISABLE", "TORCHDYNAMO_DISABLE", "MKL_DOMAIN_NUM_THREADS", "USE_HUB_KERNELS"),
        *("TORCH_MKLDNN_MATMUL_MIN_DIM", "PYTHONOPTIMIZE", "PYTHONINSPECT"),
    ],
)
def test_what_a_launcher_left_is_dropped(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "2")
    assert (name in environment.clean()) == (name in environment.unwanted([name], environment.LAUNCHED))
    assert name not in os.environ
    assert environment.clean() == []


def test_numpy_has_one_thread_whatever_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "8")
    environment.clean()
    assert os.environ["OPENBLAS_NUM_THREADS"] == "1"


def test_no_module_of_the_current_folder_is_in_the_way_by_pythonpath(tmp_path: Path) -> None:
    """An empty entry, a point and the folder's own name are all the current folder."""
    here = tmp_path / "here"
    here.mkdir()
    script = f'source "$root/scripts/bootstrap.sh"; {PRINT_PATH}'
    for given in ("", ":/a", "/a:", "/a::/b c", ".", f"{here}:/a:./"):
        settings = {"root": str(PROJECT), "LAB_PYTHON": sys.executable, "PYTHONPATH": given, "PATH": os.environ["PATH"]}
        done = subprocess.run(
            ["bash", "-c", script], cwd=here, env=settings, capture_output=True, text=True, check=True
        )
        others = [name for name in given.split(":") if name.startswith("/") and name != str(here)]
        assert done.stdout == ":".join([str(PROJECT), *others]), given


@pytest.mark.parametrize(
    "name",
    [
        *("HOME", "PATH", "HF_HOME", "HF_HUB_OFFLINE", "CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH", "SLURM_JOB_ID"),
        *("OMP_NUM_THREADS", "RANKING", "MASTER", "ATEN_CPU_CAPABILITY", "TMPDIR", "PYTHONPATH"),
    ],
)
def test_all_else_stays(name: str) -> None:
    assert environment.unwanted([name]) == []


def test_limits_of_instruction_sets_are_in_the_key_of_what_computes(
    monkeypatch: pytest.MonkeyPatch, corpus_file: Path
) -> None:
    """Every step that holds a machine has another key; those that read and divide text keep theirs."""
    for name in environment.INSTRUCTIONS:
        monkeypatch.delenv(name, raising=False)
    plain = build(tiny_config(corpus_file))
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
    limited = build(tiny_config(corpus_file))
    assert limited.machine.instructions == "ATEN_CPU_CAPABILITY=avx2" and plain.machine.instructions is None
    same = {step.key for step in plain.steps} & {step.key for step in limited.steps}
    assert {step.key for step in plain.human} <= same
    assert not any(step.key in same for step in plain.steps if "machine" in step.params)
    assert {step.name for step in plain.steps if "machine" in step.params} == {"train", "sample", "heldout"}
