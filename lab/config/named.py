"""Functions that a study names, with options: regimes and curators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field, model_serializer, model_validator

from lab.config.fields import Frozen
from lab.hashing import canonical

Option = bool | int | float | Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]


class Named(Frozen):
    """A function's name, or `{name: {option: value}}`."""

    name: Annotated[str, Field(max_length=100)]
    """A name of the lab's, or "module:function" for a function of the user's own."""
    options: dict[str, Option] = Field(default_factory=dict)
    """Keyword arguments of the function."""
    example: ClassVar[str] = "a name, or a name with options such as {name: {option: 1}}"

    @model_validator(mode="before")
    @classmethod
    def short(cls, given: Any) -> Any:
        """Read the short forms."""
        if isinstance(given, str):
            return {"name": given}
        if isinstance(given, Mapping) and len(given) == 1 and "name" not in given:
            ((name, options),) = given.items()
            return {"name": name, "options": options or {}}
        if isinstance(given, cls) or (isinstance(given, Mapping) and {"name", "options"} == set(given)):
            return given
        raise ValueError(f"expected {cls.example}")

    @model_serializer
    def shortly(self) -> Any:
        """Write the short form."""
        return {self.name: dict(self.options)} if self.options else self.name

    @property
    def label(self) -> str:
        """The name as tables and folders show it: mix,human=0.25."""
        values = (f"{k}={canonical(v) if not isinstance(v, str) else v}" for k, v in sorted(self.options.items()))
        return ",".join([self.name, *values])


class RegimeConfig(Named):
    """A regime: its name, or `{name: {option: value}}`."""

    example: ClassVar[str] = "a name such as replace, or a name with options such as {mix: {human: 0.25}}"


class CuratorConfig(Named):
    """A curator: its name, or `{name: {option: value}}`."""

    example: ClassVar[str] = "a name such as duplicates, or a name with options such as {random: {keep: 0.5}}"
