"""The types of a study's fields: strict numbers with bounds, bounded text, and the base class of all sections.

The upper bounds catch typing errors.  Each lies far above what anyone trains, and below what would overflow 64 bits,
exhaust the machine's memory or hang while a study is only planned.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

_DIGITS = r"[+-]?(?:\d{1,3}(?:[ ,_']\d{3})+|[\d_]+|\d*\.\d+(?=[ekmb]))"
_WRITTEN = re.compile(rf"({_DIGITS})(e\+?\d{{1,2}})?([kmb]?)", re.IGNORECASE)
_TIMES = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9}


def _whole(value: Any) -> Any:
    """Read a whole number as people write it: 51_200, "51,200", "5e4", "50k", "1.5M".  Refuse booleans.

    A point is read only before an exponent or a letter: 50.000 is fifty to some and fifty thousand to others.  YAML
    reads it as the number 50.0, so that no number with a point is taken.
    """
    if isinstance(value, float):
        raise ValueError(f"expected a whole number, without a point{_right(value)}")
    if isinstance(value, str):
        found = _WRITTEN.fullmatch(value.strip())
        digits = re.sub("[ ,_']", "", found[1]) if found else ""
        if found and digits.strip("+-"):
            number = Decimal(digits + (found[2] or "")) * _TIMES[found[3].lower()]
            if number == int(number):
                return int(number)
    if isinstance(value, str) and re.fullmatch(r"\s*\d{1,3}(\.\d{3})+\s*", value):
        raise ValueError(f"expected a whole number, without a point: write {value.strip().replace('.', '_')}")
    if isinstance(value, bool | str):
        raise ValueError("expected a whole number, such as 51200, 51_200, 5e4 or 50k")
    return value


def _right(value: float) -> str:
    """Return how a number with a point is written whole: _right(51.2) == ": write 51_200 if the point parts thousands".

    51.2 is all that is left of 51.200.
    """
    meant = [f"{int(value):_}"] if value.is_integer() and abs(value) < 2**53 else []
    if abs(value) < 1000 and math.isclose(value * 1000, round(value * 1000)):
        meant.append(f"{round(value * 1000):_} if the point parts thousands")
    return f": write {', or '.join(meant)}" if meant else ""


def _number(value: Any) -> Any:
    """Refuse booleans, which pydantic would read as 0 and 1, and say how percents and decimal commas are written."""
    if isinstance(value, str) and (found := re.fullmatch(r"\s*([\d.]+)\s*%\s*|\s*(\d+),(\d+)\s*", value)):
        right = f"0.05 for 5 %, here {found[1]} / 100" if found[1] else f"a decimal point, {found[2]}.{found[3]}"
        raise ValueError(f"expected a number: write {right}")
    if isinstance(value, bool):
        raise ValueError("expected a number")
    return value


def temperature(value: float) -> float:
    """Return a temperature that is 0 or large enough to divide logits by.

    Raises:
        ValueError: the value lies outside.
    """
    if value != 0 and not 1e-6 <= value <= 100:
        raise ValueError("a temperature is 0 (greedy) or lies between 1e-6 and 100")
    return value


Whole = Annotated[int, BeforeValidator(_whole)]
Number = Annotated[float, BeforeValidator(_number)]
Positive = Annotated[Whole, Field(gt=0)]
Tokens = Annotated[Positive, Field(le=10**13)]
"""Tokens of a corpus, a sample or a training.  The largest public corpora have some 10^13."""
Batch = Annotated[Positive, Field(le=2**20)]
"""Rows that are in memory at one time.  The largest published batches have some 10^4."""
Positions = Annotated[Whole, Field(ge=2, le=2**20)]
"""Tokens of a row.  The longest contexts in use have a million."""
Width = Annotated[Positive, Field(le=2**16)]
"""Width of a network.  The widest published ones have some 2 x 10^4."""
Layers = Annotated[Positive, Field(le=2**10)]
"""Layers of a network.  The deepest published language models have some 10^2."""
Entries = Annotated[Positive, Field(le=2**20)]
"""Entries of a vocabulary.  The largest in use have 256,000."""
Epochs = Annotated[Number, Field(gt=0, le=10**6)]
"""Passes over a training set."""
Rate = Annotated[Number, Field(gt=0, le=10)]
"""Learning rate of AdamW.  Updates have about this size whatever the gradient is, and weights are near 0.02."""
Text = Annotated[str, Field(max_length=4096)]
"""A path, an id or the name of a column.  Linux takes paths of up to 4,096 bytes."""
Share = Annotated[Number, Field(ge=0, le=1)]
"""A share between 0 and 1."""


class Frozen(BaseModel):
    """Base class of a study's sections: they cannot be changed, and unknown keys are errors.

    The text under a field becomes its `description`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


def kind_or(default: str) -> BeforeValidator:
    """Return a validator that gives a section the default `kind` where a study leaves it out."""
    return BeforeValidator(lambda part: {"kind": default, **part} if isinstance(part, Mapping) else part)
