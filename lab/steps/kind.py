"""A kind of step: the facts that the rest of the lab asks about it, and how a step of it is made."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.errors import InputError
from lab.hashing import code_hash, reached
from lab.lookup import users_code
from lab.store.step import Attempt, Step

if TYPE_CHECKING:
    from lab.steps.place import Place

Folders = Mapping[str, Path]
"""Role of an input -> the folder of its artifact."""
ROOT = Path(__file__).parents[1]
UNKEYED = "unkeyed"
Run = Callable[[Any, Folders, Path, Attempt], None]
"""A function (params, inputs, out, attempt) that writes the artifact of a step into the empty folder `out`."""


@dataclass(frozen=True)
class Cost:
    """Rough speed of an expensive kind of step, for estimates until the store has a measured time."""

    cpu: float
    """Floating-point operations per second of one CPU thread."""
    cuda: float
    """Floating-point operations per second of one GPU."""


@dataclass(frozen=True)
class Kind:
    """All that the lab asks about a kind of step."""

    name: str
    params: type[Any]
    """The frozen dataclass of its parameters, which are dumped into the key."""
    run: Run
    modules: tuple[str, ...]
    """Files below lab/ whose code decides what the step does, such as "metrics/*.py"."""
    version: str = ""
    """A number raised by hand when the meaning of the step changes.  Empty: the hash of `modules` is used."""
    cost: Cost | None = None
    """None for cheap steps.  The expensive ones are what a study is for, and what `lab verify` computes again."""
    takes: str = "other"
    """The group under which its bytes are counted: models, samples, evidence or other."""
    libraries: frozenset[str] | None = None
    """Libraries that decide its bytes beside numpy and Python.  None: all of them."""
    reads_text: bool = False
    """Whether it reads or divides human text.  These steps run first, because bad text shows there."""
    reads_weights: bool = True
    """Whether it needs the weights of the models among its inputs."""
    trains: bool = False
    """Whether it trains a model.  Its weights may be deleted, because the step makes the same ones again."""
    probe: Callable[[Place, Step, Step], Step | None] | None = None
    """Declares a probe for (place, model, its generation's synthetic corpus); None where the study does not ask."""


@dataclass(frozen=True)
class NoParams:
    """For kinds of steps without parameters."""


def unkeyed(default: Any = MISSING) -> Any:
    """Declare a parameter that is not in the key, such as a path: another parameter holds the hash of what is there."""
    return field(default=default, metadata={UNKEYED: True})


@functools.cache
def source_hash(kind: Kind) -> str:
    """Hash the code of the modules behind a kind of step, without its prose: 16 hexadecimal digits."""
    missing = [pattern for pattern in kind.modules if not any(ROOT.glob(pattern))]
    assert not missing, (kind.name, missing)
    files = sorted({file for pattern in kind.modules for file in ROOT.glob(pattern)})
    return code_hash(*(file.read_text(encoding="utf-8") for file in files))[:16]


def make_step(
    kind: Kind,
    params: Any,
    inputs: Mapping[str, Step],
    *,
    label: str = "",
    tokens: int = 0,
    work: float = 0.0,
    disk: int = 0,
    scratch: int = 0,
) -> Step:
    """Make a step of this kind; `params` is an instance of kind.params.  A parameter that is None is left out."""
    assert isinstance(params, kind.params), (kind.name, params)
    keyed: dict[str, Any] = {}
    where: dict[str, Any] = {}
    for each in fields(params):
        value = getattr(params, each.name)
        if each.metadata.get(UNKEYED):
            where[each.name] = value
        elif value is not None:
            keyed[each.name] = value
    version = kind.version or source_hash(kind)
    return Step(kind.name, version, keyed, inputs, tokens, work, disk, scratch, label or kind.name, where)


def write_json(path: Path, value: Any) -> None:
    """Write a value as sorted, indented JSON."""
    path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def function_hash(kind: str, name: str, function: Callable[..., Any], *, own: bool) -> str:
    """Hash the code of a function that a study names.

    Of the lab's `own` functions it is the code that the function reaches in its module, so that adding another function
    to the file changes no key.  Of a user's it is the whole module with its import statements, because the function may
    call anything, and every module of the user's that it imports.  `kind` and `name` are for messages: "regime" and its
    name in the study.

    Raises:
        InputError: the function has no Python source, so its versions cannot be told apart.
    """
    try:
        source = inspect.getsource(inspect.getmodule(function) or function)
        if own:
            return code_hash(reached(source, function.__name__))
        return code_hash(*{source, *users_code(name.partition(":")[0]).values()}, imports=True)
    except (TypeError, OSError, SyntaxError) as error:
        raise InputError(f'{kind} "{name}" has no Python source to tell its versions apart: {error}') from error
