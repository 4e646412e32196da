"""The step `extra`: one metric of the user's own, on the evidence of one generation.

A study names it as `metrics.extra: [mine:type_token_ratio]`: a function in a file mine.py that takes Evidence
(lab/metrics/evidence.py) and returns named numbers.  Each metric is a step of its own, keyed by the content of its
file, so that adding, changing or removing one repeats nothing else, and a failing one leaves all other columns.
"""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from lab.config.cost import FILES
from lab.config.study import StudyConfig
from lab.config.sweep import NAME
from lab.errors import InputError, Stopped, brief, one_line, printable
from lab.lookup import imported
from lab.metrics.columns import BY_NAME
from lab.metrics.evidence import Evidence
from lab.steps.kind import Folders, Kind, function_hash, make_step, unkeyed, write_json
from lab.steps.place import Place
from lab.steps.record import RECORD, load_evidence
from lab.store.step import Attempt, Step

FILE = "extra.json"
TAKEN = {*BY_NAME, *StudyConfig.model_fields, "regime", "seed", "generation", NAME}
"""Names of columns that results.csv has, or may have, without a metric of the user's own."""


@dataclass(frozen=True)
class ExtraParams:
    metric: str
    """Its name in the study: mine:type_token_ratio."""
    code: str
    """Hash of the user's file."""
    tokens: int
    prompt: int
    layout: str
    title: str = unkeyed("")
    """What tables print above its numbers: prose, so that it changes no key."""


def extras(place: Place, record: Step) -> tuple[Step, ...]:
    """Declare a step for each metric of the user's own, with the inputs of the generation's record."""
    return tuple(_extra(name, record) for name in place.study.metrics.extra)


def _extra(name: str, record: Step) -> Step:
    function = imported("metric", name)
    code = function_hash("metric", name, function, own=False)
    given = {field: record.params[field] for field in ("tokens", "prompt", "layout")}
    params = ExtraParams(name, code, title=_title(function, name), **given)
    return make_step(EXTRA, params, record.inputs, label=f"{name} {record.chain}", disk=FILES)


def _title(function: Callable[..., Any], name: str) -> str:
    """Return the first line of a function's docstring, without its full stop, or else its name."""
    first = (inspect.getdoc(function) or "").partition("\n")[0].strip().removesuffix(".")
    return printable(first)[:150] or name.rpartition(":")[2]


def load_extra(folder: Path) -> dict[str, float]:
    """Return the named numbers of an artifact; those that do not exist are NaN."""
    numbers = json.loads((folder / FILE).read_text(encoding="utf-8"))
    return {name: math.nan if value is None else value for name, value in numbers}


def apply(metric: str, function: Callable[[Evidence], Any], evidence: Evidence) -> dict[str, float]:
    """Call a metric of the user's own.  InputError: it fails, or returns other than numbers with names of their own."""
    try:
        numbers = function(evidence)
    except Stopped:
        raise
    except (Exception, SystemExit) as error:  # a user's function may raise anything
        raise InputError(f"metric {metric} failed: {type(error).__name__}: {brief(error)}") from error
    if not isinstance(numbers, Mapping) or not numbers:
        raise InputError(f"metric {metric} returned {_shown(numbers)}; it must return numbers by name, such as {{...}}")
    return {_checked(metric, name): _number(metric, name, value) for name, value in numbers.items()}


def _checked(metric: str, name: Any) -> str:
    if not isinstance(name, str) or not name.isidentifier():
        raise InputError(
            f"metric {metric} returned a number named {_shown(name)}; a name has letters, digits and _ only"
        )
    if name in TAKEN:
        raise InputError(f'metric {metric} returned a number named "{name}", which the lab uses; choose another name')
    return name


def _number(metric: str, name: str, value: Any) -> float:
    if isinstance(value, np.generic | np.ndarray) and value.ndim == 0:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InputError(f'metric {metric} returned {_shown(value)} as "{name}"; it must be a number or NaN')
    try:
        return float(value)
    except OverflowError:
        raise InputError(f'metric {metric} returned {_shown(value)} as "{name}": it is too large for a float') from None


def _shown(value: Any) -> str:
    return one_line(repr(value), 60)


def _run_extra(params: ExtraParams, inputs: Folders, out: Path, attempt: Attempt) -> None:
    function = imported("metric", params.metric)
    evidence = load_evidence(inputs, budget=params.tokens, prompt=params.prompt, layout=params.layout)
    numbers = apply(params.metric, function, evidence)
    # As pairs: the order in which the metric gives its numbers is that of the columns.
    write_json(out / FILE, [[name, None if math.isnan(value) else value] for name, value in numbers.items()])


EXTRA = Kind(
    "extra", ExtraParams, _run_extra, ("steps/extra.py", *RECORD.modules), takes="evidence", reads_weights=False
)
