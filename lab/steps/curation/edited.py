"""The step `edited`: a corpus in which editors have changed tokens, one row at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from lab.config.cost import FILES, operations
from lab.curators import curator
from lab.curators.edits import CANDIDATES, Row
from lab.errors import InputError, brief
from lab.metrics.texts import is_text
from lab.seeds import derive_seed, generator
from lab.steps.curation.scored import GENERATION, ROWS
from lab.steps.evidence.judge import SEED
from lab.steps.kind import Cost, Folders, Kind, make_step, write_json
from lab.steps.place import Place, end_of, speller
from lab.steps.train import MODELS
from lab.store.step import Attempt, Step
from lab.text import rows as cutting
from lab.text import tokenizer as tokenizers
from lab.text.known_source import is_known_source

COUNTS = "edits.npy"
"""File with the number of tokens that were changed in each row."""


@dataclass(frozen=True)
class EditedParams:
    editors: Sequence[Mapping[str, Any]]
    """Name, options and hash of the code of each, in order."""
    machine: Mapping[str, Any]
    layout: str


def edited(place: Place, editors: Sequence[Mapping[str, Any]], judge: Step, rows: Step, count: int) -> Step:
    """Declare the edited corpus of `count` rows.  It belongs to a corpus: all arms with these editors share it."""
    tokens = count * place.row
    params = EditedParams(editors, place.machine.keyed("dtype"), place.study.corpus.layout)
    inputs = {"judge": judge, "rows": rows, "tokenizer": place.human.tokenizer}
    work = operations(place.study, tokens, passes=2 * len(editors))
    label, disk = f"edit {rows.chain}", rows.disk + 4 * count + FILES
    return make_step(EDITED, params, inputs, label=label, tokens=tokens, work=work, disk=disk)


def _run_edited(params: EditedParams, inputs: Folders, out: Path, attempt: Attempt) -> None:
    """Write tokens.npy and rows.parquet as every corpus has them, edits.npy and edits.json."""
    from lab.models.load import load

    model, special = load(inputs["judge"], params.machine["device"]), tokenizers.load_special(inputs["tokenizer"])
    before, end = np.load(inputs["rows"] / "tokens.npy", mmap_mode="r"), end_of(params.layout, inputs["tokenizer"])
    known = pq.read_table(inputs["rows"] / "rows.parquet", columns=["domain", "document", "origin"])
    spell, changed, size = speller(params.layout, inputs["tokenizer"]), np.zeros(len(before), np.int32), 0
    never = _never(special, inputs["tokenizer"], end)

    def block(some: slice) -> tuple[np.ndarray, dict[str, Any]]:
        nonlocal size
        after = np.array(before[some])
        for start in range(0, len(after), ROWS):
            rows = after[start : start + ROWS]
            text = is_text(rows, end) & (rows != (-1 if end is None else end))
            original = rows.copy()
            for number, each in enumerate(params.editors):
                _edit(rows, text, model, special["bos"], each, number, never)
            changed[some.start + start :][: len(rows)] = (rows != original).sum(axis=1)
            size += int(text.sum())
            attempt.progress(min(len(before), some.start + start + ROWS) * before.shape[1])
        names = known.slice(some.start, len(after)).select(["domain", "document"]).to_pydict()
        return after, {**spell(after), **names}

    cutting.write_rows(out, before.shape, block, origin=known["origin"][0].as_py())
    np.save(out / COUNTS, changed)
    total = int(changed.sum())
    write_json(out / "edits.json", {"tokens": size, "edited": total, "share": total / max(1, size)})


def _never(special: Mapping[str, int], tokenizer: Path, end: int | None) -> list[int]:
    """Return the tokens that no editor may write: one that only begins rows, and one that ends their text."""
    begins = is_known_source(tokenizer) or special["bos"] != special["eos"]
    return sorted(({special["bos"]} if begins else set()) | ({end} if end is not None else set()))


def _edit(
    rows: np.ndarray, text: np.ndarray, model: Any, bos: int, editor: Mapping[str, Any], number: int, never: list[int]
) -> None:
    """Let the editor with this number change some rows in place.  What is no text stays."""
    from lab.models.moments import most_likely

    name, options = editor["name"], editor["options"]
    count = options.get("candidates", CANDIDATES)
    nats, ids, logs = most_likely(model, rows, bos=bos, count=count, never=never)
    for place, written in enumerate(text):
        own = [array[place][written] for array in (rows.astype(np.int64), nats, ids, logs)]
        for array in own:
            array.flags.writeable = False
        changed = _answer(name, Row(*own), options, number)
        if (
            changed.shape != own[0].shape
            or changed.dtype.kind not in "iu"
            or not _may(changed[changed != own[0]], model, never)
        ):
            raise InputError(
                f'curator "{name}" must return {len(own[0])} tokens for a row of as many, each below '
                f"{model.vocab_size:,} and none that begins or ends a row"
            )
        rows[place, written] = changed


def _answer(name: str, row: Row, options: Mapping[str, Any], number: int) -> np.ndarray:
    """Ask an editor.  Its chance follows from the tokens of the row.  InputError where it fails."""
    content = int.from_bytes(hashlib.sha256(row.tokens.astype("<i8").tobytes()).digest()[:8], "big")
    rng = generator(derive_seed(SEED, GENERATION, f"edit {number}", content))
    try:
        return np.asarray(curator(name)(row, rng=rng, **options))
    except Exception as error:  # a user's own function may raise anything
        raise InputError(f'curator "{name}" failed: {type(error).__name__}: {brief(error, 200)}') from error


def _may(tokens: np.ndarray, model: Any, never: list[int]) -> bool:
    """Return whether an editor may write these tokens."""
    return bool(((tokens >= 0) & (tokens < model.vocab_size) & ~np.isin(tokens, never)).all())


EDITED = Kind(
    "edited",
    EditedParams,
    _run_edited,
    (
        "steps/curation/edited.py",
        "steps/place.py",
        "curators/edits.py",
        "models/moments.py",
        "metrics/texts.py",
        *MODELS,
    ),
    version="1",
    cost=Cost(cpu=4e10, cuda=4e13),
    takes="samples",
)
