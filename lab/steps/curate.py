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
from lab.curators import CURATORS, curate, curator
from lab.curators.table import Table
from lab.errors import InputError
from lab.metrics.texts import before_end
from lab.models.feed import load_recipe, save_recipe
from lab.recipe import ARCHIVE, HUMAN, Recipe, RowNumbers
from lab.seeds import derive_seed, generator
from lab.steps.kind import Folders, Kind, function_hash, make_step, write_json
from lab.steps.place import Place, end_of, speller
from lab.steps.pool import SYNTHETIC, corpora
from lab.store.step import Attempt, Step


@dataclass(frozen=True)
class CurateParams:
    curators: Sequence[Mapping[str, Any]]
    """Name, options and hash of the code of each, in order."""
    layout: str
    seed: int
    generation: int


def curated(place: Place, recipe: Step) -> Step:
    """Declare the curated recipe of a generation; the step `pool` itself where there is nothing to curate.

    A pool of human rows alone stays as it is, so that all arms share generation 0 and the human control.
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
    params = CurateParams(named, place.study.corpus.layout, place.seed, place.t)
    inputs = {**recipe.inputs, "pool": recipe, "tokenizer": place.human.tokenizer}
    label = f"curate {recipe.chain}"
    return make_step(CURATE, params, inputs, label=label, disk=FILES + 8 * place.study.sample_rows)


def _run_curate(params: CurateParams, inputs: Folders, out: Path, attempt: Attempt) -> None:
    recipe = load_recipe(inputs["pool"])
    arrays = corpora(inputs)
    numbers = [part.numbers(np.arange(part.distinct_rows)) for part in recipe.parts]
    tokens = np.concatenate([arrays[part.corpus][rows] for part, rows in zip(recipe.parts, numbers, strict=True)])
    eos = end_of(params.layout, inputs["tokenizer"])
    lengths = np.full(len(tokens), tokens.shape[1]) if eos is None else before_end(tokens, eos).sum(axis=1)
    spell = speller(params.layout, inputs["tokenizer"])
    # two streams: from the state of its own a curator could draw the order again, and with it who wrote what
    order = generator(derive_seed(params.seed, params.generation, "curate-order")).permutation(len(tokens))
    rng = generator(derive_seed(params.seed, params.generation, "curate"))
    table = Table(tokens, lengths, partial(_texts, spell)).take(order)
    human = np.isin(_origins(recipe, numbers), (HUMAN, ARCHIVE))[order]
    decisions = curate(table, [(each["name"], each["options"]) for each in params.curators], rng, human)
    kept, reasons = np.empty(len(order), np.bool_), np.empty(len(order), object)
    kept[order], reasons[order] = decisions.kept, decisions.reasons
    copies = np.full(len(order), -1)
    copies[order] = np.where(decisions.copies < 0, -1, order[decisions.copies])
    save_recipe(_kept(recipe, numbers, kept), out)
    _write_decisions(out, recipe, numbers, reasons, copies)


def _texts(spell: Callable[[np.ndarray], dict[str, list[str]]], rows: np.ndarray) -> list[str]:
    """Return the texts of rows.  InputError for those of a known source, which have none."""
    if texts := spell(rows):
        return texts["text"]
    raise InputError("a curator asked for text, and rows of a known source have none: use table.tokens")


def _kept(recipe: Recipe, numbers: Sequence[np.ndarray], kept: np.ndarray) -> Recipe:
    """Return the recipe with the rows that are kept, in their parts; `kept` is over the rows of all parts in order."""
    bounds = np.cumsum([0, *map(len, numbers)])
    parts = [
        replace(part, chosen=RowNumbers(rows[kept[start:stop]]))
        for part, rows, start, stop in zip(recipe.parts, numbers, bounds[:-1], bounds[1:], strict=True)
        if kept[start:stop].any()
    ]
    return Recipe(tuple(parts))


def _write_decisions(
    out: Path, recipe: Recipe, numbers: Sequence[np.ndarray], reasons: np.ndarray, copies: np.ndarray
) -> None:
    """Write decisions.parquet, one row per row on offer, and curation.json, the counts by reason and origin.

    `copy_of` is the line of decisions.parquet, from 0, of the row that a dropped one is a copy of.  Origins are written
    here, from the pool: of all curators the oracle alone has heard of them.
    """
    origin = _origins(recipe, numbers)
    columns = {
        "origin": pa.array(origin, pa.int16()),
        "row": pa.array(np.concatenate(numbers), pa.uint32()),
        "reason": pa.array(reasons.tolist(), pa.string()),
        "copy_of": pa.array(copies, pa.uint32(), mask=copies < 0),
    }
    pq.write_table(pa.table(columns), out / "decisions.parquet", compression="zstd")
    counts = Counter(f"{who} {why}".strip() for who, why in zip(origin.tolist(), reasons.tolist(), strict=True))
    write_json(out / "curation.json", {"offered": len(origin), "kept": int((reasons == "").sum()), "rows": counts})


def _origins(recipe: Recipe, numbers: Sequence[np.ndarray]) -> np.ndarray:
    """Return who wrote each row of all parts in order."""
    return np.concatenate([np.full(len(rows), part.origin) for part, rows in zip(recipe.parts, numbers, strict=True)])


CURATE = Kind(
    "curate",
    CurateParams,
    _run_curate,
    ("steps/curate.py", "curators/__init__.py", "curators/table.py", "models/feed.py"),
    version="2",
    libraries=frozenset({"pyarrow", "tokenizers"}),
)
