"""The matrix product and the layer norm of a GPT-2, in the fastest form that this processor has."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

ONEDNN = torch._C._has_mkldnn and hasattr(torch.ops.mkldnn, "_linear_pointwise")
ONEDNN_DTYPES = {torch.float32}
"""What oneDNN multiplies on this processor; torch has its own, slower products for the rest."""
if ONEDNN and torch.ops.mkldnn._is_mkldnn_bf16_supported():
    ONEDNN_DTYPES.add(torch.bfloat16)


def product(x_NC: Tensor, weight_MC: Tensor, bias_M: Tensor | None = None) -> Tensor:
    """Return x @ weight.T + bias [N, M], as torch.nn.functional.linear does, in the dtype of x.

    torch gives float32 products to MKL, which leaves half of the speed of AMD's processors unused.  oneDNN, to which
    torch gives bfloat16 products, is faster there; the operator that reaches it from torch has no gradients.
    """
    weight_MC, bias_M = weight_MC.to(x_NC.dtype), None if bias_M is None else bias_M.to(x_NC.dtype)
    # torch.compile cannot see whether inference mode is on.
    fast = ONEDNN and x_NC.device.type == "cpu" and not torch.compiler.is_compiling()
    if fast and torch.is_inference_mode_enabled() and x_NC.dtype in ONEDNN_DTYPES:
        out_NM: Tensor = torch.ops.mkldnn._linear_pointwise(x_NC, weight_MC, bias_M, "none", [], "")
        return out_NM
    return F.linear(x_NC, weight_MC, bias_M)


def norm(layer: Any, x_NC: Tensor) -> Tensor:
    return torch.layer_norm(x_NC, layer.normalized_shape, layer.weight, layer.bias, layer.eps)
