"""Studies that extend others: what is merged, replaced, removed and not taken over, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from support.tiny import tiny

from lab.config.files import STUDIES, load_study, parse_study, read_study, study_names
from lab.errors import InputError


def write(folder: Path, name: str, data: Any) -> str:
    path = folder / name
    path.write_text(data if isinstance(data, str) else yaml.safe_dump(data))
    return str(path)


def extended(folder: Path, **changes: Any) -> dict[str, Any]:
    """Fields of a study that extends this base by these changes."""
    base = {"name": "base", "note": "old", "seeds": [0, 1], "train": {"lr": 1, "epochs": 2}, "sweep": {"a": [1]}}
    write(folder, "base.yaml", base)
    return read_study(Path(write(folder, "mine.yaml", {"extends": "base.yaml", **changes})))


def test_groups_are_merged_and_lists_and_values_replaced(tmp_path: Path) -> None:
    assert extended(tmp_path, seeds=[5], train={"lr": 3, "base": {"tokens": 4}}) == {
        "seeds": [5],
        "train": {"lr": 3, "epochs": 2, "base": {"tokens": 4}},
        "sweep": {"a": [1]},
    }


def test_null_removes_a_value_at_any_depth(tmp_path: Path) -> None:
    assert extended(tmp_path, sweep=None, train={"epochs": None, "steps": 7, "base": {"tokens": None}}) == {
        "seeds": [0, 1],
        "train": {"lr": 1, "steps": 7, "base": {}},
    }


def test_a_group_replaces_a_list_and_a_list_a_group(tmp_path: Path) -> None:
    found = extended(tmp_path, sweep=[{"a": None}], seeds={"from": 0})
    assert found["sweep"] == [{"a": None}] and found["seeds"] == {"from": 0}


def test_name_note_and_published_are_the_childs_own(tmp_path: Path) -> None:
    assert not {"name", "note", "published"} & extended(tmp_path).keys()
    assert extended(tmp_path, name="mine", note="new")["note"] == "new"
    write(tmp_path, "paper.yaml", "extends: gerstgrasser-2024\nname: mine\n")
    study = load_study(str(tmp_path / "paper.yaml"))
    assert (study.name, study.note, study.published) == ("mine", "", None)
    with pytest.raises(InputError, match='"name" is missing from the study'):
        load_study(write(tmp_path, "nameless.yaml", "extends: smoke\nseeds: [3]\n"))


def test_a_chain_of_files_and_a_shipped_study(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write(tmp_path, "one.yaml", "extends: smoke\nseeds: [7]\ngenerations: 2\n")
    write(tmp_path / "in", "two.yaml", "extends: ../one.yaml\nname: two\ngenerations: 4\n")
    study = load_study(str(tmp_path / "in" / "two.yaml"), ["train.lr=1"])
    assert (study.seeds, study.generations, study.train and study.train.lr) == ((7,), 4, 1)
    assert study.corpus == load_study("smoke").corpus


def test_the_resolved_study_is_the_same_as_one_without_extends(tmp_path: Path) -> None:
    """So a run stores the same config.yaml, and every key is the same."""
    flat = tiny("tales.jsonl", name="flat", seeds=[4], train__lr=0.5)
    write(tmp_path, "base.yaml", tiny("tales.jsonl"))
    short = write(tmp_path, "short.yaml", {"extends": "base.yaml", "name": "flat", "seeds": [4], "train": {"lr": 0.5}})
    assert load_study(short) == parse_study(flat)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"mine": "extends: mine.yaml"}, "extend each other in a circle: mine.yaml -> mine.yaml"),
        (
            {"mine": "extends: a.yaml", "a": "extends: b.yaml", "b": "extends: ./a.yaml"},
            "extend each other in a circle: mine.yaml -> a.yaml -> b.yaml -> a.yaml",
        ),
        ({"mine": "extends: smok"}, 'extends "smok", which is no shipped study - did you mean "smoke"?'),
        ({"mine": "extends: _small"}, 'extends "_small", which is no shipped study'),
        ({"mine": "extends: zzz"}, "or give a YAML file"),
        ({"mine": "extends: none.yaml"}, "extends none.yaml, but there is no file"),
        ({"mine": f"extends: {'x' * 500}.yaml"}, "but there is no file"),
        ({"mine": "extends: ..//.yaml"}, "which is no shipped study"),
        ({"mine": "extends: [smoke, quick]"}, "give the name of one shipped study or of one YAML file"),
        ({"mine": "extends:"}, "extends is None; give the name of one"),
        ({"mine": "extends: 3"}, "extends is 3; give the name of one"),
        ({"mine": "extends: a.yaml", "a": "- 1"}, "a.yaml holds a list, not study fields"),
        ({"mine": "extends: a.yaml", "a": ""}, "a.yaml holds nothing, not study fields"),
        ({"mine": "extends: a.yaml", "a": "x: [1"}, "a.yaml is not readable YAML"),
        ({"mine": "seeds: 1\nseeds: 2"}, "stands there twice at line 2, column 1"),
        ({"mine": "extends: smoke\nname: mine\ntrain: {speed: 3}"}, 'unknown key "train.speed"'),
        ({"mine": "extends: smoke\nname: mine\nseeds: null"}, '"seeds" is missing from the study'),
    ],
    ids=str,
)
def test_refused_in_one_line(tmp_path: Path, files: dict[str, str], said: str) -> None:
    for name, text in files.items():
        write(tmp_path, f"{name}.yaml", text + "\n")
    with pytest.raises(InputError) as caught:
        load_study(str(tmp_path / "mine.yaml"))
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_extends_is_no_field_of_a_study() -> None:
    with pytest.raises(InputError, match='unknown key "extends"'):
        load_study("smoke", ["extends=quick"])


def test_bases_are_no_studies() -> None:
    assert (STUDIES / "_small.yaml").is_file() and "_small" not in study_names()
    with pytest.raises(InputError, match='no study "_small"'):
        load_study("_small")


DRAYSON = """
seeds: [0, 1, 2]
generations: 5
regimes:
  [human, replace, augment, {mix: {human: 0.5}}, {mix: {human: 0.25, older: 0.25}}, {mix: {human: 0, older: 0.5}}]
corpus: {path: data/human-small.parquet, domain: domain, author: author, group: group, tokens: 102_400}
tokenizer: {vocab_size: 1_024}
model: {n_layer: 2, n_head: 2, n_embd: 64, n_positions: 128, initializer_range: 0.04}
train:
  epochs: 2
  batch_rows: 4
  lr: 2e-3
  warmup: 0.2
  validation_tokens: 8_192
  start: base
  base: {tokens: 307_200, epochs: 2}
sample: {tokens: 102_400, shard_rows: 800, prompt_tokens: 64, top_k: 50}
metrics: {tokens: 51_200, test_tokens: 65_536}
"""


def test_a_mini_by_hand() -> None:
    """What a mini leaves to _small.yaml is there."""
    name = "drayson-2025-mini"
    whole = yaml.safe_load(DRAYSON) | {"name": name, "note": load_study(name).note}
    assert load_study(name).model_copy(update={"published": None}) == parse_study(whole)
