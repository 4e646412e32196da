"""The human side of a study: whose rows are whose, what holds them apart, and what is refused before training."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.tiny import Reports, store_at, tiny, tiny_config

from lab.config.files import parse_study
from lab.config.study import StudyConfig
from lab.loop import build
from lab.models.feed import before_end
from lab.recipe import ARCHIVE, HUMAN, OnTable
from lab.run.executors import execute
from lab.steps.place import Human, lineage, where_at
from lab.steps.text import human
from lab.store.step import Step, in_order

IDENTITY = {"corpus": "a corpus", "tokenizer": ""}
BESIDE: dict[str, Any] = {
    "corpus__tokens": 256,
    "metrics__tokens": 128,
    "corpus__archive_tokens": 96,
    "train__start": "base",
    "train__base": {"tokens": 160, "epochs": 1},
}
SOURCE = {"kind": "source", "process": "categorical", "types": 6, "zipf": 1, "tokens": 256, "archive_tokens": 96}


def drawn(step: Step | None) -> range:
    assert step is not None
    return range(step.params["after"], step.params["after"] + step.params["rows"])


def test_rows_of_a_seed_stand_one_behind_the_other() -> None:
    """Own 256 / 16 = 16 rows, archive 6, base 10, and last the resample, 8."""
    found = human(tiny_config("data/human-small.parquet", **BESIDE), IDENTITY, seed=0)
    ranges = [drawn(step) for step in (found.human, found.archive, found.base, found.resample)]
    assert ranges == [range(0, 16), range(16, 22), range(22, 32), range(32, 40)]
    assert found.archive is not None and found.archive.params["origin"] == ARCHIVE
    assert found.base is not None and found.base.params["origin"] == found.human.params["origin"] == HUMAN


def test_without_an_archive_and_a_base_there_are_none() -> None:
    found = human(tiny_config("data/human-small.parquet"), IDENTITY, seed=0)
    assert found.archive is None and found.base is None and drawn(found.resample) == range(32, 48)


def test_a_resample_is_what_remains_behind_prompts() -> None:
    """256 tokens are 16 rows of 16, 21 of 12, 32 of 8."""
    for prompt, rows in ((0, 16), (4, 21), (8, 32)):
        config = tiny_config("data/human-small.parquet", sample__prompt_tokens=prompt, sample__tokens=1024)
        assert len(drawn(human(config, IDENTITY, seed=0).resample)) == rows


@pytest.mark.parametrize("change", [{"metrics__tokens": 144}, {"sample__prompt_tokens": 4}], ids=str)
def test_what_is_compared_moves_nothing_that_is_trained_on(change: dict[str, Any]) -> None:
    before, after = (
        human(tiny_config("data/human-small.parquet", **BESIDE | more), IDENTITY, seed=0) for more in ({}, change)
    )
    assert before.resample != after.resample
    assert (before.human, before.archive, before.base) == (after.human, after.archive, after.base)


def test_seeds_and_purposes_of_a_source_are_independent(tmp_path: Path) -> None:
    """Not one row of any is another's: 40 positions of 6 types."""
    model = {"n_layer": 1, "n_head": 1, "n_embd": 8, "n_positions": 40}
    changes = {k: v for k, v in BESIDE.items() if not k.startswith("corpus")} | {"tokenizer": None, "model": model}
    config = parse_study({**tiny("", **changes), "corpus": SOURCE})
    seen: set[tuple[int, ...]] = set()
    total = 0
    for seed in (0, 1):
        found = human(config, {}, seed)
        steps = [found.human, found.archive, found.base, found.resample, found.test, found.validation]
        for rows in made(tmp_path, [step for step in steps if step is not None]):
            seen |= set(map(tuple, rows.tolist()))
            total += len(rows)
    assert len(seen) == total > 30


def made(folder: Path, steps: list[Step]) -> list[np.ndarray]:
    """The tokens that these steps leave."""
    store = store_at(folder)
    failures = execute(
        store, in_order(steps), Reports(), workers=0, threads=1, fresh=frozenset(), log=folder / "workers.log"
    )
    assert not failures, "; ".join(failures.values())
    return [np.load(store.folder(step.name, step.key) / "tokens.npy") for step in steps]


