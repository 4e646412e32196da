"""The study benchmark: what it makes of its timings, and that the plain script measures what it says."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from support.scripts import load
from support.tiny import tiny

from lab.config.files import load_study, parse_study
from lab.run import timings

bench = load("bench/bench_common.py")
bench_study = load("bench/bench_study.py")
bench_table = load("bench/bench_table.py")
torch.set_num_threads(1)
OPTIONS = argparse.Namespace(device="cpu", threads=2)


def test_ratios_by_hand_and_the_table_that_judges_them(tmp_path: Path) -> None:
    """30 generations of 10, 20 and 30 s beside a study of 100 s: 3, 6 and 9 times as fast."""
    found = list(
        bench_study.records(
            "as it is", load_study("quick", []), [100] * 3, {bench_study.PLAIN: [10, 20, 30]}, [0.95, 0.97], OPTIONS
        )
    )
    assert [found[0].ratio.median, found[0].ratio.min, found[0].ratio.max] == pytest.approx([6, 3, 9])
    assert found[0].goal == 3 and found[1].goal is None
    assert found[1].note == "4.0% of the workers' time outside of training, sampling and scoring"
    bench.write_json(tmp_path / "study.json", found, None)
    lines = bench_table.table(tmp_path, everything=False).splitlines()
    assert "| 100 |" in lines[-2] and lines[-2].endswith("| at most 300 s: met |")
    assert "| 4 [3, 5] |" in lines[-1] and lines[-1].endswith("| at most 10 %: met |")


def test_a_small_study_has_no_goal(tmp_path: Path) -> None:
    found = list(
        bench_study.records("in small", load_study("quick", []), [1.0], {bench_study.PLAIN: [1.0]}, [0.5], OPTIONS)
    )
    assert [record.goal for record in found] == [None, None]
    bench.write_json(tmp_path / "study.json", found, None)
    assert bench_table.table(tmp_path, everything=False).count("not measured") == 3


def test_share_in_kernels_from_a_run(tmp_path: Path) -> None:
    """Two workers for 10 s, of which 12 s of training and 4 s of sampling: .8; a gather is no kernel."""
    with pytest.raises(SystemExit, match="no timings"):
        bench_study.in_kernels(tmp_path)
    for step, seconds in (("train", 12.0), ("sample", 4.0), ("gather", 1.0)):
        timings.append(tmp_path / timings.FILE, {"step": step, "key": "k", "label": step, "seconds": seconds})
    timings.append(tmp_path / timings.FILE, {"program": 10.0, "workers": 2})
    assert bench_study.in_kernels(tmp_path) == pytest.approx(0.8)


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[bench_study.Plain]:
    study = parse_study(tiny("none.jsonl", train__tokens=128))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield bench_study.Plain(study, tmp_path)


def test_the_plain_script_does_its_work(plain: bench_study.Plain) -> None:
    """Rows of the study's number and length; its perplexity is that of transformers' own loss."""
    model = [plain.train(0) for _ in range(2)][-1]  # a later one's config is what Trainer left of the first's
    read = []
    model.transformer.wte.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0].shape[1]))
    drawn = plain.draw(model)
    assert set(read) == {1}  # a token at a time: the past is in the cache
    assert drawn.shape == (32, 16) and drawn.max() < 300
    found = plain.measure(model, drawn)
    with torch.inference_mode():
        loss = model(plain.test, labels=plain.test).loss
    assert found["perplexity"] == pytest.approx(float(loss.exp()), rel=1e-5)
    assert found["distinct_1"] == len(drawn.unique()) / drawn.numel()


@pytest.mark.parametrize("more", [["--repetitions", "2"], ["--fast"], []])
def test_a_run_to_keep_is_one_from_an_empty_folder(
    more: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What an earlier run left would be read from the store, in a second."""
    (tmp_path / "store").mkdir()
    monkeypatch.setattr("sys.argv", ["bench_study.py", "--keep", str(tmp_path / "new" if more else tmp_path), *more])
    with pytest.raises(SystemExit) as stopped:
        bench_study.main()
    assert stopped.value.code == 2
    assert ("goes with neither" if more else "is no empty folder") in capsys.readouterr().err
