"""The training loop: batches, schedule, loss and gradients by hand or against transformers."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support.training import Rows, T, V, ascending, fresh, quiet, settings

from lab.config.model import ModelConfig
from lab.models.gpt2 import Gpt2
from lab.models.initial_weights import random_gpt2
from lab.models.loss import CHUNK, MeanLoss, _CrossEntropy
from lab.models.schedule import batch_at, lr_at
from lab.models.train import _mean_loss, fit, token_weights
from lab.run.worker import set_arithmetic

torch.set_num_threads(1)


def trained(folder: Path, *, init: int = 1, seed: int = 1, dtype: str = "bfloat16") -> bytes:
    """Return the saved weights of a short training."""
    folder.mkdir()
    model = fresh(init)
    fit(model, Rows(ascending(30)), settings(), validation=ascending(4), seed=seed, dtype=dtype, progress=quiet)
    model.save(folder)
    return (folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_equal_seeds_give_equal_bytes(dtype: str, tmp_path: Path) -> None:
    first = trained(tmp_path / "first", dtype=dtype)
    torch.rand(3)  # the global generator has no say
    assert trained(tmp_path / "again", dtype=dtype) == first
    assert trained(tmp_path / "order", dtype=dtype, seed=2) != first
    assert trained(tmp_path / "init", dtype=dtype, init=2) != first


def test_the_loss_falls_to_what_can_be_known() -> None:
    """The first token is a guess among 40; the others follow from it.  So the best loss is log(40) / 16 = 0.23."""
    config = settings(tokens=250 * 8 * T)
    log = fit(fresh(), Rows(ascending(40)), config, validation=ascending(40), seed=0, dtype="bfloat16", progress=quiet)
    assert log[0]["validation"] == pytest.approx(math.log(V), rel=0.05)
    assert math.log(V) / T < log[-1]["validation"] < 0.5
    assert log[-1]["train"] < 0.5


def test_the_learning_curve() -> None:
    reported: list[int] = []
    config = settings(tokens=30 * 4 * T, batch_rows=4)
    log = fit(
        fresh(), Rows(ascending(9)), config, validation=ascending(4), seed=0, dtype="float32", progress=reported.append
    )
    assert [line["step"] for line in log if line["validation"] is not None] == [0, 15, 30]
    assert len(log) == 21 and all(line["train"] is not None for line in log[1:])
    assert [line["tokens"] for line in log] == [line["step"] * 4 * T for line in log]
    assert log[-1]["lr"] == pytest.approx(3e-4)
    assert reported == [4 * T * (step + 1) for step in range(30)]


def test_the_smallest_training_is_one_step() -> None:
    config = settings(tokens=T + 5, batch_rows=8)
    log = fit(fresh(), Rows(ascending(3)), config, validation=ascending(2), seed=0, dtype="float32", progress=quiet)
    assert [(line["step"], line["tokens"]) for line in log] == [(0, 0), (1, T)]


def test_batches_visit_each_row_once_an_epoch() -> None:
    """10 rows in batches of 4: 4, 4, 2 of the first epoch and 2 of the second, ...; 27 rows end in a batch of 3."""
    batches = [batch_at(step, seed=3, rows=10, batch_rows=4, total=27) for step in range(7)]
    assert [len(batch) for batch in batches] == [4] * 6 + [3]
    stream = np.concatenate(batches)
    assert sorted(stream[:10]) == sorted(stream[10:20]) == list(range(10))
    assert stream[:10].tolist() != stream[10:20].tolist()
    assert len(set(stream[20:])) == 7


def test_a_batch_may_hold_several_epochs() -> None:
    batch = batch_at(0, seed=3, rows=3, batch_rows=8, total=8)
    assert sorted(Counter(batch.tolist()).values()) in ([2, 3, 3], [2, 2, 4]) and len(batch) == 8
    assert sorted(batch[:3]) == sorted(batch[3:6]) == [0, 1, 2]


def test_training_takes_its_rows_a_batch_at_a_time(tmp_path: Path) -> None:
    """Rows come from a file, never more than a batch at once, each once per epoch; tokens are rounded to whole rows."""
    np.save(tmp_path / "tokens.npy", ascending(10))
    rows = Rows(np.load(tmp_path / "tokens.npy", mmap_mode="r"))
    config = settings(tokens=25 * T + 3, batch_rows=4)
    fit(fresh(), rows, config, validation=ascending(2), seed=0, dtype="float32", progress=quiet)
    assert [len(taken) for taken in rows.taken] == [4] * 6 + [1]
    assert Counter(index for taken in rows.taken[:5] for index in taken) == dict.fromkeys(range(10), 2)


def test_learning_rate_by_hand() -> None:
    config = settings(lr=1, warmup=0.2, final_lr=0)
    want = [0.5, 1, 0.962, 0.854, 0.691, 0.5, 0.309, 0.146, 0.038, 0]
    assert [round(lr_at(step, 10, config), 3) for step in range(10)] == want
    assert [lr_at(step, 3, settings(lr=1, warmup=0, final_lr=0.1)) for step in range(3)] == pytest.approx(
        [1, 0.55, 0.1]
    )
    assert [lr_at(step, 4, settings(lr=1, warmup=1)) for step in range(4)] == [0.25, 0.5, 0.75, 1]
    assert lr_at(0, 1, config) == 1


def gradients(model: Gpt2, loss: torch.Tensor) -> list[torch.Tensor]:
    return list(torch.autograd.grad(loss, list(model.module.parameters())))


@pytest.fixture
def both() -> tuple[Gpt2, torch.Tensor, torch.Tensor]:
    """Return a model, a batch of several chunks of which the last is cut, and transformers' own loss on the batch."""
    model = fresh()
    with torch.no_grad():
        for parameter in model.module.parameters():
            parameter += torch.randn(parameter.shape, generator=torch.Generator().manual_seed(5)) * 0.1
    positions = T - 1  # transformers reads BOS and all of the row
    ids_BT = torch.from_numpy(np.random.default_rng(0).integers(0, V, (CHUNK["cpu"] // positions + 3, positions)))
    read = F.pad(ids_BT, (1, 0))
    return model, ids_BT, model.module(read, labels=read).loss


def test_loss_and_gradients_are_transformers_own(both: tuple[Gpt2, torch.Tensor, torch.Tensor]) -> None:
    model, ids_BT, want = both
    loss = MeanLoss(model, torch.float32)(ids_BT)
    assert loss.item() == pytest.approx(want.item(), rel=1e-6)
    for ours, theirs in zip(gradients(model, 3 * loss), gradients(model, 3 * want), strict=True):
        assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()


@pytest.mark.parametrize("trained", ["x weight bias", "x bias", "x"])
def test_cross_entropy_with_a_bias_is_torchs_own(trained: str) -> None:
    """In float64 both agree to all digits.  Frozen parts get no gradient."""
    rng = torch.Generator().manual_seed(0)
    shapes = {"x": (CHUNK["cpu"] + 5, 8), "weight": (V, 8), "bias": (V,)}
    parts = {name: torch.randn(shape, generator=rng, dtype=torch.float64) for name, shape in shapes.items()}
    wanted = [parts[name].requires_grad_() for name in trained.split()]
    tokens_N = torch.randint(V, (CHUNK["cpu"] + 5,), generator=rng)
    loss = _CrossEntropy.apply(*parts.values(), tokens_N)
    want = F.cross_entropy(F.linear(*parts.values()), tokens_N)
    assert loss.item() == pytest.approx(want.item(), rel=1e-6)
    for ours, theirs in zip(torch.autograd.grad(3 * loss, wanted), torch.autograd.grad(3 * want, wanted), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)


def test_weights_of_one_and_a_bound_of_one_are_the_plain_loss_bit_by_bit() -> None:
    rng = torch.Generator().manual_seed(0)
    parts = [torch.randn(shape, generator=rng).requires_grad_() for shape in ((CHUNK["cpu"] + 5, 8), (V, 8), (V,))]
    tokens_N = torch.randint(V, (CHUNK["cpu"] + 5,), generator=rng)
    plain = _CrossEntropy.apply(*parts, tokens_N)
    want = torch.autograd.grad(plain, parts)
    for weights_N, bound in ((torch.ones(len(tokens_N)), None), (None, 1.0), (torch.ones(len(tokens_N)), 1.0)):
        loss = _CrossEntropy.apply(*parts, tokens_N, weights_N, bound)
        assert torch.equal(loss, plain)
        for ours, theirs in zip(torch.autograd.grad(loss, parts), want, strict=True):
            assert torch.equal(ours, theirs)


def test_a_weighted_loss_is_torchs_own() -> None:
    """And a row of weight 2 is the row twice."""
    rng = torch.Generator().manual_seed(1)
    x_NC, weight_VC = (torch.randn(shape, generator=rng).requires_grad_() for shape in ((300, 8), (V, 8)))
    tokens_N, type_V = torch.randint(V, (300,), generator=rng), torch.rand(V, generator=rng) + 0.1
    ours = _CrossEntropy.apply(x_NC, weight_VC, None, tokens_N, type_V[tokens_N])
    want = F.cross_entropy(x_NC @ weight_VC.T, tokens_N, weight=type_V)
    assert ours.item() == pytest.approx(want.item(), rel=1e-6)
    both = [torch.autograd.grad(loss, (x_NC, weight_VC)) for loss in (ours, want)]
    for mine, theirs in zip(*both, strict=True):
        assert torch.allclose(mine, theirs, atol=1e-7)
    twice_M = torch.cat([torch.arange(300), torch.arange(50)])
    use_N = torch.ones(300)
    use_N[:50] = 2
    weighted = _CrossEntropy.apply(x_NC, weight_VC, None, tokens_N, use_N)
    repeated = _CrossEntropy.apply(x_NC[twice_M], weight_VC, None, tokens_N[twice_M])
    assert weighted.item() == pytest.approx(repeated.item(), rel=1e-6)
    both = [torch.autograd.grad(loss, (x_NC, weight_VC)) for loss in (weighted, repeated)]
    for mine, theirs in zip(*both, strict=True):
        assert torch.allclose(mine, theirs, atol=1e-7)


class Weighed(Rows):
    """Rows with weights."""

    def __init__(self, tokens: np.ndarray, each: np.ndarray) -> None:
        super().__init__(tokens)
        self.each = each.astype(np.float32)

    def weights(self, indices: np.ndarray) -> Any:
        return self.each[indices]


def test_rows_of_weight_1_train_bit_by_bit_as_rows_without_weights(tmp_path: Path) -> None:
    found = []
    for name, rows in (
        ("plain", Rows(ascending(30))),
        ("ones", Weighed(ascending(30), np.ones(30))),
        ("other", Weighed(ascending(30), np.arange(30))),
    ):
        model = fresh()
        fit(model, rows, settings(), validation=ascending(4), seed=0, dtype="float32", progress=quiet)  # type: ignore[arg-type]
        (tmp_path / name).mkdir()
        model.save(tmp_path / name)
        found.append((tmp_path / name / "model.safetensors").read_bytes())
    assert found[0] == found[1] != found[2]


def test_a_row_of_weight_2_is_the_row_twice() -> None:
    """In the sum of losses and its gradient, also with tokens that are not learned and with weights of types.

    The divisor counts each row once, so that a batch of light rows moves the weights less than one of heavy rows.
    """
    model, ids_BT = fresh(), torch.from_numpy(ascending(5).astype(np.int64))
    mean = MeanLoss(model, torch.float32, weights_V=torch.rand(V, generator=torch.Generator().manual_seed(0)) + 0.1)
    learned = np.ones((5, T), np.bool_)
    learned[:3, :4] = False
    twice = [0, 1, 2, 3, 4, 1, 3]
    learned_K, twice_K = (torch.from_numpy(np.flatnonzero(some)) for some in (learned, learned[twice]))
    found = []
    assert mean.weights_V is not None
    for rows, some, weights in (
        (ids_BT, learned_K, torch.tensor([1.0, 2, 1, 2, 1])),
        (ids_BT[twice], twice_K, None),
    ):
        loss = mean(rows, some, weights) * mean.weights_V[rows.flatten()[some]].sum()
        found.append([loss.detach(), *torch.autograd.grad(loss, list(model.module.parameters()))])
    for ours, theirs in zip(*found, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)
    assert not torch.allclose(found[0][0], mean(ids_BT, learned_K).detach(), atol=1e-6)


def test_a_truncated_loss_by_hand() -> None:
    """Law 0.5, 0.3, 0.2 and a bound of 0.4: token 0 is left out, so tokens 0 and 1 cost -log 0.3."""
    logits_VC = torch.tensor([[0.5], [0.3], [0.2]]).log()
    x_NC = torch.ones(2, 1)
    bias_V = torch.zeros(3, requires_grad=True)
    loss = _CrossEntropy.apply(x_NC, logits_VC, bias_V, torch.tensor([0, 1]), None, 0.4)
    assert loss.item() == pytest.approx(-math.log(0.3), rel=1e-6)
    loss.backward()
    assert bias_V.grad is not None
    assert torch.allclose(bias_V.grad, torch.tensor([0.5, -0.7, 0.2]), atol=1e-6)
    nothing = _CrossEntropy.apply(x_NC, logits_VC, bias_V, torch.tensor([0, 0]), None, 0.4)
    assert nothing.item() == 0 and not torch.autograd.grad(nothing, bias_V)[0].any()


def test_a_truncated_coin_settles_at_the_bound() -> None:
    """A coin of 0.9 that is learned with a bound of 0.8 ends at 0.8: truncation caps confidence."""
    bias_V = torch.zeros(2, requires_grad=True)
    tokens_N = torch.tensor([0] * 9 + [1])
    for _ in range(4_000):
        loss = _CrossEntropy.apply(torch.zeros(10, 1), torch.zeros(2, 1), bias_V, tokens_N, None, 0.8)
        (slope_V,) = torch.autograd.grad(loss, bias_V)
        bias_V = (bias_V.detach() - 0.01 * slope_V).requires_grad_()
    assert float(torch.softmax(bias_V, 0)[0].detach()) == pytest.approx(0.8, abs=0.005)


def test_weights_of_rare_tokens() -> None:
    """Counts 9 and 0, power 1: 1/10 and 1 over the text's mean, 1/10; at most the cap."""
    assert token_weights(np.array([9, 0]), 1, 20).tolist() == [1, 10]
    assert token_weights(np.array([9, 0]), 1, 5).tolist() == [1, 5]
    counts = np.array([100, 10, 1, 0])
    weights = token_weights(counts, 0.5, 1e6)
    assert (counts * weights).sum() / counts.sum() == pytest.approx(1, rel=1e-6)
    assert weights[2] / weights[0] == pytest.approx(math.sqrt(101 / 2), rel=1e-6)


def test_the_gradient_of_a_mean_is_not_scaled_by_a_rounded_number() -> None:
    """1 / 384 in bfloat16 is 0.26 % too large, and the gradient of all layers would be too large by as much."""
    rng = torch.Generator().manual_seed(0)
    x_NC, weight_VC = (torch.randn(shape, generator=rng) for shape in ((384, 64), (V, 64)))
    tokens_N = torch.randint(V, (384,), generator=rng)
    x_NC, weight_VC = x_NC.bfloat16().requires_grad_(), weight_VC.bfloat16().float()
    exact = x_NC.detach().double().requires_grad_()
    _CrossEntropy.apply(x_NC, weight_VC, None, tokens_N).backward()
    F.cross_entropy(exact @ weight_VC.double().T, tokens_N).backward()
    assert x_NC.grad is not None and exact.grad is not None
    slope = (x_NC.grad.double() * exact.grad).sum() / exact.grad.square().sum()
    assert float(slope) == pytest.approx(1, abs=1e-3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_equal_bytes_on_cuda(tmp_path: Path) -> None:
    """Rows are long enough for several tiles of fused attention, whose usual backward pass adds in any order."""
    config = ModelConfig(n_layer=2, n_head=2, n_embd=64, n_positions=512)
    rows = np.random.default_rng(0).integers(0, V, (16, 512)).astype(np.uint16)
    weights = []
    set_arithmetic({"threads": 1, "device": "cuda"}, strict=True)
    try:
        for _ in range(2):
            model = random_gpt2(config, vocab_size=V, bos=0, seed=1, device="cuda")
            fit(
                model,
                Rows(rows),
                settings(tokens=10 * 8 * 512),
                validation=rows[:1],
                seed=1,
                dtype="bfloat16",
                progress=quiet,
            )
            weights.append(b"".join(part.detach().cpu().numpy().tobytes() for part in model.module.parameters()))
    finally:
        torch.use_deterministic_algorithms(False)
    assert weights[0] == weights[1]


def test_bfloat16_stays_near(both: tuple[Gpt2, torch.Tensor, torch.Tensor]) -> None:
    model, ids_BT, want = both
    loss = MeanLoss(model, torch.bfloat16)(ids_BT)
    assert loss.dtype == torch.float32 and loss.item() == pytest.approx(want.item(), rel=5e-3)
    for ours, theirs in zip(gradients(model, loss), gradients(model, want), strict=True):
        assert ours.dtype == torch.float32
        assert F.cosine_similarity(ours.flatten(), theirs.flatten(), dim=0) > 0.99


def test_a_broken_loss_is_an_error() -> None:
    model = fresh()
    with torch.no_grad():
        model.module.transformer.wpe.weight[3] = math.inf
    with pytest.raises(FloatingPointError, match=r"the loss is nan at step 1 of 24 .*lower train.lr \(0.003\)"):
        fit(model, Rows(ascending(9)), settings(), validation=ascending(2), seed=0, dtype="float32", progress=quiet)


def test_what_cannot_be_trained_is_refused() -> None:
    fixed: dict[str, Any] = {"validation": ascending(2), "seed": 0, "dtype": "float32", "progress": quiet}
    with pytest.raises(ValueError, match="no rows"):
        fit(fresh(), Rows(ascending(0)), settings(), **fixed)
    with pytest.raises(RuntimeError, match="2 processes were asked for, but 1 run"):
        fit(fresh(), Rows(ascending(9)), settings(), processes=2, **fixed)
    with pytest.raises(ValueError, match="work with one process"):
        _mean_loss(fresh(), Rows(ascending(9)), settings(truncate=0.8), torch.float32, 2)
