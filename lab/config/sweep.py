"""Sweeps: one study file, many arms.  Each arm is a study of its own, and the table has a column per swept field.

sweep: {sample.temperature: [0.7, 1.0], corpus.tokens: [51_200, 102_400]}     every combination: 4 arms
sweep: [{sample.temperature: 0.7, sample.top_k: 50}, {sample.top_p: 0.9}]     one arm per line: 2 arms
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from lab.config.faults import all_fields
from lab.config.files import parse_study
from lab.config.study import StudyConfig
from lab.errors import InputError, one_line, printable
from lab.hashing import canonical
from lab.lookup import suggestion

NAME = "arm"
"""Key under which a line of a list has a name, shown in place of the fields that the line sets."""
WITHOUT_COLUMN = ("regime", "regimes", "seeds", "generations")
"""Fields that get no column of their own, because the table shows them anyway."""
MOST_ARMS = 5_000
"""Each arm is checked as a study of its own (5,000 take some seconds) and has chains of its own to run."""
FEW_ARMS = 100
"""Arms that are tried where the study itself is wrong."""
LONGEST_LABEL = 150
"""Bytes of a label.  Together with the regime and the seed it names a folder, and file systems allow 255 bytes."""
FIXED = ("name", "note", "published", "sweep", "compute", "keep_models")
"""Fields that cannot be swept, because a run has one of each."""


@dataclass(frozen=True)
class Arm:
    """One point of a sweep."""

    axes: dict[str, Any]
    """The swept fields that have a column, by dotted name, with this arm's values."""
    config: StudyConfig

    @property
    def label(self) -> str:
        """Return the suffix of folder names: ",sample.temperature=0.7", or nothing without a sweep."""
        return "".join(f",{name}={value}".replace("/", "_") for name, value in self.axes.items())


def arm_label(axes: Mapping[str, Any]) -> str:
    """Return swept fields as text: "temperature 0.7".  Fields that share a last name keep their full names."""
    short = [name.split(".")[-1] for name in axes]
    names = [name if short.count(end) > 1 else end for name, end in zip(axes, short, strict=True)]
    return printable(", ".join(f"{name} {value}" for name, value in zip(names, axes.values(), strict=True)))


def label(regime: str, axes: Mapping[str, Any]) -> str:
    """Return the name of a regime in an arm, as people read it: "replace, temperature 0.7"."""
    return printable(", ".join(filter(None, (regime, arm_label(axes)))))


def arms(config: StudyConfig) -> list[Arm]:
    """Return the arms of a study, each a valid study; one arm without axes where nothing is swept.

    Raises:
        InputError: an arm is no valid study, has a name that no folder can have, or equals another.
    """
    points = _points(config.sweep)
    named = [point[NAME] for point in points if NAME in point]
    if named and len(named) < len(points):
        raise InputError(f"sweep: {len(points) - len(named)} of {len(points)} lines have no {NAME}; name all or none")
    made, fields, faults = [], config.model_dump(mode="json"), []
    for point in points:
        try:
            swept = _apply(fields, point)
        except InputError as error:
            faults.append(str(error))
            continue
        arm = Arm({NAME: str(point[NAME])} if named else _axes(swept, points), swept)
        _refuse_label(arm)
        made.append(arm)
    if faults:
        raise InputError("; ".join(faults))
    kinds = {arm.config.corpus.kind for arm in made}
    if len(kinds) > 1:
        raise InputError(f"sweep: corpus.kind is {' and '.join(sorted(kinds))}; a run has one, as its table has")
    _refuse_twins(made)
    return made


def _axes(swept: StudyConfig, points: list[dict[str, Any]]) -> dict[str, Any]:
    """Return every field that any arm sweeps, with this arm's value, whether this arm sets it or not."""
    names = dict.fromkeys(name for point in points for name in point if name not in WITHOUT_COLUMN)
    dumped = swept.model_dump(mode="json")
    return {name: scalar(get(dumped, name)) for name in names}


