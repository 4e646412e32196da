"""The judge: a model of the study's own architecture, fitted to human text that no generation sees.

It is fitted to half A of the reference fold, once for all seeds and regimes.  Of a known source, the law is the judge.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lab.config.cost import FILES, operations
from lab.config.study import StudyConfig
from lab.metrics.texts import is_text
from lab.steps.kind import Cost, Folders, Kind, make_step
from lab.steps.place import Place, end_of
from lab.steps.pool import human_pool
from lab.steps.probes import ROWS
from lab.steps.text import JUDGE_HALF, reference_rows
from lab.steps.train import MODELS, train
from lab.store.step import Attempt, Step

SEED = 0
"""The judge is one for all seeds of a study: a run that gains a seed keeps it."""
GENERATION = -2
"""What stands in the place of a generation where the seed of the judge's training is derived."""


def judge(place: Place, began: Step | None) -> Step:
    """Declare the judge of a study.  It starts from what generations start from: random weights, or `began`."""
    rows = reference_rows(place.study, place.human, JUDGE_HALF, "judge rows")
    alone = alone_at(place, GENERATION)
    recipe = human_pool(rows, SEED, GENERATION, "mix judge")
    return train(alone, recipe, place.study.rows(place.study.corpus.tokens), [began])[0]


def alone_at(place: Place, generation: int) -> Place:
    """Return the place of a judge: one model, trained as plainly as can be, for all seeds."""
    plain = place.study.train and place.study.train.plain
    study = place.study.model_copy(update={"population": 1, "train": plain})
    return replace(place, study=study, seed=SEED, t=generation)


@dataclass(frozen=True)
class JudgedParams:
    machine: Mapping[str, Any]
    layout: str
    prompt: int = 0
    """Tokens at the head of each row that are context and do not count."""


def judged(place: Place, judge: Step, rows: Step, label: str, tokens: int, *, prompt: int = 0) -> Step:
    """Declare the losses of rows under the judge."""
    study: StudyConfig = place.study
    return make_step(
        JUDGED,
        JudgedParams(place.machine.keyed("dtype"), study.corpus.layout, prompt),
        {"model": judge, "rows": rows, "tokenizer": place.human.tokenizer},
        label=f"judge {label}",
        tokens=tokens,
        work=operations(study, tokens, passes=1),
        disk=8 * tokens // place.row + FILES,
    )


def _run_judged(params: JudgedParams, inputs: Folders, out: Path, attempt: Attempt) -> None:
    """Write nats.npy, float64 [N]: the loss of each row's text, summed over its tokens after the prompt."""
    from lab.models.load import load

    model = load(inputs["model"], device=params.machine["device"])
    rows, end = np.load(inputs["rows"] / "tokens.npy", mmap_mode="r"), end_of(params.layout, inputs["tokenizer"])
    sums = np.empty(len(rows))
    for start in range(0, len(rows), ROWS):
        block = np.asarray(rows[start : start + ROWS])
        counted = is_text(block, end)
        counted[:, : params.prompt] = False
        sums[start : start + ROWS] = np.where(counted, model.nats(block), 0).sum(axis=1, dtype=np.float64)
        attempt.progress(min(len(rows), start + ROWS) * rows.shape[1])
    np.save(out / "nats.npy", sums)


JUDGED = Kind(
    "judged",
    JudgedParams,
    _run_judged,
    ("steps/evidence/judge.py", "metrics/texts.py", *MODELS),
    version="1",
    cost=Cost(cpu=8e10, cuda=4e13),
    takes="evidence",
)
