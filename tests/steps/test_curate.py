"""The step `curate`: absent where nothing is asked, shared where nothing is synthetic, and blind to origins."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from support.tiny import run_study, store_at

from lab.curators import CURATORS, RELEASED, TOLD, needs_of
from lab.errors import InputError
from lab.loop import Generation, Study
from lab.models.feed import load_recipe, save_recipe
from lab.recipe import ARCHIVE, HUMAN, Part, Recipe
from lab.run.folder import RunFolder
from lab.steps.curate import CURATE, CurateParams
from lab.store.step import Attempt
from lab.text.tokenizer import save_special

Built = Callable[..., Study]


def of(study: Study, regime: str) -> list[Generation]:
    return [generation for generation in study.generations if generation.regime == regime]


def test_a_study_without_curators_has_no_such_step_and_the_same_keys(built: Built) -> None:
    plain, none = built(), built(curators=[])
    assert [step.key for step in plain.steps] == [step.key for step in none.steps]
    assert "curate" not in {step.name for step in plain.steps}


def test_only_pools_with_synthetic_text_are_curated(built: Built) -> None:
    plain, curated = built(), built(curators=["duplicates"])
    for regime in ("human", "replace"):
        for before, after in zip(of(plain, regime), of(curated, regime), strict=True):
            asked = regime == "replace" and after.t == 1
            assert (after.recipe.name == "curate") is asked
            assert (after.models == before.models) is not asked
    assert of(curated, "replace")[1].recipe.inputs["pool"] == of(plain, "replace")[1].recipe


def test_end_to_end(built: Built, tmp_path: Path) -> None:
    """Half of a generation's rows, drawn at random, are trained on; the reasons of the others lie beside."""
    study = built(curators=[{"random": {"keep": 0.5}}])
    run_study(study, tmp_path / "run")
    last = of(study, "replace")[-1]
    folder = store_at(tmp_path).folder(last.recipe.name, last.recipe.key)
    assert load_recipe(folder).rows == 16  # of 32
    decisions = pq.read_table(folder / "decisions.parquet").to_pydict()
    assert decisions["origin"] == [0] * 32 and decisions["row"] == list(range(32))
    assert sorted(set(decisions["reason"])) == ["", "random: not drawn"]
    assert decisions["copy_of"] == [None] * 32
    counts = json.loads((folder / "curation.json").read_text())
    columns = {"human_pool": 0.0, "human_curated": 0.0, "kept": 0.5, "tpr": 0.5, "fpr": None, "largest_repeat": 1.0}
    columns |= {"detector_auc": None}
    rows = {"0": 16, "0 random: not drawn": 16}
    assert counts == {
        "kept": 16,
        "fed": 16,
        "offered": 32,
        "rows": rows,
        "facts": [],
        "detectors": {},
        "columns": columns,
    }


def decide(folder: Path, recipe: Recipe, arrays: dict[str, np.ndarray], curators: list[dict[str, Any]]) -> list[str]:
    """Run the step on stub corpora of a known source, whose rows have no text; return the reasons."""
    inputs = {}
    for role, tokens in arrays.items():
        (folder / role).mkdir(parents=True)
        np.save(folder / role / "tokens.npy", tokens)
        inputs[role] = folder / role
    (folder / "pool").mkdir()
    (folder / "out").mkdir()
    (folder / "law").mkdir()
    (folder / "law" / "source.npz").touch()
    save_special(folder / "law", vocab_size=300, bos=299, eos=299)
    save_recipe(recipe, folder / "pool")
    attempt = Attempt(lambda _: None, lambda: False, folder, 1e9, print)
    params = CurateParams(curators, "blocks", 0, 1, mark={})
    CURATE.run(params, {**inputs, "pool": folder / "pool", "tokenizer": folder / "law"}, folder / "out", attempt)
    return list(pq.read_table(folder / "out" / "decisions.parquet").to_pydict()["reason"])


BLIND: list[dict[str, Any]] = [
    {"name": "duplicates", "options": {}},
    {"name": "near_duplicates", "options": {}},
    {"name": "repetition", "options": {"scale": 2}},
    {"name": "random", "options": {"keep": 0.7}},
    {"name": "watermarked", "options": {"fpr": 0.1, "key": 5}},
    {"name": "dsir", "options": {"keep": 0.9}},
]
"""Every blind curator that needs neither text nor a model."""


