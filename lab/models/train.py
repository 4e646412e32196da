"""The training loop: AdamW with clipped gradients over the batches and learning rates of `schedule`.

Equal arguments, threads and type of machine give bit-equal weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from lab.config.train import TrainConfig
from lab.models.checkpoints import Checkpoints
from lab.models.feed import RecipeRows
from lab.models.loss import MeanLoss
from lab.models.protocols import Trainable
from lab.models.schedule import batch_at, completes_part, lr_at
from lab.models.torch_compile import private_cache

LOG_POINTS = 20
"""Lines of the learning curve after the first, at most, whatever the number of steps."""


@dataclass
class _Progress:
    """What a training remembers between two steps, besides model and optimizer."""

    step: int
    """Steps done."""
    log: list[dict[str, Any]]
    """The learning curve so far."""
    losses: list[float]
    """Losses of the steps since the last line of the log."""


def fit(
    model: Trainable,
    rows: RecipeRows,
    config: TrainConfig,
    *,
    validation: np.ndarray,
    counted: np.ndarray | None = None,
    row_tokens: float | None = None,
    seed: int,
    dtype: str,
    processes: int = 1,
    progress: Callable[[int], None],
    checkpoints: Checkpoints | None = None,
) -> list[dict[str, Any]]:
    """Train the model in place on rows of T tokens, for as long as `config` says, and return the learning curve.

    Each line of the curve has

        step        steps done
        tokens      tokens seen so far
        lr          learning rate of the last step
        train       mean loss since the last line; None at the start
        validation  mean loss on `validation`; None except at the start, in the middle and at the end

    Args:
        validation: held-out rows [N, T].
        counted: which tokens of `validation` its loss is taken over, bool [N, T]; None means all.
        row_tokens: mean number of tokens of text in a row, which turns train.tokens into rows; None means T.
        seed: decides the order of the rows.
        dtype: bfloat16 or float32, of the matrix products; weights and optimizer stay float32.
        processes: number of processes that train together.  Batches are global, and each process takes its share.
        progress: called after each step with the tokens seen so far.
        checkpoints: for one process only.  The training continues from the newest checkpoint and writes new ones.
            Call with the same arguments as the attempt that wrote it, and with the model in its initial state.

    Raises:
        FloatingPointError: the loss is no longer finite.
        Stopped: the run was asked to stop, and a checkpoint is written.
    """
    row_tokens = validation.shape[1] if row_tokens is None else row_tokens
    counted = np.ones(validation.shape, np.bool_) if counted is None else counted
    total = _rows_to_feed(rows, config, row_tokens)
    steps = math.ceil(total / config.batch_rows)
    accelerator = _accelerator(model, processes, config.batch_rows)
    optimizer = _optimizer(model.module, config)
    mean_loss = accelerator.prepare(_mean_loss(model, rows, config, getattr(torch, dtype), processes))
    if (course := _resumed(checkpoints, model, optimizer, rows, processes)) is None:
        course = _Progress(0, [_line(0, 0, 0.0, None, model.nats(validation)[counted])], [])
    with private_cache(config.compile):
        for step in range(course.step, steps):
            lr = lr_at(step, steps, config)
            batch = batch_at(step, seed=seed, rows=len(rows), batch_rows=config.batch_rows, total=total)
            course.losses.append(_step(accelerator, mean_loss, optimizer, rows, batch, lr, config.clip))
            _check_finite(course.losses[-1], step, steps, lr, config)
            seen = round(min((step + 1) * config.batch_rows, total) * row_tokens)
            progress(seen)
            if completes_part(step, steps, LOG_POINTS):
                nats = model.nats(validation)[counted] if completes_part(step, steps, 2) else None
                course.log.append(_line(step + 1, seen, lr, float(np.mean(course.losses)), nats))
                course.losses = []
            course.step = step + 1
            if checkpoints is not None and course.step < steps:
                checkpoints.after_step(model.module, optimizer, course.step, partial(_state, course, rows))
    return course.log


def _mean_loss(model: Trainable, rows: RecipeRows, config: TrainConfig, dtype: torch.dtype, processes: int) -> MeanLoss:
    """Return the loss that `config` asks for.  ValueError for a weighted one over several processes."""
    weighted = config.truncate is not None or config.token_weights is not None
    weighted = weighted or rows.weights(np.zeros(1, np.int64)) is not None
    if processes > 1 and weighted:
        raise ValueError(
            "train.truncate, train.token_weights and weights of rows work with one process: ranks would weigh by counts"
        )
    weights_V = None
    if config.token_weights is not None:
        counts = rows.token_counts(model.head()[0].shape[0])
        weights_V = torch.from_numpy(token_weights(counts, **config.token_weights.model_dump())).to(model.device)
    return MeanLoss(model, dtype, compiled=config.compile, weights_V=weights_V, truncate=config.truncate)


def token_weights(counts: np.ndarray, power: float, cap: float) -> np.ndarray:
    """Return the weight of each type by inverse frequency: (count + 1)^-power over its mean in the text, at most `cap`.

    counts [9, 0], power 1, cap 5 -> mean over the text 0.1, weights [1, 5]
    """
    weights = (counts + 1.0) ** -power
    weights /= (counts * weights).sum() / max(counts.sum(), 1)
    return np.minimum(weights, cap).astype(np.float32)


def _rows_to_feed(rows: RecipeRows, config: TrainConfig, row_tokens: float) -> int:
    if len(rows) == 0:
        raise ValueError("there are no rows to train on; the recipe is empty")
    return config.rows(len(rows), row_tokens)


def _resumed(
    checkpoints: Checkpoints | None,
    model: Trainable,
    optimizer: torch.optim.Optimizer,
    rows: RecipeRows,
    processes: int,
) -> _Progress | None:
    """Restore the newest checkpoint and return where it ends; None if there is no checkpoint."""
    assert checkpoints is None or processes == 1, "checkpoints hold the row counts of one process only"
    state = None if checkpoints is None else checkpoints.resume(model.module, optimizer)
    if state is None:
        return None
    rows.resume(state.pop("rows"))
    return _Progress(**state)


def _state(course: _Progress, rows: RecipeRows) -> dict[str, Any]:
    """Return what `_resumed` needs besides the tensors of model and optimizer."""
    return {**vars(course), "rows": rows.so_far()}


def _check_finite(loss: float, step: int, steps: int, lr: float, config: TrainConfig) -> None:
    if not math.isfinite(loss):
        raise FloatingPointError(
            f"the loss is {loss} at step {step + 1} of {steps} (lr {lr:g}); "
            f"lower train.lr ({config.lr:g}) or raise train.warmup ({config.warmup:g})"
        )


def _step(
    accelerator: Accelerator,
    mean_loss: nn.Module,
    optimizer: torch.optim.Optimizer,
    rows: RecipeRows,
    batch: np.ndarray,
    lr: float,
    clip: float,
) -> float:
    """Update the weights once; return the mean loss of the batch, over all ranks, before the update."""
    indices = batch[accelerator.process_index :: accelerator.num_processes]
    taken = rows.take(indices)
    learned = rows.learned(indices, taken)
    ids_BT = _moved(taken.astype(np.int64), accelerator.device)
    learned_K = None if learned is None else _moved(np.flatnonzero(learned), accelerator.device)
    weights = rows.weights(indices)
    loss = mean_loss(ids_BT, learned_K, None if weights is None else _moved(weights, accelerator.device))
    value = loss.detach()
    if accelerator.num_processes > 1:
        # Ranks average their gradients, so the mean of a rank that learns more tokens than its share must weigh more.
        count = torch.tensor(float(ids_BT.numel() if learned_K is None else len(learned_K)), device=accelerator.device)
        loss = loss * (count * accelerator.num_processes / accelerator.reduce(count, "sum").clamp(min=1))
        value = accelerator.reduce(loss.detach(), "mean")
    loss.backward()
    nn.utils.clip_grad_norm_(mean_loss.parameters(), clip, foreach=True)
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return float(value)  # the only wait for a GPU


def _moved(numbers: np.ndarray, device: torch.device) -> Tensor:
    """Return the numbers on the device; a GPU copies them while it computes."""
    tensor = torch.from_numpy(numbers)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


def _line(step: int, tokens: int, lr: float, train: float | None, nats: np.ndarray | None) -> dict[str, Any]:
    """Return one line of the learning curve; `nats` are the losses of the validation tokens."""
    mean = None if nats is None else float(nats.mean(dtype=np.float64))
    return {"step": step, "tokens": tokens, "lr": lr, "train": train, "validation": mean}


def _optimizer(module: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Return fused AdamW.  Parameters of one dimension, biases and layer norms, do not decay."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.lr, betas=(config.beta1, config.beta2), eps=1e-8, fused=True)


def _accelerator(model: Trainable, processes: int, batch_rows: int) -> Accelerator:
    """Return accelerate's view of the process, without mixed precision: the loss casts for itself, which costs less."""
    AcceleratorState._reset_state(reset_partial_state=True)  # what an earlier training here has set
    accelerator = Accelerator(mixed_precision="no", cpu=model.device.type == "cpu")
    if accelerator.num_processes != processes:
        raise RuntimeError(
            f"{processes} processes were asked for, but {accelerator.num_processes} run; start them with "
            f"torchrun --nproc_per_node {processes}"
        )
    if batch_rows % processes:
        raise ValueError(f"train.batch_rows {batch_rows} is not a multiple of the {processes} processes that share it")
    return accelerator