def faults_beside(fields: Mapping[str, Any], known: str) -> list[str]:
    """Return the faults of a sweep in a study whose other fields are wrong, without those that are `known`."""
    faults: dict[str, None] = {}
    try:
        points = _points(fields.get("sweep"))[:FEW_ARMS]
    except (AttributeError, TypeError, InputError):  # no sweep at all, which the other faults say
        return []
    if not all(isinstance(point, Mapping) and all(isinstance(name, str) for name in point) for point in points):
        return []
    for point in points:
        try:
            _apply(fields, point)
        except InputError as error:
            arm, _, said = str(error).rpartition("}: ")
            new = [part for part in said.split("; ") if part not in known]
            faults |= {f"{arm}{'}: ' if arm else ''}{'; '.join(new)}": None} if new else {}
    return list(faults)


def _points(sweep: Any) -> list[dict[str, Any]]:
    """Return the swept fields of each arm: the lines of a list, or all combinations, the last field varying fastest."""
    if sweep is None:
        return [{}]
    many = len(sweep) if isinstance(sweep, list) else math.prod(map(len, sweep.values()))
    if many > MOST_ARMS:
        raise InputError(f"sweep has {many:,} arms, more than the {MOST_ARMS:,} of one run: make several studies of it")
    if isinstance(sweep, list):
        return sweep
    return [dict(zip(sweep, values, strict=True)) for values in product(*sweep.values())]


def _apply(fields: Mapping[str, Any], arm: Mapping[str, Any]) -> StudyConfig:
    """Return the study with the dotted fields of an arm set.  InputError for a field that is missing or fixed."""
    data = {**copy.deepcopy(dict(fields)), "sweep": None}
    point = {name: value for name, value in arm.items() if name != NAME}
    for name, value in point.items():
        if name.split(".")[0] in FIXED:
            raise InputError(f"sweep: {name} cannot be swept; a run has one of it")
        if name == "regime":
            data["regimes"] = [value]
            continue
        *parents, last = name.split(".")
        node: Any = data
        for parent in parents:
            node = node.get(parent) if isinstance(node, dict) else None
        if not isinstance(node, dict):
            known = all_fields()
            right = [field for field in known if field.rpartition(".")[2] == name.rpartition(".")[2] != name]
            hint = f": write {' or '.join(right)}" if right and name not in right else suggestion(name, known)
            raise InputError(f"sweep: there is no field {name} in this study{hint}")
        node[last] = value
    try:
        return parse_study(data)
    except InputError as error:
        shown = json.dumps(dict(point), sort_keys=True, separators=(",", ":"), default=str)
        raise InputError(f"sweep {one_line(shown, 200)}: {error}") from None


def get(data: Any, name: str) -> Any:
    """Return the value at a dotted name, or None where there is none."""
    for part in name.split("."):
        data = data.get(part) if isinstance(data, Mapping) else None
    return data


def scalar(value: Any) -> Any:
    """Return a value as a table's cell and a folder's name can hold it: lists and groups become one line of JSON."""
    if value is None:
        return "none"
    return value if isinstance(value, str | int | float) and not isinstance(value, bool) else canonical(value)


def _refuse_label(arm: Arm) -> None:
    """Raise InputError for a label that no folder can have, or a value that a spreadsheet would take for a formula.

    Such a value is not quoted in CSV, because quotes would change what other programs read.
    """
    for value in arm.axes.values():
        if isinstance(value, str) and value.startswith(("=", "+", "-", "@")):
            raise InputError(f"sweep: the value {value:.80} begins with {value[0]}, as formulas do: name it otherwise")
    label = arm.label
    if len(label.encode("utf-8", "replace")) > LONGEST_LABEL or label != printable(label):
        raise InputError(
            f"sweep: the arm {one_line(label, 80)} cannot name a folder, with unprintable characters or more than "
            f"{LONGEST_LABEL} bytes; give the arms names, in lines such as {{{NAME}: long, sample.temperature: 0.7}}"
        )


def _refuse_twins(made: list[Arm]) -> None:
    """Raise InputError where two arms would write the same chain, by name or by content."""
    seen: set[tuple[str, str]] = set()
    for arm in made:
        fields = canonical(arm.config.model_dump(mode="json", exclude={"regimes", "seeds", "generations"}))
        for regime in arm.config.regimes:
            chain = (regime.label, arm.label)
            if chain in seen or (regime.label, fields) in seen:
                raise InputError(
                    f"sweep: two arms hold the same chain {''.join(chain)}; an arm must differ from the others in a "
                    "swept field or in its regimes"
                )
            seen |= {chain, (regime.label, fields)}
