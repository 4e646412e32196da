"""A step: a pure function of parameters and inputs, known by its key before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.errors import Stopped
from lab.hashing import digest


@dataclass(frozen=True)
class Step:
    """A pure function of parameters and inputs, known by its key before anything runs.

    `version` is a number raised by hand for dear steps, or a hash of the modules that a cheap step uses.
    `inputs` maps a role ("model", "human", "sample-3") to the step that makes it.
    """

    name: str
    version: str
    params: Mapping[str, Any]
    inputs: Mapping[str, Step]
    tokens: int = 0
    """Tokens the step has to work through: for progress, not part of the key."""
    work: float = 0.0
    """Floating-point operations, about: for estimates of time, not part of the key."""
    disk: int = 0
    """Bytes it will write, about: for estimates, not part of the key."""
    scratch: int = 0
    """The same of checkpoints, which are there while it runs and gone when it is done.  Not part of the key."""
    label: str = ""
    """For people: "train replace seed 0 gen 3".  Not part of the key."""
    where: Mapping[str, Any] = field(default_factory=dict)
    """Parameters that the key leaves out, because another one says by content what lies there."""
    key: str = field(init=False)

    def __post_init__(self) -> None:
        inputs = {role: step.key for role, step in self.inputs.items()}
        key = digest({"step": self.name, "version": self.version, "params": self.params, "inputs": inputs})
        object.__setattr__(self, "key", key[:40])

    @property
    def chain(self) -> str:
        """The label without the first word: which regime, seed and generation the step belongs to."""
        return self.label.partition(" ")[2]

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Step) and other.key == self.key


@dataclass(frozen=True)
class Attempt:
    """What surrounds a step while it runs.  Nothing here may change what the step makes."""

    report: Callable[[int], None]
    """Told the number of the step's tokens done so far."""
    stopping: Callable[[], bool]
    """Whether the run was asked to stop."""
    scratch: Path
    """A folder for checkpoints, absent until it is made.  An attempt that was cut short leaves it to the next one on
    the same type of machine, with the same code, libraries and inputs; it is removed when the step is committed."""
    checkpoint_seconds: float
    """Time between two checkpoints."""
    note: Callable[[str], None]
    """Told, in a line, what the user should know."""

    def progress(self, tokens: int) -> None:
        """Between two parts of a step that leaves nothing behind when it is cut short.  Stopped when asked to stop."""
        self.report(tokens)
        if self.stopping():
            raise Stopped