def of_text(corpus_file: Path, **changes: Any) -> tuple[StudyConfig, Human]:
    config = tiny_config(corpus_file, **changes)
    g = build(config).generations[0]
    tokenizer, rows = g.record.inputs["tokenizer"], g.record.inputs["human"].inputs["rows"]
    found = human(config, {"corpus": rows.inputs["corpus"].params["identity"], "tokenizer": ""}, seed=0)
    assert found.human == g.record.inputs["human"] and found.tokenizer == tokenizer
    return config, found


DOCUMENTS: dict[str, Any] = {"corpus__layout": "documents", "corpus__piece": 50, "metrics__tokens": 128}


@pytest.mark.parametrize("prompt", [0, 3])
def test_a_resample_of_documents_holds_the_tokens_compared(corpus_file: Path, tmp_path: Path, prompt: int) -> None:
    """As few rows as hold them: without the last there are too few."""
    _, found = of_text(corpus_file, **DOCUMENTS, sample__prompt_tokens=prompt)
    special = json.loads((store_of(tmp_path, found.tokenizer) / "special.json").read_text())
    own, resample = made(tmp_path, [found.human, found.resample])
    sizes = before_end(resample, special["eos"])[:, prompt:].sum(axis=1)
    assert sizes[:-1].sum() < 128 <= sizes.sum() and len(resample) >= 128 / (16 - prompt)
    assert not before_end(own, special["eos"]).all()


def store_of(folder: Path, step: Step) -> Path:
    store = store_at(folder)
    execute(store, in_order([step]), Reports(), workers=0, threads=1, fresh=frozenset(), log=folder / "w.log")
    return store.folder(step.name, step.key)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"metrics__tokens": 512}, "the documents of corpus.tokens hold [0-9]+ tokens of text: lower it"),
        (
            {"metrics__tokens": 16, "sample__prompt_tokens": 15, "corpus__piece": 1},
            "hold 0 tokens of text after prompts",
        ),
        ({"corpus__tokens": 16_000, "corpus__archive_tokens": 16_000}, "corpus.archive_tokens and train.base.tokens"),
    ],
    ids=["short", "prompts", "fold"],
)
def test_text_that_does_not_do_is_refused_by_human_steps(
    corpus_file: Path, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    """These steps run before all others, in one go: no model is trained for nothing."""
    _, found = of_text(corpus_file, **DOCUMENTS | changes)
    with pytest.raises(AssertionError, match=said):
        made(tmp_path, [found.human, found.resample])


def test_the_layout_is_in_the_keys_of_rows(corpus_file: Path) -> None:
    (_, blocks), (_, documents) = of_text(corpus_file), of_text(corpus_file, corpus__layout="documents")
    assert blocks.tokenizer == documents.tokenizer
    for name in ("human", "test", "validation", "resample"):
        assert getattr(blocks, name) != getattr(documents, name)


def test_a_lineage_has_the_sizes_that_will_be() -> None:
    config = tiny_config("data/human-small.parquet", corpus__archive_tokens=100, sample__tokens=None, sample__rows=20)
    found = lineage(config, 2)
    assert found.human == OnTable(HUMAN, 32) and found.archive == OnTable(ARCHIVE, 6)
    assert found.samples == (OnTable(0, 20), OnTable(1, 20))
    assert lineage(tiny_config("data/human-small.parquet"), 0).archive is None


@pytest.mark.parametrize("layout", ["blocks", "documents"])
def test_recipes_are_tried_with_the_numbers_of_rows_that_there_will_be(
    corpus_file: Path, tmp_path: Path, layout: str
) -> None:
    """So a plan, which reads no text, tries them as the run will."""
    changes = DOCUMENTS | {"corpus__layout": layout, "corpus__archive_tokens": 100, "population": 2}
    config, found = of_text(corpus_file, **changes)
    assert found.archive is not None
    own, archive = made(tmp_path, [found.human, found.archive])
    told = lineage(config, 1)
    assert told.archive is not None and (told.human.rows, told.archive.rows) == (len(own), len(archive)) == (32, 6)


def test_where_content_lies() -> None:
    assert where_at("a/b", "a/b@123") == {"path": "a/b", "revision": "123"}
    assert where_at("folder", "0123abcd") == {"path": "folder", "revision": None}
    assert where_at(None, "") == {"path": None, "revision": None}
