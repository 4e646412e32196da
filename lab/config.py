"""A study as data: frozen pydantic models with strict keys.  lab/studies.py reads them from files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator


def _whole(value: Any) -> Any:
    if isinstance(value, bool) or (isinstance(value, str) and not value.strip().lstrip("+-").isdigit()):
        raise ValueError("expected a whole number")
    return value


def _number(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("expected a number")
    return value


Whole = Annotated[int, BeforeValidator(_whole)]
Number = Annotated[float, BeforeValidator(_number)]
Positive = Annotated[Whole, Field(gt=0)]
Share = Annotated[Number, Field(ge=0, le=1)]


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class CorpusConfig(Frozen):
    """Human text: files or a folder (text, jsonl, csv, parquet), or the id of a hub data set."""

    path: str
    text: str = "text"
    """Name of the column that holds the text."""
    domain: str | None = None
    author: str | None = None
    group: str | None = None
    """Rows of one group never stand on two sides of a split.  None: each document is a group of its own."""
    subset: str | None = None
    """Configuration of a hub data set, such as wikitext-2-raw-v1."""
    split: str = "train"
    revision: str | None = None
    piece: Positive | None = None
    """Cut documents into pieces of about so many characters, at line ends; each piece is then a group."""
    tokens: Positive
    """n_0: tokens of human text that each seed draws for itself from the train fold."""


class TokenizerConfig(Frozen):
    """A byte-level BPE trained on the human training text, or the tokenizer of a pretrained model."""

    vocab_size: Annotated[Whole, Field(ge=257)] | None = None
    pretrained: str | None = None

    @model_validator(mode="after")
    def one_of_two(self) -> TokenizerConfig:
        if (self.vocab_size is None) == (self.pretrained is None):
            raise ValueError("give exactly one of vocab_size (train a tokenizer) and pretrained (a folder or hub id)")
        return self


class ModelConfig(Frozen):
    """A GPT-2 from scratch."""

    kind: Literal["gpt2"] = "gpt2"
    n_layer: Positive
    n_head: Positive
    n_embd: Positive
    n_positions: Annotated[Whole, Field(ge=2)]
    """Tokens in a row.  A row is trained and scored behind one BOS: the model reads BOS and n_positions - 1 tokens."""

    initializer_range: Annotated[Number, Field(gt=0, le=1)] = 0.02
    """Standard deviation of the initial weights.  GPT-2's .02 suits a width of 768; a narrow model wants more."""

    @model_validator(mode="after")
    def heads_divide(self) -> ModelConfig:
        if self.n_embd % self.n_head:
            fit = [h for h in range(1, self.n_embd + 1) if self.n_embd % h == 0]
            near = sorted(sorted(fit, key=lambda h: abs(h - self.n_head))[:3])
            raise ValueError(
                f"n_embd {self.n_embd} is not divisible by n_head {self.n_head}; "
                f"n_head could be {', '.join(map(str, near))}"
            )
        return self


class NgramConfig(Frozen):
    """Counts of token sequences (lab/counting.py): fitted at once, no `train` section."""

    kind: Literal["ngram"]
    order: Annotated[Whole, Field(ge=1, le=5)]
    """Length of the sequences counted: 1 is a unigram."""
    smoothing: Literal["none", "interpolated"]
    """none: maximum likelihood, infinite loss on what was never seen; interpolated: Witten-Bell."""
    n_positions: Annotated[Whole, Field(ge=2)]


class PositionsConfig(Frozen):
    """A unigram of its own for each position, by maximum likelihood: independent loci."""

    kind: Literal["positions"]
    n_positions: Annotated[Whole, Field(ge=2)]


class UniformConfig(Frozen):
    """Every token equally likely: perplexity is exactly the size of the vocabulary."""

    kind: Literal["uniform"]
    n_positions: Annotated[Whole, Field(ge=2)]


AnyModel = ModelConfig | NgramConfig | PositionsConfig | UniformConfig
MODELS: dict[str, type[Frozen]] = {
    "gpt2": ModelConfig,
    "ngram": NgramConfig,
    "positions": PositionsConfig,
    "uniform": UniformConfig,
}


def _kind_of(model: Any) -> Any:
    """A GPT-2 where nothing is said: the one kind that a study need not name."""
    return model.get("kind", "gpt2") if isinstance(model, Mapping) else getattr(model, "kind", None)


