"""The step `curate`: absent where nothing is asked, shared where nothing is synthetic, and blind to origins."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from support.tiny import run_study, store_at, tiny

from lab.config.files import parse_study
from lab.curators import CURATORS, RELEASED, TOLD, stage_of
from lab.curators.detectors import STATISTICS
from lab.errors import InputError
from lab.loop import Generation, Study, build
from lab.models.feed import RecipeRows, load_recipe, load_weights, save_recipe
from lab.recipe import ARCHIVE, HUMAN, Part, Recipe
from lab.run.folder import RunFolder
from lab.steps.curation.curate import CURATE, SCORES, CurateParams
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


NGRAM = {"kind": "ngram", "order": 2, "smoothing": "interpolated", "n_positions": 16}


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(
            {"model": {"kind": "ngram", "order": 2, "smoothing": "interpolated", "n_positions": 16}, "train": None}
        ),
        pytest.param({}, marks=pytest.mark.slow),
    ],
    ids=["ngram", "gpt2"],
)
def test_weights_are_trained_on(built: Built, tmp_path: Path, changes: dict[str, Any]) -> None:
    """A generation whose rows are weighed becomes another model; the key alone does not make it one."""
    study = built(curators=["weights"], **changes)
    run_study(study, tmp_path / "run")
    last, store = of(study, "replace")[-1], store_at(tmp_path)
    weights = load_weights(store.folder(last.recipe.name, last.recipe.key))
    assert weights is not None and weights.mean() == pytest.approx(1) and weights.max() / weights.min() > 2
    model = store.folder(last.models[0].name, last.models[0].key)
    plain = built(**changes)
    run_study(plain, tmp_path / "plain")
    other = of(plain, "replace")[-1].models[0]
    files = [next(folder.glob("*.safetensors")) for folder in (model, store.folder(other.name, other.key))]
    assert files[0].read_bytes() != files[1].read_bytes()


def decide(folder: Path, recipe: Recipe, arrays: dict[str, np.ndarray], curators: list[dict[str, Any]]) -> list[str]:
    """Run the step on stub corpora of a known source, whose rows have no text, and scores; return the reasons."""
    inputs = {}
    for role, array in arrays.items():
        (folder / role).mkdir(parents=True)
        np.save(folder / role / ("scores.npy" if role.startswith(SCORES) else "tokens.npy"), array)
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
]
"""Every blind curator that needs no text, nor rows or scores of its own."""
NEEDING = {name for name, function in CURATORS.items() if hasattr(function, "needs")}
SCORED = [
    ("band", {"low": 0.2, "high": 0.8}),
    ("best", {"keep": 0.5}),
    ("best", {"keep": 0.5, "register": "sea"}),
    *(("detected", {"by": by, "fpr": 0.2}) for by in STATISTICS),
    *(("importance", {"by": by, "power": 2}) for by in STATISTICS),
    ("dsir", {"keep": 0.5}),
    ("weights", {}),
    ("watermarked", {"fpr": 0.2, "key": 5}),
]
"""Every curator that reads rows or scores of its own, with options under which it drops some of the rows below."""


def test_decisions_hear_nothing_of_origins(tmp_path: Path) -> None:
    """The same rows, once as human ones before a sample and once the other way round: the same bytes, origins apart."""
    alone = set(CURATORS) - TOLD - RELEASED - NEEDING
    assert {each["name"] for each in BLIND} == alone - {"stop_words"}
    rows = np.random.default_rng(0).integers(0, 30, (40, 20)).astype(np.uint16)
    rows[30:34], rows[34:36], rows[36, :10] = rows[:4], 7, rows[36, 10:]
    first = Recipe((Part(HUMAN, 0, 20), Part(0, 0, 20)))
    swapped = Recipe((Part(0, 0, 20), Part(HUMAN, 0, 20)))
    one = decide(tmp_path / "a", first, {"human": rows[:20], "synthetic-0": rows[20:]}, BLIND)
    decide(tmp_path / "b", swapped, {"human": rows[20:], "synthetic-0": rows[:20]}, BLIND)
    a, b = (pq.read_table(tmp_path / name / "out" / "decisions.parquet") for name in "ab")
    assert a["origin"] != b["origin"] and a.drop_columns(["origin"]).equals(b.drop_columns(["origin"]))
    assert len({reason.partition(":")[0] for reason in one}) == 4  # near_duplicates finds duplicates gone


def test_every_curator_is_among_those_of_these_tests() -> None:
    editors = {name for name in NEEDING if stage_of(name) == "editor"}  # tests/steps/test_edited.py
    assert {name for name, _ in SCORED} == NEEDING - editors


@pytest.mark.parametrize(("name", "options"), SCORED, ids=str)
def test_scores_trusted_rows_and_decoys_say_nothing_of_origins(
    tmp_path: Path, name: str, options: dict[str, Any]
) -> None:
    """The same with rows and scores of the curator's own, which do differ between trusted rows and decoys."""
    rng = np.random.default_rng(0)
    looks = rng.random(80) < 0.5  # like the machine's; not who wrote it
    pool, scores = rng.integers(20 * looks[:, None], 30, (80, 20)), rng.normal(50 + 10 * looks, 4, (4, 80)).T
    own = {
        "trusted": rng.integers(0, 30, (40, 20)),
        "decoy": rng.integers(20, 30, (40, 20)),
        f"{SCORES}trusted": rng.normal(50, 4, (40, 4)),
        f"{SCORES}decoy": rng.normal(60, 4, (40, 4)),
    }
    parts = [(pool[half], scores[half]) for half in (slice(40), slice(40, 80))]
    for folder, recipe, (one, other) in (
        ("a", Recipe((Part(HUMAN, 0, 40), Part(0, 0, 40))), parts),
        ("b", Recipe((Part(0, 0, 40), Part(HUMAN, 0, 40))), parts[::-1]),
    ):
        arrays = {"human": one[0], f"{SCORES}human": one[1], "synthetic-0": other[0], f"{SCORES}synthetic-0": other[1]}
        arrays |= own
        arrays |= {role.replace(SCORES, f"{SCORES}of-sea-"): each for role, each in arrays.items() if SCORES in role}
        decide(tmp_path / folder, recipe, arrays, [{"name": name, "options": options}])
    a, b = (pq.read_table(tmp_path / folder / "out" / "decisions.parquet") for folder in "ab")
    assert a["origin"] != b["origin"] and a.drop_columns(["origin"]).equals(b.drop_columns(["origin"]))
    decided = a["weight" if name == "weights" else "times"].to_numpy()
    assert decided.max() > decided.min()
    found = [json.loads((tmp_path / folder / "out" / "curation.json").read_text()) for folder in "ab"]
    assert found[0]["facts"] == found[1]["facts"] and f"score {name}" in a.column_names
    auc = [each["columns"]["detector_auc"] for each in found]
    assert sum(auc) == pytest.approx(1) and auc[0] == found[0]["detectors"][name]["generations"]["0"]["auc"]


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


