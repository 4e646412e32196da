"""How a generation is trained: `train`, its length, its optimizer and where its weights begin."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from lab.config.fields import (
    Batch,
    Epochs,
    Frozen,
    Number,
    Positive,
    Rate,
    Share,
    Tokens,
    Width,
)


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
