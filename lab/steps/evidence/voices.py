"""The record and the metrics of a population whose models write unequal parts of the sample (`sample.voices`).

They are `record` and `extra` on evidence that also says who wrote which row.  They are kinds of their own so that the
keys of all other studies stay as they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lab.config.study import StudyConfig
from lab.lookup import imported
from lab.metrics import groups
from lab.metrics.centralisation import Voiced, in_turn
from lab.metrics.measure import measure
from lab.steps.extra import EXTRA, FILE, ExtraParams, apply
from lab.steps.kind import Folders, make_step, write_json
from lab.steps.record import RECORD, RecordParams, as_record, load_evidence
from lab.store.step import Attempt, Step

PARTS = ("distinct_2_within", "distinct_2_between")
"""Columns of the text of single models."""


@dataclass(frozen=True)
class VoicedRecordParams(RecordParams):
    written: Sequence[int] = ()
    """Rows of the sample by each model."""


@dataclass(frozen=True)
class VoicedExtraParams(ExtraParams):
    written: Sequence[int] = ()
    """Rows of the sample by each model."""


def voiced(study: StudyConfig, step: Step) -> Step:
    """Return the step that measures unequal voices as a record or a metric does; `step` itself where voices are equal.

    Row i is then of model i modulo their number, which all evidence says by itself.
    """
    if study.in_turn:
        return step
    kind = VOICED_RECORD if step.name == RECORD.name else VOICED_EXTRA
    params = kind.params(**step.params, **step.where, written=study.written)
    return make_step(kind, params, step.inputs, label=step.label, disk=step.disk)


def _load(params: VoicedRecordParams | VoicedExtraParams, inputs: Folders) -> Voiced:
    evidence = load_evidence(inputs, budget=params.tokens, prompt=params.prompt, layout=params.layout)
    return Voiced.of(evidence, params.written)


def _run_record(params: VoicedRecordParams, inputs: Folders, out: Path, attempt: Attempt) -> None:
    """Measure the sample as it is, and the text of single models in equal parts."""
    evidence = _load(params, inputs)
    measured = measure(evidence)
    columns = {**measured.columns, **dict.fromkeys(PARTS, math.nan), **groups.population(in_turn(evidence))}
    write_json(out / "record.json", as_record(replace(measured, columns=columns)))


def _run_extra(params: VoicedExtraParams, inputs: Folders, out: Path, attempt: Attempt) -> None:
    numbers = apply(params.metric, imported("metric", params.metric), _load(params, inputs))
    pairs = [[name, None if math.isnan(value) else value] for name, value in numbers.items()]
    write_json(out / FILE, pairs)


MODULES = ("steps/evidence/voices.py", "config/voices.py", "metrics/centralisation.py")
VOICED_RECORD = replace(
    RECORD, name="record-voices", params=VoicedRecordParams, run=_run_record, modules=(*MODULES, *RECORD.modules)
)
VOICED_EXTRA = replace(
    EXTRA,
    name="extra-voices",
    params=VoicedExtraParams,
    run=_run_extra,
    modules=(*MODULES, *EXTRA.modules),
)
