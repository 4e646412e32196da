"""The step `labels`: columns of the corpus that label documents, for the profile.  Nothing is trained on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lab.config.cost import FILES
from lab.config.profile import LabelConfig
from lab.config.study import StudyConfig
from lab.config.text import CorpusConfig
from lab.errors import InputError, printable
from lab.steps.kind import Folders, Kind, make_step, unkeyed
from lab.steps.place import Place
from lab.steps.text import CORPUS, MODULES
from lab.store.step import Attempt, Step
from lab.text.corpus import read_labels
from lab.text.formats.readers import lacking

FILE = "labels.parquet"


@dataclass(frozen=True)
class LabelsParams:
    corpus: Mapping[str, Any]
    """Fields of CorpusConfig that decide which documents there are."""
    identity: str
    """What the files hold, by content."""
    groups: Mapping[str, Any]
    """Name of a label -> its column, and the width of its periods."""
    path: str = unkeyed()
    revision: str | None = unkeyed()


def labels(place: Place) -> Step | None:
    """Declare the labels that the profile asks for; None where it asks for none."""
    profile = place.study.profile
    if profile is None or not profile.groups:
        return None
    corpus = next(step for step in place.human.human.inputs["rows"].inputs.values() if step.name == CORPUS.name)
    groups = {name: label.model_dump(exclude_none=True) for name, label in profile.groups.items()}
    params = LabelsParams(corpus.params["corpus"], corpus.params["identity"], groups, **corpus.where)
    return make_step(LABELS, params, {}, disk=10 * FILES)


def check_labels(study: StudyConfig) -> None:
    """Raise InputError if the corpus has no such column as a label of the profile names."""
    corpus, profile = study.corpus, study.profile
    if profile is None or not isinstance(corpus, CorpusConfig):
        return
    for name, label in profile.groups.items():
        if lacking(corpus.model_copy(update={"domain": label.column}), ["domain"]):
            raise InputError(f'profile.groups: {corpus.path} has no column "{label.column}", which {name} names')


def load_labels(folder: Path) -> dict[str, dict[str, str]]:
    """Return name of a label -> document -> its value, "" where it has none."""
    table = pq.read_table(folder / FILE)
    documents = table["document"].to_pylist()
    names = [name for name in table.schema.names if name != "document"]
    return {name: dict(zip(documents, table[name].to_pylist(), strict=True)) for name in names}


def period(value: str, width: int, column: str) -> str:
    """Return the period of a number: period("1843", 100, "year") == "1800-1899".  InputError: it is no whole number."""
    try:
        first = int(value) // width * width
    except ValueError:
        raise InputError(
            f'profile.groups: column "{column}" holds "{printable(value)}", and a period needs numbers; leave width out'
        ) from None
    return str(first) if width == 1 else f"{first}-{first + width - 1}"


def _run_labels(params: LabelsParams, inputs: Folders, out: Path, attempt: Attempt) -> None:
    config = CorpusConfig(path=params.path, revision=params.revision, **params.corpus, tokens=1)
    columns: dict[str, list[str]] = {}
    for name, given in params.groups.items():
        label = LabelConfig(**given)
        found = list(read_labels(config, label.column))
        columns["document"] = [document for document, _ in found]
        values = (value for _, value in found)
        columns[name] = [period(v, label.width, label.column) if v and label.width else v for v in values]
    pq.write_table(pa.table(columns), out / FILE)


LABELS = Kind(
    "labels",
    LabelsParams,
    _run_labels,
    ("steps/evidence/labels.py", *MODULES),
    version="1",
    libraries=frozenset({"datasets", "pyarrow"}),
)
