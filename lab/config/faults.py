"""What is wrong with a study, in one line: every fault, where it stands, and how it is written right."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from lab.config.model import NETWORKS
from lab.config.study import StudyConfig
from lab.errors import LONGEST_MESSAGE
from lab.lookup import suggestion

LISTS = {
    "seeds": "[0, 1]",
    "regimes": "[human, replace, {mix: {human: 0.25}}]",
    "curators": "[duplicates]",
    "extra": '["my_module:function"]',
    "voices": "[0.7, 0.1, 0.1, 0.1]",
}
"""An example for each field that is a list."""
PLAIN = {
    **dict.fromkeys(("model_type", "model_attributes_type", "union_tag_not_found", "dict_type"), "a group of fields"),
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float", "int_parsing_size"), "a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "a number, such as 0.5, 3 or 3e-3"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false"),
    "string_type": "text, in quotes where it could be a number",
    "too_short": "at least one entry",
    "string_pattern_mismatch": 'letters, digits, ".", "_" and "-", at most 64 and not first one of the last three',
}
"""Types of pydantic's errors -> what is expected, in plain words."""
OPTION = 'expected a number, true, false, or a word of letters, digits, ".", "_" and "-"'
SEVERAL = 3
"""So many missing fields bring the advice to begin with a written study."""


def explain(error: ValidationError, given: Any, *, study: bool = True) -> str:
    """Return all faults in one line: unknown keys, missing fields, and values with what is expected.

    `study`: whether a whole study is given, which may lack sections, and not one section.
    """
    faults: list[Any] = list(error.errors())
    useless = _useless_training(given) if study else ""
    if useless:  # what is missing of it is beside the point
        faults = [fault for fault in faults if fault["loc"][:1] != ("train",)]
    missing = [_path(fault["loc"]) for fault in faults if fault["type"] == "missing"]
    if study and all(fault["loc"] for fault in faults):  # the checks across sections did not run
        missing += [name for name in _needed(given) if name not in missing]
    clauses = [useless] if useless and all(fault["loc"] for fault in faults) else []
    for fault in faults:
        if fault["type"] == "extra_forbidden":
            clauses.append(_unknown(fault["loc"], missing))
    several = "; lab new FILE writes a study with every field" if len(missing) >= SEVERAL else ""
    if missing:
        named = ", ".join(f'"{name}"{_contents(name)}' for name in missing)
        clauses.append(f"{named} {'is' if len(missing) == 1 else 'are'} missing from the study{several}")
    inside = {tuple(fault["loc"][:-1]) for fault in faults}  # a list all of whose entries are wrong is not empty
    told = [fault for fault in faults if fault["type"] != "too_short" or tuple(fault["loc"]) not in inside]
    clauses += [_said(fault, given) for fault in told if fault["type"] not in ("extra_forbidden", "missing")]
    return _joined(list(dict.fromkeys(clauses)))


def _joined(clauses: Sequence[str]) -> str:
    """Join clauses up to the length of a message, and count the others."""
    line = clauses[0]
    for number, clause in enumerate(clauses[1:], start=1):
        if len(line) + len(clause) > LONGEST_MESSAGE - 50:
            return f"{line} (and {len(clauses) - number} more)"
        line += f"; {clause}"
    return line


def _needed(given: Any) -> list[str]:
    """Return the sections that are needed because of what the others are, and left out."""
    if not isinstance(given, Mapping):
        return []
    kinds = {name: part.get("kind") for name in ("model", "corpus") if isinstance(part := given.get(name), Mapping)}
    model, corpus = kinds.get("model") or "gpt2", kinds.get("corpus") or "text"
    train = model in ("gpt2", "llama", "pretrained") and given.get("train") is None
    tokenizer = corpus == "text" and model != "pretrained" and given.get("tokenizer") is None
    return ["tokenizer"] * tokenizer + ["train"] * train


def _useless_training(given: Any) -> str:
    """Return why the section `train` has no meaning for the kind of model; empty where it has, or is left out."""
    train, model = (given.get(name) for name in ("train", "model")) if isinstance(given, Mapping) else (None, None)
    kind = model.get("kind") if isinstance(model, Mapping) else None
    known = _kinds("model").get(kind) if isinstance(kind, str) else None
    if not isinstance(train, Mapping) or known is None or issubclass(known, NETWORKS):
        return ""
    named = ", ".join(f"train.{name}" for name in map(str, train)) or "train"
    return f"{named:.200}: for networks only; model.kind {kind} is fitted at once: leave train out (--set train=null)"


def _contents(name: str) -> str:
    """Return what a section must have, in brackets; nothing for a single field."""
    field = StudyConfig.model_fields.get(name)
    model = next(models_in(field.annotation), None) if field else None
    needed = [each for each, field in model.model_fields.items() if field.is_required()] if model else []
    return f" ({', '.join(needed)})" if needed and name != "regimes" else ""


