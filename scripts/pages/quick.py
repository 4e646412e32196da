"""The study `quick`, from data/results/results.csv: meaning, tables, times; and the copy of a finished run."""

from __future__ import annotations

import json
import shutil
import textwrap
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

from lab.metrics.columns import headline as headline_columns
from lab.report import headline as report
from lab.report.figure import figure
from lab.report.render import as_markdown
from lab.report.tables import caption
from lab.run.folder import RunFolder
from pages.writing import RESULTS, filled, table

REGIMES = ("replace", "accumulate")


@cache
def _rows() -> list[dict[str, Any]]:
    return RunFolder(RESULTS).results()


def take(run: Path) -> None:
    """Copy the results of a finished run to data/results/: exact.csv, or the tables and the figure of `quick`."""
    if (run / "exact.csv").exists():
        shutil.copyfile(run / "exact.csv", RESULTS / "exact.csv")
        return
    for name in ("results.csv", "config.yaml", "env.json"):
        shutil.copyfile(run / name, RESULTS / name)
    folder = RunFolder(RESULTS)
    config, rows = folder.config(), folder.results()
    seeds = ", ".join(map(str, config.seeds))
    figure(rows, f"{config.name}: {config.corpus.title}, seeds {seeds}", RESULTS / "quick.svg")


def _mean(regime: str, generation: int, column: str) -> float:
    chosen = (row for row in _rows() if (row["regime"], row["generation"]) == (regime, generation))
    return fmean(row[column] for row in chosen)


def _last() -> int:
    return max(row["generation"] for row in _rows())


def reading() -> str:
    """Return two sentences that say what the picture shows."""
    last = _last()
    worse = [_mean(r, last, "perplexity") / _mean("human", last, "perplexity") - 1 for r in REGIMES]
    kept, control = (_mean(regime, last, "rare_survival") for regime in ("replace", "human"))
    fresh = _mean("human", 0, "rare_survival_human")
    assert kept < control / 2, "the sentence below says so"
    return filled(
        f"""A model trained only on its predecessor's text (`replace`) is {worse[0]:.0%} worse on held-out human text
        after {last} generations than the control, which saw human text each time (`human`); keeping the human text and
        adding every sample to it (`accumulate`) costs {worse[1]:.0%}. As much fresh human text holds {fresh:.0%} of
        the rare human words. The control's own text holds {control:.1%}, so a small model loses most of them in one
        step; of what is left, the text of generation {last} under `replace` holds less than half, {kept:.1%}."""
    )


def details() -> str:
    """Return the comparison of rare and common words, and what one step loses."""
    last = _last()
    rare, common = (
        _mean("replace", last, column) - _mean("replace", 0, column) for column in ("nll_rare", "nll_common")
    )
    first, final = (_mean("replace", t, "rare_survival") for t in (0, last))
    return filled(
        f"""Under `replace` the loss inside words that the human text has one to three times grew by {rare:.2f} nats per
        token, the loss inside the commonest words by {common:.2f}. The generated text holds {first:.1%} of the rare
        words at generation 0 and {final:.1%} at generation {last}: a small model loses most of them in one step, and
        collapse takes from what is left."""
    )


def headline() -> str:
    """Return the table that `lab run quick` prints in a terminal of 100 characters, and how to read a row of it."""
    found = report.headline(_rows(), 100)
    legend = textwrap.wrap(found.legend, 100, break_on_hyphens=False)
    shown = textwrap.indent(
        "\n".join([found.title, found.heading, *(line.plain for line in found.body), *legend]), "    "
    )
    last = _last()
    explained = f"""**How to read the row `replace`.** To its model, held-out human text is as surprising as a choice
        among {_mean("replace", last, "perplexity"):.1f} equally likely tokens. The bars draw generations 0 to {last}.
        Then comes the change against the control; a star marks a 95 % interval without 0, and where it is missing, the
        seeds do not decide. Distinct-2 rises because the text of a small model drifts towards noise."""
    return f"{shown}\n\n{filled(explained)}"


def every_generation() -> str:
    """Return the tables that `lab show quick --format md` prints."""
    rows, config = _rows(), RunFolder(RESULTS).config()
    return f"{as_markdown(rows, headline_columns('text'))}\n{caption(config, rows)}."


def _times() -> dict[str, Any]:
    return json.loads((RESULTS / "timing.json").read_text(encoding="utf-8"))


def processors() -> str:
    """Return how long the two studies of the first screen take, by kind of processor."""
    head = ["processor (2 cores, no GPU)", "`smoke`", "`quick`"]
    return table(head, ([row[name] for name in ("processor", "smoke", "quick")] for row in _times()["processors"]))


def times() -> str:
    """Return every measured time, with the machine."""
    found = _times()
    return "\n".join([filled(f"Measured on {found['machine']}:"), "", *(f"- {line}" for line in found["lines"])])


PARTS = {
    "reading": reading,
    "details": details,
    "headline": headline,
    "quick": every_generation,
    "processors": processors,
    "times": times,
}
