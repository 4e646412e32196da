"""The section `profile`: what is measured beside the table, for the eight definitions of model collapse."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import Field, model_validator

from lab.config.fields import Frozen, Number, Positive, Text


class Thresholds(Frozen):
    """Where each definition begins to hold: beyond it a regime counts as collapsed, if the whole interval is there."""

    catastrophic: Number = 0.5
    """Definition 1: share of the way from the control's loss to that of a unigram.  Default: 0.5, half of what context
    has taught is gone."""
    increase: Number = 0.0
    """Definition 2: increase of the loss over the control's, nats per token.  Default: 0."""
    increase_near: Number = math.log(1.02)
    """Definition 2: an interval that lies wholly below this counts as not collapsed.  Default: ln 1.02, two per cent of
    perplexity."""
    divergence: Number = 1.0
    """Definition 3: exponent kappa of D_t = b (1 + 2^-kappa + ... + t^-kappa).  Default: 1; below it the sum has no
    bound."""
    variance: Number = -math.log(2)
    """Definition 4: change of the entropy of the next token, nats.  Default: -ln 2, half of the choices are left."""
    scaling: Number = 0.5
    """Definition 5: what more data of the chain gains, as a share of what more human data gains.  Default: 0.5."""
    modes: Number = 0.5
    """Definition 6: share of the text of one mode, as a ratio to the control's.  Default: 0.5."""
    tails: Number = math.log(0.5)
    """Definition 7: logarithm of the rare words still written over those that the control writes.  Default: ln 0.5."""
    hallucination: Number = 0.05
    """Definition 8: rows beyond the judge's 99th percentile of human text, above the control's share.  Default: 0.05,
    five times the human share more."""


class LabelConfig(Frozen):
    """A column of the corpus that labels documents.  `year` alone is short for {column: year}."""

    column: Text
    """Name of the column."""
    width: Positive | None = None
    """Numbers of one label, such as 100 for centuries of a column of years: 1843 is in "1800-1899".  Default: each
    value is a label."""

    @model_validator(mode="before")
    @classmethod
    def short(cls, given: Any) -> Any:
        """Accept a column alone."""
        return {"column": given} if isinstance(given, str) else given


LabelName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,63}$")]
TAKEN = ("domain", "author", "cluster", "document")
"""Names of labels that the profile has already."""


class ProfileConfig(Frozen):
    """What `lab profile` measures.  A finished run may gain it: no model of a generation is trained again."""

    entropy: bool = True
    """Whether each model is asked for the entropy of the next token on held-out text (definition 4).  Default: true."""
    judge: bool = True
    """Whether a model of the study's own architecture is fitted to human text that no generation sees, once a study,
    and scores what the generations write (definition 8).  Of a source, the law itself is the judge.  Default: true."""
    scaling: bool = False
    """Whether the last generation and the first are trained again on an eighth, a quarter and half of their rows
    (definition 5), which takes 0.9 trainings more for each.  Default: false."""
    groups: dict[LabelName, LabelConfig] = Field(default_factory=dict)
    """More columns of the corpus by which the profile says whose text disappears, beside domain and author, such as
    {century: {column: year, width: 100}}.  Default: none."""
    extraction: bool = False
    """Whether each model is asked for the loss of suffixes of up to 256 human training rows and as many held-out ones,
    50 tokens after 50 (half a row after half where rows are shorter): the probability that 1000 draws write one.  With
    corpus.canaries also for the exposure of the canaries.  Default: false."""
    telephone: bool = False
    """Whether each generation continues 16 held-out prompts of 32 tokens (at most a quarter of a row) with the same
    uniform numbers; lab texts RUN --telephone shows them side by side.  Default: false."""
    thresholds: Thresholds = Field(default_factory=Thresholds)
    """Where each definition begins to hold.  Default: the values of lab/definitions.py."""

    @model_validator(mode="after")
    def names(self) -> ProfileConfig:
        """Refuse names of labels that the profile has already."""
        if twice := [name for name in self.groups if name in TAKEN]:
            raise ValueError(f"groups names {', '.join(twice)}, which the profile has already; choose another name")
        return self
