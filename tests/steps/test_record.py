"""Records and metrics of the user's own: what they load, what they refuse, and that adding one trains nothing."""

import csv
import importlib
import json
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from support.hostile import call
from support.tiny import run_study, store_at, tiny, tiny_config, write_study

from lab.errors import InputError
from lab.lookup import imported
from lab.loop import Study, build
from lab.metrics import columns
from lab.metrics.evidence import Evidence
from lab.metrics.measure import measure
from lab.run.folder import RunFolder
from lab.steps import extra
from lab.steps.record import as_record, load_evidence

MINE = '''
def type_token_ratio(evidence):
    """Distinct tokens per token of the generated text."""
    tokens = evidence.sample.ravel().tolist()
    return {"type_token_ratio": len(set(tokens)) / len(tokens)}


def lengths(evidence):
    """Words of the compared text."""
    words = evidence.words(evidence.sample_text)
    return {"words": len(words.word), "mean_tokens": words.lengths.mean(), "nothing": float("nan")}
'''


def rows_of(cwd: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((cwd / "checkpoints" / "tiny" / "results.csv").read_text().splitlines()))


def artifacts(cwd: Path) -> set[str]:
    """Every artifact in the store: <kind>/<key>."""
    return {f"{path.parent.name}/{path.name}" for path in (cwd / "checkpoints" / "store").glob("[a-z]*/[0-9a-f]*")}


def kinds(keys: set[str]) -> set[str]:
    return {key.partition("/")[0] for key in keys}


class Runs:
    """Runs of the tiny study through the command line in this process, with a file mine.py beside it."""

    def __init__(self, cwd: Path, corpus: Path) -> None:
        self.cwd, self.corpus = cwd, corpus

    def __call__(self, code: str, *metrics: str, status: int = 0, **changes: Any) -> tuple[set[str], str]:
        """Run with these metrics; the artifacts that were made, and what was printed."""
        (self.cwd / "mine.py").write_text(code)
        study = write_study(self.cwd / "tiny.yaml", tiny(self.corpus, metrics__extra=list(metrics), **changes))
        before = artifacts(self.cwd)
        sys.modules.pop("mine", None)
        importlib.invalidate_caches()
        with mock.patch.object(sys, "path", [str(self.cwd), *sys.path]):
            done = call("run", study, "--workers", "0", cwd=self.cwd)
        assert done.code == status, done.err
        return artifacts(self.cwd) - before, done.out + done.err


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, corpus_file: Path) -> Runs:
    cwd = tmp_path_factory.mktemp("mine")
    started = Runs(cwd, corpus_file)
    made, _ = started(MINE)
    assert {"train", "sample", "record"} <= kinds(made) and "extra" not in kinds(made)
    return started


def test_a_metric_in_a_file_of_ones_own(runs: Runs) -> None:
    """Added to a finished run it is the only kind of step that runs; the lab's own columns stay as they are."""
    before = rows_of(runs.cwd)
    made, _ = runs(MINE, "mine:type_token_ratio", "mine:lengths")
    assert kinds(made) == {"extra"} and len(made) == 2 * 3, "generation 0 is shared by the two regimes"
    after = rows_of(runs.cwd)
    assert list(after[0]) == [*before[0], "type_token_ratio", "words", "mean_tokens", "nothing"]
    assert [{name: row[name] for name in before[0]} for row in after] == before
    last = runs.cwd / "checkpoints" / "tiny" / "replace-seed0" / "gen-01"
    tokens = np.load(last / "synthetic" / "tokens.npy")
    assert float(after[-1]["type_token_ratio"]) == len(np.unique(tokens)) / tokens.size
    assert {row["nothing"] for row in after} == {"nan"} and all(float(row["words"]) > 0 for row in after)
    assert (last / "extra-mine.type_token_ratio" / "extra.json").is_file()
    everything = call("show", "tiny", cwd=runs.cwd).out
    assert "Distinct tokens per token of the generated text\n" in everything
    assert "Words of the compared text: mean_tokens\n" in everything
    shown = call("show", "tiny", "--metric", "type_token_ratio", cwd=runs.cwd)
    assert shown.code == 0 and shown.out.startswith("Distinct tokens per token of the generated text\n")
    assert "distinct_2" not in shown.out
    table = RunFolder(runs.cwd / "checkpoints" / "tiny").results()
    assert table[-1]["type_token_ratio"] == len(np.unique(tokens)) / tokens.size
    import pyarrow.parquet as pq

    stored = pq.read_table(runs.cwd / "checkpoints" / "tiny" / "results.parquet").to_pylist()
    assert stored[-1]["type_token_ratio"] == table[-1]["type_token_ratio"] and math.isnan(stored[-1]["nothing"])


def test_it_is_keyed_by_its_code_and_not_by_its_comments(runs: Runs) -> None:
    names = ("mine:type_token_ratio",)
    runs(MINE, *names)
    assert runs("# A comment.\n" + MINE.replace("def lengths", "# another\ndef lengths"), *names)[0] == set()
    made, _ = runs(MINE.replace("/ len(tokens)", "/ len(tokens) / 2"), *names)
    assert kinds(made) == {"extra"} and len(made) == 3
    halved = [float(row["type_token_ratio"]) for row in rows_of(runs.cwd)]
    assert runs(MINE, *names)[0] == set(), "the first ones are still in the store"
    assert [float(row["type_token_ratio"]) / 2 for row in rows_of(runs.cwd)] == halved


def test_it_can_be_removed(runs: Runs) -> None:
    runs(MINE, "mine:type_token_ratio")
    made, _ = runs(MINE)
    assert made == set() and "type_token_ratio" not in rows_of(runs.cwd)[0]
    assert RunFolder(runs.cwd / "checkpoints" / "tiny").titles() == {}
    asked = call("show", "tiny", "--metric", "type_token_ratio", cwd=runs.cwd)
    assert asked.code == 2 and 'unknown metric "type_token_ratio"' in asked.err


