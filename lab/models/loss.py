"""The loss that training minimises: mean cross-entropy of the next token, without the logits of a whole batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lab.models import torch_compile
from lab.models.protocols import Trainable

TINY = torch.finfo(torch.float32).tiny
CHUNK = {"cpu": 256, "cuda": 4096}
"""Tokens whose logits exist at one time: what a processor's cache holds, and what fills a GPU."""


class MeanLoss(nn.Module):
    """Mean loss of a batch of rows, as a module so that accelerate can wrap it for several processes."""

    def __init__(
        self,
        model: Trainable,
        dtype: torch.dtype,
        *,
        compiled: bool = False,
        weights_V: Tensor | None = None,
        truncate: float | None = None,
    ) -> None:
        """Wrap a model.

        Args:
            weights_V: what a token of each type counts in the mean; None: all count 1.
            truncate: leave out tokens to which the model gives a higher probability (truncated cross-entropy).
        """
        super().__init__()
        self.weights_V, self.truncate = weights_V, truncate
        self.module = model.module
        self.hidden = torch_compile.compiled(model.hidden) if compiled else model.hidden
        self.head = model.head
        self.dtype = dtype

    def forward(self, ids_BT: Tensor, learned_K: Tensor | None = None, weights_B: Tensor | None = None) -> Tensor:
        """Return the mean over all tokens, or over the tokens with these indices among the B x T.

        With weights of rows, whose mean over all rows is 1, each loss is multiplied by the weight of its row.  The mean
        is still over tokens: over an epoch a row of weight 2 counts as the row twice, whatever batch it is in.
        """
        x_NC, tokens_N = self.hidden(ids_BT, self.dtype), ids_BT.flatten()
        rows_N = None if weights_B is None else weights_B.repeat_interleave(ids_BT.shape[1])
        if learned_K is not None:
            x_NC, tokens_N = x_NC[learned_K], tokens_N[learned_K]
            rows_N = None if rows_N is None else rows_N[learned_K]
        types_N = None if self.weights_V is None else self.weights_V[tokens_N]
        cross_entropy: Any = _CrossEntropy.apply
        loss: Tensor = cross_entropy(x_NC, *self.head(), tokens_N, types_N, self.truncate, rows_N)
        return loss


class _CrossEntropy(torch.autograd.Function):
    """Mean of -log softmax(x @ weight.T + bias)[token].

    The forward pass computes the gradients too, chunk by chunk, while it has the logits of a chunk:

        d loss / d logits = (softmax - onehot) / N,   d loss / d x = that @ weight,   d loss / d weight = that.T @ x

    So the logits of a whole batch never exist, and those of a chunk stay in the processor's cache.  Products have the
    dtype of x; the softmax and the sum over chunks are float32.

    With weights u of tokens it is the weighted mean, sum(u x loss) / sum(u).  Truncation gives the weight 0 to tokens
    of a probability above a bound, which is known here only.  Weights v of rows are no part of the divisor, because
    their mean is 1 over all rows and not in each batch: sum(u x v x loss) / sum(u).
    """

    @staticmethod
    def forward(
        ctx: Any,
        x_NC: Tensor,
        weight_VC: Tensor,
        bias_V: Tensor | None,
        tokens_N: Tensor,
        weights_N: Tensor | None = None,
        truncate: float | None = None,
        rows_N: Tensor | None = None,
    ) -> Tensor:
        cast_VC = weight_VC.to(x_NC.dtype)
        loss, weighted = torch.zeros((), device=x_NC.device), any(u is not None for u in (weights_N, truncate, rows_N))
        total: Tensor = torch.full_like(loss, 0.0 if weighted else max(len(x_NC), 1))
        x_grad_NC = torch.empty_like(x_NC)
        # Under LoRA the output matrix is frozen.
        weight_grad_VC = torch.zeros_like(weight_VC) if ctx.needs_input_grad[1] else None
        bias_grad_V = None if bias_V is None else torch.zeros_like(bias_V)
        for start in range(0, len(x_NC), CHUNK[x_NC.device.type]):
            chunk = slice(start, start + CHUNK[x_NC.device.type])
            tokens_K1 = tokens_N[chunk, None]
            logits_KV = x_NC[chunk] @ cast_VC.T
            logits_KV = logits_KV if bias_V is None else logits_KV.add_(bias_V)
            softmax_KV = torch.softmax(logits_KV, dim=-1, dtype=torch.float32)
            token_K1 = softmax_KV.gather(1, tokens_K1)
            # A probability too small for float32 counts as its least: the loss stays finite, the gradient is right.
            nats_K1 = token_K1.clamp(min=TINY).log()
            grad_KV = softmax_KV.scatter_(1, tokens_K1, token_K1 - 1)
            if weighted:
                use_K1, count = _counted(token_K1, chunk, weights_N, truncate, rows_N)
                nats_K1, grad_KV = nats_K1 * use_K1, grad_KV.mul_(use_K1)
                total += count
            loss -= nats_K1.sum()
            grad_KV = grad_KV.to(x_NC.dtype)
            x_grad_NC[chunk] = grad_KV @ cast_VC
            if weight_grad_VC is not None:
                weight_grad_VC += grad_KV.T @ x_NC[chunk]
            if bias_grad_V is not None:
                bias_grad_V += grad_KV.sum(0)
        ctx.save_for_backward(x_grad_NC, weight_grad_VC, bias_grad_V, total := total.clamp(min=TINY))
        return loss / total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x_grad_NC, *others, total = ctx.saved_tensors
        scale = grads[0] / total
        # The scale stays a float32 scalar, which does not widen the product: rounded to bfloat16, it would give the
        # body another learning rate than the output.
        return x_grad_NC * scale, *(None if g is None else g * scale for g in others), None, None, None, None


def _counted(
    token_K1: Tensor, chunk: slice, weights_N: Tensor | None, truncate: float | None, rows_N: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return what the loss of each token of a chunk is multiplied by, and the part of the chunk in the divisor.

    Given the probabilities of the tokens: the weight of one above the bound is 0.
    """
    use_K1 = torch.ones_like(token_K1) if weights_N is None else weights_N[chunk, None]
    use_K1 = use_K1 if truncate is None else use_K1 * (token_K1 <= truncate)
    return use_K1 if rows_N is None else use_K1 * rows_N[chunk, None], use_K1.sum()
