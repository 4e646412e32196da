"""A step of the graph, and what surrounds it while it runs."""

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

    `version` is a number raised by hand for expensive steps, or a hash of the modules that a cheap step uses.
    `inputs` maps a role ("model", "human", "sample-3") to the step that makes it.
    """

    name: str
    version: str
    params: Mapping[str, Any]
    inputs: Mapping[str, Step]
    tokens: int = 0
    """Tokens that it processes: for progress, not part of the key."""
    work: float = 0.0
    """Floating-point operations, about: for estimates of time, not part of the key."""
    disk: int = 0
    """Bytes it will write, about: for estimates, not part of the key."""
    scratch: int = 0
    """Bytes of its checkpoints, about, which are deleted when it is done.  Not part of the key."""
    label: str = ""
    """For people: "train replace seed 0 gen 3".  Not part of the key."""
    where: Mapping[str, Any] = field(default_factory=dict)
    """Parameters that the key leaves out, because another parameter states by content what lies there."""
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
    """What a step is given while it runs.  Nothing here may change the bytes that it writes."""

    report: Callable[[int], None]
    """Call it with the number of tokens done so far."""
    stopping: Callable[[], bool]
    """Whether the run was asked to stop."""
    scratch: Path
    """A folder for checkpoints, absent until the step makes it.  An interrupted attempt leaves it to the next one with
    the same code, libraries, inputs and type of machine.  It is removed when the step is committed."""
    checkpoint_seconds: float
    """Seconds between two checkpoints."""
    note: Callable[[str], None]
    """Call it with a line that the user should know."""

    def progress(self, tokens: int) -> None:
        """Report progress between two parts of a step that has no checkpoints.  Stopped: the run was asked to stop."""
        self.report(tokens)
        if self.stopping():
            raise Stopped
