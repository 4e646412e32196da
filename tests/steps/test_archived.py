"""The step `archived`: reserved human rows that join the pools of later generations, disjoint from all others."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.hostile import call
from support.tiny import run_study, store_at, tiny, write_study

from lab.config.files import parse_study
from lab.errors import InputError
from lab.loop import Generation, Study, build
from lab.models.feed import load_recipe
from lab.recipe import ARCHIVE
from lab.steps.curation.archived import released, used_up

Built = Callable[..., Study]
NGRAM = {
    "model": {"kind": "ngram", "order": 2, "smoothing": "interpolated", "n_positions": 16},
    "train": None,
    "corpus__archive_tokens": 160,
}


def of(study: Study, regime: str) -> list[Generation]:
    return [generation for generation in study.generations if generation.regime == regime]


def asked(rows: int = 4, budget: int = 6, release: str = "random") -> list[dict[str, Any]]:
    return [{"archive": {"rows": rows, "budget": budget, "release": release}}]


def test_it_is_absent_where_nothing_is_asked_or_nothing_is_synthetic(built: Built) -> None:
    plain, kept = built(**NGRAM), built(**NGRAM, curators=asked())
    assert "archived" not in {step.name for step in plain.steps}
    assert [g.record for g in of(plain, "human")] == [g.record for g in of(kept, "human")]
    pooled = of(kept, "replace")[1].recipe.inputs["pool"]
    assert pooled.name == "archived" and pooled.inputs["pool"] == of(plain, "replace")[1].recipe


@pytest.mark.slow
def test_end_to_end(built: Built, tmp_path: Path) -> None:
    """A budget of 6 of 10 rows, 4 per generation: the last 6, each once; then it is used up, which is said."""
    study = built(**NGRAM, regimes=["replace"], generations=4, curators=[*asked(release="need"), "duplicates"])
    run_study(study, tmp_path / "run")
    store, seen, facts = store_at(tmp_path), [], []
    for generation in study.generations[1:]:
        folder = store.folder(generation.recipe.name, generation.recipe.key)
        decided = pq.read_table(folder / "decisions.parquet").to_pydict()
        offered = [row for row, origin in zip(decided["row"], decided["origin"], strict=True) if origin == ARCHIVE]
        seen += offered
        assert sum(part.rows for part in load_recipe(folder).parts if part.corpus == ARCHIVE) <= len(offered)
        facts.append(json.loads((folder / "curation.json").read_text())["facts"][0])
    assert sorted(seen) == [4, 5, 6, 7, 8, 9]
    assert [(each["released"], each["left"]) for each in facts] == [(4, 2), (2, 0), (0, 0)]
    assert facts[0]["curator"] == "archive" and facts[0]["need sea"] == 0  # generation 0 is what it is compared with
    assert facts[1]["rows sea"] + facts[1]["rows land"] == 2
    # the need by hand: tales with even numbers are of the sea
    judged = study.generations[2].recipe.inputs["pool"].inputs
    rows = store.folder("heldout-rows", judged["validation"].key)
    names = pa.ipc.open_file(rows / "names.arrow").read_all()["document"].to_pylist()
    sea = np.array([int(names[i].split()[-1]) % 2 == 0 for i in np.load(rows / "document.npy")[:, 0]])
    first, now = (np.load(store.folder("judged", judged[role].key) / "nats.npy") for role in ("first-0", "now-0"))
    assert sea.any() and not sea.all() and (first != now).any()
    for mode, mine in (("sea", sea), ("land", ~sea)):
        risen = now[mine].sum() / first[mine].sum() - 1
        assert facts[1][f"need {mode}"] == pytest.approx(min(max(risen, 0), 1))
    results = (tmp_path / "run" / "results.csv").read_text().splitlines()
    column = results[0].split(",").index("human_pool")
    assert [float(line.split(",")[column]) for line in results[2:]] == pytest.approx([4 / 36, 2 / 34, 0])


def test_need_reads_validation_rows_and_never_test_rows(built: Built) -> None:
    for more in (NGRAM, {"corpus__archive_tokens": 160}):
        study = built(**more, generations=3, curators=asked(release="need"))
        pooled = of(study, "replace")[2].recipe.inputs["pool"]
        judged = {role: step for role, step in pooled.inputs.items() if step.name == "judged"}
        assert set(judged) == {"first-0", "now-0"}
        assert judged["first-0"].inputs["model"] == of(study, "replace")[0].models[0]
        assert judged["now-0"].inputs["model"] == of(study, "replace")[1].models[0]
        assert judged["now-0"].inputs["rows"].params["fold"] == "validation"


def test_no_regime_is_given_the_reserved_rows(built: Built) -> None:
    """An archive of 10 rows with 6 reserved: web takes the first 4, in two generations of 2."""
    web = {"web": {"machine": 0.5, "size": 0.125}}
    study = built(**NGRAM, regimes=[web], generations=3, curators=asked(rows=3))
    plain = built(**NGRAM, regimes=[web], generations=3)
    last = study.generations[-1].recipe.inputs["pool"]
    assert last.inputs["pool"].params["reserved"] == 6 and "reserved" not in plain.generations[-1].recipe.params
    with pytest.raises(
        InputError, match=r"the archive has 3: raise .* \(7 more rows are reserved by the curator archive"
    ):
        built(**NGRAM, regimes=[web], generations=3, curators=asked(rows=3, budget=7))


def test_released_rows_are_known_before_anything_runs(built: Built) -> None:
    config = built(**NGRAM, generations=5, curators=asked()).config
    assert [released(config, t) for t in range(5)] == [0, 4, 2, 0, 0]
    said = "archive: its budget of 6 rows is used up in generation 2, which gets 2, and later ones get none"
    assert used_up(config) == said
    assert used_up(built(**NGRAM, generations=2, curators=asked()).config) is None


def test_a_plan_says_when_the_budget_is_used_up(tmp_path: Path, corpus_file: Path) -> None:
    study = tiny(corpus_file, **NGRAM, generations=3, curators=asked(rows=6))
    ended = call("plan", write_study(tmp_path / "a.yaml", study), cwd=tmp_path)
    assert ended.code == 0 and "its budget of 6 rows is used up in generation 2, which gets 0" in ended.err


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"curators": asked(budget=11)}, "budget is 11 rows, and corpus.archive_tokens holds 10: set .* at least 176"),
        ({"corpus__archive_tokens": None, "curators": asked()}, "6 rows, and the study keeps no archive: set .* 96"),
        ({"corpus__domain": None, "curators": asked(release="need")}, "name the column of it as corpus.domain"),
        ({"curators": ["duplicates", *asked()]}, '"archive" stands after "duplicates"; the order is the archive, then'),
        ({"curators": asked() * 2}, '"archive" is named 2 times'),
    ],
)
def test_what_a_study_cannot_give_is_refused(built: Built, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        built(**{**NGRAM, **changes})


def test_a_known_source_has_no_domains() -> None:
    source = {"kind": "source", "process": "categorical", "types": 9, "zipf": 1, "tokens": 512, "archive_tokens": 160}
    study = tiny("unread", model=NGRAM["model"], train=None, tokenizer=None, curators=asked())
    study |= {"corpus": source}
    assert build(parse_study(study))
    with pytest.raises(InputError, match="a known source has none: use random or oldest"):
        build(parse_study(study | {"curators": asked(release="need")}))
