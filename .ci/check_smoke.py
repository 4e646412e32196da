"""Assert what `lab run smoke` must show in the results.csv that is named."""

import csv
import math
import sys
from pathlib import Path

REGIMES = ["human", "replace", "accumulate"]

rows = list(csv.DictReader(Path(sys.argv[1]).read_text().splitlines()))
by = {(r["regime"], int(r["seed"]), int(r["generation"])): r for r in rows}
expected = {(g, s, t) for g in REGIMES for s in (0, 1) for t in range(3)}
assert set(by) == expected, f"chains and generations: {sorted(by)}"
assert [*by] == sorted(by, key=lambda k: (REGIMES.index(k[0]), *k[1:])), "rows are not sorted"
for key, row in by.items():
    for name, value in row.items():
        assert name == "regime" or math.isfinite(float(value)), f"{key} {name} = {value}"
    assert abs(math.exp(float(row["nll"])) / float(row["perplexity"]) - 1) < 1e-12, key
    assert int(row["train_tokens"]) == 32_768, key
for seed in (0, 1):
    first = {tuple(by[regime, seed, 0].items())[1:] for regime in REGIMES}
    assert len(first) == 1, f"generation 0 of seed {seed} differs between regimes"
    last = {regime: float(by[regime, seed, 2]["perplexity"]) for regime in REGIMES}
    assert last["human"] < last["accumulate"] < last["replace"], f"seed {seed}: {last}"
    shares = [float(by["accumulate", seed, t]["human_share"]) for t in range(3)]
    assert shares[0] == 1 and abs(shares[1] - 1 / 2) < 0.05 and abs(shares[2] - 1 / 3) < 0.05, shares
    assert all(float(by["replace", seed, t]["human_share"]) == 0 for t in (1, 2))
print(f"smoke: {len(rows)} rows as they should be")
