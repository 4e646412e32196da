"""Where in a study a step stands, and what the steps of one seed share: machine, layout, spelling of tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lab.config.study import StudyConfig
from lab.curators import RELEASED
from lab.metrics.texts import before_end
from lab.recipe import ARCHIVE, HUMAN, Lineage, OnTable
from lab.store.step import Step
from lab.text import tokenizer as tokenizers
from lab.text.known_source import is_known_source


@dataclass(frozen=True)
class Machine:
    """The resolved arithmetic: part of the key of every step that multiplies matrices."""

    device: str
    dtype: str
    threads: int
    instructions: str | None = None
    """Environment variables that limit the instruction sets (lab/environment.py); None: none is set."""

    def keyed(self, *unused: str) -> dict[str, Any]:
        """Return the fields as they stand in keys, without the `unused` ones and those that are None."""
        return {name: value for name, value in vars(self).items() if name not in unused and value is not None}


@dataclass(frozen=True)
class Human:
    """The human side of one seed: the tokenizer, held-out rows, the seed's own rows, and other rows beside them."""

    tokenizer: Step
    validation: Step | None
    """None for counting models, which have no learning curve."""
    test: Step
    human: Step
    resample: Step
    """Other human rows, as many as are compared: the mark that survival is read against."""
    archive: Step | None
    """Rows kept apart for regimes that ask for fresh ones.  None: the study keeps none."""
    base: Step | None
    """Rows that a base model is fitted to.  None: the study fits none."""


@dataclass(frozen=True)
class Place:
    """Where in a study a step stands, and on what machine it runs."""

    study: StudyConfig
    machine: Machine
    human: Human
    seed: int
    t: int

    @property
    def row(self) -> int:
        """Tokens in a row."""
        return self.study.model.n_positions


def lineage(study: StudyConfig, samples: int) -> Lineage:
    """Return the sizes of all text that exists before generation `samples` is trained: known before anything runs.

    Of the archive it holds what the curator `archive` leaves to regimes.
    """
    made = tuple(OnTable(t, study.sample_rows) for t in range(samples))
    archive = study.corpus.archive_tokens
    kept = OnTable(ARCHIVE, max(0, study.rows(archive) - reserved(study))) if archive else None
    return Lineage(OnTable(HUMAN, study.rows(study.corpus.tokens)), made, kept)


def reserved(study: StudyConfig) -> int:
    """Return the rows at the end of the archive that the curator `archive` reserves; no regime is given them."""
    budgets = (each.options.get("budget") for each in study.curators if each.name in RELEASED)
    return sum(budget for budget in budgets if type(budget) is int)


def end_of(layout: str, tokenizer: Path) -> int | None:
    """Return the token that ends the text of a row in the layout `documents`; None in the layout `blocks`."""
    return tokenizers.load_special(tokenizer)["eos"] if layout == "documents" else None


def speller(layout: str, tokenizer: Path) -> Callable[[np.ndarray], dict[str, list[str]]]:
    """Return a function from rows to {"text": [...]}, each document up to its end.  For a known source it gives {}."""
    if is_known_source(tokenizer):
        return lambda tokens: {}
    written = tokenizers.token_texts(tokenizers.load_tokenizer(tokenizer)[0])
    eos = end_of(layout, tokenizer)

    def spell(tokens: np.ndarray) -> dict[str, list[str]]:
        rows = tokens.tolist() if eos is None else [row[before_end(row[None], eos)[0]].tolist() for row in tokens]
        return {"text": [b"".join(map(written.__getitem__, row)).decode(errors="replace") for row in rows]}

    return spell


def row_nats(nats: np.ndarray) -> np.ndarray:
    """Return the loss of each row, summed over its tokens: [N, T] -> [N], float32."""
    return np.asarray(nats.sum(axis=1, dtype=np.float32))


def where_at(path: str | None, identity: str) -> Mapping[str, Any]:
    """Return where content lies, as parameters that no key holds: a local path, or a hub id and its commit."""
    at_hub = path is not None and identity.startswith(f"{path}@")
    return {"path": path, "revision": identity.partition("@")[2] if at_hub else None}
