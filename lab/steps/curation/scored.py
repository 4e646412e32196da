"""The models of curators, what they write and how they score: the steps that a curator's needs ask for.

All of it is human text of the curator's own (half B of the reference fold), and what the newest published model writes
when it is asked: no label of any pool.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lab.config.cost import FILES, operations
from lab.metrics.texts import is_text
from lab.seeds import derive_seed
from lab.steps.evidence.judge import SEED, alone_at
from lab.steps.kind import Cost, Folders, Kind, make_step
from lab.steps.marked import marked
from lab.steps.place import Place, end_of
from lab.steps.pool import human_pool
from lab.steps.sample import sample
from lab.steps.source import SOURCE_ROWS, more_rows
from lab.steps.text import CURATORS_HALF, TRUSTED_HALF, reference_rows
from lab.steps.train import MODELS, train, train_on_share
from lab.store.step import Attempt, Step
from lab.text import tokenizer as tokenizers

GENERATION = -3
"""What stands in the place of a generation where the seed of a curator's model is derived."""
DECOYS = 256
"""Most rows that a curator has a published model write."""
ROWS = 16
"""Rows whose hidden states exist at one time."""


def trusted(place: Place) -> Step:
    """Declare the human rows that curators trust, the same for all seeds of a study of text."""
    return _own_rows(place, "trusted", TRUSTED_HALF)


def _own_rows(place: Place, purpose: str, half: int, register: str = "") -> Step:
    if place.human.human.name == SOURCE_ROWS.name:
        return more_rows(place.study, place.human, purpose, SEED)
    label = f"{purpose} rows of {register}" if register else f"{purpose} rows"
    return reference_rows(place.study, place.human, half, label, register or None)


def judges(place: Place, began: Step | None, *, both: bool = False, register: str = "") -> dict[str, Step]:
    """Declare the judge of curators, by role; with `both` the observer too, fitted to half of the judge's rows.

    They are models of the study's own architecture, one for all seeds, and start from what generations start from.
    With `register` they are fitted to the rows of one domain.
    """
    label = f"mix curators' judge{f' of {register}' if register else ''}"
    recipe = human_pool(_own_rows(place, "curators", CURATORS_HALF, register), SEED, GENERATION, label)
    alone, rows = alone_at(place, GENERATION), place.study.rows(place.study.corpus.tokens)
    found = {"judge": train(alone, recipe, rows, [began])[0]}
    if both:
        found["observer"] = train_on_share(alone, recipe, rows, began, 2)
    return found


def decoy(place: Place, models: Sequence[Step]) -> Step:
    """Declare rows that the models of the generation before write for a curator, under a seed of their own.

    They are decoded and marked as that generation's sample is: whoever can ask a published model gets such text.
    """
    study, seed = place.study, derive_seed(place.seed, place.t - 1, "decoy")
    tokens = min(study.sample_rows, DECOYS) * place.row
    less = study.model_copy(update={"sample": study.sample.model_copy(update={"tokens": tokens})})
    return marked(less, sample(replace(place, study=less, seed=seed, t=place.t - 1), models))


@dataclass(frozen=True)
class ScoredParams:
    machine: Mapping[str, Any]
    layout: str


def scored(place: Place, models: Mapping[str, Step], rows: Step, count: int) -> Step:
    """Declare the scores of `count` rows under the models of `judges`."""
    tokens = count * place.row
    params = ScoredParams(place.machine.keyed("dtype"), place.study.corpus.layout)
    inputs = {**models, "rows": rows, "tokenizer": place.human.tokenizer}
    work = operations(place.study, tokens, passes=2 * len(models))
    label, disk = f"score {rows.chain}", 32 * count + FILES
    return make_step(SCORED, params, inputs, label=label, tokens=tokens, work=work, disk=disk)


def _run_scored(params: ScoredParams, inputs: Folders, out: Path, attempt: Attempt) -> None:
    """Write scores.npy, float64 [N, 3], or [N, 4] with an observer: moments.NAMES, each summed over a row's text."""
    from lab.models.load import load
    from lab.models.moments import moments

    models = {role: load(inputs[role], params.machine["device"]) for role in ("judge", "observer") if role in inputs}
    bos, end = tokenizers.load_special(inputs["tokenizer"])["bos"], end_of(params.layout, inputs["tokenizer"])
    rows, found = np.load(inputs["rows"] / "tokens.npy", mmap_mode="r"), []
    for start in range(0, len(rows), ROWS):
        block = np.asarray(rows[start : start + ROWS])
        each = moments(models["judge"], block, bos=bos, observer=models.get("observer"))
        found.append(np.where(is_text(block, end)[:, :, None], each, 0).sum(axis=1))
        attempt.progress(min(len(rows), start + ROWS) * rows.shape[1])
    np.save(out / "scores.npy", np.concatenate(found))


SCORED = Kind(
    "scored",
    ScoredParams,
    _run_scored,
    ("steps/curation/scored.py", "models/moments.py", "metrics/texts.py", *MODELS),
    version="1",
    cost=Cost(cpu=4e10, cuda=4e13),
    takes="evidence",
)
