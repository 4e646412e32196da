"""The step `curate`: which rows of a pool are trained on, by rules that never learn who wrote them (but the oracle)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lab.config.cost import FILES
from lab.curators import CURATORS, Decisions, curate, curator, needs_of
from lab.curators.outcome import outcome
from lab.curators.table import SCORES as NAMES
from lab.curators.table import Table
from lab.errors import InputError
from lab.metrics.texts import before_end
from lab.models.feed import load_recipe, save_recipe
from lab.recipe import ARCHIVE, HUMAN, Recipe, RowNumbers
from lab.seeds import derive_seed, generator
from lab.steps.kind import Folders, Kind, function_hash, make_step, write_json
from lab.steps.place import Place, end_of, speller
from lab.steps.pool import SYNTHETIC, corpora, corpora_of
from lab.steps.scored import DECOYS, decoy, judges, scored, trusted
from lab.store.step import Attempt, Step
from lab.text import tokenizer as tokenizers

FILE = "curation.json"
SCORES = "score-"
"""Prefix of an input's role: score-synthetic-3 holds the scores of the sample of generation 3."""


@dataclass(frozen=True)
class CurateParams:
    curators: Sequence[Mapping[str, Any]]
    """Name, options and hash of the code of each, in order."""
    layout: str
    seed: int
    generation: int
    mark: Mapping[str, Any] | None = None
    """The watermark of the study, {} where it has none.  None where no curator needs it."""


def curated(place: Place, recipe: Step, before: Sequence[Step], began: Step | None) -> Step:
    """Declare the curated recipe of a generation; the step `pool` itself where there is nothing to curate.

    A pool of human rows alone stays as it is, so that all arms share generation 0 and the human control.  `before`:
    the models of the generation before; `began`: what generations start from.
    """
    wanted = place.study.curators
    if not wanted or not any(role.startswith(SYNTHETIC) for role in recipe.inputs):
        return recipe
    named = [
        {
            "name": each.name,
            "options": each.options,
            "source": function_hash("curator", each.name, curator(each.name), own=each.name in CURATORS),
        }
        for each in wanted
    ]
    mark = place.study.sample.mark if "mark" in _asked(place) else None
    params = CurateParams(named, place.study.corpus.layout, place.seed, place.t, mark)
    inputs = {**recipe.inputs, "pool": recipe, "tokenizer": place.human.tokenizer}
    inputs |= _needed(place, recipe, before, began)
    label = f"curate {recipe.chain}"
    return make_step(CURATE, params, inputs, label=label, disk=FILES + 8 * place.study.sample_rows)


def _asked(place: Place) -> set[str]:
    """Return what the curators of a study need, some of NEEDS."""
    return {need for each in place.study.curators for need in needs_of(each.name)}


def _needed(place: Place, recipe: Step, before: Sequence[Step], began: Step | None) -> dict[str, Step]:
    """Declare what the curators of a study need beside the pool, by role; {} where they read rows alone.

    Scores belong to a corpus, so that a sample is scored once for all regimes and curators.
    """
    asked = _asked(place) - {"mark"}
    own = {"trusted": trusted(place)} if asked else {}
    if "decoy" in asked:
        own["decoy"] = decoy(place, before)
    if not asked & {"judge", "observer"}:
        return own
    models, counts = judges(place, began, both="observer" in asked), _rows_of(place, before)
    corpora = {**corpora_of(recipe), **own}
    return own | {
        f"{SCORES}{role}": scored(place, models, step, counts.get(role, counts["synthetic"]))
        for role, step in corpora.items()
    }


def _rows_of(place: Place, before: Sequence[Step]) -> dict[str, int]:
    """Return role -> the most rows that it has, for estimates."""
    study = place.study
    archive = study.rows(study.corpus.archive_tokens or 0)
    human = study.rows(study.corpus.tokens)
    own = {"human": human, "trusted": human, "decoy": min(DECOYS, study.sample_rows), "archive": archive}
    return {**own, "synthetic": study.sample_rows}


def _run_curate(params: CurateParams, inputs: Folders, out: Path, attempt: Attempt) -> None:
    recipe = load_recipe(inputs["pool"])
    arrays = corpora(inputs)
    numbers = [part.numbers(np.arange(part.distinct_rows)) for part in recipe.parts]
    tokens = np.concatenate([arrays[part.corpus][rows] for part, rows in zip(recipe.parts, numbers, strict=True)])
    scores = _pooled_scores(inputs, recipe, numbers)
    # two streams: from the state of its own a curator could draw the order again, and with it who wrote what
    order = generator(derive_seed(params.seed, params.generation, "curate-order")).permutation(len(tokens))
    rng = generator(derive_seed(params.seed, params.generation, "curate"))
    table = _table(params, inputs, tokens, scores).take(order)
    trusted, decoys = (_own(params, inputs, role) if role in inputs else None for role in ("trusted", "decoy"))
    table = replace(table, trusted=trusted, decoy=decoys)
    if params.mark is not None:
        vocabulary = tokenizers.load_special(inputs["tokenizer"])["vocab_size"]
        table = replace(table, mark=params.mark, vocabulary=vocabulary)
    human = np.isin(_origins(recipe, numbers), (HUMAN, ARCHIVE))
    wanted = [(each["name"], each["options"]) for each in params.curators]
    decisions = curate(table, wanted, rng, human[order]).back(order)
    save_recipe(_kept(recipe, numbers, decisions.times), out)
    _write_decisions(out, recipe, numbers, decisions)
    write_json(out / FILE, _account(decisions, _origins(recipe, numbers), human))


