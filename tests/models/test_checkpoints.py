"""Checkpoints of a training: one that is cut short anywhere and continued gives the same weights, bit for bit."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lab.config.model import ModelConfig, Network
from lab.config.train import TrainConfig
from lab.errors import Stopped
from lab.models.causal import Causal
from lab.models.checkpoints import STATE, TENSORS, Checkpoints
from lab.models.feed import RecipeRows
from lab.models.gpt2 import Gpt2
from lab.models.initial_weights import random_gpt2, random_llama
from lab.models.lora import Lora
from lab.models.train import fit
from lab.recipe import HUMAN, OnTable, Part, Recipe
from lab.store.space import CHECKPOINTS, SPARE
from lab.store.step import Attempt

torch.set_num_threads(1)
V, T, STEPS = 40, 16, 23
TEXT = ((np.arange(30)[:, None] * 7 + np.arange(T)) % V).astype(np.uint16)
GPU = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))


def gpt2(device: str) -> Gpt2:
    config = ModelConfig(n_layer=2, n_head=2, n_embd=32, n_positions=T)
    return random_gpt2(config, vocab_size=V, bos=0, seed=1, device=device)


def llama(device: str) -> Causal:
    shape = {"n_layer": 2, "n_head": 2, "n_embd": 32, "n_positions": T, "initializer_range": 0.02}
    return random_llama(Network(**shape), vocab_size=V, bos=0, seed=1, device=device)


def lora(device: str) -> Lora:
    pytest.importorskip("peft")
    return Lora(gpt2(device).module, rank=4, alpha=8.0, seed=3)


@dataclasses.dataclass
class Training:
    """A step of training in several attempts: some that are asked to stop, and a last one that finishes."""

    scratch: Path
    make: Callable[[str], Any] = gpt2
    device: str = "cpu"
    dtype: str = "float32"
    notes: list[str] = dataclasses.field(default_factory=list)

    def attempt(self, stop_after: int | None = None, seconds: float = 1e9, tokens: int = STEPS * 4 * T) -> Any:
        """Train to the end, or to `stop_after` steps of this attempt; return model, curve, rows and steps done."""
        done: list[int] = []
        attempt = Attempt(done.append, lambda: len(done) == stop_after, self.scratch, seconds, self.notes.append)
        model, rows = self.make(self.device), RecipeRows(Recipe((Part.whole(OnTable(HUMAN, 30)),)), {HUMAN: TEXT})
        curve = fit(
            model,
            rows,
            TrainConfig(tokens=tokens, batch_rows=4, lr=3e-3, validation_tokens=T),
            validation=TEXT[:4],
            seed=5,
            dtype=self.dtype,
            progress=attempt.report,
            checkpoints=Checkpoints(attempt),
        )
        return model, curve, rows, len(done)

    def cut(self, after: int, seconds: float = 1e9) -> None:
        with pytest.raises(Stopped):
            self.attempt(after, seconds)

    @property
    def left(self) -> list[str]:
        return sorted(path.name for path in self.scratch.iterdir())


def bits(model: Any, folder: Path) -> bytes:
    folder.mkdir()
    model.save(folder)
    return (folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize("device", ["cpu", GPU])
@pytest.mark.parametrize(
    ("make", "dtype"),
    [(gpt2, "float32"), (gpt2, "bfloat16"), (llama, "float32"), (llama, "bfloat16"), (lora, "float32")],
)
def test_cut_short_twice_it_gives_the_same_bits(make: Any, dtype: str, device: str, tmp_path: Path) -> None:
    """The saved weights, the whole learning curve and the counted rows are equal."""
    whole = Training(tmp_path / "whole", make, device, dtype)
    model, curve, rows, steps = whole.attempt()
    assert steps == STEPS and not whole.scratch.exists()
    cut = Training(tmp_path / "cut", make, device, dtype)
    cut.cut(after=2)
    torch.rand(7)  # another process has other generators
    cut.cut(after=12)
    assert cut.left == ["step-00000002", "step-00000014"]
    again, curve_again, rows_again, steps = cut.attempt()
    assert steps == STEPS - 14 and cut.notes == []
    assert bits(again, tmp_path / "a") == bits(model, tmp_path / "b")
    assert json.dumps(curve_again) == json.dumps(curve)
    assert rows_again.so_far() == rows.so_far() and rows.fed_tokens == STEPS * 4 * T
    if device == "cpu":
        assert bits(make(device), tmp_path / "c") != bits(again, tmp_path / "d"), "it has learned something"


def test_a_checkpoint_leaves_room_for_the_trained_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one byte less the training continues without one, reports that, and ends with the same weights."""
    whole = Training(tmp_path / "whole")
    whole.cut(after=1)
    size = sum(tensor.nbytes for tensor in load_file(whole.scratch / "step-00000001" / TENSORS).values())
    needed = size + sum(parameter.nbytes for parameter in gpt2("cpu").module.parameters()) + SPARE
    model = whole.attempt()[0]
    for room, notes in {needed: 0, needed - 1: STEPS - 1}.items():
        monkeypatch.setattr("lab.models.checkpoints.free", lambda folder, room=room: room)
        trial = Training(tmp_path / str(room))
        other = trial.attempt(seconds=0)[0]
        assert len(trial.notes) == notes and trial.scratch.exists() == (notes == 0)
        assert all("goes on without" in note for note in trial.notes)
        assert bits(other, tmp_path / f"a{room}") == bits(model, tmp_path / f"b{room}")


