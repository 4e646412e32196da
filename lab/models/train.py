"""The training loop: AdamW, linear warm-up, cosine decay, clipped gradients, batches that follow from the step number.

Equal arguments, threads and type of machine give bit-equal weights.  Losses are in nats per token.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from lab.config.train import TrainConfig
from lab.models import compile as kernels
from lab.models.base import Trainable
from lab.models.checkpoints import Checkpoints
from lab.seeds import permutation

LOG_POINTS = 20
"""The learning curve has at most so many lines after the first, whatever the number of steps."""
TINY = torch.finfo(torch.float32).tiny
CHUNK = {"cpu": 256, "cuda": 4096}
"""Tokens whose logits exist at one time: what a processor's cache holds, and what fills a GPU."""
DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


class RowSource(Protocol):
    """The rows to train on, wherever they lie."""

    def __len__(self) -> int: ...

    def take(self, indices: np.ndarray) -> np.ndarray:
        """Rows of these indices (int64): integers [B, T]."""

    def learned(self, indices: np.ndarray, rows: np.ndarray) -> np.ndarray | None:
        """Which of their tokens are learned, [B, T]; None: all."""

    def so_far(self) -> dict[str, Any]:
        """What was counted of the rows taken so far, for JSON."""

    def go_on(self, counted: Mapping[str, Any]) -> None:
        """Count on from there."""


def fit(
    model: Trainable,
    rows: RowSource,
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
    """Train the model in place on rows of T tokens, T the width of `validation`, as long as `config` says.

    Returned is the learning curve.  Each line: step, tokens (seen so far), lr, train (mean loss since the last line;
    None at the start) and validation (loss on `validation` [N, T], or on those of its tokens that are `counted`; None
    but for the start, the middle and the end).
    `row_tokens` is the mean number of tokens of text in a row, by which train.tokens becomes rows; T if not given.
    `dtype`, bfloat16 or float32, is that of the matrix products; weights and optimizer stay float32.
    `processes` is the world size expected: batches are global and each rank takes its share.
    `progress` is told the tokens seen so far.  FloatingPointError when the loss is no longer finite.
    `checkpoints`, for a world of one: it goes on from the newest, leaves new ones, and raises Stopped when asked to
    stop.  `model`, `rows` and all else must be as they were at the start of the attempt that left them.
    """
    row_tokens = validation.shape[1] if row_tokens is None else row_tokens
    total = _rows_to_feed(rows, config, row_tokens)
    steps = math.ceil(total / config.batch_rows)
    accelerator = _accelerator(model, processes, config.batch_rows)
    optimizer = _optimizer(model.module, config)
    mean_loss = accelerator.prepare(_MeanLoss(model, DTYPES[dtype], compiled=config.compile))
    counted = np.ones(validation.shape, np.bool_) if counted is None else counted
    if (course := _resumed(checkpoints, model, optimizer, rows, processes)) is None:
        course = _Course(0, [_line(0, 0, 0.0, None, model.nats(validation)[counted])], [])
    with kernels.workshop(config.compile):
        for step in range(course.step, steps):
            lr = lr_at(step, steps, config)
            batch = batch_at(step, seed=seed, rows=len(rows), batch_rows=config.batch_rows, total=total)
            course.since.append(_step(accelerator, mean_loss, optimizer, rows, batch, lr, config.clip))
            _check_finite(course.since[-1], step, steps, lr, config)
            seen = round(min((step + 1) * config.batch_rows, total) * row_tokens)
            progress(seen)
            if _ends_part(step, steps, LOG_POINTS):
                scored = model.nats(validation)[counted] if _ends_part(step, steps, 2) else None
                course.log.append(_line(step + 1, seen, lr, float(np.mean(course.since)), scored))
                course.since = []
            course.step = step + 1
            if checkpoints is not None and course.step < steps:
                checkpoints.after_step(model.module, optimizer, course.step, partial(_told, course, rows))
    return course.log


def _rows_to_feed(rows: RowSource, config: TrainConfig, row_tokens: float) -> int:
    if len(rows) == 0:
        raise ValueError("there are no rows to train on; the recipe is empty")
    return config.rows(len(rows), row_tokens)


@dataclass
class _Course:
    """How far a training is."""

    step: int
    """Steps done."""
    log: list[dict[str, Any]]
    since: list[float]
    """Losses since the last line of the log."""


def _resumed(
    checkpoints: Checkpoints | None,
    model: Trainable,
    optimizer: torch.optim.Optimizer,
    rows: RowSource,
    processes: int,
) -> _Course | None:
    """Where the newest checkpoint leaves off, with everything put back; None where there is none."""
    assert checkpoints is None or processes == 1, "what each rank has counted of its rows is not kept"
    told = None if checkpoints is None else checkpoints.resume(model.module, optimizer)
    if told is None:
        return None
    rows.go_on(told.pop("rows"))
    return _Course(**told)


def _told(course: _Course, rows: RowSource) -> dict[str, Any]:
    return {**course.__dict__, "rows": rows.so_far()}


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
    rows: RowSource,
    batch: np.ndarray,
    lr: float,
    clip: float,
) -> float:
    """One update; the mean loss of the batch over all ranks before it.  Its reading is all that waits for a GPU."""
    mine = batch[accelerator.process_index :: accelerator.num_processes]
    taken = rows.take(mine)
    learned = rows.learned(mine, taken)
    ids_BT = _moved(taken.astype(np.int64), accelerator.device)
    learned_K = None if learned is None else _moved(np.flatnonzero(learned), accelerator.device)
    loss = mean_loss(ids_BT, learned_K)
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
    return float(value)


