"""The sections of a study as data: frozen pydantic models with strict keys.  lab/config/study.py puts them together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from lab.config.fields import (
    Batch,
    Entries,
    Epochs,
    Frozen,
    Layers,
    Number,
    Positions,
    Positive,
    Rate,
    Share,
    Text,
    Tokens,
    Whole,
    Width,
    zero_or_more_than_dust,
)


class CorpusConfig(Frozen):
    """Human text: files or a folder (text, jsonl, csv, parquet), or the id of a hub data set."""

    kind: Literal["text"] = "text"
    path: Text
    text: Text = "text"
    """Name of the column that holds the text."""
    domain: Text | None = None
    author: Text | None = None
    group: Text | None = None
    """Rows of one group never stand on two sides of a split.  None: each document is a group of its own."""
    subset: Text | None = None
    """Configuration of a hub data set, such as wikitext-2-raw-v1."""
    split: Text = "train"
    revision: Text | None = None
    piece: Tokens | None = None
    """Cut documents into pieces of about so many characters, at line ends; each piece is then a group."""
    tokens: Tokens
    """n_0: tokens of human text that each seed draws for itself from the train fold."""
    archive_tokens: Tokens | None = None
    """Further tokens of the train fold, kept apart for regimes that ask for fresh human text (`mix`)."""
    layout: Literal["blocks", "documents"] = "blocks"
    """blocks: documents are joined with EOS and cut into rows; documents: each begins a row of its own, ends with EOS
    and leaves the rest of the row empty (a document longer than a row goes on in the next).  There the sizes of corpora
    count rows, n_positions tokens each whatever stands in them; train.tokens and metrics.tokens count text."""

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
    tokens: Tokens
    """n_0: tokens that each seed draws for itself."""
    archive_tokens: Tokens | None = None
    layout: Literal["blocks"] = "blocks"

    @property
    def title(self) -> str:
        return f"a {self.process} source of {self.types:,} types (Zipf {self.zipf:g})"


CORPORA: dict[str, type[Frozen]] = {"text": CorpusConfig, "source": SourceConfig}
AnyCorpus = CorpusConfig | SourceConfig


class TokenizerConfig(Frozen):
    """A byte-level BPE trained on the human training text, or the tokenizer of a pretrained model."""

    vocab_size: Annotated[Entries, Field(ge=257)] | None = None
    pretrained: Text | None = None

    @model_validator(mode="after")
    def one_of_two(self) -> TokenizerConfig:
        if (self.vocab_size is None) == (self.pretrained is None):
            raise ValueError("give exactly one of vocab_size (train a tokenizer) and pretrained (a folder or hub id)")
        return self


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
    | Annotated[LlamaConfig, Tag("llama")]
    | Annotated[PretrainedConfig, Tag("pretrained")]
    | Annotated[NgramConfig, Tag("ngram")]
    | Annotated[PositionsConfig, Tag("positions")]
    | Annotated[UniformConfig, Tag("uniform")],
    _kind_or("gpt2"),
]
UNIONS: dict[str, dict[str, type[Frozen]]] = {"corpus": CORPORA, "model": MODELS}
"""The sections of a study that come in several kinds."""


class BaseConfig(Frozen):
    """A model fitted once for each seed to human text that the study itself does not touch, for generations to start
    from."""

    tokens: Tokens
    """Human tokens of the train fold, beside all others."""
    epochs: Epochs
    """Passes over them, with the study's other settings of training."""


class LoraConfig(Frozen):
    """Train low-rank additions to the linear layers only, folded into the weights afterwards (Hu et al. 2021)."""

    rank: Width
    alpha: Annotated[Number, Field(gt=0, le=2**20)]


