"""The null test of the collapse profile: human controls that differ only in their seed, held against the definitions.

    python scripts/checks/null_profile.py                                        # 200 pairs of 5 + 5 seeds
    python scripts/checks/null_profile.py --pairs 20 --seeds 3 --workers 0       # a look
    python scripts/checks/null_profile.py --json data/results/null-profile.json

The chains and the pairs are those of null_test.py, which need not be computed again: one group of a pair stands where a
regime stands, the other where its control does.  The profile of each generation is added.  Nothing has collapsed, so a
verdict "collapsed" is false.  The definitions are held twice:

at zero   with each threshold at the value of no change: 0 for differences, 1 for ratios.  This tests the machinery:
          intervals over seeds and documents, one-sided p values and Holm's correction over the definitions of a regime.
          Of 200 pairs 2 to 21 should have a definition that holds (5 % of them, the binomial points 0.1 % and 99.9 %):
          of 0 or 1 the machinery finds nothing, of 22 it cries wolf.
shipped   with the thresholds of the lab.  Of 200 pairs at most 21 may have a definition that holds; hardly one should,
          because most thresholds lie far from no change.

One generation has no growth and no nested sizes, so definitions 3 and 5 are not measured.

It takes 6,005 steps more than null_test.py: for each chain the entropy, the judge's losses and the profile, about one
second of one core; 25 minutes on two cores with the chains themselves.  After a kill or a stop the same command
continues.
Exit codes: 0 all counts are within their limits, 1 one is not or a step failed, 2 bad input, 75 stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from null_test import Outcome, Rows, Tally, checked, conclude, group_sizes, limits, parser_of

from lab import machine
from lab.collapse.chains import Chains, Point
from lab.collapse.verdicts import COLLAPSED, MISSING
from lab.config.profile import Thresholds
from lab.definitions import DEFINITIONS, findings
from lab.loop import Study
from lab.report.lines import CONTROL
from lab.report.render import markdown_table
from lab.run.folder import RunFolder
from lab.run.profile import points

ZERO = Thresholds(catastrophic=0, increase=0, increase_near=0, variance=0, scaling=1, modes=1, tails=0, hallucination=0)
"""The values of no change.  That of definition 3 has none: a gap that is not there has no exponent."""
KINDS = {"at zero": ZERO, "shipped": Thresholds()}


@dataclass(frozen=True)
class Held:
    """How many pairs of controls count as collapsed."""

    thresholds: str
    """at zero or shipped."""
    seeds: int
    """Number of seeds in each of the two groups of a pair."""
    pairs: int
    by: Mapping[int, int]
    """Number of a definition -> pairs in which it holds, of definitions that are measured in some pair."""
    any: int
    """Pairs in which a definition holds."""

    @property
    def within(self) -> bool:
        fewest, most = limits(self.pairs)
        return (self.thresholds == "shipped" or self.any >= fewest) and self.any <= most


def pair(first: Sequence[Point], second: Sequence[Point]) -> Chains:
    """Return two groups of controls as chains of one generation after generation 0, paired by place."""
    by_seed = ({seed: {1: point} for seed, point in enumerate(group)} for group in (first, second))
    return Chains("other", *by_seed)


def held(pairs: Sequence[Chains], thresholds: str) -> Held:
    """Count the pairs in which definitions hold."""
    by: Counter[int] = Counter()
    some = 0
    for chains in pairs:
        found = [each for each in findings(chains, KINDS[thresholds]) if each.verdict != MISSING]
        by.update({each.definition.number: each.verdict == COLLAPSED for each in found})
        some += any(each.verdict == COLLAPSED for each in found)
    return Held(thresholds, len(pairs[0].seeds), len(pairs), dict(sorted(by.items())), some)


def paired(measured: Mapping[int, Point], pairs: int, seeds: int, first: int) -> list[Chains]:
    """Pair seeds 0 .. k - 1 with k .. 2k - 1, the next 2k likewise, and so on, and take the `first` of each group."""
    if sorted(measured) != list(range(2 * pairs * seeds)):
        raise ValueError(f"{2 * pairs * seeds} chains were wanted, one for each seed from 0; there are {len(measured)}")
    groups = [[measured[seed] for seed in range(start, start + first)] for start in range(0, 2 * pairs * seeds, seeds)]
    return [pair(a, b) for a, b in zip(groups[::2], groups[1::2], strict=True)]


def table(found: Sequence[Held]) -> str:
    """Return a Markdown table with a line per definition and a column per thresholds and group size."""
    names = {each.number: f"{each.name} ({each.number})" for each in DEFINITIONS}
    measured = sorted({number for each in found for number in each.by})
    body = [[names[number], *(str(each.by.get(number, "")) for each in found)] for number in measured]
    body.append(["any of them", *(f"{each.any}{'' if each.within else ' OUTSIDE'}" for each in found)])
    heading = [f"{each.thresholds}, {each.seeds} + {each.seeds} seeds" for each in found]
    return markdown_table(["definition", *heading], body, "lr")


def as_json(found: Sequence[Held], spent: float, made: int) -> str:
    low, high = limits(found[0].pairs)
    counts: list[dict[str, Any]] = [
        {
            "thresholds": each.thresholds,
            "seeds": each.seeds,
            "by": {str(number): count for number, count in each.by.items()},
            "any": each.any,
            "within": each.within,
        }
        for each in found
    ]
    data = {
        "pairs": found[0].pairs,
        "limits": {"fewest at zero": low, "most": high},
        "counts": counts,
        "made": {"steps": made, "seconds": round(spent, 1)},
        "versions": machine.versions(),
        "cpu": machine.cpu_name(),
    }
    return json.dumps(data, indent=1) + "\n"


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    options = checked(parser_of(__doc__), arguments)
    options.overrides = [*options.overrides, "profile={}"]
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    options = parsed(arguments)

    def judged(study: Study, folder: RunFolder, rows: Rows, tally: Tally) -> Outcome:
        last = study.config.generations - 1
        measured = {seed: by[last] for seed, by in points(study.generations, CONTROL, folder.store).items()}
        pairs = [paired(measured, options.pairs, options.seeds, size) for size in group_sizes(options)]
        found = [held(some, thresholds) for thresholds in KINDS for some in pairs]
        within = all(each.within for each in found)
        return Outcome(table(found), within, lambda spent: as_json(found, spent, tally.made))

    return conclude(options, judged)


if __name__ == "__main__":
    sys.exit(main())