TaggedModel = Annotated[
    Annotated[ModelConfig, Tag("gpt2")]
    | Annotated[NgramConfig, Tag("ngram")]
    | Annotated[PositionsConfig, Tag("positions")]
    | Annotated[UniformConfig, Tag("uniform")],
    Discriminator(_kind_of),
]


class TrainConfig(Frozen):
    """AdamW, linear warm-up, cosine decay, clipped gradients."""

    tokens: Positive
    """Tokens seen per generation: equal across regimes, so that regimes differ in data and not in compute."""
    batch_rows: Positive
    """Rows in a batch, over all processes together."""
    lr: Annotated[Number, Field(gt=0)]
    warmup: Share = 0.05
    """Share of the steps in which the learning rate rises from 0 to lr."""
    final_lr: Share = 0.1
    """The learning rate at the last step, as a share of lr."""
    weight_decay: Annotated[Number, Field(ge=0)] = 0.1
    beta1: Annotated[Number, Field(ge=0, lt=1)] = 0.9
    beta2: Annotated[Number, Field(ge=0, lt=1)] = 0.99
    clip: Annotated[Number, Field(gt=0)] = 1.0
    """Largest norm of the gradient."""
    validation_tokens: Positive
    """Tokens of the validation fold scored during training, for the loss curve."""


class SampleConfig(Frozen):
    """Ancestral sampling at temperature 1 from BOS, without truncation."""

    tokens: Positive
    """Size of each generation's synthetic corpus."""
    shard_rows: Positive
    """Rows that are drawn together from one seed: the unit of reproducibility and of distribution."""


class MetricsConfig(Frozen):
    tokens: Positive
    """The equal token budget at which distinct-n and rare survival compare texts."""
    test_tokens: Positive
    """Tokens of the test fold that every model is measured on."""


class ComputeConfig(Frozen):
    """What fixes the arithmetic.  It is part of every key; the number of workers is not."""

    threads: Positive = 1
    """Threads of each worker."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    """Of training's matrix products.  auto: bfloat16 where the machine has it.  Sampling and scoring use float32."""


class StudyConfig(Frozen):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
    note: str = ""
    seeds: Annotated[tuple[Annotated[Whole, Field(ge=0, lt=2**31)], ...], Field(min_length=1)]
    generations: Annotated[Positive, Field(le=1000)]
    regimes: Annotated[tuple[str, ...], Field(min_length=1)]
    corpus: CorpusConfig
    tokenizer: TokenizerConfig
    model: TaggedModel
    train: TrainConfig | None = None
    """Required for a network; counting models are fitted at once and take none."""
    sample: SampleConfig
    metrics: MetricsConfig
    compute: ComputeConfig = ComputeConfig()

    @model_validator(mode="after")
    def consistent(self) -> StudyConfig:
        if self.name == "store":
            raise ValueError('name is "store", where the artifacts of all runs lie; choose another')
        for field in ("seeds", "regimes"):
            values = getattr(self, field)
            if len(set(values)) != len(values):
                raise ValueError(f"{field} names one of {list(values)} twice")
        if isinstance(self.model, ModelConfig) != (self.train is not None):
            raise ValueError(
                "train is missing from the study: a GPT-2 needs train.tokens, batch_rows, lr and validation_tokens"
                if self.train is None
                else f"train has no meaning for model.kind {self.model.kind}, which is fitted at once; leave it out "
                "(--set train=null)"
            )
        row = self.model.n_positions
        for name, tokens in self._sizes().items():
            if tokens < row:
                raise ValueError(f"{name} is {tokens:,}, less than one row of model.n_positions = {row:,} tokens")
        if self.metrics.tokens > self.sample.tokens or self.metrics.tokens > self.corpus.tokens:
            raise ValueError(
                f"metrics.tokens {self.metrics.tokens:,} must not exceed sample.tokens {self.sample.tokens:,} "
                f"or corpus.tokens {self.corpus.tokens:,}: texts are compared at equal size"
            )
        return self

    def _sizes(self) -> dict[str, int]:
        training = {} if self.train is None else self.train.model_dump(include={"tokens", "validation_tokens"})
        return {f"train.{name}": tokens for name, tokens in training.items()} | {
            "corpus.tokens": self.corpus.tokens,
            "sample.tokens": self.sample.tokens,
            "metrics.tokens": self.metrics.tokens,
            "metrics.test_tokens": self.metrics.test_tokens,
        }

    def rows(self, tokens: int) -> int:
        """Whole rows in so many tokens (rounded down)."""
        return tokens // self.model.n_positions