def test_decisions_hear_nothing_of_origins(tmp_path: Path) -> None:
    """The same rows, once as human ones before a sample and once the other way round: the same bytes, origins apart."""
    cheap = {name for name in set(CURATORS) - TOLD - RELEASED if not set(needs_of(name, {})) - {"trusted", "mark"}}
    assert {each["name"] for each in BLIND} == cheap - {"stop_words"}
    rows = np.random.default_rng(0).integers(0, 30, (40, 20)).astype(np.uint16)
    rows[30:34], rows[34:36], rows[36, :10] = rows[:4], 7, rows[36, 10:]
    first = Recipe((Part(HUMAN, 0, 20), Part(0, 0, 20)))
    swapped = Recipe((Part(0, 0, 20), Part(HUMAN, 0, 20)))
    own = {"trusted": np.random.default_rng(1).integers(0, 30, (40, 20)).astype(np.uint16)}
    one = decide(tmp_path / "a", first, {"human": rows[:20], "synthetic-0": rows[20:], **own}, BLIND)
    decide(tmp_path / "b", swapped, {"human": rows[20:], "synthetic-0": rows[:20], **own}, BLIND)
    a, b = (pq.read_table(tmp_path / name / "out" / "decisions.parquet") for name in "ab")
    assert a["origin"] != b["origin"]
    assert a.drop_columns(["origin"]).to_pandas().equals(b.drop_columns(["origin"]).to_pandas())
    assert len({reason.partition(":")[0] for reason in one}) == 6  # near_duplicates finds duplicates gone


def test_the_oracle_is_told(tmp_path: Path) -> None:
    rows = np.arange(80).reshape(40, 2).astype(np.uint16)
    recipe, oracle = Recipe((Part(HUMAN, 0, 10), Part(0, 0, 20), Part(ARCHIVE, 0, 10))), {"human": 0.9, "machine": 0.1}
    arrays = {"human": rows[:10], "synthetic-0": rows[10:30], "archive": rows[30:]}
    reasons = decide(tmp_path, recipe, arrays, [{"name": "oracle", "options": oracle}])
    kept = np.array([reason == "" for reason in reasons])
    assert kept[10:30].sum() == 2 and kept[:10].sum() + kept[30:].sum() == 18


SPY = """
import numpy as np

def spy(table, *, rng):
    assert not table.tokens.flags.writeable and not table.lengths.flags.writeable
    np.savez("seen.npz", tokens=table.tokens, lengths=table.lengths, rng=rng.bit_generator.state["state"]["key"])
    assert set(vars(table)) == {"tokens", "lengths", "spell", "scores", "trusted", "decoy", "mark", "vocabulary"}
    assert not table.scores and table.trusted is None and table.decoy is None
    assert not table.mark and not table.vocabulary
    return [None] * len(table)
"""


def area_under_curve(score: np.ndarray, label: np.ndarray) -> float:
    """Return the chance that a labelled row scores higher than another, ties counting half."""
    one, other = score[label], np.sort(score[~label])
    below, upto = np.searchsorted(other, one), np.searchsorted(other, one, side="right")
    return float((below + upto).mean() / 2 / len(other))