def _table(params: CurateParams, inputs: Folders, tokens: np.ndarray, scores: np.ndarray | None) -> Table:
    """Return rows as a curator sees them; `scores` [N, K] are in the order of NAMES."""
    eos = end_of(params.layout, inputs["tokenizer"])
    lengths = np.full(len(tokens), tokens.shape[1]) if eos is None else before_end(tokens, eos).sum(axis=1)
    spell = speller(params.layout, inputs["tokenizer"])
    named = {} if scores is None else dict(zip(NAMES, scores.T, strict=False))
    return Table(tokens, lengths, partial(_texts, spell), named)


def _own(params: CurateParams, inputs: Folders, role: str) -> Table:
    """Return rows that no pool holds, trusted ones or decoys."""
    tokens = np.load(inputs[role] / "tokens.npy")
    scored = inputs.get(f"{SCORES}{role}")
    rows = _table(params, inputs, tokens, None if scored is None else np.load(scored / "scores.npy"))
    return rows.take(np.arange(len(rows)))  # read-only


def _pooled_scores(inputs: Folders, recipe: Recipe, numbers: Sequence[np.ndarray]) -> np.ndarray | None:
    """Return the scores of the rows of all parts in order, [N, K]; None where no curator asked for them."""
    names = {HUMAN: "human", ARCHIVE: "archive"}
    roles = [SCORES + names.get(part.corpus, f"{SYNTHETIC}{part.corpus}") for part in recipe.parts]
    if not all(role in inputs for role in roles):
        return None
    loaded = {role: np.load(inputs[role] / "scores.npy") for role in set(roles)}
    return np.concatenate([loaded[role][rows] for role, rows in zip(roles, numbers, strict=True)])


def _texts(spell: Callable[[np.ndarray], dict[str, list[str]]], rows: np.ndarray) -> list[str]:
    """Return the texts of rows.  InputError for those of a known source, which have none."""
    if texts := spell(rows):
        return texts["text"]
    raise InputError("a curator asked for text, and rows of a known source have none: use table.tokens")


def _kept(recipe: Recipe, numbers: Sequence[np.ndarray], times: np.ndarray) -> Recipe:
    """Return the recipe with each row as often as `times` says, over the rows of all parts in order.

    A part with rows of several counts becomes a part for each count, because a part has one `repeat`.
    """
    bounds = np.cumsum([0, *map(len, numbers)])
    parts = [
        replace(part, chosen=RowNumbers(rows[times[start:stop] == count]), repeat=part.repeat * int(count))
        for part, rows, start, stop in zip(recipe.parts, numbers, bounds[:-1], bounds[1:], strict=True)
        for count in np.unique(times[start:stop])
        if count
    ]
    return Recipe(tuple(parts))


def _write_decisions(out: Path, recipe: Recipe, numbers: Sequence[np.ndarray], decisions: Decisions) -> None:
    """Write decisions.parquet, one row per row on offer.

    `times` says how often it is trained on.  `copy_of` is the line of decisions.parquet, from 0, of the row that a
    dropped one is a copy of.  A curator's scores have its name.  Origins are written here, from the pool: of all
    curators the oracle alone has heard of them.
    """
    columns = {
        "origin": pa.array(_origins(recipe, numbers), pa.int16()),
        "row": pa.array(np.concatenate(numbers), pa.uint32()),
        "times": pa.array(decisions.times, pa.uint32()),
        "reason": pa.array(decisions.reasons, pa.string()),
        "copy_of": pa.array(decisions.copies, pa.uint32(), mask=decisions.copies < 0),
        **{f"score {name}": pa.array(scores.astype(np.float32)) for name, scores in decisions.scores.items()},
    }
    pq.write_table(pa.table(columns), out / "decisions.parquet", compression="zstd")


def _account(decisions: Decisions, origins: np.ndarray, human: np.ndarray) -> dict[str, Any]:
    """Return what curation.json holds: rows by origin and reason, what was fitted, and the columns of results.csv."""
    counts = Counter(f"{who} {why}".strip() for who, why in zip(origins.tolist(), decisions.reasons, strict=True))
    kept = {"offered": len(origins), "kept": int(decisions.kept.sum()), "fed": int(decisions.times.sum())}
    columns = outcome(decisions.times, human, np.array(decisions.reasons) != "")
    return {**kept, "rows": counts, "facts": decisions.facts, "columns": columns}


def _origins(recipe: Recipe, numbers: Sequence[np.ndarray]) -> np.ndarray:
    """Return who wrote each row of all parts in order."""
    return np.concatenate([np.full(len(rows), part.origin) for part, rows in zip(recipe.parts, numbers, strict=True)])


CURATE = Kind(
    "curate",
    CurateParams,
    _run_curate,
    ("steps/curate.py", "curators/__init__.py", "curators/table.py", "curators/outcome.py", "models/feed.py"),
    version="3",
    libraries=frozenset({"pyarrow", "tokenizers"}),
)
