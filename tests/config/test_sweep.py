"""Sweeps: the arms of a study, their names and columns, what is refused, and one swept study from end to end."""

import os
from pathlib import Path
from typing import Any

import pandas
import pytest
from support.tiny import Reports, run_study

from lab.checks.exact import compare
from lab.config.files import parse_study
from lab.config.study import StudyConfig
from lab.config.sweep import Arm, arms
from lab.errors import InputError
from lab.loop import build
from lab.run.folder import RunFolder, keys


def fields(sweep: Any, **changes: Any) -> dict[str, Any]:
    """Four rows of 3 loci from a source of two types: two generations of replace in a blink."""
    return {
        "name": "swept",
        "seeds": [0, 1],
        "generations": 2,
        "regimes": ["human", "replace"],
        "corpus": {"kind": "source", "process": "categorical", "types": 2, "zipf": 1, "tokens": 12},
        "model": {"kind": "positions", "n_positions": 3},
        "sample": {"tokens": 12, "shard_rows": 4},
        "metrics": {"tokens": 12, "test_tokens": 12},
        "sweep": sweep,
        **changes,
    }


def config(sweep: Any, **changes: Any) -> StudyConfig:
    return parse_study(fields(sweep, **changes))


def found(sweep: Any, **changes: Any) -> list[Arm]:
    return arms(config(sweep, **changes))


def test_without_a_sweep_there_is_one_arm_without_a_name() -> None:
    (arm,) = found(None)
    assert (arm.axes, arm.label, arm.config) == ({}, "", config(None))


def test_a_mapping_is_every_combination_the_last_field_running_fastest() -> None:
    made = found({"corpus.zipf": [0, 2], "corpus.types": [2, 3, 4]})
    assert [(arm.config.corpus.zipf, arm.config.corpus.types) for arm in made] == [
        (zipf, types) for zipf in (0, 2) for types in (2, 3, 4)
    ]
    assert [arm.axes for arm in made[:2]] == [{"corpus.zipf": z, "corpus.types": k} for z, k in ((0, 2), (0, 3))]
    assert all(arm.config.sweep is None and arm.config.seeds == (0, 1) for arm in made)


def test_a_list_is_one_arm_a_line_and_all_have_the_columns_of_all() -> None:
    """A field that a line leaves alone stands there with the study's value; None is "none"."""
    made = found([{"sample.temperature": 0.5}, {"sample.top_p": 0.5}, {}])
    assert [arm.axes for arm in made] == [
        {"sample.temperature": 0.5, "sample.top_p": "none"},
        {"sample.temperature": 1.0, "sample.top_p": 0.5},
        {"sample.temperature": 1.0, "sample.top_p": "none"},
    ]
    assert [arm.config.sample.decoding for arm in made] == [{"temperature": 0.5}, {"top_p": 0.5}, {}]


def test_named_arms_have_one_column() -> None:
    made = found([{"arm": "cold", "sample.temperature": 0.5, "generations": 1}, {"arm": "plain"}])
    assert [arm.axes for arm in made] == [{"arm": "cold"}, {"arm": "plain"}]
    assert [(arm.config.sample.temperature, arm.config.generations) for arm in made] == [(0.5, 1), (1.0, 2)]
    assert keys(config([{"arm": "cold"}])) == ("regime", "arm", "seed", "generation")


def test_columns() -> None:
    """Swept fields stand between regime and seed; fields that the table shows anyway have none of their own."""
    swept = {"corpus.zipf": [0, 1], "seeds": [[0]], "generations": [1], "regimes": [["human"]]}
    assert keys(config(swept)) == ("regime", "corpus.zipf", "seed", "generation")
    assert keys(config(None)) == ("regime", "seed", "generation")


def test_labels_are_names_of_folders() -> None:
    assert found({"corpus.zipf": [2], "corpus.types": [3]})[0].label == ",corpus.zipf=2.0,corpus.types=3"
    assert found([{"arm": "a/b"}])[0].label == ",arm=a_b"
    (generation, *_) = build(config([{"arm": "cold", "sample.temperature": 0.5}])).generations
    assert generation.chain == "human,arm=cold-seed0"


def test_values_that_are_no_scalars_are_one_line_of_json() -> None:
    made = found([{"metrics": {"test_tokens": 9, "tokens": 12}}, {}])
    assert made[0].axes == {"metrics": '{"extra":[],"radioactivity":null,"test_tokens":9,"tokens":12}'}
    assert made[0].config.metrics.test_tokens == 9


def test_regimes_are_swept_by_either_name() -> None:
    made = found({"regime": ["replace", {"last_k": {"k": 2}}]})
    assert [[regime.label for regime in arm.config.regimes] for arm in made] == [["replace"], ["last_k,k=2"]]
    assert [arm.axes for arm in made] == [{}, {}]


