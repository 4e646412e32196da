"""Where the time of a run went, by hand."""

from pathlib import Path

import pytest

from lab.run.timings import FILE, REST, append, overhead, read, time_by_kind


def line(step: str, seconds: float, at: float = 5) -> dict[str, object]:
    return {"at": at, "step": step, "key": "k", "label": step, "seconds": seconds}


def test_shares_by_hand() -> None:
    """Two workers for 10 seconds have 20: 8 + 4 of training, 4 of sampling, 1 of measuring, and 3 of nothing."""
    lines = [
        line("sample", 4),
        line("train", 8),
        line("record", 1),
        line("train", 4),
        {"at": 10, "program": 10, "workers": 2},
    ]
    found = time_by_kind(lines)
    assert [(t.step, t.count, t.seconds) for t in found] == [
        ("train", 2, 12),
        ("sample", 1, 4),
        ("record", 1, 1),
        (REST, 1, 3),
    ]
    assert [t.share for t in found] == pytest.approx([0.6, 0.2, 0.05, 0.15])
    assert overhead(found) == pytest.approx(0.2)


def test_a_killed_program_wrote_only_its_steps() -> None:
    assert time_by_kind([line("train", 3), line("pool", 1)])[-1].step == "train"
    assert overhead(time_by_kind([line("train", 3), line("pool", 1)])) == pytest.approx(0.25)


def test_what_a_killed_program_did_does_not_fill_the_rest_of_the_next() -> None:
    """100 seconds, killed; then a program of 50 seconds with two workers and 50 seconds of steps: half idle."""
    found = time_by_kind(
        [line("train", 100, at=100), line("train", 50, at=190), {"at": 200, "program": 50, "workers": 2}]
    )
    assert [(t.step, t.seconds) for t in found] == [("train", 50), (REST, 50)]


def test_a_torn_line_is_left_out(tmp_path: Path) -> None:
    assert read(tmp_path) == []
    append(tmp_path / "new" / FILE, {"program": 1, "workers": 1})
    with (tmp_path / "new" / FILE).open("a") as file:
        file.write('[1]\n{"step": "train", "at": 1}\n\n{"step": "tra')
    path = tmp_path / "new" / FILE
    path.write_bytes(path.read_bytes() + b"\xff\xfe\n")
    assert [entry["program"] for entry in read(tmp_path / "new")] == [1]
