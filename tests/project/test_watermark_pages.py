"""The tables about watermarks: each marked chain against its unmarked pair, and the power of detection."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from support.scripts import load

from lab.config.watermark import WatermarkConfig
from lab.run.folder import to_csv
from lab.seeds import generator

AXES = ("regime", "arm", "seed", "generation")
MEASURED = ("nll", "radioactivity_closed_z", "radioactivity_reading_z")


def test_the_price_is_the_difference_of_paired_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By seed +0.1, +0.2 and +0.3 nats: mean 0.2, t(2) = 4.303, so +-0.248.  An arm without a pair has no price."""
    load("readme.py")
    page = sys.modules["pages.watermark"]
    rows = []
    for seed in range(3):
        for arm, nll, z in (("none", 5.0 + seed, 1.0), ("kgw", 5.1 + 1.1 * seed, 8.0)):
            values = dict(zip(MEASURED, (nll, z, 2 * z), strict=True))
            rows += [{"regime": "replace", "arm": arm, "seed": seed, "generation": t, **values} for t in (0, 1)]
        rows.append({"regime": "mix", "arm": "kgw", "seed": seed, "generation": 1, **dict.fromkeys(MEASURED, 1.0)})
    (tmp_path / page.STUDY).mkdir()
    (tmp_path / page.STUDY / "results.csv").write_text(to_csv(rows, (*AXES, *MEASURED)))
    monkeypatch.setattr(page, "RESULTS", tmp_path)
    (line,) = page.price().splitlines()[2:]
    assert line == ("| replace | kgw | 1 | +0.200 [-0.048, +0.448] | +7.0 [+7.0, +7.0] | +14.0 [+14.0, +14.0] |")


def test_the_power_of_a_script_that_looks_at_few_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load("readme.py")
    script, page = load("checks/watermark_power.py"), sys.modules["pages.watermark"]
    for name, value in {"POSITIONS": 32, "LENGTHS": (8, 32), "EDITS": (0.0, 0.5)}.items():
        monkeypatch.setattr(script, name, value)
    monkeypatch.setattr(script, "MARKS", [WatermarkConfig(scheme="kgw", bias=8)])
    human = generator(0).integers(1, script.VOCABULARY, (200, 32))
    found = list(script.measured(human[:100], human, rows=20, seed=0))
    assert [(each["edits"], each["length"]) for each in found] == [(0, 8), (0, 32), (0.5, 8), (0.5, 32)]
    assert found[1]["tpr"] == 1 > found[3]["tpr"] and np.isfinite([each["threshold"] for each in found]).all()
    facts = {"rows": 20, "human_rows": 200, "power": found}
    (tmp_path / "watermark-power.json").write_text(json.dumps(facts))
    monkeypatch.setattr(page, "RESULTS", tmp_path)
    lines = page.power().splitlines()
    assert lines[0].endswith("| 0% edited | 50% edited |") and len(lines) == 6
