"""A run's folder: tables rebuilt from records, links into the store, and which study may go on in it."""

import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
import pyarrow.parquet as pq
import pytest
from support.tiny import Finished, run_study, tiny_config

import lab
from lab.errors import InputError
from lab.hashing import digest
from lab.loop import Study, build
from lab.metrics.columns import names
from lab.run.folder import BIN_COLUMNS, RunFolder, to_csv
from lab.run.text_notes import text_notes, unspaced_share
from lab.steps import job_of
from lab.store.atomic import file_sha256
from lab.store.manifest import seal_of

KEYS = ("regime", "seed", "generation")


def test_floats_are_written_so_that_they_read_back_bit_for_bit() -> None:
    rows = [{"a": 0.1 + 0.2, "b": 1e-7, "c": 3, "d": float("nan")}, {"a": 1 / 3, "c": -2, "d": 1e300}]
    text = to_csv(rows, ("c", "a", "b", "d"))
    assert text == "c,a,b,d\n3,0.30000000000000004,1e-07,nan\n-2,0.3333333333333333,,1e+300\n"


def test_the_share_of_single_letters_is_that_of_bins_csv(tmp_path: Path) -> None:
    rows = [("token", 9, ""), ("word", 9, 6), ("letter", 5, 3), ("word", 9, 4)]
    named = [dict(zip(("level", "tokens", "words"), row, strict=True)) for row in rows]
    keys = {"regime": "human", "seed": 0, "generation": 0, "bin": "1"}
    folder = RunFolder(tmp_path)
    assert unspaced_share(folder) == 0
    (tmp_path / "bins.csv").write_text(to_csv([keys | row for row in named], (*keys, "level", "tokens", "words")))
    assert unspaced_share(folder) == 0.3
    said = "30% of the held-out words are single letters of scripts without spaces"
    assert text_notes(folder)[0].startswith(said) and len(text_notes(folder)) == 1
    (tmp_path / "env.json").write_text('{"vocabulary": ["few entries"]}')
    assert text_notes(folder)[1:] == ["few entries"]
    (tmp_path / "bins.csv").write_text(to_csv([keys | named[0]], (*keys, "level", "tokens", "words")))
    assert text_notes(folder) == ["few entries"]


def test_the_columns_that_are_always_there(finished: Finished) -> None:
    """What design.md promises, in its order; more may follow."""
    promised = (
        "regime,seed,generation,train_tokens,unique_tokens,human_share,nll,perplexity,bits_per_byte,nll_rare,"
        "nll_common,nll_unseen,distinct_1,distinct_2,distinct_3,rare_survival"
    )
    header = (finished.folder / "results.csv").read_text().splitlines()[0]
    assert header.startswith(promised)
    assert header.split(",") == [*KEYS, *names("text")]
    assert (finished.folder / "bins.csv").read_text().splitlines()[0] == ",".join((*KEYS, *BIN_COLUMNS))


def test_one_row_a_generation_sorted(finished: Finished) -> None:
    rows = RunFolder(finished.folder).results()
    keys = [(row["regime"], row["seed"], row["generation"]) for row in rows]
    assert keys == sorted(keys) == [(r, s, t) for r in ("human", "replace") for s in (0, 1) for t in (0, 1)]


def test_the_numbers_hang_together(finished: Finished) -> None:
    """Perplexity is exp(nll); the human chain is fed human rows only, the replaced one none after generation 0."""
    for row in RunFolder(finished.folder).results():
        assert row["perplexity"] == pytest.approx(math.exp(row["nll"]))
        assert row["train_tokens"] == 640 and row["unique_tokens"] == 512
        assert row["human_share"] == (1.0 if row["regime"] == "human" or row["generation"] == 0 else 0.0)
        assert 0 <= row["rare_survival"] <= 1 and 0 < row["distinct_2"] <= 1


def test_generation_0_is_one_and_the_same_for_all_regimes(finished: Finished) -> None:
    rows = [row for row in RunFolder(finished.folder).results() if row["generation"] == 0]
    for seed in (0, 1):
        a, b = ({k: v for k, v in row.items() if k != "regime"} for row in rows if row["seed"] == seed)
        assert a == b


def test_parquet_holds_what_csv_holds(finished: Finished) -> None:
    table = pq.read_table(finished.folder / "results.parquet")
    assert table.to_pylist() == RunFolder(finished.folder).results()
    assert str(table.schema.field("train_tokens").type) == "int64" and str(table.schema.field("nll").type) == "double"


