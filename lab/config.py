"""A study as data: frozen pydantic models with strict keys.  lab/studies.py reads them from files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    model_serializer,
    model_validator,
)

from lab.types import canonical


def _whole(value: Any) -> Any:
    if isinstance(value, bool) or (isinstance(value, str) and not value.strip().lstrip("+-").isdigit()):
        raise ValueError("expected a whole number")
    return value


def _number(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("expected a number")
    return value


def _zero_or_more_than_dust(value: float) -> float:
    if value != 0 and not 1e-6 <= value <= 100:
        raise ValueError("a temperature is 0 (greedy) or lies between 1e-6 and 100")
    return value


Whole = Annotated[int, BeforeValidator(_whole)]
Number = Annotated[float, BeforeValidator(_number)]
Positive = Annotated[Whole, Field(gt=0)]
Share = Annotated[Number, Field(ge=0, le=1)]


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class CorpusConfig(Frozen):
    """Human text: files or a folder (text, jsonl, csv, parquet), or the id of a hub data set."""

    kind: Literal["text"] = "text"
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
    archive_tokens: Positive | None = None
    """Further tokens of the train fold, kept apart for regimes that ask for fresh human text (`mix`)."""

    @property
    def title(self) -> str:
        return self.path


class SourceConfig(Frozen):
    """A known distribution in the place of human text, so that measurements can be held against exact values.

    Tokens are the numbers 0 .. types - 1; rows are as long as the model's, without an end of text.
    """

    kind: Literal["source"]
    process: Literal["categorical", "markov"]
    """categorical: every token is drawn from one law p; markov: each token's law depends on the one before."""
    types: Annotated[Whole, Field(ge=2, le=4096)]
    zipf: Annotated[Number, Field(ge=0, le=10)]
    """p_i ~ i^-zipf; 0 is uniform.  markov: each token's law is this one with the types in an order of its own."""
    tokens: Positive
    """n_0: tokens that each seed draws for itself."""
    archive_tokens: Positive | None = None

    @property
    def title(self) -> str:
        return f"a {self.process} source of {self.types:,} types (Zipf {self.zipf:g})"


CORPORA: dict[str, type[Frozen]] = {"text": CorpusConfig, "source": SourceConfig}
AnyCorpus = CorpusConfig | SourceConfig


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


def _kind_or(default: str) -> Discriminator:
    """Reads `kind`, which a study need not name where it is the default."""

    def kind(part: Any) -> Any:
        return part.get("kind", default) if isinstance(part, Mapping) else getattr(part, "kind", None)

    return Discriminator(kind)


TaggedCorpus = Annotated[
    Annotated[CorpusConfig, Tag("text")] | Annotated[SourceConfig, Tag("source")], _kind_or("text")
]
TaggedModel = Annotated[
    Annotated[ModelConfig, Tag("gpt2")]
    | Annotated[NgramConfig, Tag("ngram")]
    | Annotated[PositionsConfig, Tag("positions")]
    | Annotated[UniformConfig, Tag("uniform")],
    _kind_or("gpt2"),
]
UNIONS: dict[str, dict[str, type[Frozen]]] = {"corpus": CORPORA, "model": MODELS}
"""The sections of a study that come in several kinds."""


