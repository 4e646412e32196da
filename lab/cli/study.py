"""What `lab run` and `lab plan` do alike: the list of studies, the study that is asked for, and its checks."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import typer

from lab.cli.terminal import BAD_INPUT, print_table, warn
from lab.errors import InputError

WORKERS = 2
"""Workers for which the list of studies says how long each takes."""
LONGEST = 70
"""Characters of a study's note in that list."""


def prepare(
    study: str | None,
    overrides: Sequence[str],
    run: str | None,
    checkpoints: Path,
    fresh: Sequence[str],
    *,
    aside: bool,
) -> tuple[Any, Any]:
    """Return the graph of a study and the folder of its run, checked as far as is possible before text is read.

    `aside`: whether a damaged config.yaml may be moved aside.  InputError: what is wrong.
    """
    from lab.config.files import parse_study
    from lab.config.sweep import arms
    from lab.lookup import lookup
    from lab.loop import build, check_own_regimes, load_whole
    from lab.run.folder import RunFolder
    from lab.steps import STEPS
    from lab.steps.curation.archived import used_up
    from lab.steps.evidence.labels import check_labels

    if study is None:
        list_studies()
    config = load_whole(study, overrides)
    if run is not None:
        config = parse_study({**config.model_dump(mode="json"), "name": run})
    config, notes = _own_text(config, overrides)
    for kind in fresh:
        lookup("step", kind, STEPS)
    folder = RunFolder(checkpoints / config.name)
    folder.check_place()
    notes += filter(None, [folder.check_extends(config, aside=aside)])
    config = _with_profile(config, folder)
    graph = build(config)
    folder.check_content(graph)
    check_own_regimes(graph)
    for arm in arms(config):
        check_labels(arm.config)
    notes += filter(None, [used_up(arm.config) for arm in arms(config)])
    for note in dict.fromkeys(notes):
        warn(f"note: {note}")
    return graph, folder


def _with_profile(config: Any, folder: Any) -> Any:
    """Return the study with the profile that `lab profile` has added to its run, where the study names none."""
    try:
        before = folder.config().profile
    except InputError:  # no run yet, or a damaged one
        return config
    return config if config.profile or before is None else config.model_copy(update={"profile": before})


def _own_text(config: Any, overrides: Sequence[str]) -> tuple[Any, list[str]]:
    """Leave out the columns that a study names for its own text, where --set gives another text that has none of them.

    Columns that --set names stay.
    """
    from lab.config.files import parse_study
    from lab.text.readers import lacking

    given = {override.partition("=")[0].strip() for override in overrides}
    if config.corpus.kind != "text" or not given & {"corpus", "corpus.path"}:
        return config, []
    named = [role for role in ("domain", "author", "group") if f"corpus.{role}" not in given]
    absent = lacking(config.corpus, named)
    if not absent:
        return config, []
    fields = config.model_dump(mode="json")
    fields["corpus"] |= dict.fromkeys(absent)
    columns = ", ".join(f"corpus.{role}" for role in absent)
    note = f"{columns} of the study left out, because {config.corpus.path} has no such column"
    return parse_study(fields), [f"{note} (--set corpus.{absent[0]}=COLUMN names one)"]


def list_studies() -> NoReturn:
    """Print the shipped studies, a line each, and end with the exit code of bad input."""
    from lab.config.files import load_study, study_names
    from lab.run.plan import guess_seconds
    from lab.run.progress import clock

    cells, measured = [], _measured()
    for name in study_names():
        config = load_study(name)
        time = _needs(config) or measured.get(name) or f"about {clock(guess_seconds(config, WORKERS))}"
        cells.append([name, time, _first_sentence(config.note)])
    print_table(("study", f"on {WORKERS} cores (about: a guess)", "what it is"), cells)
    warn("error: which study? Give one of these, or a YAML file of yours (lab new my-study.yaml writes one)", "red")
    raise typer.Exit(BAD_INPUT)


def _measured() -> dict[str, str]:
    """Return the times of studies that were measured, by kind of processor, as the README has them."""
    from lab.config.files import ROOT

    try:
        first, *others = json.loads((ROOT / "data/results/timing.json").read_text(encoding="utf-8"))["processors"]
        return {
            name: "; ".join([time, *(f"{other['processor']}: {other[name]}" for other in others if name in other)])
            for name, time in first.items()
            if name != "processor"
        }
    except (OSError, ValueError, KeyError):  # a copy of the lab without its results
        return {}


def _needs(config: Any) -> str:
    """Return what a study needs that a machine may lack; nothing where it runs on any."""
    from lab.config.files import ROOT

    path = getattr(config.corpus, "path", "")
    local = Path(path).suffix or Path(path).exists() or (ROOT / path).exists()
    hub = config.model.kind == "pretrained" or (path.count("/") == 1 and not local)
    needs = ["a GPU"] * (config.compute.device == "cuda" or hub) + ["the hub"] * hub
    return f"needs {' and '.join(needs)}" if needs else ""


def _first_sentence(note: str) -> str:
    return textwrap.shorten(note.partition(". ")[0].rstrip("."), LONGEST, placeholder=" ...")