def _moved(numbers: np.ndarray, device: torch.device) -> Tensor:
    """On its way to the device; a GPU copies it while it computes."""
    found = torch.from_numpy(numbers)
    return found.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else found


def _ends_part(step: int, steps: int, parts: int) -> bool:
    """Whether this step (from 0) completes one of so many equal parts of the training."""
    return (step + 1) * parts // steps > step * parts // steps


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


class _MeanLoss(nn.Module):
    """Mean loss of a batch of rows, as a module so that accelerate can wrap it for several processes."""

    def __init__(self, model: Trainable, dtype: torch.dtype, *, compiled: bool = False) -> None:
        super().__init__()
        self.module = model.module
        self.hidden = kernels.compiled(model.hidden) if compiled else model.hidden
        self.head = model.head
        self.dtype = dtype

    def forward(self, ids_BT: Tensor, learned_K: Tensor | None = None) -> Tensor:
        """Of all tokens, or of those at these places of the B x T."""
        x_NC, tokens_N = self.hidden(ids_BT, self.dtype), ids_BT.flatten()
        if learned_K is not None:
            x_NC, tokens_N = x_NC[learned_K], tokens_N[learned_K]
        loss: Tensor = _CrossEntropy.apply(x_NC, *self.head(), tokens_N)  # type: ignore[no-untyped-call]
        return loss


class _CrossEntropy(torch.autograd.Function):
    """Mean of -log softmax(x @ weight.T + bias)[token].  Gradients are made while the logits of a chunk are at hand:

        d loss / d logits = (softmax - onehot) / N,   d loss / d x = that @ weight,   d loss / d weight = that.T @ x

    so the logits of a whole batch never exist, and those of a chunk stay in the cache.  Products have the dtype of x,
    the softmax and the sum over chunks float32.
    """

    @staticmethod
    def forward(ctx: Any, x_NC: Tensor, weight_VC: Tensor, bias_V: Tensor | None, tokens_N: Tensor) -> Tensor:
        cast_VC = weight_VC.to(x_NC.dtype)
        loss = torch.zeros((), device=x_NC.device)
        x_grad_NC = torch.empty_like(x_NC)
        # Under LoRA the output matrix stands still.
        weight_grad_VC = torch.zeros_like(weight_VC) if ctx.needs_input_grad[1] else None
        bias_grad_V = None if bias_V is None else torch.zeros_like(bias_V)
        chunk = CHUNK[x_NC.device.type]
        for start in range(0, len(x_NC), chunk):
            rows = slice(start, start + chunk)
            tokens_K1 = tokens_N[rows, None]
            logits_KV = x_NC[rows] @ cast_VC.T
            if bias_V is not None:
                logits_KV += bias_V
            softmax_KV = torch.softmax(logits_KV, dim=-1, dtype=torch.float32)
            token_K1 = softmax_KV.gather(1, tokens_K1)
            # A probability too small for float32 counts as its least: the loss stays finite, the gradient is right.
            loss -= token_K1.clamp(min=TINY).log().sum()
            grad_KV = softmax_KV.scatter_(1, tokens_K1, token_K1 - 1).to(x_NC.dtype)
            x_grad_NC[rows] = grad_KV @ cast_VC
            if weight_grad_VC is not None:
                weight_grad_VC += grad_KV.T @ x_NC[rows]
            if bias_grad_V is not None:
                bias_grad_V += grad_KV.sum(0)
        ctx.save_for_backward(x_grad_NC, weight_grad_VC, bias_grad_V)
        return loss / max(len(x_NC), 1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x_grad_NC, *others = ctx.saved_tensors
        scale = grads[0] / max(len(x_grad_NC), 1)
        # The scale stays a float32 scalar, which does not widen the product: rounded to bfloat16, it would give the
        # body another learning rate than the output.
        return x_grad_NC * scale, *(None if g is None else g * scale for g in others), None


def _optimizer(module: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Fused AdamW; biases and layer norms, the parameters of one dimension, do not decay."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.lr, betas=(config.beta1, config.beta2), eps=1e-8, fused=True)


def _accelerator(model: Trainable, processes: int, batch_rows: int) -> Accelerator:
    """No mixed precision of accelerate's: the loss casts for itself, without autocast's work at every operation."""
    AcceleratorState._reset_state(reset_partial_state=True)  # the last training of this process may have been another
    accelerator = Accelerator(mixed_precision="no", cpu=model.device.type == "cpu")
    if accelerator.num_processes != processes:
        raise RuntimeError(
            f"{processes} processes were asked for, but {accelerator.num_processes} run; start them with "
            f"torchrun --nproc_per_node {processes}"
        )
    if batch_rows % processes:
        raise ValueError(f"train.batch_rows {batch_rows} is not a multiple of the {processes} processes that share it")
    return accelerator
