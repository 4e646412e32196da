"""Checkpoints of a training: what an interrupted one needs to continue with the same bits.

A checkpoint is a folder `step-00000120` of two files:

    state.safetensors   the weights that are trained, the module's buffers, the optimizer's state, torch's generators
    state.json          the step, the learning curve and the rows counted so far, with the hashes of both files

It is written under a temporary name, synced to the disk and renamed; the two newest are kept.  The folder around them
names the training that they fit (see lab/run/worker.py), so no other training reads them.

Batches and learning rates follow from the step number, so nothing else has to be kept.  No model of the lab draws
random numbers while it is trained (dropout is off); the generators are kept for one that does.
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
from lab.store import crash_points
from lab.store.atomic import file_sha256, fsync, make_folder, renamed
from lab.store.space import CHECKPOINTS, SPARE, free
from lab.store.step import Attempt

STATE, TENSORS = "state.json", "state.safetensors"


class Checkpoints:
    """The checkpoints of one training: `after_step` writes them when they are due, `resume` reads the newest."""

    def __init__(self, attempt: Attempt) -> None:
        self.folder, self.stopping, self.note = attempt.scratch, attempt.stopping, attempt.note
        self.seconds = attempt.checkpoint_seconds
        self.last = time.monotonic()

    def resume(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any] | None:
        """Restore weights, buffers, optimizer and generators from the newest checkpoint, and return its state.

        A damaged checkpoint is reported and removed, and the one before it is used.

        Returns:
            The `state` that `save` was given, or None if there is no checkpoint.
        """
        for leftover in self.folder.glob(".tmp-*"):  # of a process that was killed
            shutil.rmtree(leftover, ignore_errors=True)
        for path in reversed(self._all()):
            try:
                body, tensors = _read(path)
            except (OSError, ValueError, KeyError, TypeError) as error:
                self.note(f"checkpoint {path} is damaged ({error}): it is removed, and the one before it used if any")
                shutil.rmtree(path, ignore_errors=True)
                continue
            _restore(module, optimizer, tensors)
            state: dict[str, Any] = body["state"]
            return state
        return None

    def after_step(
        self, module: nn.Module, optimizer: torch.optim.Optimizer, step: int, state: Callable[[], Mapping[str, Any]]
    ) -> None:
        """Write a checkpoint if one is due.  If the run was asked to stop, write one and raise Stopped."""
        crash_points.at("train/step")
        stopping = self.stopping()
        if stopping or time.monotonic() - self.last >= self.seconds:
            self.save(module, optimizer, step, state())
        if stopping:
            raise Stopped

    def save(self, module: nn.Module, optimizer: torch.optim.Optimizer, step: int, state: Mapping[str, Any]) -> None:
        """Write a checkpoint with `state` in it, and remove all except the two newest.

        If no room would be left on the disk for the trained model, report that and write nothing.
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
            self._write(module, optimizer, step, state)
            for old in self._all()[:-CHECKPOINTS]:
                shutil.rmtree(old, ignore_errors=True)
            crash_points.at("train/checkpoint/kept")
        self.last = time.monotonic()

    def _write(self, module: nn.Module, optimizer: torch.optim.Optimizer, step: int, state: Mapping[str, Any]) -> None:
        """Write a checkpoint.  FileNotFoundError: another machine, to which locks do not reach, has removed it."""
        make_folder(self.folder)
        temporary = self.folder / f".tmp-{uuid.uuid4().hex[:8]}"
        temporary.mkdir()
        try:
            save_file(_tensors(module, optimizer), temporary / TENSORS)
            crash_points.at("train/checkpoint/tensors")
            body = {"sha256": file_sha256(temporary / TENSORS), "state": dict(state)}
            text = json.dumps({"digest": digest(body), "body": body})
            (temporary / STATE).write_text(text, encoding="utf-8")
            crash_points.at("train/checkpoint/written")
            for path in (temporary / TENSORS, temporary / STATE, temporary):
                fsync(path)
            crash_points.at("train/checkpoint/synced")
            renamed(temporary, self.folder / f"step-{step:08d}")  # or another machine has written the same one
            crash_points.at("train/checkpoint/renamed")
            fsync(self.folder)
        except Exception as error:
            if not temporary.exists():
                raise FileNotFoundError(temporary) from error
            raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _all(self) -> list[Path]:
        """Return the folders of all checkpoints, oldest first."""
        return sorted(self.folder.glob("step-*"))


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return state.json's body and the tensors of a checkpoint; raise ValueError if they are damaged."""
    saved = json.loads((path / STATE).read_text(encoding="utf-8"))
    body: dict[str, Any] = saved["body"]
    if digest(body) != saved["digest"]:
        raise ValueError(f"{STATE} holds other bytes than were written")
    if file_sha256(path / TENSORS) != body["sha256"]:
        raise ValueError(f"{TENSORS} holds other bytes than were written")
    return body, load_file(path / TENSORS)


def _trained(module: nn.Module) -> dict[str, Tensor]:
    """Return what training may change, by name: each tensor once, even a tied one, and no frozen weights."""
    weights = {f"weight/{name}": p for name, p in module.named_parameters() if p.requires_grad}
    return weights | {f"buffer/{name}": buffer for name, buffer in module.named_buffers()}


def _tensors(module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return everything that state.safetensors holds."""
    tensors = {name: tensor.detach() for name, tensor in _trained(module).items()}
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
    """Copy what `_tensors` returned back to where it was."""
    with torch.no_grad():
        for name, tensor in _trained(module).items():
            tensor.copy_(tensors[name])
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
