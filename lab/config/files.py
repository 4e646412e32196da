"""Read studies from files: shipped names, YAML, `extends`, `--set a.b=c` overrides, and faults in one line.

A study file may say `extends: NAME`, where NAME is a shipped study, or `extends: base.yaml`, a file relative to its own
folder.  It then gives only what differs:

    base.yaml                                  mine.yaml
    name: base                                 extends: base.yaml
    seeds: [0, 1]                              name: mine
    train: {lr: 1e-3, batch_rows: 4}           train: {lr: 2e-3}      the other fields of train stay
    sweep: {sample.top_k: [5, 50]}             sweep: null            a null removes the field

Groups of fields are merged at every depth; lists and single values are replaced.  `name`, `note` and `published`
describe one study and are never taken over.  A run stores the resolved study, so `extends` changes no key.
"""

from __future__ import annotations

import difflib
import glob
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from lab.config import strict_yaml as strictyaml
from lab.config.faults import explain
from lab.config.study import StudyConfig
from lab.config.text import CorpusConfig
from lab.errors import InputError

OF_ONE_STUDY = ("name", "note", "published")
"""Fields that a study does not take over from the one that it extends."""
ROOT = Path(__file__).resolve().parents[2]
STUDIES = ROOT / "scripts" / "studies"
SUFFIXES = (".yaml", ".yml")


def study_names() -> list[str]:
    """Return the names of the shipped studies.  A file such as _small.yaml is a base for others and no study."""
    return sorted(path.stem for path in STUDIES.glob("*.yaml") if not path.stem.startswith("_"))


def load_study(study: str, overrides: Sequence[str] = ()) -> StudyConfig:
    """Load a shipped study by name or a YAML file by path, with `a.b=value` overrides.

    Raises:
        InputError: the study is missing, unreadable or wrong, in one line.
    """
    return parse_study(study_fields(study, overrides))


