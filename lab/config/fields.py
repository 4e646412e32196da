"""The types of a study's fields: strict numbers with bounds, bounded text, and the model that all sections are.

Upper bounds catch slips of the finger and are no opinions: each lies far above what anyone trains, and below what would
overflow 64 bits, take the machine's memory or hang while a study is only planned.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field


def _whole(value: Any) -> Any:
    if isinstance(value, bool) or (isinstance(value, str) and not value.strip().lstrip("+-").isdigit()):
        raise ValueError("expected a whole number")
    return value


def _number(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("expected a number")
    return value


def zero_or_more_than_dust(value: float) -> float:
    if value != 0 and not 1e-6 <= value <= 100:
        raise ValueError("a temperature is 0 (greedy) or lies between 1e-6 and 100")
    return value


Whole = Annotated[int, BeforeValidator(_whole)]
Number = Annotated[float, BeforeValidator(_number)]
Positive = Annotated[Whole, Field(gt=0)]
Tokens = Annotated[Positive, Field(le=10**13)]
"""Of a corpus, a sample or a training: the largest public corpora have some 10^13."""
Batch = Annotated[Positive, Field(le=2**20)]
"""Rows that are in memory at one time: the largest published batches have some 10^4."""
Positions = Annotated[Whole, Field(ge=2, le=2**20)]
"""Of a row: the longest contexts in use have a million."""
Width = Annotated[Positive, Field(le=2**16)]
"""Of a network: the widest published ones have some 2 x 10^4."""
Layers = Annotated[Positive, Field(le=2**10)]
"""The deepest published language models have some 10^2."""
Entries = Annotated[Positive, Field(le=2**20)]
"""Of a vocabulary: the largest in use have 256,000."""
Epochs = Annotated[Number, Field(gt=0, le=10**6)]
Rate = Annotated[Number, Field(gt=0, le=10)]
"""Learning rate of AdamW: updates have about this size whatever the gradient is, and weights are near .02."""
Text = Annotated[str, Field(max_length=4096)]
"""A path, an id or the name of a column: the longest path that Linux takes."""
Share = Annotated[Number, Field(ge=0, le=1)]


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def kind_or(default: str) -> Discriminator:
    """Reads `kind`, which a study need not name where it is the default."""

    def kind(part: Any) -> Any:
        return part.get("kind", default) if isinstance(part, Mapping) else getattr(part, "kind", None)

    return Discriminator(kind)
