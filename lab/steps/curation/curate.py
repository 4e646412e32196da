"""The step `curate`: which rows of a pool are trained on, by rules that never learn who wrote them (but the oracle)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lab.config.cost import FILES
from lab.config.named import CuratorConfig
from lab.config.study import StudyConfig
from lab.config.text import SourceConfig
from lab.curators import CURATORS, STAGES, Decisions, curate, curator, needs_of, register_of, stage_of
from lab.curators.evaluation import evaluated
from lab.curators.outcome import outcome
from lab.curators.table import LEAST, Table, nats_of
from lab.curators.table import SCORES as NAMES
from lab.errors import InputError
from lab.metrics.texts import before_end
from lab.models.feed import load_recipe, save_recipe
from lab.recipe import ARCHIVE, HUMAN, Recipe, RowNumbers
from lab.seeds import derive_seed, generator
from lab.steps.curation.archived import archive_facts
from lab.steps.curation.edited import COUNTS, edited
from lab.steps.curation.scored import DECOYS, decoy, judges, scored, trusted
from lab.steps.kind import Folders, Kind, function_hash, make_step, write_json
from lab.steps.place import Place, end_of, speller
from lab.steps.pool import SYNTHETIC, corpora, corpora_of
from lab.store.step import Attempt, Step
from lab.text import tokenizer as tokenizers

FILE, DECISIONS = "curation.json", "decisions.parquet"
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
    if not place.study.curators or not any(role.startswith(SYNTHETIC) for role in recipe.inputs):
        return recipe
    corpora = _edited(place, corpora_of(recipe), began)
    mark = place.study.sample.mark if "mark" in _asked(place) else None
    params = CurateParams(_named(place, STAGES[2]), place.study.corpus.layout, place.seed, place.t, mark)
    inputs = {**corpora, "pool": recipe, "tokenizer": place.human.tokenizer}
    inputs |= _needed(place, corpora, before, began)
    label = f"curate {recipe.chain}"
    return make_step(CURATE, params, inputs, label=label, disk=FILES + 8 * place.study.sample_rows)


def _named(place: Place, stage: str) -> list[dict[str, Any]]:
    """Return the name, the options and the hash of the code of the study's curators of a stage, in order."""
    return [
        {
            "name": each.name,
            "options": each.options,
            "source": function_hash("curator", each.name, curator(each.name), own=each.name in CURATORS),
        }
        for each in place.study.curators
        if stage_of(each.name) == stage
    ]


def check_own_rows(study: StudyConfig) -> None:
    """Raise InputError if curators would be fitted to fewer rows of their own than they need, whatever the text is."""
    most = {"trusted": study.rows(study.corpus.tokens), "decoy": min(DECOYS, study.sample_rows)}
    for each in study.curators:
        for need in needs_of(each.name, each.options):
            if most.get(need, LEAST) < LEAST:
                what, field = ("decoys", "the sample") if need == "decoy" else ("trusted rows", "corpus.tokens")
                raise InputError(
                    f"curator {each.name} needs {LEAST} {what} at least, and {field} allows {most[need]}: raise it"
                )


def _edited(place: Place, corpora: Mapping[str, Step], began: Step | None) -> Mapping[str, Step]:
    """Declare the corpora as editors leave them, by role: all of them, because an editor is not told who wrote what."""
    editors, counts = _named(place, STAGES[1]), _rows_of(place)
    if not editors:
        return corpora
    judge = judges(place, began)["judge"]
    return {
        role: edited(place, editors, judge, step, counts.get(role, counts["synthetic"]))
        for role, step in corpora.items()
    }


def _rules(place: Place) -> list[CuratorConfig]:
    """Return the curators of a study that decide about the rows of a pool, in order."""
    return [each for each in place.study.curators if stage_of(each.name) == STAGES[2]]


def _asked(place: Place) -> set[str]:
    """Return what they need, some of NEEDS."""
    return {need for each in _rules(place) for need in needs_of(each.name, each.options)}


def _needed(place: Place, corpora: Mapping[str, Step], before: Sequence[Step], began: Step | None) -> dict[str, Step]:
    """Declare what the rules of a study need beside the pool, by role; {} where they read rows alone.

    Scores belong to a corpus, so that a sample is scored once for all regimes and curators.
    """
    asked = _asked(place) - {"mark"}
    own = {"trusted": trusted(place)} if asked else {}
    if "decoy" in asked:
        own["decoy"] = decoy(place, before)
    found, counts = dict(own), _rows_of(place)
    for register in _registers((each.name, each.options) for each in _rules(place)):
        models = judges(place, began, both=not register and "observer" in asked, register=register)
        found |= {
            _scores(register) + role: scored(place, models, step, counts.get(role, counts["synthetic"]))
            for role, step in {**corpora, **own}.items()
        }
    return found


