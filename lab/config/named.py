"""Functions that a study names, with or without options: regimes and curators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field, model_serializer, model_validator

from lab.config.fields import Frozen
from lab.hashing import canonical

Option = bool | int | float | Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
"""The values that an option may have."""


class Named(Frozen):
    """A function by name, such as replace, or by name with options: {mix: {human: 0.25}}."""

    name: Annotated[str, Field(max_length=100)]
    """The name of one of the lab's functions, or "package.module:function" for a function of your own."""
    options: dict[str, Option] = Field(default_factory=dict)
    """Keyword arguments of the function.  Default: none."""
    example: ClassVar[str] = "a name, or a name with options such as {name: {option: 1}}"

    @model_validator(mode="before")
    @classmethod
    def short(cls, given: Any) -> Any:
        """Accept the two short forms beside {name: .., options: ..}."""
        if isinstance(given, str):
            return {"name": given}
        if isinstance(given, Mapping) and len(given) == 1 and "name" not in given:
            ((name, options),) = given.items()
            if options is not None and not isinstance(options, Mapping):
                raise ValueError(f"options have names: expected {cls.example}")
            return {"name": name, "options": options or {}}
        if isinstance(given, cls) or (isinstance(given, Mapping) and {"name", "options"} == set(given)):
            return given
        raise ValueError(f"expected {cls.example}")

    @model_serializer
    def shortly(self) -> Any:
        """Return the short form, as studies are stored."""
        return {self.name: dict(self.options)} if self.options else self.name

    @property
    def label(self) -> str:
        """Return the name in tables and folders, such as mix,human=0.25."""
        values = (f"{k}={canonical(v) if not isinstance(v, str) else v}" for k, v in sorted(self.options.items()))
        return ",".join([self.name, *values])


class RegimeConfig(Named):
    """A regime: one of lab/regimes.py, such as replace or mix, or a function of your own."""

    example: ClassVar[str] = "a name such as replace, or a name with options such as {mix: {human: 0.25}}"


class CuratorConfig(Named):
    """A curator: one of lab/curators, such as duplicates, or a function of your own."""

    example: ClassVar[str] = "a name such as duplicates, or a name with options such as {random: {keep: 0.5}}"
