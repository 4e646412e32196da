"""The steps `reading` and `radioactivity`: whether a mark is found in a model that writes without one.

The sample that they look at is the generation's own where it has no mark, so that an unmarked chain pays only for the
reading.  Both chains of a pair are measured under the key of `metrics.radioactivity`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lab.config.cost import FILES, operations
from lab.curators.radioactivity import evidence, read_pairs, written_pairs
from lab.metrics.columns_radioactivity import NAMES
from lab.metrics.texts import is_text
from lab.steps.curation.scored import ROWS
from lab.steps.kind import Cost, Folders, Kind, make_step, write_json
from lab.steps.place import Place, end_of
from lab.steps.train import MODELS
from lab.store.step import Attempt, Step
from lab.text import rows as cutting
from lab.text import tokenizer as tokenizers

FILE, READING_ROLE, SAMPLE_ROLE = "radioactivity.json", "reading-", "unmarked"


@dataclass(frozen=True)
class ReadingParams:
    machine: Mapping[str, Any]


@dataclass(frozen=True)
class RadioactivityParams:
    key: int
    ratio: float
    prompt: int
    layout: str


def radioactivity(place: Place, models: Sequence[Step], unmarked: Step) -> Step | None:
    """Declare the radioactivity of a generation's models; None where the study does not ask.

    `unmarked`: what they write without a mark.
    """
    study, human = place.study, place.human
    asked = study.metrics.radioactivity
    if asked is None:
        return None
    inputs = {f"{READING_ROLE}{m}": _reading(place, model) for m, model in enumerate(models)}
    inputs |= {SAMPLE_ROLE: unmarked, "test": human.test, "tokenizer": human.tokenizer}
    params = RadioactivityParams(asked.key, asked.ratio, study.sample.prompt_tokens, study.corpus.layout)
    return make_step(RADIOACTIVITY, params, inputs, label=f"radioactivity {unmarked.chain}", disk=FILES)


def _reading(place: Place, model: Step) -> Step:
    study = place.study
    tokens = study.rows(study.metrics.test_tokens) * place.row
    inputs = {"model": model, "test": place.human.test, "tokenizer": place.human.tokenizer}
    work, disk = operations(study, tokens, passes=1), 4 * tokens + FILES
    params = ReadingParams(place.machine.keyed("dtype"))
    return make_step(READING, params, inputs, label=f"read {model.chain}", tokens=tokens, work=work, disk=disk)


def _run_reading(params: ReadingParams, inputs: Folders, out: Path, attempt: Attempt) -> None:
    """Write tokens.npy, [N, T]: the likeliest token at each position of held-out rows, after BOS and those before."""
    from lab.models.load import load
    from lab.models.moments import likeliest

    model = load(inputs["model"], params.machine["device"])
    bos = tokenizers.load_special(inputs["tokenizer"])["bos"]
    rows = np.load(inputs["test"] / "tokens.npy", mmap_mode="r")
    found = np.empty(rows.shape, cutting.token_type(model.vocab_size))
    for start in range(0, len(rows), ROWS):
        block = np.asarray(rows[start : start + ROWS])
        found[start : start + ROWS] = likeliest(model, block, bos=bos)
        attempt.progress(min(len(rows), start + ROWS) * rows.shape[1])
    np.save(out / "tokens.npy", found)


def _run_radioactivity(params: RadioactivityParams, inputs: Folders, out: Path, attempt: Attempt) -> None:
    """Write radioactivity.json: for each mode z, p, the number of pairs and their green share (null: no number)."""
    special, end = tokenizers.load_special(inputs["tokenizer"]), end_of(params.layout, inputs["tokenizer"])
    sample, test = (np.load(inputs[role] / "tokens.npy", mmap_mode="r") for role in (SAMPLE_ROLE, "test"))
    readings = [np.load(path / "tokens.npy") for role, path in inputs.items() if role.startswith(READING_ROLE)]
    pairs = {
        "closed": written_pairs(sample, is_text(sample, end), params.prompt),
        "reading": read_pairs(test, is_text(test, end), readings),
    }
    vocabulary = special["vocab_size"]
    found = {
        mode: evidence(some, vocabulary=vocabulary, ratio=params.ratio, key=params.key) for mode, some in pairs.items()
    }
    flat = {f"radioactivity_{mode}_{name}": value for mode, each in found.items() for name, value in each.items()}
    write_json(out / FILE, {name: None if math.isnan(value) else value for name, value in flat.items()})


def load_radioactivity(folder: Path) -> dict[str, float]:
    """Return the columns that an artifact holds; NaN where there is no number."""
    found = json.loads((folder / FILE).read_text(encoding="utf-8"))
    return {name: math.nan if found[name] is None else found[name] for name in NAMES}


READING = Kind(
    "reading",
    ReadingParams,
    _run_reading,
    ("steps/evidence/radioactivity.py", "models/moments.py", *MODELS),
    version="1",
    cost=Cost(cpu=8e10, cuda=4e13),
    takes="evidence",
)
RADIOACTIVITY = Kind(
    "radioactivity",
    RadioactivityParams,
    _run_radioactivity,
    (
        "steps/evidence/radioactivity.py",
        "curators/radioactivity.py",
        "curators/watermark.py",
        "curators/marks.py",
        "metrics/texts.py",
    ),
    version="1",
    takes="evidence",
    libraries=frozenset(),
    reads_weights=False,
)
