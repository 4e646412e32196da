"""The training loop: AdamW, linear warm-up, cosine decay, clipped gradients, batches that follow from the step number.

Equal arguments, threads and type of machine give bit-equal weights.  Losses are in nats per token.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from lab.config import TrainConfig
from lab.models import Gpt2, behind
from lab.seeds import permutation

LOG_POINTS = 20
"""The log has about so many lines, whatever the number of steps."""


class RowSource(Protocol):
    """The rows to train on, wherever they lie."""

    def __len__(self) -> int: ...

    def take(self, indices: np.ndarray) -> np.ndarray:
        """Rows of these indices (int64): integers [B, T]."""


def fit(
    model: Gpt2,
    rows: RowSource,
    config: TrainConfig,
    *,
    validation: np.ndarray,
    seed: int,
    dtype: str,
    processes: int = 1,
    progress: Callable[[int], None],
) -> list[dict[str, Any]]:
    """Train the model in place on config.tokens // T rows of T tokens; the learning curve.

    Each line: step, tokens (seen so far), lr, train (mean loss since the last line; None at the start) and
    validation (loss on `validation` [N, T]; None but for the start, the middle and the end).
    `dtype`, bfloat16 or float32, is that of the matrix products; weights and optimizer stay float32.
    `processes` is the world size expected: batches are global and each rank takes its share.
    `progress` is told the tokens seen so far.  FloatingPointError when the loss is no longer finite.
    """
    if len(rows) == 0:
        raise ValueError("there are no rows to train on; the recipe is empty")
    total = config.tokens // model.positions
    steps = math.ceil(total / config.batch_rows)
    accelerator = _accelerator(model, dtype, processes, config.batch_rows)
    optimizer = _optimizer(model.module, config)
    loss_of, optimizer = accelerator.prepare(_Loss(model), optimizer)
    log = [_line(0, 0, lr_at(0, steps, config), None, model.nats(validation))]
    since: list[float] = []
    for step in range(steps):
        lr = lr_at(step, steps, config)
        for group in optimizer.param_groups:
            group["lr"] = lr
        indices = batch_at(step, seed=seed, rows=len(rows), batch_rows=config.batch_rows, total=total)
        mine = indices[accelerator.process_index :: processes]
        ids_BT = torch.from_numpy(rows.take(mine).astype(np.int64)).to(model.device)
        loss = loss_of(ids_BT)
        accelerator.backward(loss)
        since.append(float(loss.detach()))
        if not math.isfinite(since[-1]):
            raise FloatingPointError(
                f"the loss is {since[-1]} at step {step} of {steps} (lr {lr:g}); lower train.lr or raise train.warmup"
            )
        accelerator.clip_grad_norm_(model.module.parameters(), config.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seen = min((step + 1) * config.batch_rows, total) * model.positions
        progress(seen)
        if step + 1 in (steps // 2, steps):
            log.append(_line(step + 1, seen, lr, float(np.mean(since)), model.nats(validation)))
            since = []
    return log


def _line(step: int, tokens: int, lr: float, train: float | None, validation: np.ndarray | None) -> dict[str, Any]:
    mean = None if validation is None else float(validation.mean(dtype=np.float64))
    return {"step": step, "tokens": tokens, "lr": lr, "train": train, "validation": mean}


def lr_at(step: int, steps: int, config: TrainConfig) -> float:
    """Learning rate of step 0 .. steps - 1: it rises to lr over the warm-up, then falls to final_lr x lr.

    10 steps, warmup .2, lr 1, final_lr 0:   .5  1  .96 .85 .69 .5 .31 .15 .04 0
    """
    warmup = math.ceil(config.warmup * steps)
    if step < warmup:
        return config.lr * (step + 1) / warmup
    peak = max(warmup - 1, 0)
    done = (step - peak) / max(steps - 1 - peak, 1)
    return config.lr * (config.final_lr + (1 - config.final_lr) * (1 + math.cos(math.pi * done)) / 2)


def batch_at(step: int, *, seed: int, rows: int, batch_rows: int, total: int) -> np.ndarray:
    """Row indices of one step's batch, int64.

    The epochs' permutations stand one after the other and are cut into full batches; the last one ends at `total` rows.
    """
    places = np.arange(step * batch_rows, min((step + 1) * batch_rows, total))
    epochs = places // rows
    return np.concatenate([_order(seed, int(e), rows)[places[epochs == e] % rows] for e in np.unique(epochs)])


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, rows: int) -> np.ndarray:
    return permutation(seed, epoch, rows)


class _Loss(nn.Module):
    """Mean loss of a batch, as a module so that accelerate can wrap it."""

    def __init__(self, model: Gpt2) -> None:
        super().__init__()
        self.module = model.module
        self.bos = model.bos

    def forward(self, ids_BT: Tensor) -> Tensor:
        logits_BTV = self.module(behind(self.bos, ids_BT)).logits
        return torch.nn.functional.cross_entropy(logits_BTV.flatten(0, 1).float(), ids_BT.flatten())


def _optimizer(module: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Fused AdamW; biases and layer norms, the parameters of one dimension, do not decay."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.lr, betas=(config.beta1, config.beta2), eps=1e-8, fused=True)


def _accelerator(model: Gpt2, dtype: str, processes: int, batch_rows: int) -> Accelerator:
    AcceleratorState._reset_state(reset_partial_state=True)  # the last training of this process may have been another
    accelerator = Accelerator(mixed_precision="bf16" if dtype == "bfloat16" else "no", cpu=model.device.type == "cpu")
    if accelerator.num_processes != processes:
        raise RuntimeError(
            f"{processes} processes were asked for, but {accelerator.num_processes} run; start them with "
            f"torchrun --nproc_per_node {processes}"
        )
    if batch_rows % processes:
        raise ValueError(f"train.batch_rows {batch_rows} is not a multiple of the {processes} processes that share it")
    return accelerator
