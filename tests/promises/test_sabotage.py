"""Library functions broken one at a time, and the rows of the shipped study `exact` that catch each of them.

Each sabotage runs the arm and regimes of the study that it touches, at the shipped sizes and seeds and for the first
generations, through the lab's own graph, executor, store and records.  SABOTAGES says which rows are then OFF; each of
them agrees in the unbroken lab.  `pytest tests/promises/test_sabotage.py -m "" -rP` prints all rows that are OFF.

Each place that is broken has a sabotage in CI: seeds, pools, decoding, feed, subsamples, human rows, shards and models.
The others, those of FULL, are run by `scripts/test --full -k sabotage`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.tiny import run_study

from lab import regimes, seeds
from lab.checks import exact
from lab.config.files import load_study, parse_study
from lab.config.named import RegimeConfig
from lab.loop import Study, build
from lab.models import counting
from lab.models.feed import RecipeRows
from lab.models.sampling import sample
from lab.models.sampling.decoding import Decoding
from lab.recipe import Lineage, OnTable, Part, Recipe
from lab.regimes import REGIMES, Regime
from lab.run.folder import RunFolder
from lab.steps import STEPS
from lab.steps import sample as sampling_step
from lab.text import known_source as sources

MIX = "mix,fresh=true,human=0.25"
Patch = pytest.MonkeyPatch


def restricted(arm: str, generations: int, *regimes: str) -> Study:
    """One arm of the shipped study, its first generations, and those of its regimes."""
    fields = load_study("exact").model_dump(mode="json")
    (line,) = (line for line in fields["sweep"] if line["arm"] == arm)
    own = {RegimeConfig.model_validate(found).label: found for found in line.get("regimes", fields["regimes"])}
    line = {**line, "regimes": [own[name] for name in regimes], "generations": generations}
    return build(parse_study({**fields, "sweep": [line]}))


def rows_of(study: Study, folder: Path) -> list[exact.Row]:
    run_study(study, folder / "exact")
    return exact.compare(study, RunFolder(folder / "exact").results())


# The sabotages of the issue


def one_seed_for_all_generations(patch: Patch) -> None:
    for module in (sampling_step, regimes):
        patch.setattr(module, "derive_seed", lambda seed, generation, *rest: seeds.derive_seed(seed, 0, *rest))


def last_sample_dropped(patch: Patch) -> None:
    def accumulate(lineage: Lineage, *, rng: np.random.Generator) -> Recipe:
        return Recipe(tuple(Part.whole(source) for source in (lineage.human, *lineage.samples[:-1])))

    patch.setitem(REGIMES, "accumulate", replace(REGIMES["accumulate"], pool=accumulate))


def human_rows_left_out(patch: Patch) -> None:
    patch.setitem(REGIMES, "augment", REGIMES["replace"])


def decoded(patch: Patch, **decoding: Any) -> None:
    """Change how tokens are drawn at temperature 1."""
    sound = sample._next
    patch.setattr(
        sample, "_next", lambda logits, uniforms, _, seen: sound(logits, uniforms, Decoding(**decoding), seen)
    )


def newest_rows_counted_twice(patch: Patch) -> None:
    sound = RecipeRows.__init__

    def twice(self: RecipeRows, recipe: Recipe, corpora: Mapping[int, np.ndarray], **options: Any) -> None:
        *parts, newest = recipe.parts
        sound(self, Recipe((*parts, replace(newest, repeat=2))), corpora, **options)

    patch.setattr(RecipeRows, "__init__", twice)


def subsampled_with_replacement(patch: Patch) -> None:
    def subsample(sources: tuple[OnTable, ...], rows: int, rng: np.random.Generator) -> list[Part]:
        bounds = np.cumsum([0, *(source.rows for source in sources)])
        drawn, times = np.unique(rng.integers(bounds[-1], size=rows), return_counts=True)
        owner = np.searchsorted(bounds, drawn, side="right") - 1
        return [
            replace(Part.some(source.origin, drawn[mine] - bounds[i]), repeat=int(count))
            for i, source in enumerate(sources)
            for count in np.unique(times)
            if (mine := (owner == i) & (times == count)).any()
        ]

    patch.setattr(regimes, "_subsample", subsample)


def a_quarter_of_the_human_rows_are_test_rows(patch: Patch) -> None:
    sound = sources.KnownSource.rows

    def leaking(self: sources.KnownSource, purpose: str, rows: int, positions: int, *, seed: int) -> np.ndarray:
        drawn = sound(self, purpose, rows, positions, seed=seed)
        if purpose == "human":
            drawn[: rows // 4] = sound(self, "test", rows, positions, seed=seed)[: rows // 4]
        return drawn

    patch.setattr(sources.KnownSource, "rows", leaking)


# Others that laboratories have had


def generation_0_sampled_once_and_reused(patch: Patch) -> None:
    def replace_(lineage: Lineage, *, rng: np.random.Generator) -> Recipe:
        return Recipe((Part.whole(lineage.samples[0] if lineage.samples else lineage.human),))

    patch.setitem(REGIMES, "replace", Regime(replace_, reads=lambda options: None))


def last_shard_is_the_first_again(patch: Patch) -> None:
    """As a crash may leave it.  A shard that is missing fails its step: the corpus is too small to be measured."""
    kind = STEPS["synthetic"]

    def run(params: Mapping[str, Any], inputs: Mapping[str, Path], out: Path, progress: Any) -> None:
        last = max(role for role in inputs if role.startswith("shard-"))
        kind.run(params, {**inputs, last: inputs["shard-000000"]}, out, progress)

    patch.setitem(STEPS, "synthetic", replace(kind, run=run))


def one_seed_for_all_shards(patch: Patch) -> None:
    patch.setattr(
        "lab.steps.sample.derive_seed", lambda seed, generation, step, shard: seeds.derive_seed(seed, generation, step)
    )


def fresh_human_rows_are_replayed(patch: Patch) -> None:
    def fresh(lineage: Lineage, rows: int, repeat: bool) -> list[Part]:
        return [replace(Part.whole(lineage.human), stop=rows)]

    patch.setattr(regimes, "_fresh", fresh)


def one_count_added_to_every_type(patch: Patch) -> None:
    sound = counting.Positions.fit

    def fit(rows: np.ndarray, *, vocab_size: int, weights: np.ndarray | None = None) -> counting.Positions:
        counts = sound(rows, vocab_size=vocab_size, weights=weights).counts.copy()
        counts[:, :-1] += 1
        return counting.Positions(counts)

    patch.setattr(counting.Positions, "fit", fit)


def training_goes_on_from_the_last_model(patch: Patch) -> None:
    """Replace trains on the newest sample only, but keeps what it had counted: the pool of accumulate."""
    patch.setitem(REGIMES, "replace", replace(REGIMES["accumulate"]))


def archive_never_moves_on(patch: Patch) -> None:
    """Draw the same fresh rows in every generation."""

    def fresh(lineage: Lineage, rows: int, repeat: bool) -> list[Part]:
        assert lineage.archive is not None
        return [replace(Part.whole(lineage.archive), stop=rows)]

    patch.setattr(regimes, "_fresh", fresh)


def half_from_the_newest_sample(patch: Patch) -> None:
    """Take half of each subsample from the newest sample and half from the one before."""

    def subsample(sources: tuple[OnTable, ...], rows: int, rng: np.random.Generator) -> list[Part]:
        before, newest = (
            Part.some(source.origin, rng.permutation(source.rows)[: rows // 2]) for source in sources[-2:]
        )
        return [before, newest]

    patch.setattr(regimes, "_subsample", subsample)


def vocabulary_one_short(patch: Patch) -> None:
    sound = counting.Uniform.nats
    patch.setattr(
        counting.Uniform, "nats", lambda self, rows: sound(replace(self, vocab_size=self.vocab_size - 1), rows)
    )


@dataclass(frozen=True)
class Sabotage:
    apply: Callable[[Patch], None]
    arm: str
    regime: str
    generations: int
    """How many of the shipped ones are run."""
    caught: frozenset[str]
    """The columns of that arm and regime that are OFF in some generation.  Others may be."""


def by(apply: Callable[[Patch], None], arm: str, regime: str, generations: int, caught: str) -> Sabotage:
    return Sabotage(apply, arm, regime, generations, frozenset(caught.split()))


LOST = "types lost_1 lost_2 lost_3"
SABOTAGES = {
    # named by the issue
    "one seed for all generations": by(one_seed_for_all_generations, "drift", "replace", 2, f"heterozygosity {LOST}"),
    "last sample dropped": by(last_sample_dropped, "drift", "accumulate", 3, "heterozygosity distance"),
    "human rows left out": by(human_rows_left_out, "drift", "augment", 2, "heterozygosity distance unseen"),
    "temperature .95": by(partial(decoded, temperature=0.95), "drift", "replace", 2, "heterozygosity types lost_1"),
    "rows counted twice": by(newest_rows_counted_twice, "drift", "accumulate", 2, "heterozygosity distance"),
    "rows counted twice, subsampled": by(
        newest_rows_counted_twice, "drift", "accumulate_subsample", 3, "heterozygosity distance"
    ),
    "with replacement": by(subsampled_with_replacement, "drift", "accumulate_subsample", 2, "heterozygosity distance"),
    "with replacement, mix": by(subsampled_with_replacement, "drift", MIX, 2, "heterozygosity distance"),
    "test rows leaked": by(a_quarter_of_the_human_rows_are_test_rows, "drift", "human", 1, "unseen"),
    # our own
    "generation 0 reused": by(generation_0_sampled_once_and_reused, "drift", "replace", 3, f"heterozygosity {LOST}"),
    "last shard is the first": by(last_shard_is_the_first_again, "tail", "replace", 1, "types lost_1"),
    "one seed for all shards": by(one_seed_for_all_shards, "tail", "replace", 1, "types lost_1"),
    "top-k 50, transformers' default": by(partial(decoded, top_k=50), "tail", "replace", 1, "types heterozygosity"),
    "top-p .99": by(partial(decoded, top_p=0.99), "tail", "replace", 1, "types lost_1"),
    "temperature ignored": by(partial(decoded, temperature=1.0), "cold", "replace", 1, "heterozygosity share_first"),
    "top-p ignored": by(partial(decoded, top_p=None), "nucleus", "replace", 1, "types"),
    "fresh rows are replayed ones": by(fresh_human_rows_are_replayed, "drift", MIX, 2, "heterozygosity distance"),
    "archive never moves on": by(archive_never_moves_on, "drift", MIX, 3, "heterozygosity distance"),
    "one added to every count": by(one_count_added_to_every_type, "drift", "human", 1, "types unseen lost_1"),
    "training goes on": by(
        training_goes_on_from_the_last_model, "drift", "replace", 2, f"heterozygosity unseen {LOST}"
    ),
    "half from the newest": by(half_from_the_newest_sample, "drift", "accumulate_subsample", 3, "heterozygosity"),
    "vocabulary one short": by(vocabulary_one_short, "uniform", "human", 1, "perplexity"),
}
"""What catches what."""
FULL = {
    *("last sample dropped", "generation 0 reused", "training goes on"),  # pools, as is "human rows left out"
    *("temperature .95", "top-p .99", "temperature ignored", "top-p ignored"),  # decoding, as is "top-k 50"
    *("rows counted twice, subsampled", "with replacement, mix", "half from the newest"),  # in another regime
    *("fresh rows are replayed ones", "archive never moves on"),  # tests/test_regimes.py counts fresh rows
}
"""Those that break a place where another one is broken in CI, or one that cheaper tests hold."""


def named(row: exact.Row) -> tuple[str, int, str]:
    return row.arm, row.generation, row.column


@pytest.fixture(scope="module")
def sound(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, int, str], exact.Row]:
    """Run the unbroken lab, with which each sabotage of CI, or of those asked for, is compared."""
    asked = {item.callspec.params.get("name") for item in request.session.items if hasattr(item, "callspec")}
    sabotages = [sabotage for name, sabotage in SABOTAGES.items() if name not in FULL or name in asked]
    found: list[exact.Row] = []
    for arm in dict.fromkeys(sabotage.arm for sabotage in sabotages):
        mine = [sabotage for sabotage in sabotages if sabotage.arm == arm]
        names = dict.fromkeys(sabotage.regime for sabotage in mine)
        study = restricted(arm, max(sabotage.generations for sabotage in mine), *names)
        found += rows_of(study, tmp_path_factory.mktemp(arm))
    return {named(row): row for row in found}


def test_every_row_agrees_in_the_unbroken_lab(sound: dict[tuple[str, int, str], exact.Row]) -> None:
    assert [name for name, row in sound.items() if not row.agrees] == []


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.full] if name in FULL else []) for name in SABOTAGES]
)
def test_it_is_caught_by_rows_that_agree_without_it(
    name: str,
    sound: dict[tuple[str, int, str], exact.Row],
    tmp_path: Path,
    monkeypatch: Patch,
    record_property: Callable[[str, object], None],
) -> None:
    sabotage = SABOTAGES[name]
    sabotage.apply(monkeypatch)
    rows = rows_of(restricted(sabotage.arm, sabotage.generations, sabotage.regime), tmp_path)
    off = [row for row in rows if not row.agrees]
    said = "; ".join(f"{row.column} gen {row.generation} {row.measured:.4f} for {row.exact:.4f}" for row in off)
    record_property("off", f"{sabotage.regime}, {sabotage.arm}: {said}")
    print(f"{name} -> {sabotage.regime}, {sabotage.arm}: {said or 'nothing'}")
    assert sabotage.caught <= {row.column for row in off}, said
    assert all(sound[named(row)].agrees for row in off)


def test_what_no_row_can_see(sound: dict[tuple[str, int, str], exact.Row], tmp_path: Path, monkeypatch: Patch) -> None:
    """All rows counted twice are the same frequencies: under replace the numbers stay the same to the last bit."""
    newest_rows_counted_twice(monkeypatch)
    rows = rows_of(restricted("drift", 2, "replace"), tmp_path)
    assert rows and all(row == sound[named(row)] for row in rows)