def _registers(rules: Iterable[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """Return the registers to which the judges of these curators are fitted, "" for the judge of all text."""
    return sorted(
        {register_of(name, options) for name, options in rules if {"judge", "observer"} & {*needs_of(name, options)}}
    )


def _scores(register: str) -> str:
    """Return the prefix of the roles of the scores under the judge of a register."""
    return f"{SCORES}of-{register}-" if register else SCORES


def check_registers(study: StudyConfig) -> None:
    """Raise InputError if a curator asks for a judge of one register and the text has no domains."""
    for each in study.curators:
        if (register := register_of(each.name, each.options)) == "":
            continue
        if isinstance(study.corpus, SourceConfig):
            raise InputError(f'{each.name}: register "{register}" is a domain, and a known source has none')
        if study.corpus.domain is None:
            raise InputError(f'{each.name}: register "{register}" is a domain: name the column of it as corpus.domain')


def _rows_of(place: Place) -> dict[str, int]:
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
    wanted = [(each["name"], each["options"]) for each in params.curators]
    scores = {register: _pooled_scores(inputs, recipe, numbers, register) for register in _registers(wanted)}
    # two streams: from the state of its own a curator could draw the order again, and with it who wrote what
    order = generator(derive_seed(params.seed, params.generation, "curate-order")).permutation(len(tokens))
    rng = generator(derive_seed(params.seed, params.generation, "curate"))
    whole = _table(params, inputs, tokens, scores)
    own = {role: _own(params, inputs, role, list(scores)) for role in ("trusted", "decoy") if role in inputs}
    human = np.isin(_origins(recipe, numbers), (HUMAN, ARCHIVE))
    table = replace(whole.take(order), trusted=own.get("trusted"), decoy=own.get("decoy"))
    if params.mark is not None:
        vocabulary = tokenizers.load_special(inputs["tokenizer"])["vocab_size"]
        table = replace(table, mark=params.mark, vocabulary=vocabulary)
    decisions = curate(table, wanted, rng, human[order]).back(order)
    kept, weights = _kept(recipe, numbers, decisions)
    save_recipe(kept, out, weights)
    _write_decisions(out, recipe, numbers, decisions)
    repeats = np.repeat([part.repeat for part in recipe.parts], list(map(len, numbers)))
    fed = replace(decisions, times=decisions.times * repeats)
    account = _account(fed, _origins(recipe, numbers), human, whole.lengths)
    account["facts"] = [*archive_facts(inputs["pool"]), *decisions.facts]
    account["columns"] |= _edits(inputs, recipe, numbers, whole.lengths, fed.times)
    write_json(out / FILE, account)


def _table(params: CurateParams, inputs: Folders, tokens: np.ndarray, scores: Mapping[str, np.ndarray]) -> Table:
    """Return rows as a curator sees them; `scores`: register -> [N, K] in the order of NAMES."""
    eos = end_of(params.layout, inputs["tokenizer"])
    lengths = np.full(len(tokens), tokens.shape[1]) if eos is None else before_end(tokens, eos).sum(axis=1)
    spell = speller(params.layout, inputs["tokenizer"])
    named = {
        nats_of(register) if register else name: column
        for register, values in scores.items()
        for name, column in zip(NAMES[:1] if register else NAMES, values.T, strict=False)
    }
    return Table(tokens, lengths, partial(_texts, spell), named)


def _own(params: CurateParams, inputs: Folders, role: str, registers: Sequence[str]) -> Table:
    """Return rows that no pool holds, trusted ones or decoys."""
    tokens = np.load(inputs[role] / "tokens.npy")
    scores = {register: np.load(inputs[_scores(register) + role] / "scores.npy") for register in registers}
    rows = _table(params, inputs, tokens, scores)
    return rows.take(np.arange(len(rows)))  # read-only


def _pooled_scores(inputs: Folders, recipe: Recipe, numbers: Sequence[np.ndarray], register: str) -> np.ndarray:
    """Return the scores of the rows of all parts in order, under the judge of a register: [N, K]."""
    roles = [_scores(register) + role for role in _roles(recipe)]
    loaded = {role: np.load(inputs[role] / "scores.npy") for role in set(roles)}
    return np.concatenate([loaded[role][rows] for role, rows in zip(roles, numbers, strict=True)])


def _texts(spell: Callable[[np.ndarray], dict[str, list[str]]], rows: np.ndarray) -> list[str]:
    """Return the texts of rows.  InputError for those of a known source, which have none."""
    if texts := spell(rows):
        return texts["text"]
    raise InputError("a curator asked for text, and rows of a known source have none: use table.tokens")


def _kept(recipe: Recipe, numbers: Sequence[np.ndarray], decisions: Decisions) -> tuple[Recipe, np.ndarray | None]:
    """Return the recipe with each row as often as it was chosen, and the weights of its rows, if curators gave some.

    A part with rows of several counts becomes a part for each count, because a part has one `repeat`.
    """
    bounds = np.cumsum([0, *map(len, numbers)])
    parts, places = [], [np.empty(0, np.int64)]
    for part, rows, start, stop in zip(recipe.parts, numbers, bounds[:-1], bounds[1:], strict=True):
        times = decisions.times[start:stop]
        for count in np.unique(times[times > 0]).tolist():
            chosen = np.flatnonzero(times == count)
            parts.append(replace(part, chosen=RowNumbers(rows[chosen]), repeat=part.repeat * count))
            places.append(start + chosen)
    weights = None if decisions.weights is None else decisions.weights[np.concatenate(places)]
    return Recipe(tuple(parts)), weights


def _write_decisions(out: Path, recipe: Recipe, numbers: Sequence[np.ndarray], decisions: Decisions) -> None:
    """Write decisions.parquet, one row per row on offer.

    `times` says how often it is trained on, and `weight`, where curators weigh rows, how much it counts.  `copy_of` is
    the line of decisions.parquet, from 0, of the row that a dropped one is a copy of.  A curator's scores have its
    name.  Origins are written here, from the pool: of all curators the oracle alone has heard of them.
    """
    columns = {
        "origin": pa.array(_origins(recipe, numbers), pa.int16()),
        "row": pa.array(np.concatenate(numbers), pa.uint32()),
        "times": pa.array(decisions.times, pa.uint32()),
        "reason": pa.array(decisions.reasons, pa.string()),
        **({} if decisions.weights is None else {"weight": pa.array(decisions.weights.astype(np.float32))}),
        "copy_of": pa.array(decisions.copies, pa.uint32(), mask=decisions.copies < 0),
        **{f"score {name}": pa.array(scores.astype(np.float32)) for name, scores in decisions.scores.items()},
    }
    pq.write_table(pa.table(columns), out / DECISIONS, compression="zstd")


def _account(decisions: Decisions, origins: np.ndarray, human: np.ndarray, lengths: np.ndarray) -> dict[str, Any]:
    """Return what curation.json holds: rows by origin and reason, what was fitted, and the columns of results.csv.

    `detectors` says how well the scores of curators tell who wrote the rows.  No curator hears of it.
    """
    counts = Counter(f"{who} {why}".strip() for who, why in zip(origins.tolist(), decisions.reasons, strict=True))
    kept = {"offered": len(origins), "kept": int(decisions.kept.sum()), "fed": int(decisions.times.sum())}
    found = {name: evaluated(scores, human, origins, lengths) for name, scores in decisions.scores.items()}
    columns = outcome(decisions.times, human, np.array(decisions.reasons) != "", found, decisions.weights)
    return {**kept, "rows": counts, "detectors": found, "columns": columns}


def _edits(
    inputs: Folders, recipe: Recipe, numbers: Sequence[np.ndarray], lengths: np.ndarray, times: np.ndarray
) -> dict[str, float]:
    """Return the column `edited`: the share of the recipe's tokens that editors changed; {} where there were none."""
    counts = {role: inputs[role] / COUNTS for role in _roles(recipe)}
    if not all(file.exists() for file in counts.values()):
        return {}
    files = zip(_roles(recipe), numbers, strict=True)
    changed = np.concatenate([np.load(counts[role])[rows] for role, rows in files])
    return {"edited": float((times * changed).sum() / max(1, (times * lengths).sum()))}


def _roles(recipe: Recipe) -> list[str]:
    """Return the role of the corpus of each part."""
    names = {HUMAN: "human", ARCHIVE: "archive"}
    return [names.get(part.corpus, f"{SYNTHETIC}{part.corpus}") for part in recipe.parts]


def _origins(recipe: Recipe, numbers: Sequence[np.ndarray]) -> np.ndarray:
    """Return who wrote each row of all parts in order."""
    return np.concatenate([np.full(len(rows), part.origin) for part, rows in zip(recipe.parts, numbers, strict=True)])


CURATE = Kind(
    "curate",
    CurateParams,
    _run_curate,
    (
        "steps/curation/curate.py",
        *(f"curators/{name}.py" for name in ("__init__", "table", "outcome", "evaluation")),
        "models/feed.py",
    ),
    version="5",
    libraries=frozenset({"pyarrow", "tokenizers"}),
)