def test_no_clock_host_or_path_in_the_tables(finished: Finished) -> None:
    for name in ("results.csv", "bins.csv"):
        text = (finished.folder / name).read_text()
        assert str(finished.cwd) not in text and os.uname().nodename not in text and "/" not in text


def test_a_notebook_reads_the_same_bits(finished: Finished) -> None:
    run = lab.load(finished.folder)
    exact = RunFolder(finished.folder).results()
    assert run.config.name == "tiny" and list(run.results.columns) == [*KEYS, *names("text")]
    for column in names("text"):
        assert run.results[column].tolist() == [row[column] for row in exact]
    assert set(run.bins["level"]) == {"token", "word", "domain"}
    assert isinstance(run.results, pandas.DataFrame)


def test_a_run_copied_with_its_links_followed_is_refused_and_can_be_shown(finished: Finished, tmp_path: Path) -> None:
    shutil.copytree(finished.folder, tmp_path / "checkpoints" / "tiny")
    copied = RunFolder(tmp_path / "checkpoints" / "tiny")
    assert copied.results() == RunFolder(finished.folder).results()
    with pytest.raises(InputError, match=r"is a folder, where a run has a link into its store: .* \(cp -rL\)"):
        copied.check_place()


def test_links_lead_into_the_store_and_are_relative(finished: Finished) -> None:
    for chain in ("human-seed0", "replace-seed0", "replace-seed1"):
        for generation in ("gen-00", "gen-01"):
            folder = finished.folder / chain / generation
            assert sorted(path.name for path in folder.iterdir()) == ["evidence", "model", "record", "synthetic"]
            for link in folder.iterdir():
                assert link.is_symlink() and not os.path.isabs(os.readlink(link))
                assert (link / "manifest.json").is_file()
    shared = [finished.folder / chain / "gen-00" / "model" for chain in ("human-seed0", "replace-seed0")]
    assert shared[0].resolve() == shared[1].resolve()


def test_a_folder_of_runs_can_be_moved(finished: Finished, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    (finished.cwd / "checkpoints").rename(moved)
    try:
        assert (moved / "tiny" / "replace-seed0" / "gen-01" / "model" / "config.json").is_file()
    finally:
        moved.rename(finished.cwd / "checkpoints")


def test_the_store_of_a_run_is_beside_it_from_wherever_it_is_named(
    finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished.folder)
    assert RunFolder(Path()).store.root.resolve() == (finished.cwd / "checkpoints" / "store").resolve()


def test_tables_are_rebuilt_from_records(built: Callable[..., Study], finished: Finished) -> None:
    """Deleting them loses nothing."""
    study, run = built(seeds=[0, 1]), RunFolder(finished.folder)
    before = (finished.folder / "results.csv").read_bytes()
    (finished.folder / "results.csv").unlink()
    run.write_tables(study, run.store)
    assert (finished.folder / "results.csv").read_bytes() == before


def test_a_generation_without_a_record_has_no_row(built: Callable[..., Study], tmp_path: Path) -> None:
    study, run = built(), RunFolder(tmp_path / "tiny")
    run_study(study, run.path)
    missing = job_of(study.generations[-1].record)
    (run.store.folder(missing.name, missing.key) / "record.json").unlink()
    rows = RunFolder(run.path).write_tables(study, run.store)
    assert [(row["regime"], row["generation"]) for row in rows] == [("human", 0), ("human", 1), ("replace", 0)]


def test_a_number_that_does_not_exist_is_nan(built: Callable[..., Study], finished: Finished, tmp_path: Path) -> None:
    """A test fold without rare words has no loss of rare words: null in the record, nan in the table, never 0."""
    study, run = built(seeds=[0, 1]), RunFolder(finished.folder)
    job = job_of(study.generations[0].record)
    copy = RunFolder(tmp_path / "tiny")
    shutil.copytree(run.store.root / "record", copy.store.root / "record")
    copy.path.mkdir()
    folder = copy.store.folder(job.name, job.key)
    record = json.loads((folder / "record.json").read_text())
    record["columns"]["nll_rare"] = None
    (folder / "record.json").write_text(json.dumps(record))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["record.json"] = {
        "bytes": (folder / "record.json").stat().st_size,
        "sha256": file_sha256(folder / "record.json"),
    }
    manifest["content"] = digest({"record.json": manifest["files"]["record.json"]["sha256"]})
    manifest["seal"] = seal_of(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    copy.write_tables(study, copy.store)
    assert math.isnan(copy.results()[0]["nll_rare"])
    assert math.isnan(pq.read_table(copy.path / "results.parquet").to_pylist()[0]["nll_rare"])


# --- which study may go on in a folder -----------------------------------------------------------------------------


def begun(folder: Path, corpus: Path, **changes: Any) -> RunFolder:
    run = RunFolder(folder / "tiny")
    run.begin(build(tiny_config(corpus, **changes)), {})
    return run


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"seeds": [0, 5]},
        {"seeds": [5, 0]},
        {"regimes": ["accumulate", "human", "replace"]},
        {"generations": 9},
        {"seeds": [0, 1], "generations": 3, "regimes": ["human", "replace", "accumulate"]},
    ],
    ids=str,
)
def test_a_run_may_grow(tmp_path: Path, corpus_file: Path, change: dict[str, Any]) -> None:
    begun(tmp_path, corpus_file).check_extends(tiny_config(corpus_file, **change))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"train__lr": 1e-3}, "(train.lr: 0.005 -> 0.001)"),
        ({"train__lr": 1e-3, "sample__tokens": 528}, "(sample.tokens: 512 -> 528; train.lr: 0.005 -> 0.001)"),
        ({"compute__threads": 2}, "(compute.threads: 1 -> 2)"),
        ({"seeds": [1]}, "(seeds: [0] -> [1])"),
        ({"regimes": ["human"]}, "(regimes: ['human', 'replace'] -> ['human'])"),
        ({"generations": 1}, "(generations: 2 -> 1)"),
    ],
    ids=str,
)
def test_any_other_change_is_refused_with_the_difference(
    tmp_path: Path, corpus_file: Path, change: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match="belongs to another study") as caught:
        begun(tmp_path, corpus_file).check_extends(tiny_config(corpus_file, **change))
    assert said in str(caught.value) and "--run NAME" in str(caught.value)


