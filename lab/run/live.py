"""Numbers as they come: a line for each generation that is measured, and the tables of all that are."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace

from lab.config.sweep import label
from lab.loop import Generation, Study
from lab.metrics.columns import column
from lab.run.folder import RunFolder
from lab.run.records import read_record
from lab.store.step import Step

SHOWN = {
    "text": {"perplexity": "perplexity", "rare_survival": "rare words kept"},
    "source": {"excess_nll": "excess loss", "heterozygosity": "heterozygosity"},
}
"""Columns of a line, by kind of corpus, with what they are called there."""
CONTROL = "human"
EACH = 36
"""Generations up to which the tables are written after each one; later, when they have grown by about a quarter."""


class Live:
    """What is told of a generation when it is measured."""

    def __init__(self, study: Study, folder: RunFolder) -> None:
        self.study, self.folder, self.store = study, folder, replace(folder.store, note=lambda message: None)
        self.shown = SHOWN["text" if study.config.corpus.kind == "text" else "source"]
        self.chains: dict[Step, list[Generation]] = defaultdict(list)
        for generation in study.generations:
            self.chains[generation.record].append(generation)
        self.controls = {(g.arm.label, g.seed, g.t): g for g in study.generations if g.regime == CONTROL}
        self.names = max(len(label(g.regime, g.arm.axes)) for g in study.generations)
        self.told, self.due = 0, 1
        self.unlinked = list(study.generations)  # later those alone that were measured after the last links
        self.records = {step for step in self.chains if self.store.manifest(step.name, step.key) is not None}
        """The records that are in the store: the tables of thousands of generations look for no other one."""

    def measured(self, step: Step) -> str | None:
        """Write the links and tables so far, and return a line with the numbers of a generation; None for another step.

        >>> live.measured(record)
        'replace     seed 1  gen 2  perplexity 182.4 (human 106.8)  rare words kept 6.7 %'

        The control's number stands beside the first only, so that the line fits a terminal.
        """
        generations = self.chains.get(step)
        if generations is None:
            return None
        self.told += 1
        self.records.add(step)
        self.unlinked += generations
        if self.told >= self.due:
            self._write()
        first = generations[0]
        record = read_record(self.store, first)
        if record is None:
            return None
        control = self.controls.get((first.arm.label, first.seed, first.t))
        human = read_record(self.store, control) if control and control.record != step else None
        regime = first.regime if len(generations) == 1 else "all regimes"
        name = label(regime, first.arm.axes if all(g.arm.axes == first.arm.axes for g in generations) else {})
        beside = [human and human["columns"], *[None] * (len(self.shown) - 1)]
        numbers = [self._number(*each, record["columns"]) for each in zip(self.shown, beside, strict=True)]
        return "  ".join([f"{name:<{self.names}}  seed {first.seed}  gen {first.t}", *filter(None, numbers)])

    def _write(self) -> None:
        """Write the tables and the links of what was measured since the last time; the first time, of all."""
        self.folder.link(self.unlinked, self.store)
        self.folder.write_tables(self.study, self.store, self.records)
        self.unlinked, self.due = [], self.told + max(1, (self.told - EACH) // 4)

    def _number(self, name: str, human: Mapping[str, float | None] | None, columns: Mapping[str, float | None]) -> str:
        """Return one column in words, beside the control's where there is one: "perplexity 182.4 (human 106.8)"."""
        value = _text(name, columns[name])
        beside = f" (human {_text(name, human[name])})" if human and value else ""
        return f"{self.shown[name]} {value}{beside}" if value else ""


def _text(name: str, value: float | None) -> str:
    """Return a number as the headline table writes it; empty where there is none."""
    short = column(name).short
    assert short is not None, name
    if value is None or math.isnan(value):
        return ""
    return f"{100 * value:.{short.digits}f} %" if short.percent else f"{value:,.{short.digits}f}"
