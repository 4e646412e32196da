"""The step `edited`: blind to who wrote a row, its share counted, and read by what follows."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from support.tiny import run_study, steps_of, store_at

from lab.loop import Generation, Study
from lab.models import counting
from lab.steps.curation.edited import EDITED, EditedParams
from lab.store.step import Attempt
from lab.text.rows import write_rows

Built = Callable[..., Study]
SPECIAL = {"vocab_size": 12, "bos": 11, "eos": 11}
TOEDIT = {"toedit": {"above": 0.3, "candidates": 4}}


def edit(folder: Path, rows: np.ndarray, origin: int, editors: list[dict[str, Any]]) -> np.ndarray:
    """Run the step on rows of a known source under a bigram judge; return the tokens that it writes."""
    judge, corpus, law, out = (folder / name for name in ("judge", "rows", "law", "out"))
    for each in (judge, corpus, law, out):
        each.mkdir(parents=True)
    (law / "source.npz").touch()
    (law / "special.json").write_text(json.dumps(SPECIAL))
    text = np.arange(1, 401).reshape(25, 16) % 11
    counting.fit({"kind": "ngram", "order": 2, "smoothing": "interpolated"}, text, **SPECIAL).save(judge)
    write_rows(corpus, rows.shape, lambda some: (rows[some], {}), origin=origin)
    attempt = Attempt(lambda _: None, lambda: False, folder, 1e9, print)
    params = EditedParams(editors, {"device": "cpu", "dtype": "float32", "threads": 1}, "blocks")
    EDITED.run(params, {"judge": judge, "rows": corpus, "tokenizer": law}, out, attempt)
    return np.asarray(np.load(out / "tokens.npy"))


TEXT = (np.arange(640).reshape(40, 16) % 11).astype(np.uint16)
EDITORS = [{"name": "toedit", "options": {"above": 0.5, "beta": 3}, "source": ""}]


def test_edits_follow_from_the_text_of_a_row_alone(tmp_path: Path) -> None:
    """Rows as human ones, and turned round as the machine's of generation 3: each row is edited equally."""
    human = edit(tmp_path / "human", TEXT, -1, EDITORS)
    machine = edit(tmp_path / "machine", TEXT[::-1], 3, EDITORS)
    assert (human != TEXT).any() and np.array_equal(human, machine[::-1])
    assert human.dtype == TEXT.dtype and human.max() < 11  # never the token that begins a row
    assert set(pq.read_table(tmp_path / "machine/out/rows.parquet")["origin"].to_pylist()) == {3}
    tokens = pq.read_table(tmp_path / "human/out/rows.parquet")["tokens"].to_pylist()
    assert tokens == human.tolist()


def test_the_edited_share_is_counted(tmp_path: Path) -> None:
    """Two editors: what the second turns back is not edited, so the share is of tokens, not of edits."""
    twice = edit(tmp_path, TEXT, -1, EDITORS * 2)
    changed = (twice != TEXT).sum(axis=1)
    assert np.load(tmp_path / "out/edits.npy").tolist() == changed.tolist()
    found = json.loads((tmp_path / "out/edits.json").read_text())
    assert found == {"tokens": 640, "edited": int(changed.sum()), "share": changed.sum() / 640}
    assert 0 < found["share"] < 1


def test_nothing_above_the_threshold_is_nothing_edited(tmp_path: Path) -> None:
    editors = [{"name": "toedit", "options": {"above": 0.9999}, "source": ""}]
    assert np.array_equal(edit(tmp_path, TEXT, 0, editors), TEXT)


OWN = """
import numpy as np
from lab.curators import needs

@needs("candidates")
def likeliest(row, *, rng):
    assert not row.tokens.flags.writeable and set(vars(row)) == {"tokens", "nats", "candidates", "logs"}
    return row.candidates[:, 0]

@needs("candidates")
def shorter(row, *, rng):
    return row.tokens[1:]

@needs("candidates")
def beginning(row, *, rng):
    return np.full(len(row.tokens), 11)
"""


def test_an_editor_of_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_editors.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    own = [{"name": "own_editors:likeliest", "options": {}, "source": ""}]
    shuffled = np.random.default_rng(0).integers(0, 11, TEXT.shape).astype(np.uint16)
    edited = edit(tmp_path / "a", shuffled, 0, own)
    assert np.array_equal(edited[:, 1:], (shuffled[:, :-1] + 1) % 11)  # the judge's text counts up
    for name in ("shorter", "beginning"):
        with pytest.raises(Exception, match="must return 16 tokens for a row of as many, each below 12"):
            edit(tmp_path / name, shuffled, 0, [{"name": f"own_editors:{name}", "options": {}, "source": ""}])


def of(study: Study, regime: str) -> list[Generation]:
    return [generation for generation in study.generations if generation.regime == regime]


def test_every_corpus_of_a_pool_is_edited_once_for_all_regimes(built: Built) -> None:
    study = built(regimes=["human", "replace", "accumulate"], curators=[TOEDIT, "duplicates"], generations=3)
    last = of(study, "accumulate")[-1]
    assert {role for role, step in last.recipe.inputs.items() if step.name == "edited"} == {
        "human",
        "synthetic-0",
        "synthetic-1",
    }
    assert last.models[0].inputs["synthetic-0"] == last.recipe.inputs["synthetic-0"]
    assert of(study, "replace")[1].recipe.inputs["synthetic-0"] == last.recipe.inputs["synthetic-0"]
    assert len(steps_of(study, "edited")) == 4  # human rows, S_0, and S_1 of either regime
    assert not any(step.name == "edited" for step in of(study, "human")[-1].recipe.inputs.values())
    plain = built(regimes=["human"], generations=3)
    assert [g.record for g in of(plain, "human")] == [g.record for g in of(study, "human")]


@pytest.mark.slow
def test_end_to_end(built: Built, tmp_path: Path) -> None:
    """A bigram judge is sure of much in the tiny corpus; the rule that follows scores the edited text."""
    model = {"kind": "ngram", "order": 2, "smoothing": "interpolated", "n_positions": 16}
    edits = {"toedit": {"above": 0.5, "candidates": 4, "beta": 9}}
    study = built(model=model, train=None, curators=[edits, {"band": {"low": 0, "high": 1}}])
    run_study(study, tmp_path / "run")
    last, store = of(study, "replace")[-1], store_at(tmp_path)
    edited, recipe = (store.folder(step.name, step.key) for step in (last.recipe.inputs["synthetic-0"], last.recipe))
    share = json.loads((edited / "edits.json").read_text())["share"]
    assert share > 0.005
    assert json.loads((recipe / "curation.json").read_text())["columns"]["edited"] == share  # of replace: all rows
    assert last.recipe.inputs["score-synthetic-0"].inputs["rows"] == last.recipe.inputs["synthetic-0"]
    header, *lines = (tmp_path / "run" / "results.csv").read_text().splitlines()
    column = header.split(",").index("edited")
    assert [line.split(",")[column] for line in lines if line.startswith("replace")][-1] != ""
