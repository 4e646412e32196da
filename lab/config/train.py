"""The section `train`: how long a generation is trained, with which optimizer, and where its weights begin."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from lab.config.fields import Batch, Epochs, Frozen, Number, Positive, Rate, Share, Tokens, Width
from lab.errors import plural


class BaseConfig(Frozen):
    """A base model, from which every generation of a seed starts.

    It is trained once per seed, on human text that nothing else in the study uses.
    """

    tokens: Tokens
    """Tokens of human text for the base, taken from the train fold in addition to all others."""
    epochs: Epochs
    """Passes over the tokens of the base.  All other settings of training are those of `train`."""


class LoraConfig(Frozen):
    """Low-rank additions to the linear layers, trained alone and then added to the weights (Hu et al. 2021)."""

    rank: Width
    """Rank of the additions."""
    alpha: Annotated[Number, Field(gt=0, le=2**20)]
    """Scale of the additions: they are multiplied by alpha / rank."""


class TokenWeightsConfig(Frozen):
    """Weights of tokens in the loss that keep the tail: (count + 1)^-power over its mean, at most cap.

    The count is the number of times that the token stands in the rows a model is trained on.
    """

    power: Annotated[Number, Field(gt=0, le=4)]
    """Exponent: 0.5 lets a token that is 100 times as rare weigh 10 times as much."""
    cap: Annotated[Number, Field(ge=1, le=10**6)]
    """Largest weight; the mean weight of the text is 1 before it is capped."""


class TrainConfig(Frozen):
    """Training with AdamW: linear warm-up, cosine decay, clipped gradients."""

    tokens: Tokens | None = None
    """Tokens that a model is trained on in each generation, the same in all regimes, so that regimes differ in data and
    not in compute.  Give one of tokens, epochs and steps."""
    epochs: Epochs | None = None
    """Passes over the training set of each generation.  Where the set grows, as under accumulate, training grows with
    it. Give one of tokens, epochs and steps."""
    steps: Annotated[Positive, Field(le=10**9)] | None = None
    """Updates of batch_rows rows each.  Give one of tokens, epochs and steps."""
    batch_rows: Batch
    """Rows in a batch, summed over all processes."""
    lr: Rate
    """Largest learning rate of AdamW, at most 10."""
    warmup: Share = 0.05
    """Share of the steps in which the learning rate rises from 0 to lr.  Default: 0.05."""
    final_lr: Share = 0.1
    """Learning rate at the last step, as a share of lr.  Default: 0.1."""
    weight_decay: Annotated[Number, Field(ge=0, le=100)] = 0.1
    """Weight decay of AdamW.  Default: 0.1."""
    beta1: Annotated[Number, Field(ge=0, lt=1)] = 0.9
    """Decay of AdamW's mean of gradients.  Default: 0.9."""
    beta2: Annotated[Number, Field(ge=0, lt=1)] = 0.99
    """Decay of AdamW's mean of squared gradients.  Default: 0.99."""
    clip: Annotated[Number, Field(gt=0)] = 1.0
    """Largest norm of the gradient; a longer one is scaled down to it.  Default: 1."""
    validation_tokens: Tokens
    """Tokens of the validation fold that are scored during training, for the loss curve."""
    start: Literal["scratch", "base", "continue"] = "scratch"
    """Where the weights of each generation begin.  scratch (default): new random weights.  base: the same base model
    each time.  continue: the weights with which the previous generation ended."""
    base: BaseConfig | None = None
    """The base model for start: base.  A pretrained model is its own base and takes none.  Default: none."""
    lora: LoraConfig | None = None
    """Train low-rank additions only; needs start: base or continue, and the package peft.  Default: train all
    weights."""
    truncate: Annotated[Number, Field(ge=0.01, le=1)] | None = None
    """Leave tokens to which the model gives a higher probability out of the loss (truncated cross-entropy), so that
    training does not sharpen what is known.  At least 0.01: under a bound below the probabilities of a new model
    nothing at all would be learned.  The base and the judge do not use it.  Default: no bound."""
    token_weights: TokenWeightsConfig | None = None
    """Let rare tokens count more in the loss, as in {power: 0.5, cap: 10}.  The base and the judge do not use it.
    Default: all tokens count alike."""
    compile: bool = False
    """Whether torch.compile makes the kernels of training.  It is meant for GPUs.  On a CPU it needs a C++ compiler and
    20 seconds or more, and makes steps at most a few percent faster.  The weights differ by rounding from those
    without it.  Default: false."""

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
        """Return the number of rows that a generation is trained on; one has `row_tokens` of text on average."""
        if self.tokens is not None:
            return max(1, int(self.tokens / row_tokens))  # not //, which is one less for 182 // (91 / 9)
        if self.steps is not None:
            return self.steps * self.batch_rows
        assert self.epochs is not None
        return max(1, round(self.epochs * recipe_rows))

    def divided(self, members: int) -> TrainConfig:
        """Return the settings for each of `members` models, which together train on as many tokens as one would."""
        shares = {"tokens": self.tokens, "steps": self.steps}
        return self.model_copy(update={name: value // members for name, value in shares.items() if value is not None})

    @property
    def plain(self) -> TrainConfig:
        """Return the same training with the plain mean loss."""
        return self.model_copy(update={"truncate": None, "token_weights": None})

    @property
    def start_title(self) -> str:
        """Return where the weights begin, in words."""
        return {"scratch": "from scratch", "base": "from one base", "continue": "continued"}[self.start]

    @property
    def loss_title(self) -> str:
        """Return what is not plain about the loss, in words that begin with a comma; empty if nothing is."""
        bound = "" if self.truncate is None else f", loss truncated at probability {self.truncate:g}"
        if self.token_weights is None:
            return bound
        return f"{bound}, token weights (count + 1)^-{self.token_weights.power:g} up to {self.token_weights.cap:g}"

    @property
    def convention(self) -> str:
        """Return the compute convention in words, such as "2 epochs a generation"."""
        if self.tokens is not None:
            return f"{self.tokens:,} tokens of training a generation"
        if self.epochs is not None:
            return f"{self.epochs:g} epoch{'' if self.epochs == 1 else 's'} a generation"
        return f"{plural(self.steps or 0, 'step')} a generation"
