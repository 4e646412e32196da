"""A step of the graph, and what surrounds it while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.errors import Stopped
from lab.hashing import digest


@dataclass(frozen=True)
class Step:
    """A pure function of parameters and inputs, known by its key before anything runs.

    The key is the hash of name, version, params and the keys of the inputs.  The other fields are no part of it.
    """

    name: str
    """The kind of step: "train"."""
    version: str
    """A number raised by hand when the meaning of the kind changes, or the hash of its code."""
    params: Mapping[str, Any]
    inputs: Mapping[str, Step]
    """Role ("model", "human", "synthetic-3") -> the step that makes it."""
    tokens: int = 0
    """Tokens that the step works through, for progress."""
    work: float = 0.0
    """Floating-point operations, estimated, for times."""
    disk: int = 0
    """Bytes that it will write, estimated."""
    scratch: int = 0
    """Bytes of its checkpoints, estimated.  They are removed when it is done."""
    label: str = ""
    """What people read: "train replace seed 0 gen 3"."""
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


def in_order(ends: Iterable[Step]) -> list[Step]:
    """Return these steps and all that they need, each once, inputs first.  No recursion, because chains are long."""
    ordered: dict[Step, None] = {}
    for end in ends:
        stack = [(end, False)]
        while stack:
            step, ready = stack.pop()
            if step in ordered:
                continue
            if ready:
                ordered[step] = None
            else:
                parents = reversed(list(step.inputs.values()))
                stack += [(step, True), *((parent, False) for parent in parents if parent not in ordered)]
    return list(ordered)


@dataclass(frozen=True)
class Attempt:
    """The surroundings of a step while it runs.  Nothing here may change what the step makes."""

    report: Callable[[int], None]
    """Is called with the number of the step's tokens that are done."""
    stopping: Callable[[], bool]
    """Returns whether the run was asked to stop."""
    scratch: Path
    """A folder for checkpoints, which the step makes.  An interrupted attempt leaves it to the next one on the same
    kind of machine, with the same code, libraries and inputs.  It is removed when the step is committed."""
    checkpoint_seconds: float
    """Seconds between two checkpoints."""
    note: Callable[[str], None]
    """Is called with a line that the user should read."""

    def progress(self, tokens: int) -> None:
        """Report progress of a step without checkpoints.  Stopped when the run was asked to stop."""
        self.report(tokens)
        if self.stopping():
            raise Stopped
