"""The shipped studies: what each is and costs, and what the small versions of published experiments found."""

from __future__ import annotations

import json

from lab.config.files import load_study, study_names
from lab.config.study import PublishedNumbers, StudyConfig
from lab.config.sweep import arms
from lab.report.compare import AGREES
from pages.writing import RESULTS, cell, filled, table


def _models(config: StudyConfig) -> int:
    """Return the number of models: generation 0 is shared by the regimes of an arm and seed."""
    chains = ((arm.config, len(arm.config.seeds)) for arm in arms(config))
    return sum(seeds * arm.population * (1 + len(arm.regimes) * (arm.generations - 1)) for arm, seeds in chains)


def _row(name: str) -> list[str]:
    config = load_study(name)
    regimes = ", ".join(dict.fromkeys(regime.label for arm in arms(config) for regime in arm.config.regimes))
    swept = f"; {len(arms(config))} arms" if len(arms(config)) > 1 else ""
    size = f"{config.generations} x {len(config.seeds)}"
    return [
        f"[{name}]({name}.yaml)",
        cell(config.note),
        cell(config.model.title),
        size,
        cell(regimes + swept),
        f"{_models(config):,}",
    ]


def _list(names: list[str]) -> str:
    head = ["study", "what it is", "model", "generations x seeds", "regimes", "models"]
    return table(head, map(_row, names), right=(5,))


def _published(name: str) -> bool:
    return name[-4:].isdigit() or "-20" in name


def own() -> str:
    """Return the table of the lab's own studies."""
    return _list([name for name in study_names() if not _published(name)])


def full() -> str:
    """Return the table of published experiments at their full size."""
    return _list([name for name in study_names() if _published(name) and not name.endswith("-mini")])


def minis() -> str:
    """Return the table of published experiments in small."""
    return _list([name for name in study_names() if _published(name) and name.endswith("-mini")])


def papers() -> str:
    """Return what each published study repeats, and what it does differently."""
    found = []
    for name in study_names():
        published = load_study(name).published
        if published and not name.endswith("-mini"):
            text = f"- **{name}**: {published.paper}. Published: {published.table}. What differs: {published.differs}"
            found.append(filled(text, indent="  "))
            found += [f"  - {_numbers(line)}" for line in published.numbers]
    return "\n".join(found)


def _numbers(line: PublishedNumbers) -> str:
    """Return one published line: "replace, nll: generation 0 1.81, 1 2.07"."""
    axes = "".join(f", {name} {value}" for name, value in line.axes.items())
    values = ", ".join(f"{generation}: {value:g}" for generation, value in sorted(line.values.items()))
    return f"`{line.regime}`{axes}, {line.metric} by generation: {values}"


def directions() -> str:
    """Return what the small versions found, direction by direction."""
    found = json.loads((RESULTS / "experiments.json").read_text(encoding="utf-8"))
    head = ["study (`-mini`)", "generation", "A", "B", "the paper says", "A - B", "95 % interval", "n", "verdict"]
    rows = []
    for row in found["directions"]:
        interval = f"[{row['low']:+.3f}, {row['high']:+.3f}]"
        cells = [row["study"].removesuffix("-mini"), str(row["generation"]), row["a"], row["b"], row["says"]]
        rows.append([*cells, f"{row['mean']:+.3f}", interval, str(row["n"]), row["verdict"]])
    return table(head, rows)


def levels() -> str:
    """Return the loss of every arm of the small versions."""
    found = json.loads((RESULTS / "experiments.json").read_text(encoding="utf-8"))["levels"]
    rows = []
    for row in found:
        study = f"{row['study']} (n = {row['n']})"
        rows.append([study, row["arm"], f"{row['first_mean']:.2f}", f"{row['mean']:.2f}±{row['sd']:.2f}"])
    return table(["study", "arm", "generation 0", "last generation"], rows, right=(2, 3))


def agreement() -> str:
    """Return how many directions agree with their papers."""
    found = json.loads((RESULTS / "experiments.json").read_text(encoding="utf-8"))["directions"]
    agree = sum(row["verdict"] == AGREES for row in found)
    return filled(
        f"""In {agree} of {len(found)} comparisons the small versions of published experiments agree in direction with
        their papers; the rest are undecided at {max(row["n"] for row in found)} seeds."""
    )


PARTS = {
    "own-studies": own,
    "published-studies": full,
    "mini-studies": minis,
    "papers": papers,
    "directions": directions,
    "levels": levels,
    "agreement": agreement,
}
