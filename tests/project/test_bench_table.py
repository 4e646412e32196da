"""The table of the benchmarks judges every goal that the records speak of, and says where nothing was measured."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from support.scripts import load
from support.tiny import PROJECT

bench = load("bench/bench_common.py")
bench_profile = load("bench/bench_profile.py")
bench_table = load("bench/bench_table.py")

CPU, GPU = ({"device": "some", "versions": {"torch": "2", "transformers": "5"}, **more} for more in ({"cores": 2}, {}))
SAMPLE = "sample 2 x 128, vocabulary 2,048, 128 tokens"


def record(name: str, ours: Sequence[float] = (1.0,), **fields: Any) -> bench.Record:
    settings = {"peer": "a peer", "unit": "tokens/s", "theirs": None, "ratio": None, "best": True, "machine": CPU}
    return bench.Record(name=name, ours=bench.Spread.of(ours), **(settings | fields))


def write(folder: Path, kind: str, *found: bench.Record) -> None:
    """As the benchmarks themselves do."""
    bench.write_json(folder / f"{kind}.json", found, None)


def rows(folder: Path) -> dict[str, list[str]]:
    """Return the cells of each row by the first cell; of rows with one name, the last."""
    lines = bench_table.table(folder, everything=False).splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert all(len(row) == len(bench_table.HEAD) for row in cells)
    return {row[0]: row for row in cells}


@pytest.mark.parametrize(
    ("name", "machine", "share", "cell"),
    [
        (SAMPLE, CPU, 0.5, "50% (50%: met)"),
        (SAMPLE, CPU, 0.49, "49% (50%: **missed**)"),
        (f"{SAMPLE}, bfloat16", CPU, 0.3, "30% (50%: **missed**)"),
        (SAMPLE, GPU, 0.4, "40% (50%: **missed**)"),
        ("train 2 x 128, vocabulary 2,048, rows of 128, batch 4, 1 thread", CPU, 0.4, "40% (40%: met)"),
        ("train 2 x 128, vocabulary 2,048, rows of 128, batch 4, 1 thread", CPU, 0.39, "39% (40%: **missed**)"),
        ("train 12 x 768, vocabulary 50,257, rows of 1024, batch 8", GPU, 0.44, "44% (45%: **missed**)"),
        ("train 12 x 768, vocabulary 50,257, rows of 1024, batch 8", GPU, 0.45, "45% (45%: met)"),
        ("train 4 x 256, vocabulary 8,192, rows of 256, batch 64", GPU, 0.1, "10%"),
        ("score held-out text, 2 x 128", CPU, 0.15, "15%"),
        ("score held-out text, 2 x 128", CPU, None, ""),
    ],
)
def test_rooflines(tmp_path: Path, name: str, machine: dict[str, Any], share: float | None, cell: str) -> None:
    write(tmp_path, "sample", record(name, machine=machine, roofline=share))
    assert rows(tmp_path)[name][6] == cell


def test_the_lab_in_two_dtypes_stands_in_two_rows(tmp_path: Path) -> None:
    goal = {"goal": 3.0, "theirs": bench.Spread(1, 1, 1)}
    slow = record(SAMPLE, roofline=0.6, ratio=bench.Spread(2.9, 2, 4), **goal)
    fast = record(f"{SAMPLE}, bfloat16", roofline=0.4, ratio=bench.Spread(3.0, 3, 3), **goal)
    write(tmp_path, "sample", slow, fast)
    found = rows(tmp_path)
    assert found[SAMPLE][6:] == ["60% (50%: met)", "3: **missed**"]
    assert found[f"{SAMPLE}, bfloat16"][6:] == ["40% (50%: **missed**)", "3: met"]


EVALUATION = "distinct-3, survival and bins together, 10,000,000 tokens"
QUICK, OUTSIDE = (limit.what for limit in bench_table.LIMITS[1:])


def test_limits_by_hand(tmp_path: Path) -> None:
    """10 million tokens at 1, 1.25 and 2 million a second are 10, 8 and 5 s; the least speed is the most time."""
    together = f"{EVALUATION}, vocabulary 2,048: 8.00 s"
    write(tmp_path, "evaluate", record(together, [1e6, 1.25e6, 2e6], best=False))
    studies = [record("study `quick` as it is: 30 generations of 3 regimes", [1 / 240, 1 / 250])]
    share = record("study `quick` as it is: time in train, sample and heldout", [0.965], best=False)
    write(tmp_path, "study", *studies, share)
    found = rows(tmp_path)
    assert found[f"{EVALUATION}, vocabulary 2,048"][2:] == ["s", "8 [5, 10]", "", "", "", "at most 10 s: met"]
    assert found[QUICK][2:4] == ["s", "245 [240, 250]"] and found[QUICK][7] == "at most 300 s: met"
    assert found[OUTSIDE][2:4] == ["%", "3.5"] and found[OUTSIDE][7] == "at most 10 %: met"


def test_limits_are_missed(tmp_path: Path) -> None:
    write(tmp_path, "evaluate", record(f"{EVALUATION}, vocabulary 50,257: 10.10 s", [1e7 / 10.1], best=False))
    study = record("study `quick` as it is: 30 generations of 3 regimes", [1 / 301])
    write(tmp_path, "study", study, record("study `quick` as it is: time in train", [0.89], best=False))
    assert sum(row[7].endswith(": **missed**") for row in rows(tmp_path).values()) == 3


def test_what_was_not_measured_is_said(tmp_path: Path) -> None:
    """Neither a tenth of the text nor a small study stands in for the whole."""
    less = record("distinct-3, survival and bins together, 999,936 tokens, vocabulary 2,048: 0.90 s", [1e6], best=False)
    small = record("study `quick` in small: 4 generations of 2 regimes", [1 / 20])
    inside = record("study `quick` in small: time in train, sample and heldout", [0.5], best=False)
    write(tmp_path, "evaluate", less)
    write(tmp_path, "study", small, inside)
    found = rows(tmp_path)
    assert {name: found[name][3:] for name in (EVALUATION, QUICK, OUTSIDE)} == {
        EVALUATION: ["", "", "", "", "at most 10 s: not measured"],
        QUICK: ["", "", "", "", "at most 300 s: not measured"],
        OUTSIDE: ["", "", "", "", "at most 10 %: not measured"],
    }


def table_of(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "scripts/bench/bench_table.py", str(folder)]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)


def test_an_empty_folder_has_no_table(tmp_path: Path) -> None:
    done = table_of(tmp_path)
    assert done.returncode == 2 and done.stdout == "" and "has no records" in done.stderr


# --- scripts/gpu/bench.sh --------------------------------------------------------------------------------------------

STAND_IN = """#!/bin/sh
# The benchmarks without their work: sampling fails, training is "measured"; all else is the interpreter itself.
case "$1" in
  scripts/bench/bench_sample.py) echo boom; exit 3 ;;
  scripts/bench/bench_*.py)
    case "$1" in */bench_table.py) exec {python} "$@" ;; esac
    echo "$@"
    for last; do :; done
    cp {train} "$last" ;;
  *) exec {python} "$@" ;;
