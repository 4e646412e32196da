"""torch.compile in training: the same losses except for rounding, equal bytes each time, one line if it fails."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.hostile import call
from support.training import Rows, ascending, fresh, quiet, settings

from lab.config.files import load_study
from lab.loop import build
from lab.models.gpt2 import Gpt2
from lab.models.torch_compile import FOLDERS, compiled, private_cache
from lab.models.train import fit

CURVE = 1e-5
"""Greatest difference in nats between the losses of a compiled and a plain training, in float32 over 20 steps."""


def trained(*, compile: bool) -> tuple[Gpt2, list[dict[str, float | None]]]:
    model, config = fresh(n_layer=1), settings(compile=compile)
    return model, fit(
        model, Rows(ascending(30)), config, validation=ascending(4), seed=1, dtype="float32", progress=quiet
    )


def weights(model: Gpt2) -> bytes:
    return b"".join(parameter.detach().numpy().tobytes() for parameter in model.module.parameters())


needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs g++ on a CPU")
pytestmark = pytest.mark.filterwarnings("default")  # torch's compiler warns of what torch itself does


@pytest.mark.full
@needs_compiler
def test_a_compiled_training_is_the_same_training() -> None:
    model, curve = trained(compile=False)
    ours, other_curve = trained(compile=True)
    for line, other in zip(curve, other_curve, strict=True):
        for name in ("train", "validation"):
            assert (line[name] is None) == (other[name] is None)
            assert line[name] is None or abs(line[name] - other[name]) < CURVE, (line, other)
    assert weights(ours) != weights(model)  # it was compiled: other sums
    torch._dynamo.reset()  # compile anew, as another process would
    assert weights(trained(compile=True)[0]) == weights(ours)


@needs_compiler
def test_the_compiled_function_is_the_one_that_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sampled form of the test above: the graph of the function as torch would compile it, and no kernels."""
    sound, graphs = torch.compile, []

    def eager(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", lambda function, options, **rules: sound(function, backend=eager, **rules))
    torch._dynamo.reset()
    (model, curve), plain = trained(compile=True), trained(compile=False)
    assert graphs and weights(model) == weights(plain[0]) and curve == plain[1]


@pytest.mark.slow
@needs_compiler
def test_all_of_it_is_compiled_or_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A function is compiled for more shapes than torch's default allows, and never in parts.

    Both are rules for the graph of the function, so that no kernels are made of it here.
    """
    sound = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function, options, **rules: sound(function, backend="eager", **rules))
    torch._dynamo.reset()
    for length in range(1, 11):
        assert float(compiled(thrice)(torch.ones(length)).sum()) == 3 * length
    with pytest.raises(torch._dynamo.exc.Unsupported):
        compiled(broken)(torch.ones(1))


@pytest.mark.parametrize("before", [True, False])
def test_the_files_of_a_compiler_stay_in_a_private_folder(
    before: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder is removed, whatever folder the environment names.  The next test holds torch's compiler to it."""
    for name in FOLDERS:
        if before:
            monkeypatch.setenv(name, str(tmp_path / name))
        else:
            monkeypatch.delenv(name, raising=False)
    named = {name: os.environ.get(name) for name in FOLDERS}
    with private_cache(True):
        inside = [Path(os.environ[name]) for name in FOLDERS]
        for folder in inside:
            folder.mkdir()
            (folder / "kernel.so").touch()
    assert {name: os.environ.get(name) for name in FOLDERS} == named
    assert not any(folder.parent.exists() for folder in inside) and not any(tmp_path.iterdir())


@pytest.mark.full
@needs_compiler
def test_what_is_compiled_stays_in_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiler's files are in the private folder, and no graph is kept."""
    for name in FOLDERS:
        monkeypatch.setenv(name, str(tmp_path / name))
    torch._dynamo.reset()
    counters = torch._dynamo.utils.counters["inductor"]
    counters.clear()
    with private_cache(True):
        inside = [Path(os.environ[name]) for name in FOLDERS]
        assert float(compiled(thrice)(torch.ones(3)).sum()) == 9
        assert any(path.is_file() for path in inside[0].rglob("*"))
    assert not any(folder.exists() for folder in inside) and not any(tmp_path.iterdir())
    assert not [name for name in counters if name.startswith("fxgraph_cache") and counters[name]]


def thrice(numbers: torch.Tensor) -> torch.Tensor:
    assert torch.compiler.is_compiling()
    return 3 * numbers


def broken(numbers: torch.Tensor) -> torch.Tensor:
    print("torch.compile would continue after this in another part")
    return 3 * numbers


def test_only_a_compiled_training_says_so_in_its_key() -> None:
    plain, compiled = (build(load_study("smoke", [f"train.compile={wanted}"])) for wanted in ("false", "true"))
    for one, other in zip(plain.steps, compiled.steps, strict=True):
        assert "compile" not in one.params.get("train", {})
        assert other.params.get("train", {}).get("compile") == (True if other.name == "train" else None)


@pytest.mark.slow
def test_without_a_compiler_a_run_says_so_before_it_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("/no/g++",))
    torch._dynamo.reset()
    end = call("run", "smoke", "--set", "train.compile=true", "--checkpoints", tmp_path, cwd=tmp_path)
    assert not end.fault(), end
    assert end.err.startswith("error: train.compile is true, but torch.compile does not work here")
