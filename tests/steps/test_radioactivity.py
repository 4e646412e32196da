"""The steps of radioactivity: absent where nothing is asked, of an unmarked sample, in one table for both arms."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.tiny import run_study, steps_of, store_at, tiny

from lab.config.files import parse_study
from lab.errors import InputError
from lab.loop import Study
from lab.metrics.columns_radioactivity import NAMES
from lab.models.counted import Counted
from lab.models.counting import Ngram
from lab.models.initial_weights import fresh
from lab.models.moments import likeliest
from lab.run.folder import RunFolder

Built = Callable[..., Study]
KGW = {"scheme": "kgw", "bias": 8}
NGRAM = {"kind": "ngram", "order": 2, "smoothing": "none", "n_positions": 16}


def test_a_study_that_does_not_ask_has_the_same_keys(built: Built) -> None:
    for mark in (None, KGW):
        plain, asked = built(sample__watermark=mark), built(sample__watermark=mark, metrics__radioactivity={})
        more = {step.key for step in asked.steps} - {step.key for step in plain.steps}
        own = [step for step in asked.steps if step.key in more]
        assert {step.key for step in plain.steps} <= {step.key for step in asked.steps}
        expected = {"reading", "radioactivity"} | ({"sample", "synthetic"} if mark else set())
        assert {step.name for step in own} == expected
        for generation in asked.generations:
            assert generation.radioactivity and "unmarked" in generation.radioactivity.inputs
            assert (generation.radioactivity.inputs["unmarked"] == generation.synthetic) is not bool(mark)
            assert {step.key for step in generation.steps} >= more & {step.key for step in generation.ends}
        assert {step.key for each in asked.generations for step in each.steps} >= more
    other = built(metrics__radioactivity={"key": 7})
    assert {s.key for s in steps_of(other, "reading")} == {
        s.key for s in steps_of(built(metrics__radioactivity={}), "reading")
    }


def test_a_chain_of_marked_text_and_its_pair(built: Built, tmp_path: Path) -> None:
    """A bigram model of marked text writes and reads green; the paired chain does not, under the same key."""
    study = built(
        model=NGRAM,
        train=None,
        regimes=["replace"],
        sample__tokens=4096,
        sample__shard_rows=256,
        corpus__tokens=2048,
        metrics__radioactivity={},
        sweep=[{"arm": "plain"}, {"arm": "marked", "sample.watermark": KGW}],
    )
    run_study(study, tmp_path / "run")
    rows = {(row["arm"], row["generation"]): row for row in RunFolder(tmp_path / "run").results()}
    for mode, least in (("closed", 4), ("reading", 2)):
        z = {at: row[f"radioactivity_{mode}_z"] for at, row in rows.items()}
        assert z["plain", 0] == z["marked", 0] and z["marked", 1] - z["plain", 1] > least, (mode, z)
    assert rows["marked", 1]["radioactivity_closed_p"] < 1e-3
    last = study.generations[-1]
    assert last.radioactivity is not None
    folder = store_at(tmp_path).folder(last.radioactivity.name, last.radioactivity.key)
    assert (folder / "radioactivity.json").exists() and set(NAMES) < set(rows["plain", 0])
    assert (tmp_path / "run" / last.chain / "gen-01" / "radioactivity").is_symlink()
    less = study.config.metrics.model_copy(update={"radioactivity": None})
    RunFolder(tmp_path / "run").check_extends(study.config.model_copy(update={"metrics": less}))  # a run may lose it


def test_readings_are_the_likeliest_tokens() -> None:
    rows = np.random.default_rng(0).integers(1, 50, (3, 8))
    shape = {"n_layer": 1, "n_head": 2, "n_embd": 16, "n_positions": 8, "initializer_range": 0.2}
    network = fresh("gpt2", shape, vocab_size=50, bos=0, seed=1)
    found = likeliest(network, rows, bos=0)
    costs = [
        network.nats(np.concatenate([rows[:, :t], np.full((3, 1), token)], axis=1))[:, t]
        for t in range(8)
        for token in range(50)
    ]
    assert (found == np.array(costs).reshape(8, 50, 3).argmin(axis=1).T).all()
    counted = Counted(Ngram.fit(np.array([[1, 2, 1, 2]]), order=2, vocab_size=5, bos=0, smoothed=False))
    assert likeliest(counted, np.array([[2, 1, 1]]), bos=0).tolist() == [[1, 1, 2]]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"metrics__radioactivity": {"key": 0}}, "metrics.radioactivity.key"),
        ({"metrics__radioactivity": {"ratio": 1}}, "metrics.radioactivity.ratio"),
        ({"metrics__radioactivity": {"scheme": "kgw"}}, 'unknown key "metrics.radioactivity.scheme"'),
        (
            {"metrics__radioactivity": {"ratio": 0.5}, "sample__watermark": KGW},
            "metrics.radioactivity.ratio 0.5 and sample.watermark.ratio 0.25 make other lists of the same key",
        ),
    ],
)
def test_refused_in_one_line(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as error:
        parse_study(tiny(tmp_path / "corpus.jsonl", **changes))
    assert said in str(error.value) and "\n" not in str(error.value)