class TrainConfig(Frozen):
    """AdamW, linear warm-up, cosine decay, clipped gradients."""

    tokens: Tokens | None = None
    """Tokens seen per generation: equal across regimes, so that regimes differ in data and not in compute."""
    epochs: Epochs | None = None
    """Instead: passes over the recipe.  Where that grows, as under accumulate, training grows with it."""
    steps: Annotated[Positive, Field(le=10**9)] | None = None
    """Instead: updates of batch_rows rows each."""
    batch_rows: Batch
    """Rows in a batch, over all processes together."""
    lr: Rate
    warmup: Share = 0.05
    """Share of the steps in which the learning rate rises from 0 to lr."""
    final_lr: Share = 0.1
    """The learning rate at the last step, as a share of lr."""
    weight_decay: Annotated[Number, Field(ge=0, le=100)] = 0.1
    beta1: Annotated[Number, Field(ge=0, lt=1)] = 0.9
    beta2: Annotated[Number, Field(ge=0, lt=1)] = 0.99
    clip: Annotated[Number, Field(gt=0)] = 1.0
    """Largest norm of the gradient."""
    validation_tokens: Tokens
    """Tokens of the validation fold scored during training, for the loss curve."""
    start: Literal["scratch", "base", "continue"] = "scratch"
    """Where each generation's weights begin: anew, at the same base model, or where the previous generation ended."""
    base: BaseConfig | None = None
    """The base, where the model is not a pretrained one."""
    lora: LoraConfig | None = None
    compile: bool = False
    """Whether torch.compile makes the kernels of forward and backward passes: meant for GPUs.  On a CPU a C++ compiler
    is needed, it works for 20 seconds or more, and steps are at most a few percent faster.  Weights differ by rounding
    from those without."""

    @model_validator(mode="after")
    def one_of_three(self) -> TrainConfig:
        given = [name for name in ("tokens", "epochs", "steps") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                "how long a generation trains is exactly one of tokens (the same for all regimes), epochs (passes over "
                f"its recipe) and steps; given: {', '.join(given) or 'none of them'}"
            )
        return self

    def rows(self, recipe_rows: int, row_tokens: float) -> int:
        """Rows fed in a generation whose recipe has so many, with so many tokens of text in each on average."""
        if self.tokens is not None:
            return max(1, int(self.tokens / row_tokens))  # not //, which is one less for 182 // (91 / 9)
        if self.steps is not None:
            return self.steps * self.batch_rows
        assert self.epochs is not None
        return max(1, round(self.epochs * recipe_rows))

    def divided(self, members: int) -> TrainConfig:
        """What each of so many models has of it, so that all together are trained on as many tokens as one would be."""
        shares = {"tokens": self.tokens, "steps": self.steps}
        return self.model_copy(update={name: value // members for name, value in shares.items() if value is not None})

    @property
    def start_title(self) -> str:
        return {"scratch": "from scratch", "base": "from one base", "continue": "continued"}[self.start]

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

    tokens: Tokens | None = None
    """Size of each generation's synthetic corpus."""
    rows: Tokens | None = None
    """Instead: its size in rows, whatever stands in them."""
    shard_rows: Batch
    """Rows that are drawn together from one seed: the unit of reproducibility and of distribution."""
    temperature: Annotated[Number, AfterValidator(zero_or_more_than_dust)] = 1.0
    """0 is greedy."""
    top_k: Entries | None = None
    top_p: Annotated[Number, Field(gt=0, le=1)] | None = None
    min_p: Annotated[Number, Field(gt=0, le=1)] | None = None
    repetition_penalty: Annotated[Number, Field(gt=0, le=1000)] | None = None
    beams: Annotated[Whole, Field(ge=2, le=1024)] | None = None
    """Beam search with so many beams instead of drawing: the likeliest continuation of each prompt."""
    prompt_tokens: Annotated[Whole, Field(ge=0)] = 0
    """Each row begins with so many tokens of a human training row, and the model writes the rest of it."""
    train_on_prompt: bool = False
    """Whether the next generation learns the prompts too.  Else they are context: neither trained on nor measured."""

    @model_validator(mode="after")
    def whole(self) -> SampleConfig:
        if (self.tokens is None) == (self.rows is None):
            raise ValueError("the size of a generation's sample is exactly one of tokens and rows")
        if self.beams and (self.decoding.keys() - {"beams"} or not self.prompt_tokens):
            raise ValueError("beams search for the likeliest rows behind prompts: set prompt_tokens, and no filter")
        if self.train_on_prompt and not self.prompt_tokens:
            raise ValueError("train_on_prompt has no meaning without prompt_tokens")
        return self

    @property
    def decoding(self) -> dict[str, Any]:
        """How tokens are chosen: what is not left as it is by default."""
        names = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty", "beams")
        return {k: getattr(self, k) for k in names if getattr(self, k) != SampleConfig.model_fields[k].default}

    @property
    def title(self) -> str:
        """The decoding in words."""
        if self.beams:
            return f"{self.beams} beams behind {self.prompt_tokens} human tokens"
        behind = f" behind {self.prompt_tokens} human tokens" if self.prompt_tokens else ""
        truncation = {k: v for k, v in self.decoding.items() if k != "temperature"}
        said = ", ".join(f"{k} {v:g}" for k, v in truncation.items()) or "no truncation"
        return f"temperature {self.temperature:g}, {said}{behind}"