@pytest.mark.parametrize(
    ("sweep", "said"),
    [
        ({"corpus.zipf": [1, 1]}, "two arms hold the same chain human,corpus.zipf=1"),
        ({"corpus.zipf": [1, 1.0]}, "two arms hold the same chain"),
        ([{"arm": "a"}, {"arm": "a", "corpus.zipf": 2}], "two arms hold the same chain human,arm=a"),
        ([{"arm": "a/b"}, {"arm": "a_b"}], "two arms hold the same chain human,arm=a_b"),
        ({"seeds": [[0], [1]]}, "two arms hold the same chain human;"),
        ({"generations": [1, 2]}, "two arms hold the same chain human;"),
        ([{"arm": "a"}, {"corpus.zipf": 2}], "1 of 2 lines have no arm; name all or none"),
        ({"corpus.zpif": [1]}, 'unknown key "corpus.zpif" - did you mean "zipf"?'),
        ({"corups.zipf": [1]}, "there is no field corups.zipf in this study: write corpus.zipf"),
        ({"temperature": [1]}, 'unknown key "temperature": write sample.temperature'),
        ({"sampel.temprature": [1]}, 'no field sampel.temprature in this study - did you mean "sample.temperature"?'),
        ({"corpus.zipf.x": [1]}, "there is no field corpus.zipf.x in this study"),
        ({"train.lr": [1]}, "there is no field train.lr in this study"),
        ({"corpus.types": [2, 1]}, 'sweep {"corpus.types":1}: "corpus.types" is 1'),
        ({"name": ["a"]}, "name cannot be swept; a run has one of it"),
        ({"note": ["a"]}, "note cannot be swept"),
        ({"sweep": [None]}, "sweep cannot be swept"),
        ({"compute.threads": [1, 2]}, "compute.threads cannot be swept"),
    ],
)
def test_refused(sweep: Any, said: str) -> None:
    with pytest.raises(InputError) as error:
        found(sweep)
    assert said in str(error.value)


@pytest.mark.parametrize("sweep", [{}, [], {"corpus.zipf": []}, {"corpus.zipf": 2}])
def test_a_sweep_that_is_no_sweep(sweep: Any) -> None:
    with pytest.raises(InputError, match="sweep"):
        config(sweep)


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Reports]:
    folder = tmp_path_factory.mktemp("swept") / "swept"
    return folder, run_study(build(config({"corpus.types": [2, 4], "sample.top_p": [None, 0.5]})), folder)


def test_a_swept_study_has_its_columns_in_every_table(swept: tuple[Path, Reports]) -> None:
    folder, _ = swept
    names = ["regime", "corpus.types", "sample.top_p", "seed", "generation"]
    rows = RunFolder(folder).results()
    assert list(rows[0])[:5] == names
    assert (folder / "bins.csv").read_text().splitlines()[0].split(",")[:5] == names
    chains = [(k, p, r) for k in (2, 4) for p in ("none", 0.5) for r in ("human", "replace")]
    assert [
        (row["corpus.types"], row["sample.top_p"], row["regime"], row["seed"], row["generation"]) for row in rows
    ] == [(*chain, seed, t) for chain in chains for seed in (0, 1) for t in (0, 1)]
    table = pandas.read_parquet(folder / "results.parquet")
    assert list(table.columns)[:5] == names and len(table) == 32
    assert set(table["sample.top_p"]) == {"none", "0.5"} and set(table["corpus.types"]) == {2, 4}


def test_each_arm_has_its_own_numbers(swept: tuple[Path, Reports]) -> None:
    """4 rows under top-p .5: one type is left of two, or at most two of four; without it more are left."""
    rows = RunFolder(swept[0]).results()
    cut = [row for row in rows if row["sample.top_p"] == 0.5]
    assert all(row["types"] == 1 for row in cut if row["corpus.types"] == 2)
    assert all(row["types"] <= 2 for row in cut if row["corpus.types"] == 4)
    plain = [row for row in rows if row["sample.top_p"] == "none"]
    assert sum(row["types"] for row in plain) > sum(row["types"] for row in cut)


def test_each_chain_has_a_folder_of_links(swept: tuple[Path, Reports]) -> None:
    folder, _ = swept
    names = {path.name for path in folder.iterdir() if path.is_dir()}
    assert names == {
        f"{regime},corpus.types={types},sample.top_p={mass}-seed{seed}"
        for regime in ("human", "replace")
        for types in (2, 4)
        for mass in ("none", 0.5)
        for seed in (0, 1)
    }
    for name in names:
        for t in (0, 1):
            for part in ("model", "synthetic", "evidence", "record"):
                link = folder / name / f"gen-{t:02d}" / part
                assert link.is_symlink() and (link / "manifest.json").is_file() and not os.path.isabs(os.readlink(link))


def test_arms_share_what_does_not_differ(swept: tuple[Path, Reports]) -> None:
    """Human rows and first models of the two decodings are the same: 2 sources x 2 seeds, not 8."""
    done = [label for label in swept[1].of("finished") if label.startswith("train shared")]
    assert len(done) == 4


def test_a_run_extends_by_seeds_and_not_by_arms(swept: tuple[Path, Reports]) -> None:
    folder, _ = swept
    sweep = {"corpus.types": [2, 4], "sample.top_p": [None, 0.5]}
    longer = config(sweep, seeds=[0, 1, 2])
    RunFolder(folder).check_extends(longer)
    reports = run_study(build(longer), folder)
    assert not [label for label in reports.of("finished") if "seed 0" in label or "seed 1" in label]
    assert len(RunFolder(folder).results()) == 48
    with pytest.raises(InputError, match="belongs to another study"):
        RunFolder(folder).check_extends(config({**sweep, "corpus.types": [2, 3]}, seeds=[0, 1, 2]))


def test_an_arm_whose_name_is_a_number_is_read_back_as_its_name(tmp_path: Path) -> None:
    """Theory finds its rows in results.csv by the name."""
    graph = build(config([{"arm": 1}, {"arm": "nan", "corpus.zipf": 0}], generations=1))
    run_study(graph, tmp_path / "swept")
    rows = RunFolder(tmp_path / "swept").results()
    assert {row["arm"] for row in rows} == {"1", "nan"}
    assert {row.arm for row in compare(graph, rows)} == {
        f"{r}, {arm}" for r in ("human", "replace") for arm in ("1", "nan")
    }