def test_origin_follows_from_nothing_that_a_curator_sees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Human rows, half of them relabelled as the machine's: position, parity and length tell them apart by chance."""
    (tmp_path / "own_spy.py").write_text(SPY)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lab.steps.curate.end_of", lambda layout, tokenizer: 0)
    rows = np.random.default_rng(1).integers(0, 8, (6000, 12)).astype(np.uint16)
    rows[:, 0] = np.arange(1, 6001)  # what the row is known by afterwards; no feature below reads it
    arrays = {"human": rows[:3000], "synthetic-0": rows[3000:].astype(np.uint32)}
    decide(tmp_path / "run", Recipe((Part(HUMAN, 0, 3000), Part(0, 0, 3000))), arrays, [NAMED_SPY])
    seen = np.load("seen.npz")
    machine, place = seen["tokens"][:, 0] > 3000, np.arange(6000)
    features = {"position": place, "parity": place % 2, "length": seen["lengths"], "end": place // 3000}
    for name, values in features.items():
        assert 0.45 < area_under_curve(values, machine) < 0.55, name
    assert not np.array_equal(generator_of(seen["rng"]).permutation(6000) < 3000, ~machine)


NAMED_SPY = {"name": "own_spy:spy", "options": {}}


def generator_of(key: np.ndarray) -> np.random.Generator:
    """Return the curator's generator as it was before its first draw."""
    return np.random.Generator(np.random.Philox(key=key))


def test_parts_keep_their_order_and_repeats(tmp_path: Path) -> None:
    rows = np.array([[1, 1], [2, 2], [1, 1]], np.uint16)
    recipe = Recipe((Part(0, 0, 3, repeat=2), Part(HUMAN, 1, 2)))
    decide(tmp_path, recipe, {"human": rows, "synthetic-0": rows}, [{"name": "duplicates", "options": {}}])
    kept = load_recipe(tmp_path / "out")
    assert kept.unique_rows == 2 and sum(part.distinct_rows for part in kept.parts) == 2


def test_a_copy_is_named_by_its_line_of_the_decisions(tmp_path: Path) -> None:
    rows = np.array([[1, 1], [2, 2], [3, 3], [1, 1]], np.uint16)
    decide(
        tmp_path,
        Recipe((Part(0, 0, 4),)),
        {"human": rows, "synthetic-0": rows},
        [{"name": "duplicates", "options": {}}],
    )
    named = pq.read_table(tmp_path / "out" / "decisions.parquet").to_pydict()["copy_of"]
    assert named in ([None, None, None, 0], [3, None, None, None])


@pytest.mark.parametrize(
    ("curators", "said"),
    [
        (
            ["xyz"],
            'unknown curator "xyz"; allowed: duplicates, near_duplicates, repetition, stop_words, random, band, best',
        ),
        (["duplicate"], 'unknown curator "duplicate" - did you mean "duplicates"'),
        (["random"], "curator random needs keep"),
        ([{"random": {"kept": 0.5}}], 'curator random has no option "kept" - did you mean "keep"'),
    ],
)
def test_bad_curators_are_refused_before_anything_runs(built: Built, curators: list[Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        built(curators=curators)


def test_values_of_options_are_refused_before_anything_runs_too(built: Built) -> None:
    with pytest.raises(InputError, match="random: keep is 2; it is the share"):
        built(curators=[{"random": {"keep": 2}}])


def test_rows_of_a_known_source_have_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_text_rule.py").write_text(
        "def short(table, *, rng):\n    return [table.text(i) for i in range(len(table))]\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    rows = np.array([[1, 1], [2, 2]], np.uint16)
    with pytest.raises(InputError, match=r"known source have none: use table\.tokens"):
        rule = {"name": "own_text_rule:short", "options": {}}
        decide(tmp_path / "run", Recipe((Part(0, 0, 2),)), {"human": rows, "synthetic-0": rows}, [rule])


OWN = """
import numpy as np
from lab.curators import Drawn, Dropped, needs

@needs("trusted", "decoy", "observer")
def every(table, *, rng):
    assert set(table.scores) == {"nats", "entropy", "variance", "cross"}
    for rows in (table, table.own, table.decoy):
        assert rows.scores["nats"].shape == (len(rows),) and rows.mean("cross").min() > 0
        assert not rows.tokens.flags.writeable and not rows.scores["nats"].flags.writeable
    return Drawn(np.array([0, 0, 1]), {"decoys": len(table.decoy)})
"""


def test_own_resampler_with_a_judge_end_to_end(built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A resampler of the user's own: its models are trained once, its row is trained on twice, it is counted."""
    (tmp_path / "own_every.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    study = built(curators=["own_every:every"], regimes=["human", "replace", "accumulate"])
    names = [step.name for step in study.steps]
    assert names.count("scored") == 4  # of S_0 and H, of trusted rows and decoys, for both regimes
    run_study(study, tmp_path / "run")
    rows = RunFolder(tmp_path / "run").results()
    last = of(study, "accumulate")[-1]
    folder = store_at(tmp_path).folder(last.recipe.name, last.recipe.key)
    recipe = load_recipe(folder)
    assert recipe.rows == 3 and recipe.unique_rows == 2 and max(part.repeat for part in recipe.parts) == 2
    assert json.loads((folder / "curation.json").read_text())["facts"] == [{"curator": "own_every:every", "decoys": 32}]
    row = next(row for row in rows if row["regime"] == "accumulate" and row["generation"] == 1)
    assert row["largest_repeat"] == 2 and row["human_pool"] == 0.5 and row["kept"] == 2 / 64
    assert row["passes"] == 640 / 32 and row["human_curated"] == row["human_share"]
