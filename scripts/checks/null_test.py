"""The null test: human controls that differ only in their seed, compared as regimes are.

    python scripts/checks/null_test.py                                        # 200 pairs of 5 + 5 seeds, 2,000 chains
    python scripts/checks/null_test.py --pairs 20 --seeds 3 --workers 0       # a look
    python scripts/checks/null_test.py --json data/results/null.json

A pair is two groups of seeds, no seed in two groups.  One group stands where a regime stands in the results table, the
other where the human control does, and lab.report.tables compares them with the paired 95 % t interval, df = seeds - 1.
There is no difference, so the interval should exclude 0 in 5 % of the pairs.  If it does so more often, the table finds
effects that do not exist; if hardly ever, its intervals are too wide to find any.  The limits are the 0.1 % and 99.9 %
points of the binomial law: of 200 pairs at least 2 and at most 21.  A correct interval misses one of them in 1 test of
1,100.  True rates above 15 % or below 0.15 % are detected 19 times in 20, and z used instead of t 7 times in 10 at 5
seeds, always at 3.

All seeds draw their rows from one train fold, each without replacement and independently of the others: two seeds share
tokens / fold tokens of their rows on average.  This does not disturb the null.  All chains have the fold, the tokenizer
and the test rows in common; given these, the seeds are independent draws of one law, so the two groups of a pair are
exchangeable.  The interval therefore speaks of other draws from this fold, not of other corpora.

It takes 16,004 steps, 11 minutes of one core and 3.4 GB on disk.  After a kill or a stop the same command continues:
the chains are steps in the store.
Exit codes: 0 all rates are within the limits, 1 one is not or a step failed, 2 bad input, 75 stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binom, binomtest

from lab import machine
from lab.config.files import load_study, parse_study
from lab.config.model import NgramConfig
from lab.errors import InputError
from lab.loop import Study, build
from lab.metrics.columns import BY_NAME
from lab.metrics.stats import Interval
from lab.report.lines import CONTROL, lines
from lab.report.render import markdown_table
from lab.run.executors import execute
from lab.run.folder import RunFolder
from lab.run.progress import clock
from lab.store.step import Step

LEVEL = 0.05
"""Share of true nulls that a 95 % interval rejects."""
TAIL = 0.001
"""Probability that a correct interval rejects more often than the upper limit, and the same for the lower one."""
SMALLER = (3, 2)
"""Group sizes that are tested as well, on the first seeds of each group."""
TESTED = (
    "perplexity",
    "bits_per_byte",
    "nll_rare",
    "nll_common",
    "distinct_2",
    "rare_survival",
    "entropy",
    "zipf",
    "self_bleu",
)
STOPPED = 75

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Rate:
    """How often the interval of one metric excluded 0."""

    metric: str
    seeds: int
    """Number of seeds in each of the two groups of a pair."""
    pairs: int
    rejected: int

    @property
    def rate(self) -> float:
        return self.rejected / self.pairs

    @property
    def interval(self) -> tuple[float, float]:
        """The exact 95 % interval of the true rate (Clopper & Pearson 1934)."""
        exact = binomtest(self.rejected, self.pairs).proportion_ci(0.95, method="exact")
        return float(exact.low), float(exact.high)

    @property
    def within(self) -> bool:
        low, high = limits(self.pairs)
        return low <= self.rejected <= high


def limits(pairs: int) -> tuple[int, int]:
    """Return the fewest and most rejections of so many true nulls, each exceeded with probability <= 0.1 %.

    Example: limits(200) == (2, 21).
    """
    return int(binom.ppf(TAIL, pairs, LEVEL)), int(binom.ppf(1 - TAIL, pairs, LEVEL))


def compared(first: Rows, second: Rows, metrics: Sequence[str]) -> dict[str, Interval]:
    """Compare two groups as lab.report.tables does: `first` as a regime, `second` as its human control.

    Each group has one row of the results table per seed.  The groups are paired in order.

    Returns:
        The interval of each metric.

    Raises:
        ValueError: a bound is missing, which would count as "not rejected".
    """
    groups = (("other", first), (CONTROL, second))
    table = [{**row, "regime": name, "seed": k} for name, group in groups for k, row in enumerate(group)]
    found = {line.metric: line.against_reference() for line in lines(table, metrics) if line.regime != CONTROL}
    missing = [metric for metric, interval in found.items() if interval is None or math.isnan(interval.low)]
    if missing or len(first) != len(second):
        raise ValueError(f"no interval of {', '.join(missing)} from {len(first)} and {len(second)} rows")
    return {metric: interval for metric, interval in found.items() if interval is not None}


def rates(pairs: Sequence[tuple[Rows, Rows]], metrics: Sequence[str], seeds: int) -> list[Rate]:
    """Count the rejections over the pairs, by metric, from the first `seeds` rows of each group."""
    intervals = [compared(first[:seeds], second[:seeds], metrics) for first, second in pairs]
    return [
        Rate(metric, seeds, len(pairs), sum(not x[metric].low <= 0 <= x[metric].high for x in intervals))
        for metric in metrics
    ]


def paired(rows: Rows, pairs: int, seeds: int) -> list[tuple[Rows, Rows]]:
    """Pair the last generation of seeds 0 .. k - 1 with that of k .. 2k - 1, the next 2k likewise, and so on."""
    last = max(row["generation"] for row in rows)
    by_seed = [row for row in sorted(rows, key=lambda row: row["seed"]) if row["generation"] == last]
    if [row["seed"] for row in by_seed] != list(range(2 * pairs * seeds)):
        raise ValueError(f"{2 * pairs * seeds} chains were wanted, one for each seed from 0; there are {len(by_seed)}")
    groups = [by_seed[first : first + seeds] for first in range(0, len(by_seed), seeds)]
    return list(zip(groups[::2], groups[1::2], strict=True))


class Tally:
    """A Reporter (see lab/run/walk.py) that prints a line per 5 % of the steps."""

    def __init__(self, steps: int) -> None:
        self.steps, self.done, self.made, self.start = steps, 0, 0, time.monotonic()

    def found(self, step: Step) -> None:
        self.done += 1

    def started(self, step: Step) -> None:
        pass

    def advanced(self, step: Step, tokens: int) -> None:
        pass

    def finished(self, step: Step, seconds: float) -> None:
        self.done, self.made = self.done + 1, self.made + 1
        if self.done * 20 // self.steps > (self.done - 1) * 20 // self.steps:
            spent = time.monotonic() - self.start
            left = spent / self.made * (self.steps - self.done)
            print(
                f"{self.done:,} of {self.steps:,} steps, {clock(spent)}, about {clock(left)} left",
                file=sys.stderr,
                flush=True,
            )

    def noted(self, message: str) -> None:
        print(f"note: {message}", file=sys.stderr)

    def failed(self, step: Step, reason: str, trace: str) -> None:
        print(f"failed: {step.label}: {reason}", file=sys.stderr, flush=True)


def chains(options: argparse.Namespace) -> tuple[Study, RunFolder]:
    """Build the graph of all chains and the run folder, named after its size; runs of other sizes share the store."""
    config = load_study(options.study, options.overrides)
    if [regime.label for regime in config.regimes] != [CONTROL] or config.sweep is not None:
        raise InputError(f"a null test takes human controls alone; {config.name} has other regimes, or a sweep")
    name = f"{config.name}-{options.pairs}x{options.seeds}"
    seeds = list(range(2 * options.pairs * options.seeds))
    study = build(parse_study({**config.model_dump(mode="json"), "name": name, "seeds": seeds}))
    folder = RunFolder(options.checkpoints / name)
    folder.check_extends(study.config)
    return study, folder


def run(study: Study, folder: RunFolder, workers: int) -> tuple[Rows, Tally]:
    """Run every chain with the lab's executor and return the rows of results.csv; RuntimeError if a step failed."""
    folder.begin(study, {"versions": machine.versions(), "cpu": machine.cpu_name(), **study.machine.__dict__})
    tally, threads = Tally(len(study.steps)), study.machine.threads
    failures = execute(
        folder.store,
        study.steps,
        tally,
        workers=workers,
        threads=threads,
        fresh=frozenset(),
        log=folder.path / "workers.log",
    )
    folder.link(study.generations, folder.store)
    folder.write_tables(study, folder.store)
    if failures:
        raise RuntimeError(f"{len(failures)} steps failed; the same command goes on")
    return folder.results(), tally


