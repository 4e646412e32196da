"""The step `archived`: the pool of a generation with human rows of the archive that the curator `archive` reserves."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lab.config.cost import FILES
from lab.config.named import CuratorConfig
from lab.config.study import StudyConfig
from lab.config.text import SourceConfig
from lab.curators import RELEASED
from lab.curators.archives import Held, archive, needs_by_mode
from lab.errors import InputError
from lab.models.feed import load_recipe, save_recipe
from lab.recipe import ARCHIVE, Part, Recipe
from lab.seeds import derive_seed, generator
from lab.steps.evidence.judge import judged
from lab.steps.kind import Folders, Kind, function_hash, make_step, write_json
from lab.steps.place import Place, reserved
from lab.steps.pool import SYNTHETIC, corpora_of
from lab.steps.text import spare_validation
from lab.store.step import Attempt, Step

FILE = "archive.json"
LEFT = "left.npy"
"""File with the numbers of the rows that no generation has had yet."""
NO_MODE = "no domain"


@dataclass(frozen=True)
class ArchivedParams:
    options: Mapping[str, Any]
    source: str
    """Hash of the curator's code."""
    seed: int
    generation: int


def archived(place: Place, recipe: Step, first: Sequence[Step], newest: Sequence[Step], before: Step | None) -> Step:
    """Declare the pool with rows of the archive; the pool itself where no archive is asked for or nothing is synthetic.

    Args:
        place: where in the study it stands.
        recipe: the pool.
        first: the models of generation 0.
        newest: the models of the generation before.
        before: the recipe of the generation before.
    """
    asked = _asked(place.study)
    if asked is None or not any(role.startswith(SYNTHETIC) for role in recipe.inputs):
        return recipe
    assert place.human.archive is not None  # check_archive
    inputs = {**corpora_of(recipe), "pool": recipe, "archive": place.human.archive}
    earlier = before.inputs.get("pool") if before is not None else None
    if earlier is not None and earlier.name == ARCHIVED.name:
        inputs["before"] = earlier
    if asked.options.get("release") == "need":
        rows = inputs["validation"] = spare_validation(place.study, place.human)
        tokens = rows.params["rows"] * place.row
        for name, models in (("first", first), ("now", newest)):
            for m, model in enumerate(models):
                label = f"validation of {model.chain}"
                inputs[f"{name}-{m}"] = judged(place, model, rows, label, tokens)
    source = function_hash("curator", asked.name, archive, own=True)
    params = ArchivedParams(asked.options, source, place.seed, place.t)
    return make_step(ARCHIVED, params, inputs, label=f"archive {recipe.chain}", disk=3 * FILES)


def _asked(study: StudyConfig) -> CuratorConfig | None:
    return next((each for each in study.curators if each.name in RELEASED), None)


def released(study: StudyConfig, t: int) -> int:
    """Return the rows of the archive that join the pool of generation t where it holds synthetic text."""
    asked = _asked(study)
    if asked is None or not t:
        return 0
    rows, budget = asked.options["rows"], asked.options["budget"]
    assert isinstance(rows, int) and isinstance(budget, int)
    return max(0, min(rows, budget - rows * (t - 1)))


def check_archive(study: StudyConfig) -> None:
    """Raise InputError if a study keeps too small an archive for the curator `archive`, or no domains for its need."""
    asked = _asked(study)
    if asked is None:
        return
    held, budget = study.rows(study.corpus.archive_tokens or 0), reserved(study)
    if held < budget:
        raise InputError(
            f"archive: its budget is {budget:,} rows, and "
            + (f"corpus.archive_tokens holds {held:,}" if held else "the study keeps no archive")
            + f": set corpus.archive_tokens to at least {budget * study.model.n_positions:,}, or lower the budget"
        )
    if asked.options.get("release") == "need":
        if isinstance(study.corpus, SourceConfig):
            raise InputError("archive: release need goes by domain, and a known source has none: use random or oldest")
        if study.corpus.domain is None:
            raise InputError("archive: release need goes by domain: name the column of it as corpus.domain")


def used_up(study: StudyConfig) -> str | None:
    """Say before which generation the budget of an archive is used up; None where it lasts."""
    for t in range(1, study.generations):
        if _asked(study) is not None and released(study, t) < released(study, 1):
            given = released(study, t)
            return (
                f"archive: its budget of {reserved(study):,} rows is used up in generation {t}, which gets "
                f"{given:,}, and later ones get none"
            )
    return None


def _run_archived(params: ArchivedParams, inputs: Folders, out: Path, attempt: Attempt) -> None:
    """Write the recipe with one more part, left.npy, and archive.json."""
    held, budget = len(np.load(inputs["archive"] / "tokens.npy", mmap_mode="r")), params.options["budget"]
    left = np.load(inputs["before"] / LEFT) if "before" in inputs else np.arange(held - budget, held)
    modes: list[str] = []
    need: dict[str, float] = {}
    if "validation" in inputs:
        modes = _modes(pq.read_table(inputs["archive"] / "rows.parquet", columns=["domain"])["domain"].to_pylist())
        modes = [modes[row] for row in left]
        now, first = (_losses(inputs, name) for name in ("now-", "first-"))
        need = needs_by_mode(now, first, _validation_modes(inputs["validation"]))
    rng = generator(derive_seed(params.seed, params.generation, "archive"))
    found = archive(Held(left, modes, need), rng=rng, **params.options)
    more = (Part.some(ARCHIVE, found.rows),) if len(found.rows) else ()
    save_recipe(Recipe((*load_recipe(inputs["pool"]).parts, *more)), out)
    np.save(out / LEFT, np.setdiff1d(left, found.rows))
    write_json(out / FILE, found.facts)


def _losses(inputs: Folders, prefix: str) -> np.ndarray:
    """Return the loss of each validation row, summed over its tokens and over the models of a generation."""
    each = [np.load(path / "nats.npy") for role, path in inputs.items() if role.startswith(prefix)]
    return np.asarray(np.sum(each, axis=0))


def _validation_modes(rows: Path) -> list[str]:
    """Return the domain of the first token of each held-out row."""
    names = pa.ipc.open_file(pa.memory_map(str(rows / "names.arrow"))).read_all()["domain"]
    first = np.load(rows / "document.npy", mmap_mode="r")[:, 0]
    return _modes(names.take(pa.array(first)).to_pylist())


def _modes(domains: Sequence[str | None]) -> list[str]:
    return [NO_MODE if domain is None else domain for domain in domains]


def archive_facts(pool: Path) -> list[dict[str, Any]]:
    """Return what the archive gave to a pool, as facts of curation.json; [] where it gave nothing."""
    if not (pool / FILE).exists():
        return []
    return [{"curator": "archive", **json.loads((pool / FILE).read_text(encoding="utf-8"))}]


ARCHIVED = Kind(
    "archived",
    ArchivedParams,
    _run_archived,
    ("steps/curation/archived.py", "curators/archives.py", "models/feed.py", "seeds.py", "recipe.py"),
    version="1",
    libraries=frozenset({"pyarrow"}),
    reads_weights=False,
)
