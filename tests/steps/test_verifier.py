"""A narrow verifier in the graph: a judge of the human rows of one domain, beside the judge of all."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from support.hostile import call
from support.tiny import run_study, steps_of, store_at, tiny, write_study

from lab.config.files import parse_study
from lab.errors import InputError
from lab.loop import Study, build
from lab.text.rows import half_rows

Built = Callable[..., Study]
NGRAM = {"model": {"kind": "ngram", "order": 2, "smoothing": "interpolated", "n_positions": 16}, "train": None}
NARROW = {"best": {"keep": 0.25, "register": "sea"}}


def roles(study: Study) -> set[str]:
    return {role for role in study.generations[-1].recipe.inputs if role.startswith("score")}


def test_each_register_has_a_judge_and_nothing_else_has(built: Built) -> None:
    broad, narrow, both = (
        built(**NGRAM, regimes=["replace"], curators=curators)
        for curators in ([{"best": {"keep": 0.25}}], [NARROW], [NARROW, "band"])
    )
    assert roles(broad) == {"score-human", "score-synthetic-0", "score-trusted"}
    assert roles(narrow) == {role.replace("score-", "score-of-sea-") for role in roles(broad)}
    assert roles(both) == roles(broad) | roles(narrow)
    assert [len(steps_of(study, "train")) for study in (broad, narrow, both)] == [3, 3, 4]


@pytest.mark.slow
def test_end_to_end(built: Built, tmp_path: Path) -> None:
    """The judge of the sea reads rows of the sea alone, and its scores decide."""
    study = built(**NGRAM, regimes=["replace"], curators=[NARROW])
    run_study(study, tmp_path / "run")
    store, recipe = store_at(tmp_path), study.generations[-1].recipe
    scores = recipe.inputs["score-of-sea-synthetic-0"]
    judge = scores.inputs["judge"]
    rows = pq.read_table(store.folder("human", judge.inputs["human"].key) / "rows.parquet").to_pydict()
    assert set(rows["domain"]) == {"sea"}
    nats = np.load(store.folder("scored", scores.key) / "scores.npy")[:, 0]
    decided = pq.read_table(store.folder("curate", recipe.key) / "decisions.parquet").to_pydict()
    kept = np.array(decided["times"]) > 0
    assert kept.sum() == 8 and nats[kept].max() <= nats[~kept].min()
    facts = json.loads((store.folder("curate", recipe.key) / "curation.json").read_text())["facts"]
    assert facts == [{"curator": "best", "most": pytest.approx(nats[kept].max() / 16)}]


def test_an_unknown_register_is_named_before_anything_is_trained(corpus_file: Path, tmp_path: Path) -> None:
    study = tiny(corpus_file, **NGRAM, curators=[{"best": {"keep": 0.25, "register": "scripture"}}])
    ended = call("run", write_study(tmp_path / "a.yaml", study), "--workers", "0", cwd=tmp_path)
    assert ended.code == 2 and not ended.out
    said = 'a curator asks for the register "scripture", and the domains of the corpus are: land, sea'
    assert said in ended.err.splitlines()[-1]
    assert not list((tmp_path / "checkpoints" / "store").glob("train/*"))


def test_rows_of_a_half_that_come_from_some_documents() -> None:
    """Rows of documents 0 0, 0 1, 1 1, 2 2, 2 3, 3 3: a row that begins or ends in another document is left out."""
    owner = np.array([[0, 0], [0, 1], [1, 1], [2, 2], [2, 3], [3, 3]])
    assert sorted(half_rows(owner, 0, 9, np.array([True, False, True, True]))) == [0]
    assert sorted(half_rows(owner, 1, 9, np.array([True, False, True, True]))) == [3, 4, 5]
    assert sorted(half_rows(owner, 1, 9, np.array([True, False, True, False]))) == [3]
    with pytest.raises(InputError, match="no row for half A or B"):
        half_rows(owner, 0, 9, np.array([False, False, True, True]))


def test_what_has_no_domains_is_refused_before_anything_runs(built: Built) -> None:
    with pytest.raises(InputError, match='best: register "sea" is a domain: name the column'):
        built(**NGRAM, corpus__domain=None, curators=[NARROW])
    source: dict[str, Any] = {"kind": "source", "process": "categorical", "types": 9, "zipf": 1, "tokens": 512}
    study = tiny("unread", **NGRAM, tokenizer=None, curators=[NARROW]) | {"corpus": source}
    with pytest.raises(InputError, match='best: register "sea" is a domain, and a known source has none'):
        build(parse_study(study))
