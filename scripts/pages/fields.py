"""Every field of a study, from the pydantic models in lab/config: name, type, what is allowed, default, meaning."""

from __future__ import annotations

import json
from collections.abc import Iterable
from inspect import signature
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from lab.config.faults import models_in
from lab.config.files import STUDIES
from lab.config.study import StudyConfig
from lab.curators import CURATORS
from pages.writing import cell, filled, table

WORDS = {int: "whole number", float: "number", str: "text", bool: "true or false"}
PLURALS = {"whole number": "whole numbers", "section": "sections", "mapping": "mappings", "any": "values"}
SIGNS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}


def _parts(annotation: Any, bounds: Iterable[Any]) -> tuple[list[str], list[str]]:
    """Return the words for a type and for what is allowed; bounds are annotated-types' Gt, Ge, Lt, Le."""
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _parts(inside[0], [*bounds, *inside[1:]])
    if origin is Literal:
        return ["choice"], [" or ".join(f"`{value}`" for value in inside)]
    if origin in (Union, UnionType):
        found = [_parts(part, bounds) for part in inside if part is not type(None)]
        return [word for words, _ in found for word in words], [limit for _, limits in found for limit in limits]
    if origin in (tuple, list):
        words, limits = _parts(inside[0], ())
        return [f"list of {PLURALS.get(words[0], words[0])}"], limits
    if origin is dict or annotation is Any:
        return ["mapping" if origin is dict else "any"], []
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return ["section"], []
    return [WORDS[annotation]], [_limit(bounds)] if _limit(bounds) else []


def _limit(bounds: Iterable[Any]) -> str:
    """Return the bounds of a number, such as "> 0, <= 1024"; nothing where there are none."""
    flat = [part for bound in bounds for part in (getattr(bound, "metadata", None) or [bound])]
    found = [(SIGNS[name], getattr(part, name)) for part in flat for name in SIGNS if hasattr(part, name)]
    return ", ".join(f"{sign} {value:,}" if value < 10**12 else f"{sign} {value:.0e}" for sign, value in found)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return "see below"
    return "none" if value in (None, (), {}, "") else f"`{json.dumps(value) if not isinstance(value, str) else value}`"


def _row(name: str, field: FieldInfo) -> list[str]:
    words, limits = _parts(field.annotation, field.metadata)
    kinds = " or ".join(dict.fromkeys(words))
    return [f"`{name}`", kinds, "; ".join(dict.fromkeys(limits)), _default(field), cell(field.description or "")]


def section(heading: str, model: type[BaseModel]) -> str:
    """Return the heading, the sentence and the table of one section of a study."""
    head = ["field", "type", "allowed", "default", "meaning"]
    said = filled((model.__doc__ or "").split("\n\n")[0].replace("``", "`"))
    rows = (_row(name, field) for name, field in model.model_fields.items())
    return f"### {heading}\n\n{said}\n\n{table(head, rows)}"


def sections(heading: str = "", model: type[BaseModel] = StudyConfig) -> dict[type[BaseModel], str]:
    """Return the model of every section of a study with its heading; one that stands in two places has the first."""
    found = {model: heading or "A study"}
    for name, field in model.model_fields.items():
        inner = list(models_in(field.annotation))
        for each in inner:
            kind = f", kind {get_args(each.model_fields['kind'].annotation)[0]}" if len(inner) > 1 else ""
            path = f"{heading.split(',')[0]}.{name}" if heading else name
            for deeper, title in sections(f"{path}{kind}", each).items():
                found.setdefault(deeper, title)
    return found


def fields() -> str:
    """Return the tables of all sections; those of papers, which few studies have, come last."""
    ordered = sorted(sections().items(), key=lambda pair: pair[1].startswith("published"))
    return "\n\n".join(section(heading, model) for model, heading in ordered)


def curators() -> str:
    """Return the table of the lab's curators, from the first sentences of their docstrings."""
    rows = []
    for name, rule in CURATORS.items():
        options = [option for option in list(signature(rule).parameters)[1:] if option != "rng"]
        shown = f"{{{name}: {{{', '.join(f'{option}: ...' for option in options)}}}}}" if options else name
        rows.append([f"`{shown}`", cell((rule.__doc__ or "").split("\n\n")[0])])
    return table(["curator", "what it does"], rows)


def new_study() -> str:
    """Return the study that `lab new` writes."""
    return f"```yaml\n{(STUDIES / '_new.yaml').read_text(encoding='utf-8')}```"


PARTS = {"new-study": new_study, "fields": fields, "curators": curators}