def overlap(study: Study, folder: RunFolder) -> tuple[int, int] | None:
    """Return the rows of a seed and of the fold that it draws them from; None if a source makes new rows per seed."""
    for step in study.steps:
        if step.name == "rows":
            fold = np.load(folder.store.folder(step.name, step.key) / "train.npy", mmap_mode="r")
            return study.config.rows(study.config.corpus.tokens), len(fold)
    return None


def describe(study: Study, pairs: int, shared: tuple[int, int] | None) -> str:
    """Return the conditions that every result must state."""
    config, model = study.config, study.config.model
    name = f"{model.order}-gram, smoothing {model.smoothing}" if isinstance(model, NgramConfig) else model.kind
    low, high = limits(pairs)
    draws = "each seed's rows are new"
    if shared is not None:
        drawn, fold = shared
        draws = (
            f"{drawn:,} of the train fold's {fold:,} rows a seed, so two seeds share {drawn / fold:.1%} of their rows"
        )
    return (
        f"null: {name}, rows of {model.n_positions} tokens; {config.corpus.tokens:,} human tokens a seed from "
        f"{config.corpus.title} ({draws} on average); {config.sample.tokens:,} sampled at {config.sample.title}; test "
        f"{config.metrics.test_tokens:,} tokens; generation {config.generations - 1}; seeds 0 to {config.seeds[-1]}, "
        f"{pairs} pairs of disjoint groups; rejected: 0 outside the paired 95 % t interval; limits {low} and {high} of "
        f"{pairs} (binomial, {TAIL:.1%} and {1 - TAIL:.1%}); rate with its exact 95 % interval"
    )


