"""The section `sample`: how much a generation writes, with which decoding and after which prompts."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from lab.config.fields import Batch, Entries, Frozen, Number, Tokens, Whole
from lab.config.fields import temperature as checked_temperature
from lab.config.voices import fault_of
from lab.config.watermark import WatermarkConfig


class SampleConfig(Frozen):
    """Sampling token by token from the beginning of a row.

    By default nothing is truncated and the temperature is 1.  The filters work in the order of transformers:
    repetition_penalty, temperature, top_k, top_p, min_p.
    """

    tokens: Tokens | None = None
    """Size of each generation's synthetic corpus, in tokens.  Give either tokens or rows."""
    rows: Tokens | None = None
    """Size of each generation's synthetic corpus in rows, whatever text is in them.  Give either tokens or rows."""
    shard_rows: Batch
    """Rows that are drawn together from one seed.  A shard is the unit of reproducibility and of distribution: another
    value gives another sample of the same distribution."""
    temperature: Annotated[Number, AfterValidator(checked_temperature)] = 1.0
    """Divisor of the logits before the softmax: 0, or from 1e-6 to 100.  0 always takes the likeliest token (greedy).
    Default: 1, the model's own distribution."""
    top_k: Entries | None = None
    """Draw from the k likeliest tokens only.  Default: from all tokens."""
    top_p: Annotated[Number, Field(gt=0, le=1)] | None = None
    """Draw from the smallest set of likeliest tokens whose probabilities add up to at least this share (nucleus
    sampling).  Default: from all tokens."""
    min_p: Annotated[Number, Field(gt=0, le=1)] | None = None
    """Draw from tokens that have at least this share of the likeliest token's probability.  Default: from all
    tokens."""
    repetition_penalty: Annotated[Number, Field(gt=0, le=1000)] | None = None
    """Factor that makes tokens less likely that the row already holds: positive logits are divided by it, negative ones
    multiplied.  Default: none, which equals 1."""
    beams: Annotated[Whole, Field(ge=2, le=1024)] | None = None
    """Number of beams, from 2 to 1024.  Beam search then finds a likely continuation of each prompt, and nothing is
    drawn.  It needs prompt_tokens and allows no filter.  Default: no beam search."""
    prompt_tokens: Annotated[Whole, Field(ge=0)] = 0
    """Tokens of a human training row with which each sampled row begins; the model writes the rest of the row.
    Default: 0, no prompt."""
    voices: Annotated[tuple[Number, ...], Field(min_length=1, max_length=1000)] | None = None
    """How the rows of a sample are divided among the models of a population: a share for each, such as
    [0.7, 0.1, 0.1, 0.1].  A model may have no voice.  Default: equal parts."""
    watermark: WatermarkConfig | None = None
    """Mark the text that models write, so that a key finds it again.  Default: no mark."""
    train_on_prompt: bool = False
    """Whether the next generation learns the prompts too.  Default: false, where a prompt is context only, which is
    neither trained on nor measured."""

    @model_validator(mode="after")
    def consistent(self) -> SampleConfig:
        if (self.tokens is None) == (self.rows is None):
            raise ValueError("the size of a generation's sample is exactly one of tokens and rows")
        if self.beams and (self.decoding.keys() - {"beams"} or not self.prompt_tokens):
            raise ValueError("beams search for the likeliest rows after prompts: set prompt_tokens, and no filter")
        if self.train_on_prompt and not self.prompt_tokens:
            raise ValueError("train_on_prompt has no meaning without prompt_tokens")
        if self.watermark and (self.beams or self.temperature == 0 or self.top_k == 1):
            certain = (
                f"beams {self.beams}" if self.beams else "top_k 1" if self.temperature else "temperature 0 (greedy)"
            )
            raise ValueError(
                f"watermark marks what is drawn by chance, and {certain} draws nothing: leave one of them out"
            )
        if self.voices and (fault := fault_of(self.voices)):
            raise ValueError(fault)
        return self

    @property
    def decoding(self) -> dict[str, Any]:
        """Return the fields that say how tokens are chosen, except those left at their defaults."""
        names = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty", "beams")
        return {k: getattr(self, k) for k in names if getattr(self, k) != SampleConfig.model_fields[k].default}

    @property
    def mark(self) -> dict[str, Any]:
        """Return the settings of the watermark, {} where there is none."""
        return self.watermark.settings if self.watermark else {}

    @property
    def title(self) -> str:
        """Return the decoding in words, such as "temperature 0.7, top_k 50"."""
        if self.beams:
            return f"{self.beams} beams after {self.prompt_tokens} human tokens"
        prompt = f" after {self.prompt_tokens} human tokens" if self.prompt_tokens else ""
        truncation = {k: v for k, v in self.decoding.items() if k != "temperature"}
        filters = ", ".join(f"{k} {v:g}" for k, v in truncation.items()) or "no truncation"
        mark = f", {self.watermark.title}" if self.watermark else ""
        return f"temperature {self.temperature:g}, {filters}{prompt}{mark}"
