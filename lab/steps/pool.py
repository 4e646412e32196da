"""The step `pool`: the rows that a regime chooses for a generation, as a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lab import regimes
from lab.config.cost import FILES
from lab.config.named import RegimeConfig
from lab.models.feed import save_recipe
from lab.recipe import ARCHIVE, HUMAN, Lineage, OnTable
from lab.steps.kind import Folders, Kind, function_hash, make_step
from lab.steps.place import Place, reserved
from lab.store.step import Attempt, Step

SYNTHETIC = "synthetic-"
"""Prefix of an input's role: synthetic-3 is the sample of generation 3."""


@dataclass(frozen=True)
class PoolParams:
    regime: str
    options: Mapping[str, Any]
    seed: int
    generation: int
    source: str | None = None
    """Hash of the regime's code.  None in generation 0, where every regime uses the human rows."""
    reserved: int | None = None
    """Rows at the end of the archive that no regime is given.  None: there are none, or the regime takes no archive."""


def pool(place: Place, regime: RegimeConfig, samples: Mapping[int, Step]) -> Step:
    """Declare the rows that a regime chooses for generation t.  In generation 0 it is one step for all regimes.

    `samples` holds the synthetic corpora of all generations before t, by generation.
    """
    human = place.human
    if not samples:
        return human_pool(human.human, place.seed, place.t, f"mix shared seed {place.seed} gen {place.t}")
    seen = regimes.visible(regime.name, regime.options, len(samples))
    inputs = {"human": human.human, **{f"{SYNTHETIC}{t}": step for t, step in samples.items() if t in seen}}
    if human.archive is not None and regimes.regime(regime.name).archive(regime.options):
        inputs["archive"] = human.archive
    kept = reserved(place.study) if "archive" in inputs else 0
    params = PoolParams(regime.name, regime.options, place.seed, place.t, regime_hash(regime.name), kept or None)
    return make_step(POOL, params, inputs, label=f"mix {regime.label} seed {place.seed} gen {place.t}", disk=FILES)


def human_pool(rows: Step, seed: int, t: int, label: str) -> Step:
    """Declare the pool of these human rows alone."""
    return make_step(POOL, PoolParams("human", {}, seed, t), {"human": rows}, label=label, disk=FILES)


def corpora_of(recipe: Step) -> dict[str, Step]:
    """Return the corpora whose rows a recipe may name, by role: human, archive, synthetic-<t>."""
    whose = recipe.inputs.items()
    return {role: step for role, step in whose if role in ("human", "archive") or role.startswith(SYNTHETIC)}


def corpora(inputs: Folders) -> dict[int, np.ndarray]:
    """Return the token arrays that a regime may choose from, memory-mapped, by the number of their corpus."""
    paths = {int(role.removeprefix(SYNTHETIC)): path for role, path in inputs.items() if role.startswith(SYNTHETIC)}
    paths[HUMAN] = inputs["human"]
    if "archive" in inputs:
        paths[ARCHIVE] = inputs["archive"]
    return {corpus: np.load(path / "tokens.npy", mmap_mode="r") for corpus, path in sorted(paths.items())}


def _run_pool(params: PoolParams, inputs: Folders, out: Path, attempt: Attempt) -> None:
    rows = {corpus: len(tokens) for corpus, tokens in corpora(inputs).items()}
    table = {corpus: OnTable(corpus, n - (params.reserved or 0) * (corpus == ARCHIVE)) for corpus, n in rows.items()}
    samples = tuple(table[corpus] for corpus in sorted(table) if corpus not in (HUMAN, ARCHIVE))
    lineage = Lineage(table[HUMAN], samples, table.get(ARCHIVE))
    save_recipe(regimes.recipe(params.regime, params.options, lineage, params.seed, params.generation), out)


def regime_hash(regime: str) -> str:
    """Hash the code of a regime, of the lab's own or a user's.  InputError where it has no Python source."""
    return function_hash("regime", regime, regimes.regime(regime).pool, own=regime in regimes.REGIMES)


# Its parameters hold the hash of the one regime's code: adding a regime must not train the others again.
POOL = Kind(
    "pool",
    PoolParams,
    _run_pool,
    ("steps/pool.py", "regimes.py", "models/feed.py", "seeds.py", "recipe.py"),
    version="2",
    libraries=frozenset[str](),
)
