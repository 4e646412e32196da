"""Checkpoints inside a training: what an interrupted one needs to go on as if nothing had happened.

A checkpoint is a folder `step-00000120`: `state.safetensors` has the weights that are trained, whatever else the module
remembers (buffers), the optimizer's state and torch's generators; `state.json` the step, the learning curve, the rows
counted so far, and the hashes by which both files are known to be whole.  It is written aside, brought to the disk and
renamed; two are kept.  The folder they lie in names what they fit (see lab/run/walk.py), so none is read elsewhere.

Batches and learning rates follow from the step number, so nothing else has to be remembered.  No model of the lab draws
numbers while it is trained (dropout is off); the generators are kept for one that does.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lab.errors import Stopped
from lab.hashing import digest
from lab.store import atomic as disk
from lab.store import crash_points as faults
from lab.store.atomic import file_sha256, make_folder, renamed
from lab.store.space import CHECKPOINTS, SPARE, free
from lab.store.step import Attempt

STATE, TENSORS = "state.json", "state.safetensors"


class Checkpoints:
    """Those of one training: `save` them when they are due, `resume` from the newest whole one."""

    def __init__(self, attempt: Attempt) -> None:
        self.folder, self.stopping, self.note = attempt.scratch, attempt.stopping, attempt.note
        self.seconds = attempt.checkpoint_seconds
        self.last = time.monotonic()

    def resume(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any] | None:
        """Put weights, buffers, optimizer and generators back, and return what `save` was told; None to begin anew.

        A damaged checkpoint is reported and removed, and the one before it is taken.
        """
        for leftover in self.folder.glob(".tmp-*"):  # of a process that was killed
            shutil.rmtree(leftover, ignore_errors=True)
        for path in reversed(self._found()):
            try:
                body, tensors = _read(path)
            except (OSError, ValueError, KeyError, TypeError) as error:
                self.note(f"checkpoint {path} is damaged ({error}): it is removed, and the one before it used if any")
                shutil.rmtree(path, ignore_errors=True)
                continue
            _restore(module, optimizer, tensors)
            told: dict[str, Any] = body["told"]
            return told
        return None

    def after_step(
        self, module: nn.Module, optimizer: torch.optim.Optimizer, step: int, told: Callable[[], Mapping[str, Any]]
    ) -> None:
        """Between two steps: save where it is time to.  Stopped, after saving, when the run was asked to stop."""
        faults.at("train/step")
        stopping = self.stopping()
        if stopping or time.monotonic() - self.last >= self.seconds:
            self.save(module, optimizer, step, told())
        if stopping:
            raise Stopped

    def save(self, module: nn.Module, optimizer: torch.optim.Optimizer, step: int, told: Mapping[str, Any]) -> None:
        """Write one, `told` with it, and remove all but the two newest.

        None, with a note, where there would be no room left for the trained model.
        """
        size = sum(tensor.nbytes for tensor in _tensors(module, optimizer).values())
        model = sum(parameter.nbytes for parameter in module.parameters())
        if free(self.folder) < size + model + SPARE:
            self.note(
                f"no room for a checkpoint of {size / 1e6:,.1f} MB in {self.folder}: the training goes on without"
            )
            self.last = time.monotonic()
            return
        with contextlib.suppress(FileNotFoundError):
            self._write(module, optimizer, step, told)
            for old in self._found()[:-CHECKPOINTS]:
                shutil.rmtree(old, ignore_errors=True)
            faults.at("train/checkpoint/kept")
        self.last = time.monotonic()

    def _write(self, module: nn.Module, optimizer: torch.optim.Optimizer, step: int, told: Mapping[str, Any]) -> None:
        """FileNotFoundError where another machine, whose locks do not reach, has removed it."""
        make_folder(self.folder)
        temporary = self.folder / f".tmp-{uuid.uuid4().hex[:8]}"
        temporary.mkdir()
        try:
            save_file(_tensors(module, optimizer), temporary / TENSORS)
            faults.at("train/checkpoint/tensors")
            body = {"sha256": file_sha256(temporary / TENSORS), "told": dict(told)}
            text = json.dumps({"digest": digest(body), "body": body})
            (temporary / STATE).write_text(text, encoding="utf-8")
            faults.at("train/checkpoint/written")
            for path in (temporary / TENSORS, temporary / STATE, temporary):
                disk.fsync(path)
            faults.at("train/checkpoint/synced")
            renamed(temporary, self.folder / f"step-{step:08d}")  # or the other machine has left the same
            faults.at("train/checkpoint/renamed")
            disk.fsync(self.folder)
        except Exception as error:
            if not temporary.exists():
                raise FileNotFoundError(temporary) from error
            raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _found(self) -> list[Path]:
        """Oldest first."""
        return sorted(self.folder.glob("step-*"))


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """ValueError, or what reading raises, where it is not what was written."""
    saved = json.loads((path / STATE).read_text(encoding="utf-8"))
    body: dict[str, Any] = saved["body"]
    if digest(body) != saved["digest"]:
        raise ValueError(f"{STATE} holds other bytes than were written")
    if file_sha256(path / TENSORS) != body["sha256"]:
        raise ValueError(f"{TENSORS} holds other bytes than were written")
    return body, load_file(path / TENSORS)


def _places(module: nn.Module) -> dict[str, Tensor]:
    """What training may change, each tensor once, also a tied one.  Frozen weights follow from the start."""
    trained = {f"weight/{name}": p for name, p in module.named_parameters() if p.requires_grad}
    return trained | {f"buffer/{name}": buffer for name, buffer in module.named_buffers()}


def _tensors(module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    tensors = {name: place.detach() for name, place in _places(module).items()}
    for index, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            if not isinstance(value, Tensor):
                raise TypeError(f"the optimizer keeps {name}, a {type(value).__name__}, which a checkpoint cannot hold")
            tensors[f"optimizer/{index}/{name}"] = value
    tensors["generator/cpu"] = torch.get_rng_state()
    if _on_gpu(module):
        tensors["generator/cuda"] = torch.cuda.get_rng_state()
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def _restore(module: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, place in _places(module).items():
            place.copy_(tensors[name])
    states: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer/"):
            _, index, entry = name.split("/")
            states.setdefault(int(index), {})[entry] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": states})
    torch.set_rng_state(tensors["generator/cpu"])
    if _on_gpu(module):
        torch.cuda.set_rng_state(tensors["generator/cuda"])


def _on_gpu(module: nn.Module) -> bool:
    return next(module.parameters()).is_cuda