def _unknown(loc: Sequence[Any], missing: list[str]) -> str:
    """Say that a key is unknown, and what it should be.  Take a missing field that it stands for out of `missing`."""
    *parents, last = map(str, loc)
    above, known = _path(parents), _fields(parents)
    lacking = [name.rpartition(".")[2] for name in missing if name.rpartition(".")[0] == above]
    where = f'unknown key "{_path(loc)}"'
    if glued := _glued(last):
        missing[:] = [name for name in missing if name != ".".join([*parents, last.partition(":")[0]])]
        return where + glued
    if hint := suggestion(last, lacking):
        right = next(name for name in lacking if f'"{name}"' in hint)
        missing.remove(f"{above}.{right}" if above else right)
        return where + hint
    if elsewhere := [name for name in all_fields() if name.rpartition(".")[2] == last]:
        return f"{where}: write {' or '.join(elsewhere)}"
    return where + (suggestion(last, known) or f"; allowed here: {', '.join(known)}")


def _glued(key: str) -> str:
    """Return what YAML makes of {power:0.5}, and how it is written; empty for a key without such a colon."""
    name, colon, value = key.partition(":")
    return f': YAML reads it as one word: write a blank after the colon, "{name}: {value}"' if colon and value else ""


def _said(fault: Any, given: Any) -> str:
    """Say what is wrong with one value."""
    loc, value = list(fault["loc"]), fault["input"]
    if loc[:1] == ["sweep"]:
        return _of_sweep(loc, given["sweep"])
    if "options" in loc and loc[0] in ("regimes", "curators") and len(loc) > 3:
        loc = loc[:4]
    where = _path(loc)
    if fault["type"] == "union_tag_invalid":
        kind, kinds = str(fault["ctx"]["tag"]), _kinds(where)
        return f'unknown {where}.kind "{kind}"{suggestion(kind, kinds) or "; allowed: " + ", ".join(kinds)}'
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] in PLAIN:
        glued = _glued(value) if isinstance(value, str) and "group" in PLAIN[fault["type"]] else ""
        message = f"expected {PLAIN[fault['type']]}{glued}"
    if fault["type"] in ("tuple_type", "list_type"):
        message = f"expected a list{', such as ' + LISTS[str(loc[-1])] if loc[-1] in LISTS else ''}"
    if loc[2:3] == ["options"]:
        message = OPTION + (_glued(str(loc[3])) if value is None and len(loc) > 3 else "")
    if fault["type"] == "value_error" and isinstance(value, Mapping) and loc[0:1] not in (["regimes"], ["curators"]):
        return f"{where}: {message}" if where else message
    return f'"{where}" is {_shown(value)}: {message[0].lower()}{message[1:]}'


def _of_sweep(loc: Sequence[Any], given: Any) -> str:
    """Say what is wrong with a sweep.  pydantic tries it as a mapping and as a list, and its faults name both."""
    if isinstance(given, Mapping):
        for name, values in given.items():
            if not isinstance(values, list) or not values:
                return f'"sweep" holds {name!s:.80}: {_shown(values)}: give a list of values, such as [1, 2]'
    if isinstance(given, list) and given:
        for number, line in enumerate(given, start=1):
            if not isinstance(line, Mapping):
                return f'"sweep entry {number}" is {_shown(line)}: expected fields, such as {{sample.temperature: 0.7}}'
    return f'"sweep" is {_shown(given)}: expected fields with values, such as {{sample.temperature: [0.7, 1]}}'


def _shown(value: Any) -> str:
    """Return a value on one line as a study file has it, cut at 80 characters."""
    if isinstance(value, bool) or value is None or isinstance(value, list | dict):
        try:
            return f"{json.dumps(value):.80}"
        except (TypeError, ValueError, RecursionError):
            pass
    return f"{value!r:.80}"


def _path(loc: Sequence[Any]) -> str:
    """Return the location of a fault as a study has it: ("model", "gpt2", "n_head") -> model.n_head."""
    parts = list(loc)
    if parts and parts[1:2] and parts[1] in _kinds(str(parts[0])):
        del parts[1]
    path = ""
    for part in parts:
        path += f" entry {part + 1}" if isinstance(part, int) else f"{'.' if path else ''}{part}"
    return path


def _fields(parents: Sequence[str]) -> list[str]:
    """Return the keys allowed below these parents.

    The parents are the location that pydantic reports.  In a section that comes in several kinds it names the kind too:
    ["model", "gpt2"].
    """
    model: type[BaseModel] = StudyConfig
    kinds = _kinds(parents[0]) if parents else {}
    for name in parents:
        if name in kinds:
            model = kinds[name]
        elif name in model.model_fields:  # else a place in a list or mapping, whose entries are all of one kind
            model = next(models_in(model.model_fields[name].annotation))
    return list(model.model_fields)


def all_fields() -> list[str]:
    """Return the dotted name of every field of a study, without those of `published`."""
    names: dict[str, None] = {}
    for name, field in StudyConfig.model_fields.items():
        models = [] if name in ("published", "regimes", "curators") else list(models_in(field.annotation))
        below = [f"{name}.{inner}" for model in models for inner in model.model_fields]
        names |= dict.fromkeys(below or [name])
    return list(names)


def _kinds(section: str) -> dict[str, type[BaseModel]]:
    """Return the kinds of a section of a study by the value of `kind`; none for a section of one kind."""
    field = StudyConfig.model_fields.get(section)
    models = list(models_in(field.annotation)) if field and field.discriminator else []
    return {get_args(model.model_fields["kind"].annotation)[0]: model for model in models}


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the models in a type: TrainConfig in TrainConfig | None and in tuple[TrainConfig, ...]."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from models_in(part)
