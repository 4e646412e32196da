"""Pretrained bases and Llamas from scratch, held against transformers' own forward pass, loss and gradients."""

from __future__ import annotations

import itertools
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    GemmaConfig,
    GPT2Config,
    GraniteConfig,
    LlamaConfig,
    OpenAIGPTConfig,
    OPTConfig,
    PhiConfig,
    PreTrainedConfig,
)

from lab.config.model import ModelConfig
from lab.config.train import TrainConfig
from lab.errors import InputError
from lab.models import causal
from lab.models import load as models
from lab.models.causal import Causal, Lora
from lab.models.counting import Uniform
from lab.models.gpt2 import Gpt2
from lab.models.load import load, start
from lab.models.sampling.beams import beam_search
from lab.models.sampling.sample import sample
from lab.models.train import _MeanLoss, fit

torch.set_num_threads(1)
V, T, BOS = 70, 16, 3
SPECIAL = {"vocab_size": V, "bos_token_id": BOS, "eos_token_id": BOS}
GPT2 = SPECIAL | {"n_positions": T, "n_embd": 32, "n_layer": 2, "n_head": 2}  # gelu_new, dropout .1: as the hub's
LLAMA = SPECIAL | {"max_position_embeddings": T, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
OPT = SPECIAL | {"max_position_embeddings": T, "hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": 2}
OPT |= {"num_attention_heads": 2, "pad_token_id": 1, "word_embed_proj_dim": 32}
CONFIGS: dict[str, PreTrainedConfig] = {
    "gpt2": GPT2Config(**GPT2),
    "gpt2 scaled by layer": GPT2Config(**GPT2, scale_attn_by_inverse_layer_idx=True),
    "gpt2 untied": GPT2Config(**GPT2, tie_word_embeddings=False),
    "llama": LlamaConfig(**LLAMA, num_attention_heads=2),
    "smollm": LlamaConfig(**LLAMA, num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=True),
    "opt": OPTConfig(**OPT),
    "opt 350m": OPTConfig(**OPT | {"word_embed_proj_dim": 24}, do_layer_norm_before=False),
    "phi": PhiConfig(**LLAMA, num_attention_heads=2),  # its output matrix has a bias
}
each_model = pytest.mark.parametrize("name", CONFIGS)


def checkpoint(folder: Path, config: PreTrainedConfig, *, scale: float = 0.3) -> Path:
    """A random model whose predictions are far from uniform, as transformers saves it."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        module = AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter += torch.randn(parameter.shape) * scale
    module.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: checkpoint(tmp_path_factory.mktemp("base"), config) for name, config in CONFIGS.items()}


def base(bases: dict[str, Path], name: str) -> Gpt2 | Causal:
    model = load(bases[name])
    assert isinstance(model, Gpt2 | Causal)
    return model


def rows_of(n: int, positions: int = T) -> np.ndarray:
    return np.random.default_rng(0).integers(0, V, (n, positions)).astype(np.uint16)


def read_of(rows: np.ndarray) -> torch.Tensor:
    """BOS and the whole of each row."""
    return F.pad(torch.from_numpy(rows.astype(np.int64)), (1, 0), value=BOS)


def settings(**changes: Any) -> TrainConfig:
    return TrainConfig(**{"tokens": 40 * 8 * T, "batch_rows": 8, "lr": 3e-3, "validation_tokens": T} | changes)


def counting(n: int, positions: int = T) -> np.ndarray:
    """Learnable text: each token is the one before it plus one, modulo 60."""
    return ((np.arange(n)[:, None] * 7 + np.arange(positions)) % 60).astype(np.uint16)


class Rows:
    def __init__(self, tokens: np.ndarray) -> None:
        self.tokens = tokens

    def __len__(self) -> int:
        return len(self.tokens)

    def take(self, indices: np.ndarray) -> np.ndarray:
        return self.tokens[indices]

    def learned(self, indices: np.ndarray, rows: np.ndarray) -> None:
        """All of them."""


def quiet(tokens: int) -> None:
    pass


def train(model: Gpt2 | Causal, *, dtype: str = "float32", positions: int = T, **changes: Any) -> list[dict[str, Any]]:
    fixed: dict[str, Any] = {"validation": counting(9, positions), "seed": 5, "dtype": dtype, "progress": quiet}
    return fit(model, Rows(counting(30, positions)), settings(**changes), **fixed)


def llama(seed: int = 1) -> Causal:
    shape = {"n_layer": 2, "n_head": 2, "n_embd": 32, "n_positions": T, "initializer_range": 0.02}
    return Causal.fresh(**shape, vocab_size=V, bos=BOS, seed=seed)


@each_model
def test_the_fast_code_serves_what_it_computes_exactly(name: str, bases: dict[str, Path]) -> None:
    model = base(bases, name)
    assert isinstance(model, Gpt2) == (name == "gpt2")
    assert (model.vocab_size, model.positions, model.bos, model.device.type) == (V, T, BOS, "cpu")


@pytest.mark.parametrize(
    ("change", "fast"),
    [
        ({"activation_function": "gelu"}, True),
        ({"activation_function": "relu"}, False),
        ({"scale_attn_weights": False}, False),
        ({"reorder_and_upcast_attn": True}, False),
        ({"n_inner": 40, "layer_norm_epsilon": 1e-3}, True),
    ],
)
def test_every_gpt2_gives_transformers_own_nats(change: dict[str, Any], fast: bool, tmp_path: Path) -> None:
    model, rows = load(checkpoint(tmp_path, GPT2Config(**GPT2, **change))), rows_of(6, T - 1)
    assert isinstance(model, Gpt2 if fast else Causal)
    ids = read_of(rows)
    with torch.no_grad():
        want = AutoModelForCausalLM.from_pretrained(tmp_path)(ids, labels=ids).loss.item()
    assert model.nats(rows).mean() == pytest.approx(want, rel=1e-5)


@each_model
def test_nats_are_transformers_own_loss_of_each_token(
    name: str, bases: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In batches of 4 rows, 30 at a time to the vocabulary; transformers in its default attention, all at once."""
    monkeypatch.setattr(causal, "NATS_TOKENS", 4 * T)
    monkeypatch.setattr(causal, "LOGIT_TOKENS", 30)
    model, rows = base(bases, name), rows_of(9)
    module = AutoModelForCausalLM.from_pretrained(bases[name])
    with torch.no_grad():
        logits_BTV = module(read_of(rows)[:, :-1]).logits
    want = F.cross_entropy(logits_BTV.transpose(1, 2), read_of(rows)[:, 1:], reduction="none").numpy()
    got = model.nats(rows)
    assert got.dtype == np.float32 and np.abs(got - want).max() <= 1e-5 * want.max()
    assert np.array_equal(model.nats(rows.astype(np.int64)), got) and model.nats(rows[:0]).shape == (0, T)


@each_model
def test_stepped_logits_are_those_of_the_whole_row(name: str, bases: dict[str, Path]) -> None:
    model, rows = base(bases, name), rows_of(5)
    decoder = model.decoder(5)
    got = torch.stack([decoder.step(tokens_B).clone() for tokens_B in read_of(rows)[:, :-1].T], dim=1)
    with torch.no_grad():
        want = model.module(read_of(rows)[:, :-1]).logits
    assert got.dtype == torch.float32
    assert (got - want).abs().max() <= 1e-5 * want.abs().max()


@each_model
def test_samples_have_the_models_distribution(name: str, bases: dict[str, Path]) -> None:
    """The second token, behind the commonest first one; twice the same bytes; the nats are the model's."""
    model = base(bases, name)
    drawn = [sample(model, rows=3000, positions=2, bos=BOS, seed=seed, progress=quiet) for seed in (1, 1, 2)]
    (tokens, nats), again, other = drawn
    assert np.array_equal(tokens, again[0]) and np.array_equal(nats, again[1]) and not np.array_equal(tokens, other[0])
    assert np.allclose(model.nats(tokens), nats, atol=1e-4)
    first = np.bincount(tokens[:, 0]).argmax()
    for prefix, found in (([], tokens[:, 0]), ([first], tokens[tokens[:, 0] == first, 1])):
        with torch.no_grad():
            exact = model.module(torch.tensor([[BOS, *prefix]])).logits[0, -1].double().softmax(-1).numpy()
        assert fits(np.bincount(found, minlength=V), exact) > 0.001


def fits(counts: np.ndarray, probabilities: np.ndarray) -> float:
    """p-value of a chi-square test; tokens expected fewer than 5 times stand together."""
    expected = probabilities / probabilities.sum() * counts.sum()
    rare = expected < 5
    if rare.any():
        counts, expected = (np.append(x[~rare], x[rare].sum()) for x in (counts, expected))
    return float(stats.chisquare(counts, expected).pvalue)


@each_model
def test_save_and_load(name: str, bases: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model, rows = base(bases, name), rows_of(4)
    capfd.readouterr()
    model.save(tmp_path)
    assert capfd.readouterr() == ("", ""), "no bars in a worker's log"
    again = load(tmp_path)
    assert type(again) is type(model) and np.array_equal(again.nats(rows), model.nats(rows))
    with torch.no_grad():
        theirs = AutoModelForCausalLM.from_pretrained(tmp_path)(read_of(rows)[:, :-1]).logits
        assert torch.allclose(theirs, model.module(read_of(rows)[:, :-1]).logits, atol=1e-4)


@each_model
def test_gradients_are_transformers_own(name: str, bases: dict[str, Path]) -> None:
    model, rows = base(bases, name), rows_of(20, T - 1)
    parameters, ids = list(model.module.parameters()), read_of(rows)
    loss, want = _MeanLoss(model, torch.float32)(ids[:, 1:]), model.module(ids, labels=ids).loss
    assert loss.item() == pytest.approx(want.item(), rel=1e-6)
    ours, theirs = torch.autograd.grad(loss, parameters), torch.autograd.grad(want, parameters)
    largest = max(gradient.abs().max() for gradient in theirs)
    for our, their in zip(ours, theirs, strict=True):
        # Some are zero but for rounding: a bias on all keys changes no attention.
        assert (our - their).abs().max() <= 1e-5 * their.abs().max() + 1e-7 * largest


@each_model
def test_bfloat16_stays_near(name: str, bases: dict[str, Path], tmp_path: Path) -> None:
    model = load(checkpoint(tmp_path, CONFIGS[name], scale=0.05))
    assert not isinstance(model, models.Counted)
    ids_BT, weights = read_of(rows_of(20))[:, 1:], [p for p in model.module.parameters() if p.ndim == 2]
    rounded, inside = (model.hidden(ids_BT, dtype).to(torch.bfloat16) for dtype in (torch.float32, torch.bfloat16))
    assert not torch.equal(rounded, inside)  # the products within the model are in bfloat16 too
    exact, near = (_MeanLoss(model, dtype)(ids_BT) for dtype in (torch.float32, torch.bfloat16))
    assert near.dtype == torch.float32 and 0 < abs(near.item() / exact.item() - 1) < 5e-3
    for ours, theirs in zip(torch.autograd.grad(near, weights), torch.autograd.grad(exact, weights), strict=True):
        assert ours.dtype == torch.float32 and F.cosine_similarity(ours.flatten(), theirs.flatten(), dim=0) > 0.98


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@each_model
def test_training_further_learns_and_repeats(name: str, dtype: str, bases: dict[str, Path], tmp_path: Path) -> None:
    """Dropout, which the gpt2 and OPT configurations ask for, would make two trainings differ."""
    saved = []
    for folder in (tmp_path / "first", tmp_path / "again"):
        model = start(bases[name], vocab_size=V, bos=BOS, positions=T)
        log = train(model, dtype=dtype)
        assert log[-1]["validation"] < 0.8 * log[0]["validation"]
        folder.mkdir()
        model.save(folder)
        saved.append((folder / "model.safetensors").read_bytes())
        torch.rand(3)  # the global generator has no say
    assert saved[0] == saved[1]
    assert np.array_equal(load(tmp_path / "first").nats(counting(5)), model.nats(counting(5)))


@each_model
def test_a_start_has_the_tokenizers_vocabulary(name: str, bases: dict[str, Path], tmp_path: Path) -> None:
    """Entries that no token has are cut off: the rest has its old odds.  Rows may be shorter than the base reads."""
    whole, model = base(bases, name), start(bases[name], vocab_size=V - 6, bos=5, positions=T // 2)
    ids = torch.tensor([[5, 1, 2, 60]])
    with torch.no_grad():
        want = whole.module(ids).logits[..., : V - 6]
        assert torch.allclose(model.module(ids).logits, want, atol=1e-5)
    assert model.nats(ids[:, 1:].numpy())[0, 2] == pytest.approx(-want[0, 2].log_softmax(-1)[60].item(), abs=1e-4)
    log = train(model, positions=T // 2, tokens=25 * T // 2 + 5)
    assert log[-1]["tokens"] == 25 * T // 2
    model.save(tmp_path)
    again = load(tmp_path)
    assert isinstance(again, type(model)) and (again.vocab_size, again.bos, again.positions) == (V - 6, 5, T)
    tokens, _ = sample(again, rows=300, positions=4, bos=5, seed=0, progress=quiet)
    assert tokens.max() < V - 6
    defaults = json.loads((tmp_path / "generation_config.json").read_text())
    assert defaults["do_sample"] and defaults["top_k"] == 0 and defaults["bos_token_id"] == 5


@pytest.mark.parametrize("pad", [BOS, V - 1])
def test_a_start_has_no_padding(pad: int, tmp_path: Path) -> None:
    """torch gives a padding token no gradient; one behind the cut could not even be loaded again."""
    config = LlamaConfig(**LLAMA, num_attention_heads=2, pad_token_id=pad)
    model = start(checkpoint(tmp_path, config), vocab_size=V - 6, bos=BOS, positions=T)
    before = model.module.get_input_embeddings().weight[BOS].clone()
    train(model, weight_decay=0.0, tokens=8 * T)
    assert not torch.equal(model.module.get_input_embeddings().weight[BOS], before)
    model.save(tmp_path)
    assert np.array_equal(load(tmp_path).nats(counting(2)), model.nats(counting(2)))


def test_what_cannot_be_a_start_is_refused(bases: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a vocabulary of 70, the tokenizer has 71 entries"):
        start(bases["llama"], vocab_size=V + 1, bos=0, positions=T)
    with pytest.raises(InputError, match=r"at most 16 tokens, fewer than the 17 of a row; lower n_positions to 16"):
        start(bases["gpt2"], vocab_size=V, bos=0, positions=T + 1)
    models.Counted(Uniform(V)).save(tmp_path)
    with pytest.raises(InputError, match="holds counts, which are not trained further"):
        start(tmp_path, vocab_size=V, bos=0, positions=T)


def test_a_fresh_llama() -> None:
    before = torch.random.get_rng_state()
    first, again, other = (llama(seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    weights = [model.head()[0] for model in (first, again, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert weights[0].std().item() == pytest.approx(0.02, rel=0.1)
    assert first.module.config.intermediate_size == 88  # 8/3 of 32 is 85.3
    assert first.nats(rows_of(20)).mean() == pytest.approx(np.log(V), rel=0.05)
    assert train(first)[-1]["validation"] < 0.8 * np.log(V)
    with pytest.raises(InputError, match=r"n_embd 32 over n_head 32 .* multiple of 64"):
        Causal.fresh(
            n_layer=1, n_head=32, n_embd=32, n_positions=T, initializer_range=0.02, vocab_size=V, bos=0, seed=0
        )


def test_rows_that_are_too_long_are_refused() -> None:
    model = llama()
    with pytest.raises(ValueError, match=r"\(2, 17\).*at most 16"):
        model.nats(rows_of(2, T + 1))
    decoder = model.decoder(2)
    with pytest.raises(ValueError, match="a row is full: the model reads at most 16 tokens"):
        for _ in range(T + 1):
            decoder.step(torch.tensor([BOS, BOS]))


def edit(folder: Path, name: str, **entries: Any) -> None:
    """Change entries of a JSON file of the folder."""
    path = folder / name
    old = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(old | entries))


def config(**entries: Any) -> Callable[[Path], None]:
    return lambda folder: edit(folder, "config.json", **entries)


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def replace(name: str, text: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).write_text(text)

    return change


def shards(second: str, **entries: Any) -> Callable[[Path], None]:
    """Two shards, of which the second is missing."""

    def change(folder: Path) -> None:
        (folder / "model.safetensors").rename(folder / "model-1.safetensors")
        weights = {"lm_head.weight": "model-1.safetensors", "model.norm.weight": second}
        edit(folder, "model.safetensors.index.json", **{"metadata": {}, "weight_map": weights} | entries)

    return change


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch executed'\ntR.")


def own_code(folder: Path) -> None:
    edit(folder, "config.json", auto_map={"AutoModelForCausalLM": "own.Model"})
    (folder / "own.py").write_text("open('executed', 'w')\n")


def adapter(folder: Path) -> None:
    edit(folder, "adapter_config.json", base_model_name_or_path="x/y")


REFUSALS: dict[str, tuple[Callable[[Path], None], str]] = {
    "no config": (remove("config.json"), "no readable config.json: give the folder of a saved model"),
    "broken config": (replace("config.json", "{"), "no readable config.json"),
    "a list": (replace("config.json", "[]"), "holds a list, not the settings"),
    "own code": (own_code, 'an entry "auto_map": it asks for Python code of its own, which the lab never runs'),
    "own weight file": (config(transformers_weights="adapter_model.bin"), "rename that file to model.safetensors"),
    "quantized": (config(quantization_config={"bits": 4}), "describes quantized weights"),
    "adapter": (adapter, "an adapter of peft: merge it"),
    "pickle": (pickled, r"no model.safetensors \(it has pytorch_model.bin\): only safetensors are read"),
    "no weights": (remove("model.safetensors"), "it has no weights"),
    "missing shard": (shards("model-2.safetensors"), "lacks model-2.safetensors, one of its 2 shards"),
    "shard elsewhere": (shards("../model-2.safetensors"), r"names \.\./model-2.safetensors; a shard is"),
    "pickled shard": (shards("model-2.bin"), "names model-2.bin; a shard is a safetensors file"),
    "broken index": (shards("model-2.safetensors", weight_map=3), "is no index of weights"),
    "cut weights": (replace("model.safetensors", "1234"), "cannot be loaded: SafetensorError"),
    "missing layer": (config(num_hidden_layers=3), r"9 missing keys, such as model.layers.2"),
    "layer too many": (config(num_hidden_layers=1), r"9 unexpected keys, such as model.layers.1"),
    "other width": (config(intermediate_size=40), "6 mismatched keys, such as model.layers.0.mlp"),
    "no positions": (config(max_position_embeddings=None), "max_position_embeddings|cannot be loaded"),
    "no bos": (config(bos_token_id=None, eos_token_id=[1, 2]), r"eos_token_id of the llama is \[1, 2\]"),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_refusals_are_one_line_and_run_nothing(
    what: str, bases: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "base"
    shutil.copytree(bases["llama"], folder)
    monkeypatch.chdir(tmp_path)
    spoil, message = REFUSALS[what]
    spoil(folder)
    with pytest.raises(InputError, match=message) as caught:
        load(folder)
    assert "\n" not in str(caught.value) and not (tmp_path / "executed").exists()


def test_sharded_weights_are_read(bases: dict[str, Path], tmp_path: Path) -> None:
    whole = base(bases, "smollm")
    whole.module.save_pretrained(tmp_path, max_shard_size="10KB")
    assert not (tmp_path / "model.safetensors").exists()
    assert np.array_equal(load(tmp_path).nats(rows_of(3)), whole.nats(rows_of(3)))


BESIDE = {
    "no cache": OpenAIGPTConfig(**GPT2),
    "an encoder": BertConfig(**LLAMA, num_attention_heads=2, pad_token_id=1),
    "scaled logits": GraniteConfig(**LLAMA, num_attention_heads=2, logits_scaling=8.0),
}


@pytest.mark.parametrize("what", BESIDE)
def test_models_that_predict_otherwise_are_refused(what: str, tmp_path: Path) -> None:
    kind = BESIDE[what].model_type
    with pytest.raises(InputError, match=f"holds a {kind} that the lab cannot sample or train.*GPT-2, Llama"):
        load(checkpoint(tmp_path, BESIDE[what]))


def test_a_model_that_forgets_what_it_has_read_is_refused(
    bases: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(bases["llama"])
    assert isinstance(model, Causal)
    model.check("it")
    monkeypatch.setattr(model, "decoder", lambda rows: Forgetful(model))
    with pytest.raises(InputError, match=r"it holds a llama that the lab cannot .*the logits differ by"):
        model.check("it")


class Forgetful(causal.CausalDecoder):
    def step(self, tokens_B: torch.Tensor) -> torch.Tensor:
        self.cache = None
        return super().step(tokens_B)


def test_other_architectures_are_welcome(tmp_path: Path) -> None:
    """Gemma scales its embeddings, which is inside the model."""
    model = load(checkpoint(tmp_path, GemmaConfig(**LLAMA, num_attention_heads=2, num_key_value_heads=1, head_dim=16)))
    assert isinstance(model, Causal) and model.nats(rows_of(2)).shape == (2, T)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gpt2", "gpt2 untied", "smollm", "opt 350m"])
def test_lora(name: str, bases: dict[str, Path], tmp_path: Path) -> None:
    """Only the additions learn; from the same seeds the same bytes; what is saved is a plain model, the same."""
    pytest.importorskip("peft")
    frozen = {key: value.clone() for key, value in base(bases, name).module.state_dict().items()}
    saved = []
    for folder, seed in ((tmp_path / "first", 1), (tmp_path / "again", 1), (tmp_path / "other", 2)):
        before = torch.random.get_rng_state()
        module = start(bases[name], vocab_size=V, bos=BOS, positions=T).module
        model = Lora(module, rank=4, alpha=8, seed=seed)
        assert torch.equal(torch.random.get_rng_state(), before)
        assert np.allclose(model.nats(rows_of(3)), base(bases, name).nats(rows_of(3)), atol=1e-5)
        learning = {key for key, value in module.named_parameters() if value.requires_grad}
        assert learning and all("lora_" in key for key in learning)
        log = train(model, lr=1e-2)
        assert log[-1]["validation"] < 0.9 * log[0]["validation"]
        nats = model.nats(rows_of(3))
        folder.mkdir()
        model.save(folder)
        saved.append((folder / "model.safetensors").read_bytes())
        assert not (folder / "adapter_config.json").exists()
        plain = load(folder)
        assert type(plain) is type(base(bases, name)) and np.allclose(plain.nats(rows_of(3)), nats, atol=1e-4)
    assert saved[0] == saved[1] != saved[2]
    merged = plain.module.state_dict()
    assert merged.keys() == frozen.keys()
    changed = {key for key in frozen if not torch.equal(merged[key], frozen[key])}
    assert changed and not any("embed" in key or "wte" in key or "lm_head" in key or "norm" in key for key in changed)


def test_lora_without_peft_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(InputError, match=r'pip install "collapse-lab\[lora\]"'):
        Lora(llama().module, rank=4, alpha=8, seed=0)


SMALL = {"vocab_size": 5, "bos_token_id": 0, "eos_token_id": 0}


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_enough_beams_find_the_likeliest_row(kind: str, tmp_path: Path) -> None:
    """25 beams over 5 tokens miss nothing of 3 positions: the best of all 125 rows, EOS (0) among their tokens."""
    configs = {"gpt2": GPT2Config(**GPT2 | SMALL), "llama": LlamaConfig(**LLAMA | SMALL, num_attention_heads=2)}
    model = load(checkpoint(tmp_path, configs[kind]))
    assert not isinstance(model, models.Counted)
    model.module.generation_config.repetition_penalty = 5.0  # the base's own habits have no say
    own, told = model.module.generation_config, []
    prompts = np.array(list(itertools.product(range(5), repeat=2)) * 2, dtype=np.uint16)
    found = beam_search(model, prompts, positions=3, num_beams=25, progress=told.append)
    assert found.shape == (50, 3) and found.dtype == np.int64 and told == [96, 150]
    assert model.module.generation_config is own
    every = np.array(list(itertools.product(range(5), repeat=3)))
    for prompt, row in zip(prompts[:25], found[:25], strict=True):
        nats = model.nats(np.hstack([np.tile(prompt, (125, 1)), every]))[:, 2:].sum(1)
        assert nats[(every == row).all(1)] == pytest.approx(nats.min(), abs=1e-4)
    assert np.array_equal(found[:25], found[25:]) and (found[:, :2] == 0).any()


def test_one_beam_is_greedy_and_rows_are_full(bases: dict[str, Path]) -> None:
    model, prompts = base(bases, "opt"), rows_of(4, 6)
    found = beam_search(model, prompts, positions=T - 6, num_beams=1, progress=quiet)
    for place in range(T - 6):
        with torch.no_grad():
            logits_BV = model.module(read_of(np.hstack([prompts, found[:, :place]]))).logits[:, -1]
        assert np.array_equal(found[:, place], logits_BV.argmax(-1).numpy())
    same = beam_search(model, prompts[:, :0], positions=T, num_beams=2, progress=quiet)
    assert same.shape == (4, T) and (same == same[0]).all()
    with pytest.raises(ValueError, match=r"\(4, 6\).*P at most 5, so that 11 more"):
        beam_search(model, prompts, positions=T - 5, num_beams=2, progress=quiet)


def test_a_row_may_stop_at_the_end_of_its_document(tmp_path: Path) -> None:
    """Greedy, so that what comes before the EOS is what there was without `stop`."""
    model = load(checkpoint(tmp_path, GPT2Config(**GPT2 | SMALL)))
    assert not isinstance(model, models.Counted)
    prompts = rows_of(40, 4) % 5
    free, stopped = (
        beam_search(model, prompts, positions=8, num_beams=1, stop=stop, progress=quiet) for stop in (None, 2)
    )
    ended = np.cumsum(free == 2, axis=1) > 0
    assert ended.any() and not ended.all()
    assert np.array_equal(stopped, np.where(ended, 2, free))
    early = ended[:, 5] & ~ended[:, 0]  # all of them end before the last place
    assert early.sum() > 1
    alone = beam_search(model, prompts[early], positions=8, num_beams=1, stop=2, progress=quiet)
    assert np.array_equal(alone, stopped[early])


def test_a_fresh_gpt2_is_searched_too() -> None:
    shape = ModelConfig(n_layer=1, n_head=1, n_embd=16, n_positions=T)
    model = Gpt2.fresh(shape, vocab_size=V, bos=BOS, seed=0)
    assert beam_search(model, rows_of(2, 3), positions=4, num_beams=5, progress=quiet).shape == (2, 4)
