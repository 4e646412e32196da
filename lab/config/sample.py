"""How a generation writes: `sample`, its size, its decoding and its prompts."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from lab.config.fields import (
    Batch,
    Entries,
    Frozen,
    Number,
    Tokens,
    Whole,
    zero_or_more_than_dust,
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
