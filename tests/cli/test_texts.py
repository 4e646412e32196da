"""`lab texts`: the rows that a generation wrote, as they lie in its artifact, harmless to a terminal."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from support.hostile import call
from support.tiny import Finished, listing, tiny_config

from lab.text.rows import write_rows


def texts(finished: Finished, *arguments: str) -> list[dict]:
    end = call("texts", "tiny", "--json", *arguments, cwd=finished.cwd)
    assert not end.fault((0,)), end
    return json.loads(end.out)


def stored(path: Path) -> list[str]:
    return pq.read_table(path / "rows.parquet")["text"].to_pylist()


def test_the_first_rows_of_every_regime_by_default(finished: Finished) -> None:
    before = listing(finished.cwd)
    found = texts(finished)
    assert [(row["regime"], row["seed"], row["generation"], row["row"]) for row in found] == [
        (regime, 0, 1, number) for regime in ("human", "replace") for number in range(3)
    ]
    assert [row["text"] for row in found[3:]] == stored(finished.folder / "replace-seed0/gen-01/synthetic")[:3]
    assert listing(finished.cwd) == before


def test_one_generation_seed_and_regime_with_human_text_beside(finished: Finished) -> None:
    found = texts(finished, "--gen", "0", "--seed", "1", "--regime", "replace", "--n", "2", "--human")
    assert [row["writer"] for row in found] == ["model", "model", "human", "human"]
    assert found[0]["text"] == stored(finished.folder / "replace-seed1/gen-00/synthetic")[0]
    # the first pool is the seed's own human text
    own = [path for path in (finished.cwd / "checkpoints/store/human").iterdir() if found[2]["text"] in stored(path)]
    assert own and found[2]["document"].strip()
    plain = call("texts", "tiny", "--regime", "replace", "--n", "1", "--human", cwd=finished.cwd).out
    assert "replace, seed 0, generation 1: row 0 of its sample" in plain and "human text, seed 0: row 0, from " in plain


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--gen", "7"], "human has no generation 7 in checkpoints/tiny/human-seed0; it has 0 to 1"),
        (["--regime", "replac"], "tiny has no regime replac; it has human, replace"),
        (["--seed", "9"], "tiny has no seed 9; it has 0, 1"),
        (["--arm", "temperature 1"], "tiny has no arm temperature 1"),
        (["--n", "0"], "--n"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_the_run_lacks_is_said(finished: Finished, arguments: list[str], said: str) -> None:
    end = call("texts", "tiny", *arguments, cwd=finished.cwd)
    assert not end.fault((2,)) and said in end.err, end


def run_of(folder: Path, texts: list[str], **changes: object) -> Path:
    """Write a run by hand: its study, and for each arm of temperature 0.5 or 1 the sample of generation 0."""
    study = tiny_config("x", **changes)
    chains = ["replace,sample.temperature=0.5-seed0", "replace,sample.temperature=1.0-seed0"]
    rows = np.ones((len(texts), 2), np.uint16)
    for chain in chains:
        (folder / chain / "gen-00" / "synthetic").mkdir(parents=True)
        marked = [f"{chain[27:30]}: {text}" for text in texts]
        write_rows(folder / chain / "gen-00/synthetic", rows.shape, lambda _, m=marked: (rows, {"text": m}), origin=0)
    (folder / "config.yaml").write_text(yaml.safe_dump(study.model_dump(mode="json")))
    return folder


SWEPT = {"regimes": ["replace"], "sweep": {"sample.temperature": [0.5, 1.0]}}


def test_arms_and_text_that_a_terminal_would_obey(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", ["a\x1b[2J\nb\u202e[bold]c[/]"], **SWEPT)
    end = call("texts", "run", "--checkpoints", ".", cwd=tmp_path)
    assert end.out.count("of its sample") == 2 and "replace, temperature 0.5, seed 0, generation 0" in end.out
    assert "a\\x1b[2J\nb\\u202e[bold]c[/]" in end.out and "\x1b" not in end.out, "lines stay lines"
    one = call("texts", "run", "--checkpoints", ".", "--arm", "temperature=1", "--json", cwd=tmp_path)
    assert [row["text"][:3] for row in json.loads(one.out)] == ["1.0"]
    human = call("texts", "run", "--checkpoints", ".", "--human", cwd=tmp_path)
    assert not human.fault((2,)) and "is not measured yet" in human.err
    sample = run / "replace,sample.temperature=0.5-seed0/gen-00/synthetic/rows.parquet"
    sample.write_bytes(b"PAR1")
    damaged = call("texts", "run", "--checkpoints", ".", cwd=tmp_path)
    assert not damaged.fault((2,)) and "cannot be read" in damaged.err and "lab run makes it again" in damaged.err
    sample.unlink()
    assert "cannot be read" in call("texts", "run", "--checkpoints", ".", cwd=tmp_path).err


def test_a_run_that_has_written_nothing(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump(tiny_config("x").model_dump(mode="json")))
    end = call("texts", "run", "--checkpoints", ".", cwd=tmp_path)
    assert not end.fault((2,)) and "human has no generation measured yet" in end.err
