"""The step `sample-marked`: absent where no mark is asked for, and refused in one line where nothing is drawn."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from support.tiny import run_study, steps_of, store_at, tiny

from lab.config.files import parse_study
from lab.curators.marks import green_lists
from lab.errors import InputError
from lab.loop import Study

Built = Callable[..., Study]
KGW = {"scheme": "kgw", "bias": 8}


def test_a_study_without_a_mark_has_the_same_keys(built: Built) -> None:
    plain, none, marked = built(), built(sample__watermark=None), built(sample__watermark=KGW)
    assert [step.key for step in plain.steps] == [step.key for step in none.steps]
    assert "sample-marked" not in {step.name for step in plain.steps}
    assert {step.key for step in plain.human} == {step.key for step in marked.human}
    assert "sample" not in {step.name for step in marked.steps}
    other = built(sample__watermark={**KGW, "key": 5})
    assert marked.generations[0].synthetic.key != other.generations[0].synthetic.key
    explicit = built(sample__watermark={**KGW, "key": 15485863, "ratio": 0.25})
    assert marked.generations[0].synthetic.key == explicit.generations[0].synthetic.key


def test_the_profile_of_marked_text_is_not_that_of_plain_draws(built: Built) -> None:
    asked = {"judge": False, "scaling": False, "extraction": False}
    plain, marked = (built(profile=asked, sample__watermark=mark) for mark in (None, KGW))
    for study, draws in ((plain, True), (marked, False)):
        assert {each.profile.params["plain"] for each in study.generations if each.profile} == {draws}


def test_end_to_end(built: Built, tmp_path: Path) -> None:
    study = built(sample__watermark=KGW, sample__prompt_tokens=2, regimes=["replace"], generations=1)
    run_study(study, tmp_path / "run")
    folder = store_at(tmp_path).folder(study.generations[0].synthetic.name, study.generations[0].synthetic.key)
    rows = np.load(folder / "tokens.npy").astype(np.int64)
    green = green_lists(300, 0.25, 15485863).holds(rows[:, :-1].ravel(), rows[:, 1:].ravel()).reshape(len(rows), -1)
    assert green[:, 1:].mean() > 0.9 > 0.6 > green[:, 0].mean(), "the second token of the prompt is human"
    assert study.config.sample.title.endswith("after 2 human tokens, marked by kgw (bias 8, ratio 0.25, key 15485863)")


def test_a_curator_hears_the_mark_of_the_study(built: Built) -> None:
    for curator, expected in (("watermarked", {**KGW, "ratio": 0.25, "key": 15485863}), ("duplicates", None)):
        study = built(curators=[curator], sample__watermark=KGW)
        assert [step.params.get("mark") for step in steps_of(study, "curate")] == [expected]
    with pytest.raises(InputError, match=r"watermarked has no key: sample\.watermark marks no text"):
        built(curators=["watermarked"])
    keyed = built(curators=[{"watermarked": {"key": 7}}])
    assert [step.params["mark"] for step in steps_of(keyed, "curate")] == [{}]


def test_marked_rows_are_dropped_at_a_threshold_of_trusted_rows(built: Built, tmp_path: Path) -> None:
    study = built(curators=[{"watermarked": {"fpr": 0.1}}], sample__watermark=KGW, regimes=["accumulate"])
    run_study(study, tmp_path / "run")
    (curated,) = steps_of(study, "curate")
    folder = store_at(tmp_path).folder(curated.name, curated.key)
    found = json.loads((folder / "curation.json").read_text())
    (facts,), columns = found["facts"], found["columns"]
    assert facts["fpr"] == 0.1 >= facts["trusted_above"] and facts["threshold"] < 4
    assert columns["tpr"] > 0.9 and columns["fpr"] < 0.4
    scores = pq.read_table(folder / "decisions.parquet").to_pydict()["score watermarked"]
    assert np.mean(scores[32:]) > 5 > np.mean(scores[:32])


@pytest.mark.parametrize(
    ("sample", "said"),
    [
        ({"temperature": 0, "watermark": KGW}, "marks what is drawn by chance, and temperature 0 (greedy)"),
        ({"top_k": 1, "watermark": KGW}, "and top_k 1 draws nothing"),
        ({"beams": 2, "prompt_tokens": 2, "watermark": KGW}, "and beams 2 draws nothing"),
        ({"watermark": {"scheme": "selfhash"}}, "one fixed list of words"),
        ({"watermark": {"scheme": "lefthash"}}, "write kgw"),
        ({"watermark": {"scheme": "kgw", "layers": 3}}, "layers belongs to synthid; fields of kgw: key, bias, ratio"),
        ({"watermark": {"scheme": "synthid", "bias": 3}}, "bias belongs to kgw"),
        ({"watermark": {"scheme": "kgw", "key": 0}}, "sample.watermark.key"),
        ({"watermark": {"scheme": "kgw", "ratio": 1}}, "sample.watermark.ratio"),
    ],
)
def test_refused_in_one_line(tmp_path: Path, sample: dict[str, Any], said: str) -> None:
    fields = tiny(tmp_path / "corpus.jsonl")
    fields["sample"] |= sample
    with pytest.raises(InputError) as error:
        parse_study(fields)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_a_green_list_of_no_token_is_refused(tmp_path: Path) -> None:
    fields = tiny(tmp_path)
    fields["corpus"] = {"kind": "source", "process": "categorical", "zipf": 1, "types": 5, "tokens": 512}
    fields["sample"]["watermark"] = {**KGW, "ratio": 0.1}
    del fields["tokenizer"]
    with pytest.raises(InputError, match=r"ratio 0\.1 of corpus\.types 5 is a green list of no token"):
        parse_study(fields)