def test_a_metric_that_fails_leaves_the_others(runs: Runs) -> None:
    """It fails in generation 1 of replace alone: the line names it, its cell there is NaN, all other columns stay."""
    code = MINE + (
        "\n\ndef early(evidence):\n"
        "    if evidence.trainings[0].fed_rows.get('0'):\n        raise ValueError('no\\nidea')\n"
        "    return {'early': 1}\n"
    )
    made, printed = runs(code, "mine:early", "mine:type_token_ratio", status=1)
    assert kinds(made) == {"extra"}
    assert "metric mine:early failed: ValueError: no idea" in printed
    found = rows_of(runs.cwd)
    assert list(found[0])[-2:] == ["early", "type_token_ratio"]
    assert [row["early"] for row in found if row["regime"] == "replace"] == ["1.0", "nan"]
    assert all(math.isfinite(float(row["type_token_ratio"])) for row in found)


def test_of_two_metrics_with_one_column_the_first_keeps_it(runs: Runs) -> None:
    code = MINE + "\n\ndef again(evidence):\n    return {'words': -1}\n"
    _, printed = runs(code, "mine:lengths", "mine:again")
    assert "metrics.extra: mine:again also gives a column words, which is mine:lengths's; rename one" in printed
    assert all(float(row["words"]) > 0 for row in rows_of(runs.cwd))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (None, "returned None"),
        ({}, "returned {}"),
        ({"perplexity": 1.0}, 'a number named "perplexity", which the lab uses'),
        ({"seed": 1.0}, 'a number named "seed", which the lab uses'),
        ({"population": 1.0}, 'a number named "population", which the lab uses'),
        ({"a b": 1.0}, "a number named 'a b'; a name has letters, digits and _ only"),
        ({1: 1.0}, "a number named 1;"),
        ({"x": "1"}, "returned '1' as \"x\"; it must be a number"),
        ({"x": True}, 'returned True as "x"; it must be a number'),
        ({"x": None}, 'returned None as "x"; it must be a number'),
        ({"x": np.ones(2)}, 'as "x"; it must be a number'),
    ],
)
def test_what_a_metric_must_not_return(answer: Any, said: str) -> None:
    with pytest.raises(InputError, match="metric mine:f returned") as caught:
        extra.apply("mine:f", lambda evidence: answer, None)  # type: ignore[arg-type]
    assert said in str(caught.value)


def test_what_a_metric_may_return() -> None:
    numbers = {"a": 1, "b": np.float32(0.5), "c": np.int64(3), "d": math.nan, "e": math.inf, "f": np.array(2.0)}
    found = extra.apply("mine:f", lambda evidence: numbers, None)  # type: ignore[arg-type]
    assert repr(found) == "{'a': 1.0, 'b': 0.5, 'c': 3.0, 'd': nan, 'e': inf, 'f': 2.0}"


@pytest.mark.parametrize("given", ["nll", "mine", "mine:", ":f", "mine:f g", "../mine:f", "mine:f.g", "1:f", "m" * 200])
def test_names_that_are_no_functions_are_refused(corpus_file: Path, given: str) -> None:
    with pytest.raises(InputError, match=r"metrics\.extra"):
        tiny_config(corpus_file, metrics__extra=[given])


def test_a_metric_twice_or_out_of_nowhere_is_refused(corpus_file: Path) -> None:
    with pytest.raises(InputError, match="more than once"):
        tiny_config(corpus_file, metrics__extra=["mine:f", "mine:f"])
    with pytest.raises(InputError, match='metric "nowhere_at_all:f" cannot be imported'):
        build(tiny_config(corpus_file, metrics__extra=["nowhere_at_all:f"]))
    with pytest.raises(InputError, match='metric "math:sqrt" has no Python source'):
        build(tiny_config(corpus_file, metrics__extra=["math:sqrt"]))


def test_the_title_is_the_first_line_of_the_docstring() -> None:
    def bare() -> None:
        pass

    assert (
        extra._title(imported("metric", "json:dumps"), "json:dumps") == "Serialize ``obj`` to a JSON formatted ``str``"
    )
    assert extra._title(bare, "mine:bare") == "bare"


def test_a_record_is_measured_from_loaded_evidence_alone(built: Callable[..., Study], tmp_path: Path) -> None:
    """Rows stay memory-mapped, and what the step wrote is measure(evidence)."""
    study = built(generations=1, regimes=["human"])
    run_study(study, tmp_path / "tiny")
    step, store = study.generations[0].record, store_at(tmp_path)
    inputs = {role: store.folder(parent.name, parent.key) for role, parent in step.inputs.items()}
    evidence = load_evidence(inputs, budget=256, prompt=0, layout="blocks")
    assert isinstance(evidence, Evidence) and evidence.kind == "text"
    for rows in (evidence.test, evidence.human, evidence.sample, evidence.resample):
        assert isinstance(rows, np.memmap)
    written = json.loads((store.folder(step.name, step.key) / "record.json").read_text())
    assert as_record(measure(evidence)) == written


def test_a_better_title_or_definition_moves_no_key(
    built: Callable[..., Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = [generation.record.key for generation in built().generations]
    better = replace(columns.BY_NAME["nll"], title="loss", definition="A better sentence.", digits=5)
    monkeypatch.setitem(columns.BY_NAME, "nll", better)
    assert [generation.record.key for generation in built().generations] == before
    monkeypatch.setitem(columns.BY_NAME, "nll", replace(better, group=columns.BY_NAME["entropy"].group))
    assert [generation.record.key for generation in built().generations] != before