FULL_SPY = """
from lab.curators import needs

@needs("trusted", "decoy", by={"all": ("judge", "observer")})
def spy(table, *, rng, by):
    for each in (table, table.own, table.written):
        fields = {"tokens", "lengths", "spell", "scores", "trusted", "decoy", "mark", "vocabulary"}
        assert set(vars(each)) == fields and not each.mark and not each.vocabulary
        assert set(each.scores) == {"nats", "entropy", "variance", "cross"}
        assert not any(array.flags.writeable for array in (each.tokens, each.lengths, *each.scores.values()))
    assert table.own.trusted is table.own.decoy is table.written.trusted is table.written.decoy is None
    return [None] * len(table)
"""


def test_a_curator_of_ones_own_that_needs_all_sees_no_more_than_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_full_spy.py").write_text(FULL_SPY)
    monkeypatch.syspath_prepend(str(tmp_path))
    roles = ("human", "synthetic-0", "trusted", "decoy")
    arrays = {role: np.ones((9, 4), np.uint16) for role in roles}
    arrays |= {f"{SCORES}{role}": np.ones((9, 4)) for role in roles}
    spy = {"name": "own_full_spy:spy", "options": {"by": "all"}}
    assert set(decide(tmp_path / "run", Recipe((Part(HUMAN, 0, 9), Part(0, 0, 9))), arrays, [spy])) == {""}


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
    monkeypatch.setattr("lab.steps.curation.curate.end_of", lambda layout, tokenizer: 0)
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