def study_fields(study: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Read the fields of a study as they are given, with overrides.  InputError: it is missing or unreadable."""
    data = read_study(_study_path(study))
    for override in overrides:
        _override(data, override)
    return data


def overridden(config: StudyConfig, overrides: Sequence[str]) -> StudyConfig:
    """Return a study with some fields changed: ["train.lr=0.001"].  InputError: it is not valid then."""
    data = config.model_dump(mode="json")
    for override in overrides:
        _override(data, override)
    return parse_study(data)


def parse_study(data: Mapping[str, Any]) -> StudyConfig:
    """Build a study from its fields.  InputError in one line where they are wrong."""
    return _parse(StudyConfig, data)


def parse_corpus(data: Mapping[str, Any]) -> CorpusConfig:
    """Build the `corpus` section alone from its fields.  InputError in one line where they are wrong."""
    return _parse(CorpusConfig, data)


Model = TypeVar("Model", bound=BaseModel)


def _parse(kind: type[Model], data: Mapping[str, Any]) -> Model:
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise InputError(explain(error, data, study=kind is StudyConfig)) from None


def _study_path(study: str) -> Path:
    if study in study_names():
        return STUDIES / f"{study}.yaml"
    path = Path(study)
    if os.path.isfile(path):  # Path.is_file raises for a name that is too long
        return path
    shipped = ", ".join(study_names())
    if path.suffix in SUFFIXES or "/" in study:
        raise InputError(f"no study file {study:.200}{_meant(study, Path()) or f'; shipped studies: {shipped}'}")
    raise InputError(f'no study "{study}"{_meant(study, Path()) or f"; shipped: {shipped}, or give a YAML file"}')


def _meant(given: str, folder: Path) -> str:
    """Return ' - did you mean "my.yaml"?' for a study whose name is close, looked for in and beside `folder`.

    Another suffix and another folder are as good as the right one.
    """
    path = folder / given
    places = [place for place in dict.fromkeys((path.parent, folder)) if os.path.isdir(place)]
    files = [file for place in places for file in sorted(place.glob("*.y*ml"))]
    files += sorted(folder.glob(f"*/{glob.escape(path.stem)}.y*ml"))
    names = {name: name for name in study_names()}
    for file in files:
        names.setdefault(file.stem, str(file.relative_to(folder) if file.is_relative_to(folder) else file))
    close = difflib.get_close_matches(path.stem, names, n=1, cutoff=0.6)
    return f' - did you mean "{names[close[0]]}"?' if close else ""


def read_study(path: Path) -> dict[str, Any]:
    """Read the fields of a study file, merged over those of the studies that it extends.  InputError in one line."""
    layers, read = [read_yaml(path)], [path]
    while "extends" in layers[-1]:
        path = _parent_path(path, layers[-1].pop("extends"))
        if path.resolve() in {earlier.resolve() for earlier in read}:
            circle = " -> ".join(each.name for each in (*read, path))
            raise InputError(f"{read[0]}: the studies extend each other in a circle: {circle}")
        layers.append(read_yaml(path))
        read.append(path)
    data = layers.pop()
    while layers:
        inherited = {name: value for name, value in data.items() if name not in OF_ONE_STUDY}
        data = _merged(inherited, layers.pop())
    return data


def _parent_path(path: Path, parent: Any) -> Path:
    """Return the file of the study that the study file `path` extends."""
    if not isinstance(parent, str):
        raise InputError(f"{path}: extends is {parent!r:.80}; give the name of one shipped study or of one YAML file")
    if parent in study_names():
        return STUDIES / f"{parent}.yaml"
    file = path.parent / parent
    if Path(parent).suffix not in SUFFIXES:
        hint = _meant(parent, path.parent) or f"; shipped: {', '.join(study_names())}, or give a YAML file"
        raise InputError(f'{path} extends "{parent}", which is no shipped study{hint}')
    if not os.path.isfile(file):  # Path.is_file raises for a name that is too long
        raise InputError(f"{path} extends {parent:.200}, but there is no file {file}{_meant(parent, path.parent)}")
    return file


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with `changes`: groups are merged, other values replaced, and None removes a field.

    _merged({"a": {"x": 1, "y": 2}, "b": 3}, {"a": {"y": 4}, "b": None}) == {"a": {"x": 1, "y": 4}}
    """
    merged = dict(base)
    for name, value in changes.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, Mapping):
            old = merged.get(name)
            merged[name] = _merged(old if isinstance(old, Mapping) else {}, value)
        else:
            merged[name] = value
    return merged


def read_yaml(path: Path) -> dict[str, Any]:
    """Read one YAML file of study fields as it stands.  InputError where it is unreadable or no mapping."""
    try:
        data = strictyaml.read_file(path)
    except (*strictyaml.ERRORS, OSError) as error:
        said = str(error).replace('in "<unicode string>", line', "at line")
        raise InputError(f"{path} is not readable YAML: {said}") from error
    if not isinstance(data, dict):
        held = "nothing" if data is None else "a list" if isinstance(data, list) else "a single value"
        raise InputError(f"{path} holds {held}, not study fields such as seeds, corpus, model")
    return data


def _override(data: dict[str, Any], override: str) -> None:
    """Set one dotted field in place.  `corpus=PATH` is short for `corpus.path=PATH`."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise InputError(f'--set "{override}" is not of the form field=value, such as train.lr=1e-3 or seeds=[0,1]')
    try:
        value = strictyaml.read(text)
    except strictyaml.ERRORS as error:
        raise InputError(f'--set "{override}": the value is not YAML: {error}') from error
    path = ["corpus", "path"] if key == "corpus" and isinstance(value, str) else key.split(".")
    node = data
    for name in path[:-1]:
        if node.get(name) is None:  # a section that the study leaves out, or has as null
            node[name] = {}
        node = node[name]
        if not isinstance(node, dict):
            raise InputError(f'--set "{override}": {name} is a value, not a group of fields')
    node[path[-1]] = value


def difference(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return a line "field: old -> new" for every single value in which two resolved studies differ."""
    lines = []
    for key in sorted({*old, *new}):
        a, b, name = old.get(key), new.get(key), f"{prefix}{key}"
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            lines += difference(a, b, f"{name}.")
        elif a != b:
            lines.append(f"{name}: {a} -> {b}")
    return lines
