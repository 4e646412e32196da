"""The decoder for a GPU, run on a CPU without CUDA graphs, against transformers and the CPU's decoder."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lab.config.model import ModelConfig
from lab.models.gpt2 import Gpt2
from lab.models.initial_weights import random_gpt2
from lab.models.sampling.kv_cache_cpu import CpuDecoder
from lab.models.sampling.kv_cache_cuda import CudaDecoder

T, V, B = 20, 96, 5


def wide(n_embd: int = 32, n_head: int = 4) -> Gpt2:
    """Return a model whose predictions are far from uniform, as those of a trained model are."""
    config = ModelConfig(n_layer=2, n_head=n_head, n_embd=n_embd, n_positions=T, initializer_range=0.3)
    return random_gpt2(config, vocab_size=V, bos=0, seed=3)


def text() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(1).integers(0, V, (B, T)))


def decoded(model: Gpt2, dtype: torch.dtype, kind: type[CpuDecoder | CudaDecoder] = CudaDecoder) -> torch.Tensor:
    decoder = kind(model.module, B, dtype=dtype, gelu=model.gelu)
    return torch.stack([decoder.step(tokens).clone() for tokens in text().T], dim=1)


@pytest.mark.parametrize("bucket", [1, 3, 8, 64])
def test_the_logits_are_those_of_transformers(monkeypatch: pytest.MonkeyPatch, bucket: int) -> None:
    """A step may read the caches in parts that grow by one position, by a few, or by all."""
    monkeypatch.setattr("lab.models.sampling.kv_cache_cuda.BUCKET", bucket)
    model = wide()
    with torch.no_grad():
        want = model.module(text()).logits
    assert torch.allclose(decoded(model, torch.float32), want, rtol=0, atol=1e-5 * float(want.abs().max()))


def test_the_logits_are_those_of_the_decoder_of_a_cpu() -> None:
    model = wide()
    decoder = model.decoder(B)
    want = torch.stack([decoder.step(tokens).clone() for tokens in text().T], dim=1)
    assert torch.allclose(decoded(model, torch.float32), want, rtol=0, atol=1e-5 * float(want.abs().max()))


@pytest.mark.parametrize("kind", [CpuDecoder, CudaDecoder])
def test_bfloat16_products_leave_the_distribution_nearly_as_it_is(kind: type[CpuDecoder | CudaDecoder]) -> None:
    """KL(float32 || bfloat16) of the next token, mean over positions: 3e-4 nats here, where the entropy is 2.6."""
    model = wide(n_embd=64)
    exact, rounded = (decoded(model, dtype, kind).double().log_softmax(-1) for dtype in (torch.float32, torch.bfloat16))
    kl = F.kl_div(rounded, exact, log_target=True, reduction="none").sum(-1)
    entropy = -(exact.exp() * exact).sum(-1)
    assert 0 < float(kl.mean()) < 1e-3
    assert float(kl.max()) < 1e-2 < float(entropy.mean())


@pytest.mark.parametrize("kind", [CpuDecoder, CudaDecoder])
def test_a_large_common_part_of_the_logits_is_not_rounded(kind: type[CpuDecoder | CudaDecoder]) -> None:
    """In bfloat16, logits near -100 are 0.5 apart and would be equal."""
    model = wide(n_embd=64)
    with torch.no_grad():
        gpt2 = model.module.transformer
        gpt2.ln_f.bias += 6.0
        gpt2.wte.weight += -100 / (6.0 * 64)
    exact, rounded = (decoded(model, dtype, kind).double() for dtype in (torch.float32, torch.bfloat16))
    assert -150 < float(exact.min()) < float(exact.max()) < -50
    kl = F.kl_div(rounded.log_softmax(-1), exact.log_softmax(-1), log_target=True, reduction="none").sum(-1)
    assert 0 < float(kl.mean()) < 1e-3
    assert all(len(row.unique()) == V for row in rounded.flatten(0, 1))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(("dtype", "bound"), [("float32", 1e-4), ("bfloat16", 5e-2)])
def test_graphs_replay_what_the_cpu_computes(dtype: str, bound: float) -> None:
    """Kernels are deterministic, as in workers; half way, three of the rows are dropped."""
    model, kept = wide(), torch.tensor([3, 0])
    want = decoded(model, torch.float32)[kept]
    model.module.to("cuda")
    model.decoding = dtype
    outputs = []
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        decoder, rows = model.decoder(B), text().to("cuda")
        for t, tokens in enumerate(rows.T):
            if t == T // 2:
                decoder.keep(kept.to("cuda"))
            outputs.append(decoder.step(tokens if t < T // 2 else tokens[kept]).clone())
    finally:
        torch.use_deterministic_algorithms(False)
    outputs = [logits[kept] if len(logits) == B else logits for logits in outputs]
    assert torch.allclose(torch.stack(outputs, 1).cpu(), want, rtol=0, atol=bound * float(want.abs().max()))
