"""Decoding: the weights of the next token by temperature, top-k, top-p, min-p and repetition penalty.

They are applied in transformers' order (GenerationMixin._get_logits_processor), each to what the ones before it left:

    repetition penalty -> temperature -> top-k -> top-p -> min-p -> a draw, renormalised

No filter removes the likeliest token.  Logits of minus infinity, a counting model's zeros, stay impossible.  The kept
tokens are those that transformers keeps, except where its float32 arithmetic or its sort decides by chance:
- a bound that is met exactly, as the 7 of 10 counts at top-p 0.7 of an n-gram model: see `TOLERANCE`;
- top-p through a tie: the lower indices stay, as in `lab.theory.top_p`; transformers keeps the last ones of its sort.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}
"""A bound counts as reached if it is missed by less than this: by a mass for top-p, by nats for min-p.

A probability that went through float32 logits comes back with an error of up to 0.5e-6 of itself (|log p| < 16)."""
COLDEST = 1e-6
"""The lowest temperature except 0: logits divided by less may overflow."""


@dataclass(frozen=True)
class Decoding:
    """The settings of decoding.  The defaults are ancestral sampling: a draw from the model's own distribution.

    Raises:
        ValueError: a setting is outside its range.
    """

    temperature: float = 1.0
    """What the logits are divided by (Ackley et al. 1985).  0 is greedy: the likeliest token, the first of a tie."""
    top_k: int | None = None
    """Number of likeliest tokens to keep; all that are as likely as the k-th stay (Fan et al. 2018).  At least 1."""
    top_p: float | None = None
    """Mass to keep, by the fewest likeliest tokens that reach it (Holtzman et al. 2020).  Above 0; 1 keeps all."""
    min_p: float | None = None
    """Least probability to keep, as a share of the likeliest token's (Nguyen et al. 2024).  Above 0, at most 1."""
    repetition_penalty: float | None = None
    """What positive logits are divided by, and negative ones multiplied by, for tokens that the text already holds, BOS
    and prompt included, once each (Keskar et al. 2019).  Above 0; above 1 makes repetition less likely."""

    def __post_init__(self) -> None:
        if not (self.temperature == 0 or COLDEST <= self.temperature < math.inf):
            raise ValueError(f"temperature is 0 (greedy) or at least {COLDEST:g}; given {self.temperature}")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k keeps at least 1 token, None keeps all; given {self.top_k}")
        for name, share in {"top_p": self.top_p, "min_p": self.min_p}.items():
            if share is not None and not 0 < share <= 1:
                raise ValueError(f"{name} is above 0 and at most 1, None keeps all; given {share}")
        if self.repetition_penalty is not None and not 0 < self.repetition_penalty < math.inf:
            raise ValueError(f"repetition_penalty is above 0, None or 1 is none; given {self.repetition_penalty}")

    @property
    def plain(self) -> bool:
        """Whether the model's distribution stays as it is."""
        return self.temperature == 1 and not self.truncates and self.repetition_penalty in (None, 1)

    @property
    def truncates(self) -> bool:
        """Whether a filter may make a token impossible."""
        return not (self.top_k is self.min_p is None and self.top_p in (None, 1))


def weights(logits_BV: Tensor, decoding: Decoding, seen_BT: Tensor) -> Tensor:
    """Return weights proportional to the probabilities of the next token: [B, V], in the dtype of the logits.

    That is float32 or float64.  A row sums to the mass that the filters leave, at least 1 / V.  `seen_BT`, int64, is
    the text so far with BOS and prompt, which only the repetition penalty reads.

    logits log [0.5, 0.3, 0.2]:
        top_p 0.7        ->  [0.5, 0.3, 0]
        temperature 0.5  ->  [25, 9, 4] / 38
        temperature 0    ->  [1, 0, 0]
    """
    if decoding.repetition_penalty is not None:
        logits_BV = _penalise(logits_BV, decoding.repetition_penalty, seen_BT)
    if decoding.temperature == 0:
        return torch.zeros_like(logits_BV).scatter_(1, logits_BV.argmax(1, keepdim=True), 1.0)
    if decoding.temperature != 1:
        logits_BV = logits_BV / decoding.temperature
    weights_BV = torch.softmax(logits_BV, dim=1)
    return weights_BV.mul_(_kept(logits_BV, decoding)) if decoding.truncates else weights_BV


def _penalise(logits_BV: Tensor, penalty: float, seen_BT: Tensor) -> Tensor:
    """Return the logits after the repetition penalty."""
    seen_logits_BT = logits_BV.gather(1, seen_BT)
    penalised_BT = torch.where(seen_logits_BT < 0, seen_logits_BT * penalty, seen_logits_BT / penalty)
    return logits_BV.scatter(1, seen_BT, penalised_BT)


def _kept(logits_BV: Tensor, decoding: Decoding) -> Tensor:
    """Return which tokens top-k, top-p and min-p keep: bool [B, V].

    Each filter is a lower bound on a row's logits, so values are sorted and not indices.  Only top-p cuts a tie.
    """
    slack, likeliest_B1 = TOLERANCE[logits_BV.dtype], logits_BV.amax(1, keepdim=True)
    bound_B1 = torch.full_like(likeliest_B1, -math.inf)
    if decoding.min_p is not None:
        bound_B1 = likeliest_B1 + (math.log(decoding.min_p) - slack)
    if decoding.top_k is None and decoding.top_p is None:
        return logits_BV >= bound_B1
    sorted_BV = _ascending(logits_BV)
    kth_B1 = sorted_BV[:, -min(decoding.top_k or len(sorted_BV[0]), len(sorted_BV[0])), None]
    if decoding.top_p is None or decoding.top_p == 1:
        return logits_BV >= torch.maximum(bound_B1, kth_B1)
    sums_BV = (sorted_BV - likeliest_B1).exp_().mul_(sorted_BV >= kth_B1).cumsum_(1)
    removed_B1 = torch.searchsorted(sums_BV, sums_BV[:, -1:] * (1 - decoding.top_p + slack), right=True)
    least_B1 = sorted_BV.gather(1, removed_B1.clamp_(max=len(sorted_BV[0]) - 1))
    kept_BV = logits_BV >= torch.maximum(bound_B1, least_B1)
    surplus_B1 = removed_B1 - torch.searchsorted(sorted_BV, least_B1)
    if surplus_B1.any():
        tied_BV = logits_BV == least_B1
        rank_BV = tied_BV.cumsum(1, dtype=torch.int32)
        kept_BV &= ~tied_BV | (rank_BV <= rank_BV[:, -1:] - surplus_B1)
    return kept_BV


def _ascending(logits_BV: Tensor) -> Tensor:
    """Return the values of each row, sorted."""
    if logits_BV.device.type == "cpu":  # without indices numpy sorts floats 30 times faster than torch
        return torch.from_numpy(np.sort(logits_BV.numpy(), axis=1))
    return logits_BV.sort(dim=1).values
