"""The section `sample.watermark`: a mark in the text that models write, by which a key finds it again."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from lab.config.fields import Frozen, Number, Whole

FIELDS: dict[str, dict[str, float]] = {"kgw": {"bias": 1.0, "ratio": 0.25}, "synthid": {"layers": 9}}
"""Scheme -> its own fields, with their defaults."""
REASONS = {
    "lefthash": "write kgw: it is lefthash of width 1",
    "selfhash": (
        "selfhash of width 1 hashes the candidate alone, which is one fixed list of words for all contexts, "
        "and biases only the 40 likeliest; write kgw, which is lefthash of width 1"
    ),
}


def _scheme(value: Any) -> Any:
    if isinstance(value, str) and value in REASONS:
        raise ValueError(REASONS[value])
    return value


class WatermarkConfig(Frozen):
    """A watermark of all sampled text, after decoding.  It needs chance: neither greedy decoding nor beams.

    The numbers of the profile that ask a model itself, its entropy and the telephone view, are those without the mark.
    """

    scheme: Annotated[Literal["kgw", "synthid"], BeforeValidator(_scheme)]
    """kgw: the token before decides a list of green tokens, whose logits rise (Kirchenbauer et al. 2023, lefthash of
    width 1).  synthid: a tournament of layers, decided by the four tokens before (SynthID text, Dathathri et al. 2024).
    Both equal transformers' processors."""
    key: Annotated[Whole, Field(gt=0, lt=2**32)] = 15485863
    """Key of the lists, or of the keys of all layers.  Default: 15485863."""
    bias: Annotated[Number, Field(gt=0, le=20)] | None = None
    """What is added to the logits of green tokens; of kgw only.  Default: 1."""
    ratio: Annotated[Number, Field(ge=0.01, le=0.99)] | None = None
    """Share of the vocabulary that is green, from 0.01 to 0.99; of kgw only.  Default: 0.25."""
    layers: Annotated[Whole, Field(ge=1, le=30)] | None = None
    """Layers of the tournament; of synthid only.  Default: 9."""

    @model_validator(mode="after")
    def of_the_scheme(self) -> WatermarkConfig:
        for other, names in FIELDS.items():
            if wrong := [name for name in names if other != self.scheme and getattr(self, name) is not None]:
                own = ", ".join(["key", *FIELDS[self.scheme]])
                raise ValueError(f"{', '.join(wrong)} belongs to {other}; fields of {self.scheme}: {own}")
        return self

    @property
    def settings(self) -> dict[str, Any]:
        """Return the scheme, its key and its own fields, with their defaults."""
        given = {name: getattr(self, name) for name in FIELDS[self.scheme]}
        own = {name: FIELDS[self.scheme][name] if value is None else value for name, value in given.items()}
        return {"scheme": self.scheme, "key": self.key, **own}

    @property
    def title(self) -> str:
        """Return the mark in words, such as "marked by kgw (bias 1, ratio 0.25, key 15485863)"."""
        own = [f"{name} {value:g}" for name, value in self.settings.items() if name in FIELDS[self.scheme]]
        return f"marked by {self.scheme} ({', '.join([*own, f'key {self.key}'])})"


class RadioactivityConfig(Frozen):
    """Whether a key's green lists (kgw) are found in models that write without a mark (Sander et al. 2024).

    Measure the chain that is trained on marked text and its pair that is not, in two arms, under the same key.
    """

    key: Annotated[Whole, Field(gt=0, lt=2**32)] = 15485863
    """Key of the lists.  Default: 15485863, as of sample.watermark."""
    ratio: Annotated[Number, Field(ge=0.01, le=0.99)] = 0.25
    """Share of the vocabulary that is green.  Default: 0.25."""
