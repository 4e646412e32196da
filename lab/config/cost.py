"""Estimates of what a step takes: parameters, operations, bytes on the disk.  No key and no number depends on them."""

from __future__ import annotations

import json
import math
from pathlib import Path

from lab.config.model import AnyModel, LlamaConfig, ModelConfig, Network, NgramConfig, PositionsConfig, PretrainedConfig
from lab.config.study import StudyConfig
from lab.config.text import SourceConfig
from lab.config.train import TrainConfig

FILES = 1_500
"""Bytes of a manifest and of the headers of files."""
TOKENIZER = 56
"""Bytes of a tokenizer's files per entry of its vocabulary, about."""
MEASURED = 51_200
DISTINCT, FALL = (1.0, 0.4, 0.8, 0.93, 0.97), (0.9, 0.6, 0.3, 0.2, 0.15)
"""Share of the n-grams of MEASURED tokens that are different ones, for n = 1 to 5, and the power of the length with
which it falls: between those of the shipped text and those of accumulated samples, which have fewer."""
DRAWING, LOOKING = 240.0, 3e4
"""What a counting model takes per token and order, in operations of a network: to draw a token, for each entry of the
vocabulary; and to count or score one.  ngram with 1,024 entries draws 54,000 tokens a second on one core."""
LORA_WIDTH = 512
"""An adapter of rank r on all matrices of a model of width 768 has r / 512 of its weights; fewer of a wider one's."""
BYTES = 257
"""Entries of the smallest vocabulary: all bytes, and EOS."""
PROSE, GROWTH = 6.0, 0.58
"""What a BPE of English prose can make of a text of n bytes, beside the bytes: about PROSE n^GROWTH entries. Measured
from 3 kB to 2 MB of the shipped text; a text of few different words has fewer."""
UNKNOWN_VOCABULARY = 50_257
"""Entries of a hub tokenizer before it is read: GPT-2's."""
MOST_HEAD = 1 << 26
"""Most bytes of the head of a safetensors file that are read."""
UNKNOWN_PARAMETERS = 124_000_000
"""Parameters of a hub model before it is read: GPT-2's."""


def parameters(model: AnyModel, vocab_size: int) -> int:
    """Estimate the weights of a network of this shape.  A counting model has none."""
    if isinstance(model, PretrainedConfig):
        held = sum(map(_weights, Path(model.path).glob("*.safetensors")))
        pickled = sum(file.stat().st_size for file in Path(model.path).glob("pytorch_model*.bin")) // 4
        return held or pickled or UNKNOWN_PARAMETERS
    if isinstance(model, LlamaConfig):
        return 2 * vocab_size * model.n_embd + model.n_layer * 12 * model.n_embd**2
    if isinstance(model, ModelConfig):
        block = 12 * model.n_embd**2 + 13 * model.n_embd
        return (vocab_size + model.n_positions) * model.n_embd + model.n_layer * block + 2 * model.n_embd
    return 0


def _weights(file: Path) -> int:
    """Return the number of weights that the head of a safetensors file states, whatever type they have; 0 if none."""
    try:
        with file.open("rb") as opened:
            size = int.from_bytes(opened.read(8), "little")
            head = json.loads(opened.read(min(size, MOST_HEAD)))
        return sum(math.prod(entry["shape"]) for name, entry in head.items() if name != "__metadata__")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return file.stat().st_size // 4


def _tokenizer_files(study: StudyConfig) -> list[Path]:
    """Return the files of a pretrained tokenizer that lie in a local folder."""
    folder = Path(study.words.pretrained or "/dev/null")
    return [file for file in folder.glob("tokenizer*.json") if file.is_file()] if folder.is_dir() else []


def vocabulary(study: StudyConfig) -> int:
    """Estimate the size of the vocabulary.  A pretrained tokenizer's is told from the size of its files."""
    if isinstance(study.corpus, SourceConfig):
        return study.corpus.types + 1
    return study.words.vocab_size or max(BYTES, tokenizer_bytes(study) // TOKENIZER)


def reachable(size: float) -> float:
    """Estimate the entries of the largest vocabulary that BPE makes of so many bytes of prose."""
    return BYTES + min(size, PROSE * math.pow(size, GROWTH))


def tokenizer_bytes(study: StudyConfig) -> int:
    """Estimate the bytes of a tokenizer's files."""
    if study.words.vocab_size is not None:
        return TOKENIZER * study.words.vocab_size
    return sum(file.stat().st_size for file in _tokenizer_files(study)) or TOKENIZER * UNKNOWN_VOCABULARY


def model_bytes(study: StudyConfig, rows: int) -> int:
    """Estimate the bytes of a model's artifact: weights, or counts of so many rows, and its copy of the tokenizer."""
    model, vocab = study.model, vocabulary(study)
    size = 4 * parameters(model, vocab) + 4 * FILES
    if isinstance(model, PositionsConfig):
        size += 8 * vocab * model.n_positions
    elif isinstance(model, NgramConfig):
        # Two int64 for each pair of a context and a token, and for each context.  About so many pairs are distinct.
        tokens = rows * model.n_positions
        pairs = [min(vocab**k, _distinct(tokens, k)) for k in range(1, 6)]
        size += sum(16 * (pairs[k] + (pairs[k - 1] if k else 1)) for k in range(model.order))
    return size + (0 if isinstance(study.corpus, SourceConfig) else tokenizer_bytes(study))


def _distinct(tokens: int, n: int) -> int:
    """Estimate the different n-grams of a text: their share falls with its length, the faster the shorter they are."""
    longer = max(1.0, tokens / MEASURED)
    return int(tokens * DISTINCT[n - 1] * longer ** -FALL[n - 1])


def checkpoint_bytes(study: StudyConfig, config: TrainConfig, *, adapted: bool) -> int:
    """Estimate the bytes of one checkpoint: float32 weights, and AdamW's two moments of each.

    `adapted`: whether LoRA's additions alone are trained.
    """
    share = min(1.0, config.lora.rank / LORA_WIDTH) if config.lora is not None and adapted else 1.0
    return int(3 * 4 * share * parameters(study.model, vocabulary(study)))


def operations(study: StudyConfig, tokens: int, passes: int, *, drawn: bool = False) -> float:
    """Estimate floating-point operations: 2 per weight and token, and the attention.

    Args:
        study: the study.
        tokens: tokens of all rows.
        passes: 1 for a forward pass, 3 for a forward and a backward one.
        drawn: whether the model writes the tokens.  A counting model then makes the whole distribution of each.
    """
    model = study.model
    if isinstance(model, NgramConfig):
        return tokens * model.order * (DRAWING * vocabulary(study) if drawn else LOOKING)
    attention = model.n_layer * model.n_positions * model.n_embd if isinstance(model, Network) else 0
    return float(passes * tokens * 2 * (parameters(model, vocabulary(study)) + attention))
