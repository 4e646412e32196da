"""The section `model`: networks from scratch, pretrained networks and counting models."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from lab.config.fields import Frozen, Layers, Number, Positions, Text, Whole, Width


class Network(Frozen):
    """The size of a transformer from scratch."""

    n_layer: Layers
    """Number of transformer blocks, at most 1,024."""
    n_head: Width
    """Attention heads per block; n_embd must be a multiple of it."""
    n_embd: Width
    """Width of the network: the length of the vector that stands for a token."""
    n_positions: Positions
    """Tokens in a row.  Each row is trained and scored after one BOS, so the model reads BOS and n_positions - 1
    tokens."""

    initializer_range: Annotated[Number, Field(gt=0, le=1)] = 0.02
    """Standard deviation of the initial weights.  Default: 0.02, as GPT-2 has it for a width of 768; a narrower model
    needs more."""

    @model_validator(mode="after")
    def heads_divide(self) -> Network:
        if self.n_embd % self.n_head:
            fit = [h for h in range(1, self.n_embd + 1) if self.n_embd % h == 0]
            near = sorted(sorted(fit, key=lambda h: abs(h - self.n_head))[:3])
            raise ValueError(
                f"n_embd {self.n_embd} is not divisible by n_head {self.n_head}; "
                f"n_head could be {', '.join(map(str, near))}"
            )
        return self


class ModelConfig(Network):
    """A GPT-2 from scratch."""

    kind: Literal["gpt2"] = "gpt2"
    """A GPT-2 from scratch.  This is the default."""

    @property
    def title(self) -> str:
        return f"GPT-2 {self.n_layer} x {self.n_embd}"


class LlamaConfig(Network):
    """A Llama from scratch: RMSNorm, rotary positions, SwiGLU.  n_embd must be a multiple of 2 n_head."""

    kind: Literal["llama"]
    """A Llama from scratch."""

    @model_validator(mode="after")
    def heads_are_even(self) -> LlamaConfig:
        if self.n_embd % (2 * self.n_head):
            raise ValueError(
                f"n_embd {self.n_embd} is not divisible by 2 n_head = {2 * self.n_head}: rotary positions pair"
            )
        return self

    @property
    def title(self) -> str:
        return f"Llama {self.n_layer} x {self.n_embd}"


class PretrainedConfig(Frozen):
    """A pretrained causal language model with its own tokenizer."""

    kind: Literal["pretrained"]
    """A pretrained network, which every generation fine-tunes."""
    path: Text
    """A local folder or a hub id, such as openai-community/gpt2."""
    revision: Text | None = None
    """Commit, branch or tag on the hub.  Default: the newest commit, whose id is kept with the run."""
    n_positions: Positions
    """Tokens in a row, at most the context that the model was made for."""

    @property
    def title(self) -> str:
        return self.path


class NgramConfig(Frozen):
    """Counts of token sequences (lab/models/counting.py).  It is fitted at once and takes no `train` section."""

    kind: Literal["ngram"]
    """A counting model of token sequences."""
    order: Annotated[Whole, Field(ge=1, le=5)]
    """Length of the counted sequences, from 1 (a unigram) to 5."""
    smoothing: Literal["none", "interpolated"]
    """none: maximum likelihood, with infinite loss on unseen sequences.  interpolated: Witten-Bell smoothing."""
    n_positions: Positions
    """Tokens in a row."""

    @property
    def title(self) -> str:
        return f"{self.order}-gram, smoothing {self.smoothing}"


class PositionsConfig(Frozen):
    """A separate unigram for each position of a row, by maximum likelihood: independent loci."""

    kind: Literal["positions"]
    """A counting model with a separate unigram for each position."""
    n_positions: Positions
    """Tokens in a row, each with counts of its own."""

    @property
    def title(self) -> str:
        return "positions model"


class UniformConfig(Frozen):
    """A model that gives every token the same probability; its perplexity is exactly the size of the vocabulary."""

    kind: Literal["uniform"]
    """A model that learns nothing, as a yardstick."""
    n_positions: Positions
    """Tokens in a row."""

    @property
    def title(self) -> str:
        return "uniform model"


AnyModel = ModelConfig | LlamaConfig | PretrainedConfig | NgramConfig | PositionsConfig | UniformConfig
NETWORKS = (ModelConfig, LlamaConfig, PretrainedConfig)
"""The kinds that are trained; the others count."""