WEIGHING = """
from lab.curators import Drawn, Weighted
import numpy as np

def twice(table, *, rng):
    return Drawn(np.concatenate([np.arange(len(table)), np.flatnonzero(table.tokens[:, 0] > 6)]))

def heavy(table, *, rng):
    return Weighted(table.tokens[:, 0] * 1.0)
"""


def test_weights_stand_beside_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts are split by how often a row is drawn, and each row keeps its weight in this new order."""
    (tmp_path / "own_weighing.py").write_text(WEIGHING)
    monkeypatch.syspath_prepend(str(tmp_path))
    rows = np.arange(1, 13, dtype=np.uint16)[:, None] + np.array([0, 1], np.uint16)
    rows = rows[np.random.default_rng(0).permutation(12)]
    recipe, arrays = Recipe((Part(HUMAN, 0, 6), Part(0, 0, 6))), {"human": rows[:6], "synthetic-0": rows[6:]}
    wanted = [{"name": f"own_weighing:{name}", "options": {}} for name in ("twice", "heavy")]
    decide(tmp_path / "run", recipe, arrays, wanted)
    out = tmp_path / "run" / "out"
    fed = RecipeRows(load_recipe(out), {HUMAN: rows[:6], 0: rows[6:]}, weights=load_weights(out))
    every = np.arange(len(fed))
    weights, tokens = fed.weights(every), fed.take(every)[:, 0]
    assert len(fed) == 18 and weights is not None and weights.mean() == pytest.approx(1)
    assert weights / weights[0] == pytest.approx(tokens / tokens[0])
    decided = pq.read_table(out / "decisions.parquet").to_pydict()
    assert np.array(decided["weight"]) / decided["weight"][0] == pytest.approx(rows[:, 0] / rows[0, 0])


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


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"corpus__tokens": 112},
            "curator detected needs 8 trusted rows at least, and corpus.tokens allows 7: raise it",
        ),
        ({"sample__tokens": 112}, "curator detected needs 8 decoys at least, and the sample allows 7: raise it"),
    ],
)
def test_a_detector_without_labels_is_refused_before_anything_runs(
    built: Built, changes: dict[str, Any], said: str
) -> None:
    fewer = {"metrics__tokens": 64, "curators": [{"detected": {"by": "ngrams"}}]}
    with pytest.raises(InputError, match=f"^{said}$"):
        built(**changes, **fewer)


def test_no_judge_is_trained_that_no_detector_asks_for(built: Built) -> None:
    for by, judges, scores in (("ngrams", 0, 0), ("likelihood", 1, 4), ("binoculars", 2, 4)):
        study = built(curators=[{"detected": {"by": by}}], regimes=["replace"])
        steps = [step.label for step in study.steps]
        assert sum("curators' judge" in label and label.startswith("train") for label in steps) == judges, by
        roles = of(study, "replace")[1].recipe.inputs
        assert {"trusted", "decoy"} < set(roles) and sum(role.startswith(SCORES) for role in roles) == scores


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


def test_curators_that_keep_no_row_are_refused_where_it_is_known(built: Built) -> None:
    oracle = [{"oracle": {"human": 1, "machine": 0}}]
    with pytest.raises(InputError, match="generation 1: the oracle keeps none of 0 human and 32 generated rows"):
        built(curators=oracle)
    assert built(curators=oracle, regimes=["human", "accumulate"])
    source = {"kind": "source", "process": "categorical", "types": 8, "zipf": 1, "tokens": 512}
    study = tiny("", curators=["stop_words"], train=None) | {"corpus": source, "tokenizer": None}
    study["model"] = {"kind": "positions", "n_positions": 16}
    with pytest.raises(InputError, match="stop_words reads text, and rows of a known source have none"):
        build(parse_study(study))
