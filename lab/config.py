"""A study as data: frozen pydantic models, strict keys, YAML in, `--set a.b=c` overrides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from lab.lookup import suggestion
from lab.types import InputError

ROOT = Path(__file__).resolve().parent.parent
STUDIES = ROOT / "scripts" / "studies"


def _whole(value: Any) -> Any:
    if isinstance(value, bool) or (isinstance(value, str) and not value.strip().lstrip("+-").isdigit()):
        raise ValueError("expected a whole number")
    return value


def _number(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("expected a number")
    return value


Whole = Annotated[int, BeforeValidator(_whole)]
Number = Annotated[float, BeforeValidator(_number)]
Positive = Annotated[Whole, Field(gt=0)]
Share = Annotated[Number, Field(ge=0, le=1)]


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class CorpusConfig(Frozen):
    """Human text: files or a folder (text, jsonl, csv, parquet), or the id of a hub data set."""

    path: str
    text: str = "text"
    """Name of the column that holds the text."""
    domain: str | None = None
    author: str | None = None
    group: str | None = None
    """Rows of one group never stand on two sides of a split.  None: each document is a group of its own."""
    subset: str | None = None
    """Configuration of a hub data set, such as wikitext-2-raw-v1."""
    split: str = "train"
    revision: str | None = None
    piece: Positive | None = None
    """Cut documents into pieces of about so many characters, at line ends; each piece is then a group."""
    tokens: Positive
    """n_0: tokens of human text that each seed draws for itself from the train fold."""


class TokenizerConfig(Frozen):
    """A byte-level BPE trained on the human training text, or the tokenizer of a pretrained model."""

    vocab_size: Annotated[Whole, Field(ge=257)] | None = None
    pretrained: str | None = None

    @model_validator(mode="after")
    def one_of_two(self) -> TokenizerConfig:
        if (self.vocab_size is None) == (self.pretrained is None):
            raise ValueError("give exactly one of vocab_size (train a tokenizer) and pretrained (a folder or hub id)")
        return self


class ModelConfig(Frozen):
    """A GPT-2 from scratch."""

    kind: Literal["gpt2"] = "gpt2"
    n_layer: Positive
    n_head: Positive
    n_embd: Positive
    n_positions: Annotated[Whole, Field(ge=2)]
    """Tokens in a row.  A row is trained and scored behind one BOS: the model reads BOS and n_positions - 1 tokens."""

    initializer_range: Annotated[float, Field(gt=0, le=1)] = 0.02
    """Standard deviation of the initial weights.  GPT-2's .02 suits a width of 768; a narrow model wants more."""

    @model_validator(mode="after")
    def heads_divide(self) -> ModelConfig:
        if self.n_embd % self.n_head:
            fit = [h for h in range(1, self.n_embd + 1) if self.n_embd % h == 0]
            near = sorted(sorted(fit, key=lambda h: abs(h - self.n_head))[:3])
            raise ValueError(
                f"n_embd {self.n_embd} is not divisible by n_head {self.n_head}; "
                f"n_head could be {', '.join(map(str, near))}"
            )
        return self


class TrainConfig(Frozen):
    """AdamW, linear warm-up, cosine decay, clipped gradients."""

    tokens: Positive
    """Tokens seen per generation: equal across regimes, so that regimes differ in data and not in compute."""
    batch_rows: Positive
    """Rows in a batch, over all processes together."""
    lr: Annotated[Number, Field(gt=0)]
    warmup: Share = 0.05
    """Share of the steps in which the learning rate rises from 0 to lr."""
    final_lr: Share = 0.1
    """The learning rate at the last step, as a share of lr."""
    weight_decay: Annotated[Number, Field(ge=0)] = 0.1
    beta1: Annotated[Number, Field(ge=0, lt=1)] = 0.9
    beta2: Annotated[Number, Field(ge=0, lt=1)] = 0.99
    clip: Annotated[Number, Field(gt=0)] = 1.0
    """Largest norm of the gradient."""
    validation_tokens: Positive
    """Tokens of the validation fold scored during training, for the loss curve."""


class SampleConfig(Frozen):
    """Ancestral sampling at temperature 1 from BOS, without truncation."""

    tokens: Positive
    """Size of each generation's synthetic corpus."""
    shard_rows: Positive
    """Rows that are drawn together from one seed: the unit of reproducibility and of distribution."""


class MetricsConfig(Frozen):
    tokens: Positive
    """The equal token budget at which distinct-n and rare survival compare texts."""
    test_tokens: Positive
    """Tokens of the test fold that every model is measured on."""


class ComputeConfig(Frozen):
    """What fixes the arithmetic.  It is part of every key; the number of workers is not."""

    threads: Positive = 1
    """Threads of each worker."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    """Of training's matrix products.  auto: bfloat16 where the machine has it.  Sampling and scoring use float32."""