def test_a_run_keeps_its_text(tmp_path: Path, corpus_file: Path) -> None:
    """Edited text at the same path is refused as a changed field is, and old text that is back is welcome."""
    text = shutil.copy(corpus_file, tmp_path / "a.jsonl")
    run, config = begun(tmp_path, text), tiny_config(text)
    run.check_content(build(tiny_config(text, seeds=[0, 1])))
    text.write_text(text.read_text().replace("Tale", "Story", 1))
    with pytest.raises(InputError, match=r"belongs to another study \(corpus.path: what is at .*a.jsonl has changed"):
        run.check_content(build(config))
    shutil.copy(corpus_file, text)
    run.check_content(build(config))


def test_each_arm_of_a_sweep_keeps_its_own_text(tmp_path: Path, corpus_file: Path) -> None:
    paths = [str(shutil.copy(corpus_file, tmp_path / name)) for name in ("a.jsonl", "b.jsonl")]
    run = begun(tmp_path, corpus_file, sweep={"corpus.path": paths})
    Path(paths[1]).write_text(Path(paths[1]).read_text().replace("Tale", "Story", 1))
    with pytest.raises(InputError, match=r"\(corpus.path: what is at \S*b.jsonl has changed since it was run\)"):
        run.check_content(build(run.config()))


def test_a_run_is_known_by_its_content_where_its_text_is_gone(tmp_path: Path, corpus_file: Path) -> None:
    text = shutil.copy(corpus_file, tmp_path / "a.jsonl")
    run, keys = begun(tmp_path, text), [step.key for step in build(tiny_config(text)).steps]
    text.unlink()
    assert [step.key for step in build(run.config(), content=run.content()).steps] == keys
    (run.path / "env.json").write_text("{}")
    assert run.content() is None
    with pytest.raises(InputError, match="does not exist"):
        build(run.config(), content=run.content())


def test_an_absent_run_may_begin(tmp_path: Path, corpus_file: Path) -> None:
    RunFolder(tmp_path / "none").check_extends(tiny_config(corpus_file))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_a_run_names_those_beside_it(finished: Finished, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no run; runs beside it: tiny$"):
        RunFolder(finished.folder.parent / "tyni").config()
    with pytest.raises(InputError, match="holds no run; start one with lab run STUDY"):
        RunFolder(tmp_path / "a").config()
    with pytest.raises(InputError, match="holds no run"):
        lab.load(tmp_path / "a")


def test_a_run_without_results_says_so(tmp_path: Path, corpus_file: Path) -> None:
    run = begun(tmp_path, corpus_file)
    with pytest.raises(InputError, match=r"tiny has no results.csv yet"):
        run.results()
    with pytest.raises(InputError, match=r"tiny has no results.csv yet"):
        lab.load(run.path)


@pytest.mark.parametrize("text", ["", "a: [", "name: tiny\n"])
def test_a_damaged_configuration_is_bad_input(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(InputError):
        RunFolder(tmp_path).config()