esac
"""


def bench_sh(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = ["bash", str(PROJECT / "scripts" / "gpu" / "bench.sh"), *words]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})


def test_one_benchmark_fails_and_the_others_go_on(tmp_path: Path) -> None:
    write(tmp_path, "trained", record("train 4 x 256, some rows", roofline=0.5))
    folder, python = tmp_path / "found", tmp_path / "python"
    folder.mkdir()
    write(folder, "sample", record("sample of an earlier call"))
    python.write_text(STAND_IN.format(python=sys.executable, train=tmp_path / "trained.json"))
    python.chmod(0o755)
    done = bench_sh(str(folder), LAB_PYTHON=str(python), DEVICE="cpu", FAST="1")
    assert done.returncode == 1
    assert "sample did not finish (status 3, limit 170 s)" in done.stderr
    assert done.stderr.splitlines()[-1] == "error: did not finish: sample"
    assert (folder / "table.md").read_text() == done.stdout
    assert "sample of an earlier call" not in done.stdout
    assert done.stdout.count("train 4 x 256, some rows") == 3, "train, evaluate and study"
    assert (folder / "sample.log").read_text() == "boom\n"
    assert "--device cpu --repetitions 3 --fast --json" in (folder / "train.log").read_text()


def test_a_device_that_there_is_not(tmp_path: Path) -> None:
    done = bench_sh(str(tmp_path / "none"), LAB_PYTHON=sys.executable, DEVICE="tpu")
    assert done.returncode == 2 and not (tmp_path / "none").exists()
    assert done.stderr == "error: DEVICE=tpu: it is cuda or cpu\n"


def test_the_limits_leave_ten_minutes() -> None:
    script = (PROJECT / "scripts" / "gpu" / "bench.sh").read_text()
    limits = [int(limit) for limit in re.findall(r"\bstep [a-z]+ (\d+) ", script)]
    assert len(limits) == 5 and f"The sum of the limits is {sum(limits)}." in script
    assert sum(limits) + 5 * len(limits) < 600, "with the seconds until timeout kills"


def test_a_profile_is_a_line_for_each_loop(tmp_path: Path) -> None:
    """Of 8 seconds 3 in products, 2 in sums, which are the draw's in sampling, 1 in no group's, 2 in no operation."""
    spent = {"mkldnn::_linear_pointwise": 2.0, "aten::mm": 1.0, "aten::expand": 1.0, "aten::sum": 2.0}
    parts = {loop: bench_profile.shares(spent, 8.0, loop) for loop in ("sample", "train")}
    assert all(sum(shares.values()) == 1 for shares in parts.values())
    row = {"name": "sample", "seconds": 8.0, "shares": parts["sample"], "machine": CPU}
    (tmp_path / "profile.json").write_text(json.dumps([row]))
    head, _, line = (
        [cell.strip() for cell in x.strip("|").split("|")] for x in bench_table.profile(tmp_path).splitlines()
    )
    found = dict(zip(head, line, strict=True))
    assert {group: share for group, share in found.items() if share.endswith("%") and share != "0%"} == {
        "products with weights": "38%",
        "the draw": "25%",
        "other operations": "12%",
        "between operations": "25%",
    }
    assert parts["train"]["the draw"] == 0 and parts["train"]["other operations"] == 3 / 8


@pytest.mark.parametrize(
    ("name", "peer", "best", "machine", "goal", "shown"),
    [
        (SAMPLE, "HF generate, batch 64", True, CPU, None, True),
        (SAMPLE, "HF generate, batch 64", False, CPU, None, False),
        (SAMPLE, "HF generate, batch 64, memory kept", False, CPU, None, False),
        (SAMPLE, "HF generate, static cache, torch.compile", True, CPU, None, True),
        (SAMPLE, "CTranslate2 int8, int8, batch 64", True, CPU, None, False),
        ("train 2 x 128, batch 4, 1 thread", "Trainer, bfloat16, sdpa, memory kept", False, CPU, None, True),
        ("train 2 x 128, batch 4, 1 thread, compiled", "Trainer, bfloat16, sdpa, compiled", True, CPU, None, False),
        ("train 2 x 128, batch 4, 1 thread, compiled", "Trainer, bfloat16, sdpa, compiled", True, CPU, 2.0, True),
        ("train 12 x 768, batch 16, compiled", "Trainer, bfloat16, sdpa, compiled", True, GPU, None, True),
    ],
)
def test_the_rows_of_the_short_table(
    tmp_path: Path, name: str, peer: str, best: bool, machine: dict[str, Any], goal: float | None, shown: bool
) -> None:
    write(tmp_path, "sample", record(name, peer=peer, best=best, machine=machine, goal=goal))
    assert (peer in bench_table.table(tmp_path, everything=False)) == shown
    assert peer in bench_table.table(tmp_path, everything=True)


def test_a_peer_that_is_not_there_is_said(tmp_path: Path) -> None:
    write(tmp_path, "sample", record(SAMPLE, peer="CTranslate2, not installed", goal=3.0))
    assert rows(tmp_path)[SAMPLE][1:] == ["CTranslate2, not installed", "tokens/s", "1", "", "", "", "3: not measured"]


def test_studies_are_shown_in_seconds(tmp_path: Path) -> None:
    """Four and two a second are .25 and .5 s; the ratio is of speeds."""
    fields = {"unit": "studies/s", "theirs": bench.Spread(1, 0.5, 2), "ratio": bench.Spread(3, 2, 4), "goal": 3.0}
    write(tmp_path, "study", record("study, 2 threads", [2, 4], **fields))
    found = rows(tmp_path)["study, 2 threads"]
    assert found[2:6] == ["s", "0.333 [0.25, 0.5]", "1 [0.5, 2]", "3.00 [2.00, 4.00]"] and found[7] == "3: met"
