"""Steps of a known distribution in the place of human text: the law, and the rows that each seed draws from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lab.config.cost import FILES
from lab.config.study import StudyConfig
from lab.config.text import SourceConfig
from lab.recipe import ARCHIVE, HUMAN
from lab.steps.kind import Folders, Kind, make_step
from lab.steps.place import Human, row_nats
from lab.store.step import Attempt, Step
from lab.text import rows as cutting
from lab.text import tokenizer as tokenizers
from lab.text.known_source import KnownSource

MODULES = ("steps/source.py", "steps/place.py", "text/known_source.py", "text/rows.py", "text/tokenizer.py", "seeds.py")


def human_of_source(study: StudyConfig, config: SourceConfig, seed: int) -> Human:
    """Declare what takes the place of the human side.  Held-out rows are each seed's own: seeds are independent."""
    law = config.model_dump(exclude={"tokens", "archive_tokens", "layout"})
    source = make_step(SOURCE, SourceParams(law), {}, label=config.title, disk=2 * FILES)

    def rows(purpose: str, count: int, origin: int = HUMAN) -> Step:
        positions = study.model.n_positions
        params = SourceRowsParams(purpose, count, positions, seed, origin)
        disk = 7 * count * positions + FILES
        return make_step(SOURCE_ROWS, params, {"source": source}, label=f"{purpose} seed {seed}", disk=disk)

    archive, base = rows_beside(study)
    return Human(
        source,
        validation=rows("validation", study.rows(study.train.validation_tokens)) if study.train else None,
        test=rows("test", study.rows(study.metrics.test_tokens)),
        human=rows("human", study.rows(config.tokens)),
        resample=rows("resample", study.compared_rows),
        archive=rows("archive", archive, ARCHIVE) if archive else None,
        base=rows("base", base) if base else None,
    )


def more_rows(study: StudyConfig, human: Human, purpose: str, seed: int) -> Step:
    """Declare other rows of the law, as many as a seed's own: "trusted" or "curators", which no generation uses."""
    params = SourceRowsParams(purpose, study.rows(study.corpus.tokens), study.model.n_positions, seed, HUMAN)
    disk = 7 * params.rows * params.positions + FILES
    return make_step(SOURCE_ROWS, params, human.human.inputs, label=f"{purpose} rows", disk=disk)


def rows_beside(study: StudyConfig) -> tuple[int, int]:
    """Return the rows of the archive and of the base's text; 0 where a study has none."""
    base = study.train.base.tokens if study.train and study.train.base else 0
    return study.rows(study.corpus.archive_tokens or 0), study.rows(base)


@dataclass(frozen=True)
class SourceParams:
    source: Mapping[str, Any]
    """Fields of SourceConfig that decide the law."""


def _run_source(params: SourceParams, inputs: Folders, out: Path, attempt: Attempt) -> None:
    source = KnownSource.of(SourceConfig(**params.source, tokens=1))
    source.save(out)
    # One token beyond the types begins every row and is never drawn.
    tokenizers.save_special(out, vocab_size=source.types + 1, bos=source.types, eos=source.types)


@dataclass(frozen=True)
class SourceRowsParams:
    purpose: str
    """human, resample, archive, base, test, validation, trusted or curators: each draws for itself."""
    rows: int
    positions: int
    seed: int
    origin: int


def _run_source_rows(params: SourceRowsParams, inputs: Folders, out: Path, attempt: Attempt) -> None:
    source = KnownSource.load(inputs["source"])
    drawn = source.rows(params.purpose, params.rows, params.positions, seed=params.seed)
    tokens = drawn.astype(cutting.token_type(source.types + 1))
    nats = source.nats(tokens)
    cutting.write_rows(
        out, tokens.shape, lambda some: (tokens[some], {"nats": row_nats(nats[some])}), origin=params.origin
    )
    np.save(out / "nats.npy", nats)


SOURCE = Kind("source", SourceParams, _run_source, MODULES, version="1", libraries=frozenset[str](), reads_text=True)
SOURCE_ROWS = Kind(
    "source-rows", SourceRowsParams, _run_source_rows, MODULES, "1", libraries=frozenset({"pyarrow"}), reads_text=True
)