@pytest.mark.parametrize("make", [gpt2, llama, lora])
def test_training_draws_no_numbers(make: Any, tmp_path: Path) -> None:
    """Dropout is off in every model of the lab, so an attempt leaves torch's generator as it was."""
    before = torch.get_rng_state()
    Training(tmp_path, make).attempt()
    assert torch.equal(torch.get_rng_state(), before)


def test_two_are_kept_and_time_says_when(tmp_path: Path) -> None:
    often = Training(tmp_path / "often")
    often.cut(after=7, seconds=0)
    assert often.left == ["step-00000006", "step-00000007"]
    seldom = Training(tmp_path / "seldom")
    seldom.attempt(seconds=3600)
    assert not seldom.scratch.exists()


def test_a_tied_matrix_is_kept_once_and_frozen_ones_not_at_all(tmp_path: Path) -> None:
    from safetensors import safe_open

    for make, dropped in ((gpt2, "lm_head"), (lora, "base_layer")):
        training = Training(tmp_path / make.__name__, make)
        training.cut(after=1)
        with safe_open(training.scratch / "step-00000001" / TENSORS, "pt") as file:
            names = list(file.keys())
        weights = [name for name in names if name.startswith("weight/")]
        assert weights and not [name for name in names if dropped in name]
        assert len([name for name in names if name.endswith("/exp_avg")]) == len(weights)


DAMAGES = {
    "state cut": (STATE, lambda data: data[:-20]),
    "state empty": (STATE, lambda data: b""),
    "a number in the state": (STATE, lambda data: data.replace(b'"step": 7', b'"step": 5', 1)),
    "tensors cut": (TENSORS, lambda data: data[:-20]),
    "a bit of the tensors": (TENSORS, lambda data: data[:-20] + bytes([data[-20] ^ 1]) + data[-19:]),
}


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_newest_gives_way_to_the_older(how: str, tmp_path: Path) -> None:
    training, (file, change) = Training(tmp_path / "cut"), DAMAGES[how]
    training.cut(after=7, seconds=0)
    path = training.scratch / "step-00000007" / file
    before = path.read_bytes()
    path.write_bytes(change(before))
    assert path.read_bytes() != before
    again, curve, _, steps = training.attempt()
    assert steps == STEPS - 6
    assert len(training.notes) == 1 and "step-00000007 is damaged" in training.notes[0]
    model, whole, *_ = Training(tmp_path / "whole").attempt()
    assert bits(again, tmp_path / "a") == bits(model, tmp_path / "b") and curve == whole


def test_all_damaged_begins_anew(tmp_path: Path) -> None:
    training = Training(tmp_path / "cut")
    training.cut(after=7, seconds=0)
    for path in training.scratch.glob(f"*/{TENSORS}"):
        path.unlink()
    assert training.attempt()[3] == STEPS and len(training.notes) == CHECKPOINTS


def test_a_disk_that_is_full_leaves_the_older_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = Training(tmp_path / "cut")
    training.cut(after=3, seconds=0)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("lab.models.checkpoints.save_file", full)
        with pytest.raises(OSError, match="No space left"):
            training.attempt(seconds=0)
    assert training.left == ["step-00000002", "step-00000003"]
    assert training.attempt()[3] == STEPS - 3