def table(found: Sequence[Rate]) -> str:
    """Return a Markdown table with a line per metric and a column per group size."""
    sizes = sorted({rate.seeds for rate in found}, reverse=True)
    rows: dict[str, dict[int, str]] = {}
    for rate in found:
        rows.setdefault(rate.metric, {})[rate.seeds] = cell(rate)
    body = [[metric, *(cells[k] for k in sizes)] for metric, cells in rows.items()]
    return markdown_table(["metric", *(f"{k} + {k} seeds" for k in sizes)], body, "lr")


def cell(rate: Rate) -> str:
    """Return the text of a rate: cell(Rate("nll", 5, 200, 9)) == "9 of 200: 4.5% [2.1%, 8.4%]"."""
    low, high = rate.interval
    mark = "" if rate.within else " OUTSIDE"
    return f"{rate.rejected} of {rate.pairs}: {rate.rate:.1%} [{low:.1%}, {high:.1%}]{mark}"


def as_json(study: Study, found: Sequence[Rate], shared: tuple[int, int] | None, tally: Tally, spent: float) -> str:
    low, high = limits(found[0].pairs)
    config = study.config.model_dump(mode="json")
    data = {
        "study": {**config, "seeds": f"0 .. {config['seeds'][-1]}"},
        "pairs": found[0].pairs,
        "limits": {"fewest": low, "most": high, "tail": TAIL},
        "rows": None if shared is None else {"seed": shared[0], "fold": shared[1], "shared": shared[0] / shared[1]},
        "rates": [
            {
                "metric": rate.metric,
                "seeds": rate.seeds,
                "rejected": rate.rejected,
                "rate": rate.rate,
                "low": rate.interval[0],
                "high": rate.interval[1],
                "within": rate.within,
            }
            for rate in found
        ],
        "made": {"steps": tally.made, "of": tally.steps, "seconds": round(spent, 1)},
        "versions": machine.versions(),
        "cpu": machine.cpu_name(),
    }
    return json.dumps(data, indent=1) + "\n"


