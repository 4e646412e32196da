"""Names of modules of before the rooms, such as lab.types: scripts of others that import them still run."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

ROOMS = {
    "causal": ("models.causal", "models.load", "models.pretrained"),
    "corpus": ("text.corpus",),
    "counting": ("models.counting",),
    "decoding": ("models.sampling.decoding",),
    "rows": ("text.rows",),
    "sample": ("models.sampling.sample",),
    "stats": ("metrics.stats",),
    "tokenizer": ("text.tokenizer",),
    "types": ("errors", "recipe", "store.step"),
}
"""A former module -> the modules that have its names now."""


class Finder:
    """Finder and loader of the former modules, for sys.meta_path."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: Any = None) -> ModuleSpec | None:
        """Return the spec of a former module, and None for every other one."""
        room, _, rest = name.partition(".")
        return ModuleSpec(name, self) if room == "lab" and rest in ROOMS else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return a module whose names are looked up in the rooms."""
        return Former(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: the rooms are imported when a name is asked for."""


class Former(ModuleType):
    """A former module."""

    def __getattr__(self, name: str) -> Any:
        for room in ROOMS[self.__name__.partition(".")[2]] if not name.startswith("__") else ():
            module = importlib.import_module(f"lab.{room}")
            if hasattr(module, name):
                return getattr(module, name)
        raise AttributeError(f"module {self.__name__} has no {name}")
