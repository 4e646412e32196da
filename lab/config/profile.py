"""The section `profile`: what is measured beside the table, for the eight definitions of model collapse."""

from __future__ import annotations

import math

from pydantic import Field

from lab.config.fields import Frozen, Number


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
    thresholds: Thresholds = Field(default_factory=Thresholds)
    """Where each definition begins to hold.  Default: the values of lab/definitions.py."""