def parser_of(description: str) -> argparse.ArgumentParser:
    """Return the options that tests of pairs of controls share."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", default="null", help="of human controls (default: scripts/studies/null.yaml)")
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=5, help="in each of the two groups of a pair")
    parser.add_argument("--checkpoints", type=Path, default=Path("checkpoints"))
    parser.add_argument("--workers", type=int, default=machine.cpu_cores(), help="0: in this process")
    parser.add_argument("--set", action="append", default=[], dest="overrides", help="as of lab run")
    parser.add_argument("--json", type=Path, help="write the rates here")
    return parser


def checked(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of a command line; a number that is too small ends the program."""
    options = parser.parse_args(arguments)
    if options.pairs < 1 or options.seeds < 2 or options.workers < 0:
        parser.error("--pairs is at least 1, --seeds at least 2 (one seed has no interval), --workers at least 0")
    return options


def group_sizes(options: argparse.Namespace) -> list[int]:
    """Return the sizes of the two groups of a pair that are tested, the largest first."""
    return [options.seeds, *(k for k in SMALLER if k < options.seeds)]


@dataclass(frozen=True)
class Outcome:
    """What a test of pairs of controls found."""

    table: str
    """Markdown."""
    within: bool
    """Whether all counts are within their limits."""
    json: Callable[[float], str]
    """Takes the seconds that were spent."""
    said: str = ""
    """One more line after the table."""


def conclude(options: argparse.Namespace, judged: Callable[[Study, RunFolder, Rows, Tally], Outcome]) -> int:
    """Run the chains, print and write what `judged` finds in them, and return the exit code."""
    start = time.monotonic()
    try:
        study, folder = chains(options)
        rows, tally = run(study, folder, options.workers)
        found = judged(study, folder, rows, tally)
    except KeyboardInterrupt:
        print("stopped; run the same command again to go on", file=sys.stderr)
        return STOPPED
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (RuntimeError, ValueError) as error:  # a step failed, or a number or a chain is missing
        print(f"error: {error}", file=sys.stderr)
        return 1
    spent = time.monotonic() - start
    print(f"{found.table}\n{describe(study, options.pairs, overlap(study, folder))}")
    if found.said:
        print(found.said)
    print(f"{clock(spent)} for {tally.made:,} of {tally.steps:,} steps with {options.workers} workers", file=sys.stderr)
    if options.json is not None:
        options.json.write_text(found.json(spent))
    return int(not found.within)


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--metric", action="append", dest="metrics", help=f"repeatable (default: {', '.join(TESTED)})")
    options = checked(parser, arguments)
    if not options.metrics:
        options.metrics = list(TESTED)
    for name in options.metrics:
        if name not in BY_NAME:
            parser.error(f'unknown metric "{name}"; there are {", ".join(BY_NAME)}')
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    options = parsed(arguments)

    def judged(study: Study, folder: RunFolder, rows: Rows, tally: Tally) -> Outcome:
        groups = paired(rows, options.pairs, options.seeds)
        found = [rate for k in group_sizes(options) for rate in rates(groups, options.metrics, k)]
        outside = [f"{rate.metric} ({rate.seeds} seeds)" for rate in found if not rate.within]
        said = [f"{len(found) - len(outside)} of {len(found)} rates within the limits", *outside]
        shared = overlap(study, folder)
        return Outcome(
            table(found),
            not outside,
            lambda spent: as_json(study, found, shared, tally, spent),
            "; outside: ".join(said),
        )

    return conclude(options, judged)


if __name__ == "__main__":
    sys.exit(main())
