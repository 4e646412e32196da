"""Estimates of what a step takes: parameters, operations, bytes on the disk.  No key and no number depends on them."""

from __future__ import annotations

from pathlib import Path

from lab.config.model import AnyModel, LlamaConfig, ModelConfig, Network, NgramConfig, PositionsConfig, PretrainedConfig
from lab.config.study import StudyConfig
from lab.config.text import SourceConfig
from lab.config.train import TrainConfig

FILES = 1_500
"""Bytes of a manifest and of the headers of files."""
TOKENIZER = 56
"""Bytes of a tokenizer's files per entry of its vocabulary, about."""
DISTINCT = (1.0, 0.4, 0.8, 0.9, 1.0)
"""Share of the n-grams of a text that are different ones, about, for n = 1 to 5."""
LORA_WIDTH = 512
"""An adapter of rank r on all matrices of a model of width 768 has r / 512 of its weights; fewer of a wider one's."""
UNKNOWN_PARAMETERS = 124_000_000
"""Parameters of a hub model before it is read: GPT-2's."""


def parameters(model: AnyModel, vocab_size: int) -> int:
    """Estimate the weights of a network of this shape.  A counting model has none."""
    if isinstance(model, PretrainedConfig):
        sizes = [file.stat().st_size for file in Path(model.path).glob("*.safetensors")]
        return sum(sizes) // 4 or UNKNOWN_PARAMETERS
    if isinstance(model, LlamaConfig):
        return 2 * vocab_size * model.n_embd + model.n_layer * 12 * model.n_embd**2
    if isinstance(model, ModelConfig):
        block = 12 * model.n_embd**2 + 13 * model.n_embd
        return (vocab_size + model.n_positions) * model.n_embd + model.n_layer * block + 2 * model.n_embd
    return 0


def vocabulary(study: StudyConfig) -> int:
    """Estimate the size of the vocabulary: what a pretrained tokenizer holds is not known before it is read."""
    if isinstance(study.corpus, SourceConfig):
        return study.corpus.types + 1
    return study.words.vocab_size or 50_257


def model_bytes(study: StudyConfig, rows: int) -> int:
    """Estimate the bytes of a model's artifact: weights, or counts of so many rows, and its copy of the tokenizer."""
    model, vocab = study.model, vocabulary(study)
    size = 4 * parameters(model, vocab) + 4 * FILES
    if isinstance(model, PositionsConfig):
        size += 8 * vocab * model.n_positions
    elif isinstance(model, NgramConfig):
        # Two int64 for each pair of a context and a token, and for each context.  About so many pairs are distinct.
        tokens = rows * model.n_positions
        pairs = [min(vocab**k, int(share * tokens)) for k, share in zip(range(1, 6), DISTINCT, strict=True)]
        size += sum(16 * (pairs[k] + (pairs[k - 1] if k else 1)) for k in range(model.order))
    return size + (0 if isinstance(study.corpus, SourceConfig) else TOKENIZER * vocab)


def checkpoint_bytes(study: StudyConfig, config: TrainConfig, *, adapted: bool) -> int:
    """Estimate the bytes of one checkpoint: float32 weights, and AdamW's two moments of each.

    `adapted`: whether LoRA's additions alone are trained.
    """
    share = min(1.0, config.lora.rank / LORA_WIDTH) if config.lora is not None and adapted else 1.0
    return int(3 * 4 * share * parameters(study.model, vocabulary(study)))


def operations(study: StudyConfig, tokens: int, passes: int) -> float:
    """Estimate floating-point operations: 2 per weight and token, and the attention.

    `passes`: 1 for a forward pass, 3 for a forward and a backward one.
    """
    model = study.model
    attention = model.n_layer * model.n_positions * model.n_embd if isinstance(model, Network) else 0
    return float(passes * tokens * 2 * (parameters(model, vocabulary(study)) + attention))