class StudyConfig(Frozen):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
    note: str = ""
    seeds: Annotated[tuple[Annotated[Whole, Field(ge=0, lt=2**31)], ...], Field(min_length=1)]
    generations: Annotated[Positive, Field(le=1000)]
    regimes: Annotated[tuple[str, ...], Field(min_length=1)]
    corpus: CorpusConfig
    tokenizer: TokenizerConfig
    model: ModelConfig
    train: TrainConfig
    sample: SampleConfig
    metrics: MetricsConfig
    compute: ComputeConfig = ComputeConfig()

    @model_validator(mode="after")
    def consistent(self) -> StudyConfig:
        if self.name == "store":
            raise ValueError('name is "store", where the artifacts of all runs lie; choose another')
        for field in ("seeds", "regimes"):
            values = getattr(self, field)
            if len(set(values)) != len(values):
                raise ValueError(f"{field} names one of {list(values)} twice")
        row = self.model.n_positions
        for name, tokens in self._sizes().items():
            if tokens < row:
                raise ValueError(f"{name} is {tokens:,}, less than one row of model.n_positions = {row:,} tokens")
        if self.metrics.tokens > self.sample.tokens or self.metrics.tokens > self.corpus.tokens:
            raise ValueError(
                f"metrics.tokens {self.metrics.tokens:,} must not exceed sample.tokens {self.sample.tokens:,} "
                f"or corpus.tokens {self.corpus.tokens:,}: texts are compared at equal size"
            )
        return self

    def _sizes(self) -> dict[str, int]:
        return {
            "corpus.tokens": self.corpus.tokens,
            "train.tokens": self.train.tokens,
            "train.validation_tokens": self.train.validation_tokens,
            "sample.tokens": self.sample.tokens,
            "metrics.tokens": self.metrics.tokens,
            "metrics.test_tokens": self.metrics.test_tokens,
        }

    def rows(self, tokens: int) -> int:
        """Whole rows in so many tokens (rounded down)."""
        return tokens // self.model.n_positions


def study_names() -> list[str]:
    return sorted(path.stem for path in STUDIES.glob("*.yaml"))


def load_study(study: str, overrides: Sequence[str] = ()) -> StudyConfig:
    """A shipped study's name or a YAML file, with `a.b=value` overrides.  InputError in one line otherwise."""
    data = read_yaml(_study_path(study))
    for override in overrides:
        _override(data, override)
    return parse_study(data)


def parse_study(data: Mapping[str, Any]) -> StudyConfig:
    try:
        return StudyConfig.model_validate(data)
    except ValidationError as error:
        raise InputError(_explain(error)) from None


YAML_ERRORS = (yaml.YAMLError, ValueError, RecursionError)
"""What safe_load raises: ValueError for a date such as 2024-13-45."""


def _study_path(study: str) -> Path:
    if study in study_names():
        return STUDIES / f"{study}.yaml"
    path = Path(study)
    if path.is_file():
        return path
    if path.suffix in (".yaml", ".yml") or "/" in study:
        raise InputError(f"no study file {study}; shipped studies: {', '.join(study_names())}")
    hint = suggestion(study, study_names()) or f"; shipped: {', '.join(study_names())}, or give a YAML file"
    raise InputError(f'no study "{study}"{hint}')


def read_yaml(path: Path) -> dict[str, Any]:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (*YAML_ERRORS, OSError) as error:
        raise InputError(f"{path} is not readable YAML: {error}") from error
    if not isinstance(data, dict):
        raise InputError(f"{path} holds {type(data).__name__}, not study fields such as seeds, corpus, model")
    return data


def _override(data: dict[str, Any], override: str) -> None:
    """Set one dotted field.  `corpus=PATH` is short for `corpus.path=PATH`."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise InputError(f'--set "{override}" is not of the form field=value, such as train.lr=1e-3 or seeds=[0,1]')
    try:
        value = yaml.safe_load(text)
    except YAML_ERRORS as error:
        raise InputError(f'--set "{override}": the value is not YAML: {error}') from error
    path = ["corpus", "path"] if key == "corpus" and isinstance(value, str) else key.split(".")
    node = data
    for name in path[:-1]:
        node = node.setdefault(name, {})
        if not isinstance(node, dict):
            raise InputError(f'--set "{override}": {name} is a value, not a group of fields')
    node[path[-1]] = value


def _explain(error: ValidationError) -> str:
    """The first fault in one line, with a suggestion for an unknown key."""
    fault = error.errors()[0]
    where = ".".join(str(part) for part in fault["loc"])
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if fault["type"] == "extra_forbidden":
        *parents, key = [str(part) for part in fault["loc"]]
        allowed = _fields(parents)
        return f'unknown key "{where}"{suggestion(key, allowed) or "; allowed here: " + ", ".join(allowed)}{more}'
    if fault["type"] == "missing":
        return f'"{where}" is missing from the study{more}'
    said = fault["msg"].removeprefix("Value error, ").replace("valid tuple", "list, such as [0, 1]")
    if fault["type"] in ("model_type", "model_attributes_type"):
        said = "expected a group of fields"
    if fault["type"] == "value_error" and isinstance(fault["input"], Mapping):
        return f"{where + ': ' if where else ''}{said}{more}"
    return f'"{where}" is {fault["input"]!r:.80}: {said[0].lower()}{said[1:]}{more}'


def _fields(parents: Sequence[str]) -> list[str]:
    model: type[BaseModel] = StudyConfig
    for name in parents:
        inner = model.model_fields[name].annotation
        assert isinstance(inner, type) and issubclass(inner, BaseModel)
        model = inner
    return list(model.model_fields)


def difference(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Lines "field: old -> new" for every leaf in which two resolved studies differ."""
    lines = []
    for key in sorted({*old, *new}):
        a, b, name = old.get(key), new.get(key), f"{prefix}{key}"
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            lines += difference(a, b, f"{name}.")
        elif a != b:
            lines.append(f"{name}: {a} -> {b}")
    return lines