class RegimeConfig(Frozen):
    """A regime: its name, or `{name: {option: value}}`."""

    name: str
    options: dict[str, bool | int | float | Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")]] = {}

    @model_validator(mode="before")
    @classmethod
    def short(cls, given: Any) -> Any:
        if isinstance(given, str):
            return {"name": given}
        if isinstance(given, Mapping) and len(given) == 1 and "name" not in given:
            ((name, options),) = given.items()
            return {"name": name, "options": options or {}}
        if isinstance(given, RegimeConfig) or (isinstance(given, Mapping) and {"name", "options"} == set(given)):
            return given
        raise ValueError("expected a name such as replace, or a name with options such as {mix: {human: 0.25}}")

    @model_serializer
    def shortly(self) -> Any:
        return {self.name: dict(self.options)} if self.options else self.name

    @property
    def label(self) -> str:
        """As tables and folders name it: mix,human=0.25."""
        values = (f"{k}={canonical(v) if not isinstance(v, str) else v}" for k, v in sorted(self.options.items()))
        return ",".join([self.name, *values])


class TrainConfig(Frozen):
    """AdamW, linear warm-up, cosine decay, clipped gradients."""

    tokens: Positive | None = None
    """Tokens seen per generation: equal across regimes, so that regimes differ in data and not in compute."""
    epochs: Annotated[Number, Field(gt=0)] | None = None
    """Instead: passes over the recipe.  Where that grows, as under accumulate, training grows with it."""
    steps: Positive | None = None
    """Instead: updates of batch_rows rows each."""
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

    @model_validator(mode="after")
    def one_of_three(self) -> TrainConfig:
        given = [name for name in ("tokens", "epochs", "steps") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                "how long a generation trains is exactly one of tokens (the same for all regimes), epochs (passes over "
                f"its recipe) and steps; given: {', '.join(given) or 'none of them'}"
            )
        return self

    def rows(self, recipe_rows: int, positions: int) -> int:
        """Rows fed in a generation whose recipe has so many."""
        if self.tokens is not None:
            return self.tokens // positions
        if self.steps is not None:
            return self.steps * self.batch_rows
        assert self.epochs is not None
        return max(1, round(self.epochs * recipe_rows))

    @property
    def convention(self) -> str:
        """The compute convention in words."""
        if self.tokens is not None:
            return f"{self.tokens:,} tokens of training a generation"
        return (
            f"{self.epochs:g} epochs a generation" if self.epochs is not None else f"{self.steps:,} steps a generation"
        )


class SampleConfig(Frozen):
    """Ancestral sampling from BOS; at temperature 1 and without truncation unless it says otherwise.

    The filters work in the order of transformers: repetition_penalty, temperature, top_k, top_p, min_p.
    """

    tokens: Positive
    """Size of each generation's synthetic corpus."""
    shard_rows: Positive
    """Rows that are drawn together from one seed: the unit of reproducibility and of distribution."""
    temperature: Annotated[Number, AfterValidator(_zero_or_more_than_dust)] = 1.0
    """0 is greedy."""
    top_k: Positive | None = None
    top_p: Annotated[Number, Field(gt=0, le=1)] | None = None
    min_p: Annotated[Number, Field(gt=0, le=1)] | None = None
    repetition_penalty: Annotated[Number, Field(gt=0)] | None = None

    @property
    def decoding(self) -> dict[str, Any]:
        """How tokens are chosen: what is not left as it is by default."""
        names = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")
        return {k: getattr(self, k) for k in names if getattr(self, k) != SampleConfig.model_fields[k].default}

    @property
    def title(self) -> str:
        """The decoding in words."""
        truncation = {k: v for k, v in self.decoding.items() if k != "temperature"}
        said = ", ".join(f"{k} {v:g}" for k, v in truncation.items()) or "no truncation"
        return f"temperature {self.temperature:g}, {said}"


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
    regimes: Annotated[tuple[RegimeConfig, ...], Field(min_length=1)]
    corpus: TaggedCorpus
    tokenizer: TokenizerConfig | None = None
    """Required for text; a source is made of tokens and takes none."""
    model: TaggedModel
    train: TrainConfig | None = None
    """Required for a network; counting models are fitted at once and take none."""
    sample: SampleConfig
    metrics: MetricsConfig
    compute: ComputeConfig = ComputeConfig()
    sweep: (
        dict[str, Annotated[list[Any], Field(min_length=1)]]
        | Annotated[list[dict[str, Any]], Field(min_length=1)]
        | None
    ) = None
    """Fields to vary: a mapping of field -> values is run in every combination, a list of mappings one arm each."""

    @model_validator(mode="after")
    def consistent(self) -> StudyConfig:
        if self.name == "store":
            raise ValueError('name is "store", where the artifacts of all runs lie; choose another')
        labels = [regime.label for regime in self.regimes]
        for field, values in (("seeds", list(map(str, self.seeds))), ("regimes", labels)):
            if len(set(values)) != len(values):
                raise ValueError(f"{field} names one of {', '.join(values)} twice")
        if isinstance(self.model, ModelConfig) != (self.train is not None):
            raise ValueError(
                "train is missing from the study: a GPT-2 needs train.tokens, batch_rows, lr and validation_tokens"
                if self.train is None
                else f"train has no meaning for model.kind {self.model.kind}, which is fitted at once; leave it out "
                "(--set train=null)"
            )
        if isinstance(self.corpus, CorpusConfig) != (self.tokenizer is not None):
            raise ValueError(
                "tokenizer is missing from the study: text needs tokenizer.vocab_size or tokenizer.pretrained"
                if self.tokenizer is None
                else "tokenizer has no meaning for corpus.kind source, which is made of tokens; leave it out "
                "(--set tokenizer=null)"
            )
        self._check_sizes()
        return self

    def _check_sizes(self) -> None:
        row = self.model.n_positions
        for name, tokens in self._sizes().items():
            if tokens is not None and tokens < row:
                raise ValueError(f"{name} is {tokens:,}, less than one row of model.n_positions = {row:,} tokens")
        if self.metrics.tokens > self.sample.tokens or self.metrics.tokens > self.corpus.tokens:
            raise ValueError(
                f"metrics.tokens {self.metrics.tokens:,} must not exceed sample.tokens {self.sample.tokens:,} "
                f"or corpus.tokens {self.corpus.tokens:,}: texts are compared at equal size"
            )

    def _sizes(self) -> dict[str, int | None]:
        training = {} if self.train is None else self.train.model_dump(include={"tokens", "validation_tokens"})
        return {f"train.{name}": tokens for name, tokens in training.items()} | {
            "corpus.tokens": self.corpus.tokens,
            "corpus.archive_tokens": self.corpus.archive_tokens,
            "sample.tokens": self.sample.tokens,
            "metrics.tokens": self.metrics.tokens,
            "metrics.test_tokens": self.metrics.test_tokens,
        }

    def rows(self, tokens: int) -> int:
        """Whole rows in so many tokens (rounded down)."""
        return tokens // self.model.n_positions
