"""The model of a study: networks from scratch, pretrained ones, counting models."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Tag, model_validator

from lab.config.fields import (
    Frozen,
    Layers,
    Number,
    Positions,
    Text,
    Whole,
    Width,
    kind_or,
)


class Network(Frozen):
    """The size of a transformer from scratch."""

    n_layer: Layers
    n_head: Width
    n_embd: Width
    n_positions: Positions
    """Tokens in a row.  A row is trained and scored behind one BOS: the model reads BOS and n_positions - 1 tokens."""

    initializer_range: Annotated[Number, Field(gt=0, le=1)] = 0.02
    """Standard deviation of the initial weights.  GPT-2's .02 suits a width of 768; a narrow model wants more."""

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

    @property
    def title(self) -> str:
        return f"GPT-2 {self.n_layer} x {self.n_embd}"


class LlamaConfig(Network):
    """A Llama from scratch: RMSNorm, rotary positions, SwiGLU; n_embd is a multiple of 2 n_head."""

    kind: Literal["llama"]

    @model_validator(mode="after")
    def rotates(self) -> LlamaConfig:
        if self.n_embd % (2 * self.n_head):
            raise ValueError(
                f"n_embd {self.n_embd} is not divisible by 2 n_head = {2 * self.n_head}: rotary positions pair"
            )
        return self

    @property
    def title(self) -> str:
        return f"Llama {self.n_layer} x {self.n_embd}"


class PretrainedConfig(Frozen):
    """A causal language model with its own tokenizer: a local folder or a hub id."""

    kind: Literal["pretrained"]
    path: Text
    revision: Text | None = None
    n_positions: Positions
    """Tokens in a row, at most what the model reads."""

    @property
    def title(self) -> str:
        return self.path


class NgramConfig(Frozen):
    """Counts of token sequences (lab/models/counting.py): fitted at once, no `train` section."""

    kind: Literal["ngram"]
    order: Annotated[Whole, Field(ge=1, le=5)]
    """Length of the sequences counted: 1 is a unigram."""
    smoothing: Literal["none", "interpolated"]
    """none: maximum likelihood, infinite loss on what was never seen; interpolated: Witten-Bell."""
    n_positions: Positions

    @property
    def title(self) -> str:
        return f"{self.order}-gram, smoothing {self.smoothing}"


class PositionsConfig(Frozen):
    """A unigram of its own for each position, by maximum likelihood: independent loci."""

    kind: Literal["positions"]
    n_positions: Positions

    @property
    def title(self) -> str:
        return "positions model"


class UniformConfig(Frozen):
    """Every token equally likely: perplexity is exactly the size of the vocabulary."""

    kind: Literal["uniform"]
    n_positions: Positions

    @property
    def title(self) -> str:
        return "uniform model"


AnyModel = ModelConfig | LlamaConfig | PretrainedConfig | NgramConfig | PositionsConfig | UniformConfig
NETWORKS = (ModelConfig, LlamaConfig, PretrainedConfig)
"""What is trained; the others count."""
MODELS: dict[str, type[Frozen]] = {
    "gpt2": ModelConfig,
    "llama": LlamaConfig,
    "pretrained": PretrainedConfig,
    "ngram": NgramConfig,
    "positions": PositionsConfig,
    "uniform": UniformConfig,
}


TaggedModel = Annotated[
    Annotated[ModelConfig, Tag("gpt2")]
    | Annotated[LlamaConfig, Tag("llama")]
    | Annotated[PretrainedConfig, Tag("pretrained")]
    | Annotated[NgramConfig, Tag("ngram")]
    | Annotated[PositionsConfig, Tag("positions")]
    | Annotated[UniformConfig, Tag("uniform")],
    kind_or("gpt2"),
]
