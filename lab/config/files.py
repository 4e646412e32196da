"""Studies as files: shipped names, YAML, `--set a.b=c` overrides, and faults said in one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from lab.config import strict_yaml as strictyaml
from lab.config.fields import Frozen
from lab.config.model import MODELS
from lab.config.study import StudyConfig
from lab.config.text import CORPORA, CorpusConfig
from lab.errors import InputError
from lab.lookup import suggestion

UNIONS: dict[str, dict[str, type[Frozen]]] = {"corpus": CORPORA, "model": MODELS}
"""The sections of a study that come in several kinds."""
ROOT = Path(__file__).resolve().parents[2]
STUDIES = ROOT / "scripts" / "studies"


def study_names() -> list[str]:
    return sorted(path.stem for path in STUDIES.glob("*.yaml"))


def load_study(study: str, overrides: Sequence[str] = ()) -> StudyConfig:
    """A shipped study's name or a YAML file, with `a.b=value` overrides.  InputError in one line otherwise."""
    data = read_yaml(_study_path(study))
    for override in overrides:
        _override(data, override)
    return parse_study(data)


def parse_study(data: Mapping[str, Any]) -> StudyConfig:
    """A study from its fields.  InputError in one line otherwise."""
    return _parse(StudyConfig, data)


def parse_corpus(data: Mapping[str, Any]) -> CorpusConfig:
    """The same of a corpus alone."""
    return _parse(CorpusConfig, data)


Model = TypeVar("Model", bound=BaseModel)


def _parse(kind: type[Model], data: Mapping[str, Any]) -> Model:
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise InputError(_explain(error)) from None


def _study_path(study: str) -> Path:
    if study in study_names():
        return STUDIES / f"{study}.yaml"
    path = Path(study)
    if path.is_file():
        return path
    if path.suffix in (".yaml", ".yml") or "/" in study:
        raise InputError(f"no study file {study}; shipped studies: {', '.join(study_names())}")
    hint = suggestion(study, study_names()) or f"; shipped: {', '.join(study_names())}, or give a YAML file"
    raise InputError(f'no study "{study}"{hint}')


def read_yaml(path: Path) -> dict[str, Any]:
    try:
        data = strictyaml.read_file(path)
    except (*strictyaml.ERRORS, OSError) as error:
        raise InputError(f"{path} is not readable YAML: {error}") from error
    if not isinstance(data, dict):
        raise InputError(f"{path} holds {type(data).__name__}, not study fields such as seeds, corpus, model")
    return data


def _override(data: dict[str, Any], override: str) -> None:
    """Set one dotted field.  `corpus=PATH` is short for `corpus.path=PATH`."""
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
        node = node.setdefault(name, {})
        if not isinstance(node, dict):
            raise InputError(f'--set "{override}": {name} is a value, not a group of fields')
    node[path[-1]] = value


def _explain(error: ValidationError) -> str:
    """The first fault in one line, with a suggestion for an unknown key."""
    fault = error.errors()[0]
    loc = [str(part) for part in fault["loc"]]
    kinds = UNIONS.get(loc[0] if loc else "", {})
    where = ".".join(loc[:1] + loc[2:] if loc[1:2] and loc[1] in kinds else loc)
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if fault["type"] == "extra_forbidden":
        allowed, key = _fields(loc[:-1]), loc[-1]
        return f'unknown key "{where}"{suggestion(key, allowed) or "; allowed here: " + ", ".join(allowed)}{more}'
    if fault["type"] == "union_tag_invalid":
        kind = str(fault["ctx"]["tag"])
        return f'unknown {where}.kind "{kind}"{suggestion(kind, kinds) or "; allowed: " + ", ".join(kinds)}{more}'
    if fault["type"] == "missing":
        return f'"{where}" is missing from the study{more}'
    said = fault["msg"].removeprefix("Value error, ").replace("valid tuple", "list, such as [0, 1]")
    if fault["type"] in ("model_type", "model_attributes_type", "union_tag_not_found"):
        said = "expected a group of fields"
    if fault["type"] == "value_error" and isinstance(fault["input"], Mapping):
        return f"{where + ': ' if where else ''}{said}{more}"
    return f'"{where}" is {fault["input"]!r:.80}: {said[0].lower()}{said[1:]}{more}'


def _fields(parents: Sequence[str]) -> list[str]:
    """The keys allowed at a place; the place of a section that comes in kinds names its kind too."""
    model: type[BaseModel] = StudyConfig
    kinds: Mapping[str, type[BaseModel]] = {}
    for name in parents:
        if name in kinds:
            model, kinds = kinds[name], {}
        elif name in UNIONS:
            kinds = UNIONS[name]
        else:
            inner = model.model_fields[name].annotation
            parts = [inner, *get_args(inner)]
            model = next(part for part in parts if isinstance(part, type) and issubclass(part, BaseModel))
    return list(model.model_fields)


def difference(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Lines "field: old -> new" for every leaf in which two resolved studies differ."""
    lines = []
    for key in sorted({*old, *new}):
        a, b, name = old.get(key), new.get(key), f"{prefix}{key}"
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            lines += difference(a, b, f"{name}.")
        elif a != b:
            lines.append(f"{name}: {a} -> {b}")
    return lines
