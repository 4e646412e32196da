"""The decoder for a GPU, run on a CPU without its graphs: the logits of transformers and of the CPU's decoder."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lab import graphs
from lab.caches import CachedDecoder
from lab.graphs import GraphDecoder
from lab.models import Gpt2
from lab.sections import ModelConfig

T, V, B = 20, 96, 5


def wide(n_embd: int = 32, n_head: int = 4) -> Gpt2:
    """Predictions far from uniform, as a trained model's are."""
    config = ModelConfig(n_layer=2, n_head=n_head, n_embd=n_embd, n_positions=T, initializer_range=0.3)
    return Gpt2.fresh(config, vocab_size=V, bos=0, seed=3)


def text() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(1).integers(0, V, (B, T)))


def decoded(model: Gpt2, dtype: torch.dtype, kind: type[CachedDecoder | GraphDecoder] = GraphDecoder) -> torch.Tensor:
    decoder = kind(model.module, B, dtype=dtype, gelu=model.gelu)
    return torch.stack([decoder.step(tokens).clone() for tokens in text().T], dim=1)


@pytest.mark.parametrize("bucket", [1, 3, 8, 64])
def test_the_logits_are_those_of_transformers(monkeypatch: pytest.MonkeyPatch, bucket: int) -> None:
    """Whatever part of the caches a step reads: one position at a time, a few, all."""
    monkeypatch.setattr(graphs, "BUCKET", bucket)
    model = wide()
    with torch.no_grad():
        want = model.module(text()).logits
    assert torch.allclose(decoded(model, torch.float32), want, rtol=0, atol=1e-5 * float(want.abs().max()))


def test_the_logits_are_those_of_the_decoder_of_a_cpu() -> None:
    model = wide()
    decoder = model.decoder(B)
    want = torch.stack([decoder.step(tokens).clone() for tokens in text().T], dim=1)
    assert torch.allclose(decoded(model, torch.float32), want, rtol=0, atol=1e-5 * float(want.abs().max()))


@pytest.mark.parametrize("kind", [CachedDecoder, GraphDecoder])
def test_bfloat16_products_leave_the_distribution_nearly_as_it_is(kind: type[CachedDecoder | GraphDecoder]) -> None:
    """KL(float32 || bfloat16) of the next token, mean over positions: 4.5e-4 nats here, where the entropy is 2.6."""
    model = wide(n_embd=64)
    exact, rounded = (decoded(model, dtype, kind).double().log_softmax(-1) for dtype in (torch.float32, torch.bfloat16))
    kl = F.kl_div(rounded, exact, log_target=True, reduction="none").sum(-1)
    entropy = -(exact.exp() * exact).sum(-1)
    assert 0 < float(kl.mean()) < 1e-3
    assert float(kl.max()) < 1e-2 < float(entropy.mean())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_graphs_replay_what_the_cpu_computes() -> None:
    model = wide()
    want = decoded(model, torch.float32)
    model.module.to("cuda")
    decoder = model.decoder(B)
    found = torch.stack([decoder.step(tokens.to("cuda")).clone() for tokens in text().T], dim=1)
    assert torch.allclose(found.cpu(), want, rtol=0, atol=1e-4 * float(want.abs().max()))
