"""The study as data: one frozen pydantic model with strict keys.  lab/config/files.py reads it from files."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from lab.config.fields import Frozen, Number, Positive, Tokens, Whole, kind_or
from lab.config.model import NETWORKS, AnyModel, PretrainedConfig
from lab.config.named import CuratorConfig, RegimeConfig
from lab.config.profile import ProfileConfig
from lab.config.sample import SampleConfig
from lab.config.text import CorpusConfig, SourceConfig, TokenizerConfig
from lab.config.train import TrainConfig
from lab.config.voices import rows_by_member
from lab.config.watermark import RadioactivityConfig
from lab.errors import one_line, plural

MOST_ROWS = 2**27
"""Rows of a seed's human text and all its samples together.  Drawing some of them without replacement takes 8 bytes of
memory per row, here 1 GiB.  With rows of 128 tokens this many rows are 17 thousand million tokens."""


def repeated(values: Iterable[str]) -> str:
    """Return the values that are there more than once: repeated(["0", "1", "0"]) == "0"."""
    return ", ".join(value for value, count in Counter(values).items() if count > 1)


class MetricsConfig(Frozen):
    """The sizes at which texts and models are measured."""

    tokens: Tokens
    """Tokens of each text that distinct-n, rare survival and the like look at: they depend on length, so all texts are
    compared at this one.  At most the tokens of a sample and corpus.tokens.  In the layout blocks texts are compared in
    whole rows, without their prompts, so that up to a row less is used."""
    test_tokens: Tokens
    """Tokens of the test fold on which every model is measured."""
    extra: tuple[Annotated[str, Field(max_length=100)], ...] = ()
    """Metrics of your own, "module:function" each: functions of Evidence (lab/metrics/evidence.py) that return numbers
    by name, which are columns of results.csv.  A run may gain or lose them: nothing is trained again.  Default:
    none."""
    radioactivity: RadioactivityConfig | None = None
    """Whether each generation's models are asked for traces of a watermark in text that they write without one.  A run
    may gain or lose it.  Default: not."""

    @field_validator("extra")
    @classmethod
    def functions(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        """Refuse names that are no "module:function", and names given twice."""
        for name in given:
            if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*", name, re.ASCII):
                raise ValueError(f'"{one_line(name, 60)}" names no metric of your own; write "module:function"')
        if twice := repeated(given):
            raise ValueError(f"it has {one_line(twice, 200)} more than once; leave each once")
        return given


class ComputeConfig(Frozen):
    """What fixes the arithmetic.

    It is part of every key, except `checkpoint_seconds`.  The number of workers is an option of `lab run`; no result
    depends on it.
    """

    threads: Annotated[Positive, Field(le=1024)] = 1
    """Threads of each worker.  Default: 1."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where networks run.  auto (default): on the GPU if torch can use one, else on the CPU."""
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    """Type of the numbers in the matrix products of training and of a GPT-2's sampling.  auto (default): bfloat16 where
    the machine multiplies it in hardware, else float32.  Scoring always uses float32."""
    checkpoint_seconds: Annotated[Number, Field(ge=0)] = 180
    """Seconds between two checkpoints of a training, of which the newest two are kept.  0 writes one after each step.
    Default: 180.  No result depends on it, so a run may change it."""


class PublishedNumbers(Frozen):
    """One line of a published table: a metric of one regime over the generations."""

    regime: str
    """Label of the regime that the numbers belong to, such as mix,human=0.25."""
    axes: dict[str, Any] = Field(default_factory=dict)
    """Swept fields with their values, which say to which arm the numbers belong.  Default: none."""
    metric: Literal["nll", "perplexity"]
    """The published metric: nll in nats per token, or perplexity."""
    values: Annotated[dict[Annotated[Whole, Field(ge=0)], Number], Field(min_length=1)]
    """Generation -> value.  Generation 0 is the first model, which is trained on human text only."""


class Side(Frozen):
    """One side of a published comparison: a regime in one arm.  `replace` alone is short for {regime: replace}."""

    regime: str
    """Label of the regime, such as mix,human=0.25."""
    axes: dict[str, Any] = Field(default_factory=dict)
    """Swept fields with their values, which say which arm is meant.  Default: none."""

    @model_validator(mode="before")
    @classmethod
    def short(cls, given: Any) -> Any:
        """Accept a label alone."""
        return {"regime": given} if isinstance(given, str) else given


class Direction(Frozen):
    """A published finding about the sign of a difference: the metric of one side lies above that of the other."""

    claim: str
    """What the paper says, in words."""
    higher: Side
    """The side whose metric is higher: a label such as replace, or {regime: replace, axes: {population: 4}}."""
    lower: Side
    """The side whose metric is lower, given like `higher`."""
    metric: str = "nll"
    """A column of results.csv.  Default: nll, the loss on held-out human text in nats per token."""
    generation: Annotated[Whole, Field(ge=0)] | None = None
    """The generation at which the sides are compared.  Default: the last one that both have."""
    least: Annotated[Number, Field(ge=0)] = 0.0
    """The difference, in the unit of the metric, that the whole interval must exceed.  Default: 0.  Set it where the
    paper's effect is large, so that a small effect does not count as agreement."""
    above: Literal["human", "start"] | None = None
    """What is subtracted from each side first, seed by seed.  human: the human control of the same arm and generation;
    start: the side's own generation 0.  Default: nothing."""


class Published(Frozen):
    """What a paper reports of the experiment that a study repeats.  It changes no number and no key."""

    paper: str
    """Authors, year, title and where the paper is published."""
    table: str
    """The table or figure that the numbers or directions come from, with the unit."""
    differs: str
    """What this study does differently from the paper."""
    numbers: tuple[PublishedNumbers, ...] = ()
    """Published values, which `lab compare` prints beside the measured ones.  Default: none."""
    directions: tuple[Direction, ...] = ()
    """Published signs of differences, which `lab compare` holds against a run.  Default: none."""


class StudyConfig(Frozen):
    """A study: what is trained on what, how often, and how it is measured."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
    """Name of the study, and of its run unless `lab run --run` gives another: letters, digits, ".", "_" and "-"."""
    note: str = ""
    """What the study is for, in words.  Default: empty.  It changes no number and no key."""
    published: Published | None = None
    """What a paper reports of the experiment that the study repeats.  Default: nothing."""
    seeds: Annotated[tuple[Annotated[Whole, Field(ge=0, lt=2**31)], ...], Field(min_length=1)]
    """Seeds, such as [0, 1].  Each draws human text of its own and repeats every chain; intervals are over seeds."""
    generations: Annotated[Positive, Field(le=1000)]
    """Number of generations, at most 1,000, counted with generation 0, which is trained on human text only."""
    regimes: Annotated[tuple[RegimeConfig, ...], Field(min_length=1)]
    """The regimes to compare, by name or with options: [human, replace, {mix: {human: 0.25}}].  A regime decides what
    the next generation is trained on; human is the control."""
    curators: tuple[CuratorConfig, ...] = ()
    """What is done to every pool with synthetic text, in this order, by name or with options: the archive adds human
    rows, editors change tokens, rules drop rows, and others draw or weigh them.  The pools of the regime human stay as
    they are.  Default: no curators."""
    corpus: Annotated[CorpusConfig | SourceConfig, Field(discriminator="kind"), kind_or("text")]
    """Human text, or a known distribution in its place."""
    tokenizer: TokenizerConfig | None = None
    """The tokenizer.  Text needs one; a source, which is made of tokens, and a pretrained model, which has its own,
    take none."""
    model: Annotated[AnyModel, Field(discriminator="kind"), kind_or("gpt2")]
    """The model of each generation."""
    train: TrainConfig | None = None
    """How a network is trained.  Counting models are fitted at once and take none."""
    sample: SampleConfig
    """How much each generation writes, and how."""
    metrics: MetricsConfig
    """The sizes at which texts and models are measured."""
    profile: ProfileConfig | None = None
    """What is measured for the eight definitions of model collapse.  `lab profile RUN` adds it to a finished run.
    Default: nothing."""
    compute: ComputeConfig = ComputeConfig()
    """Device, number type and threads.  Default: what the machine has, and one thread per worker."""
    keep_models: Literal["all", "last", "none"] = "all"
    """Whose weights stay on the disk after the last step that needs them: all (default), those of each chain's last
    generation, or none.  It changes no number, and a run may change it."""
    population: Annotated[Positive, Field(le=1000)] = 1
    """Models per generation.  Each is trained on a share of the data that no other sees, and their samples form one
    pool. The tokens of training and of sampling are divided among them.  Default: 1."""
    sweep: (
        dict[str, Annotated[list[Any], Field(min_length=1)]]
        | Annotated[list[dict[str, Any]], Field(min_length=1)]
        | None
    ) = None
    """Fields to vary.  A mapping such as {sample.temperature: [0.7, 1]} is run in every combination of its values; in a
    list of mappings each is one arm.  Default: nothing is swept."""

    @model_validator(mode="before")
    @classmethod
    def not_nothing(cls, given: Any) -> Any:
        if isinstance(given, Mapping) and given.get("sweep") in ([], {}):
            raise ValueError("sweep is empty; give fields with values, such as {sample.temperature: [0.7, 1]}, or null")
        return given

    @model_validator(mode="after")
    def consistent(self) -> StudyConfig:
        """Check fields against each other, and name every fault."""
        faults = [*self._check_names(), *self._check_sections(), *self._check_learned(), *self._check_start()]
        faults += self._check_sizes()
        if not faults:  # it divides by sizes
            faults += [*self._check_population(), *self._check_mark()]
        if faults:
            raise ValueError("; ".join(faults))
        return self

    def _check_names(self) -> Iterator[str]:
        if self.name.lower() == "store":  # some disks take Store for the same folder
            yield f'name is "{self.name}", where the artifacts of all runs lie; choose another'
        labels = [regime.label for regime in self.regimes]
        for field, values in (("seeds", list(map(str, self.seeds))), ("regimes", labels)):
            if twice := repeated(values):
                yield f"{field} has {one_line(twice, 200)} more than once; leave each once"

    def _check_sections(self) -> Iterator[str]:
        """Refuse a section that the kinds of model and corpus have no use for, or need and do not find."""
        if isinstance(self.model, NETWORKS) != (self.train is not None):
            yield (
                "train is missing from the study: a network needs train.tokens, batch_rows, lr and validation_tokens"
                if self.train is None
                else f"train has no meaning for model.kind {self.model.kind}, which is fitted at once; leave it out "
                "(--set train=null)"
            )
        yield from self._check_tokenizer()
        if isinstance(self.corpus, SourceConfig) and self.profile and self.profile.telephone:
            yield "profile.telephone compares texts, and a known source has none; leave it out"

    def _check_learned(self) -> Iterator[str]:
        """Refuse padding and prompts for counting models, which always learn all tokens of a row."""
        if isinstance(self.model, NETWORKS):
            return
        if self.corpus.layout == "documents":
            yield "corpus.layout documents is for networks; counting models count all of a row: set blocks"
        if self.sample.prompt_tokens and not self.sample.train_on_prompt:
            yield (
                "counting models count all of a row, also its prompt: set sample.train_on_prompt to true, or "
                "sample.prompt_tokens to 0"
            )
        if self.sample.beams:
            yield "sample.beams is for networks; counting models draw"

    def _check_tokenizer(self) -> Iterator[str]:
        source, own = isinstance(self.corpus, SourceConfig), isinstance(self.model, PretrainedConfig)
        if source and own:
            yield "a pretrained model reads text; corpus.kind source wants a model from scratch"
        if (source or own) != (self.tokenizer is None):
            yield (
                "tokenizer is missing from the study: text needs tokenizer.vocab_size or tokenizer.pretrained"
                if self.tokenizer is None
                else f"tokenizer has no meaning here ({'a source is tokens' if source else 'the model has its own'}); "
                "leave it out (--set tokenizer=null)"
            )

    def _check_start(self) -> Iterator[str]:
        if self.train is None:
            return
        pretrained = isinstance(self.model, PretrainedConfig)
        if pretrained and (self.train.start == "scratch" or self.train.base):
            yield "train.start of a pretrained model is base or continue, and it is its own base"
        if not pretrained and (self.train.start == "base") != (self.train.base is not None):
            yield (
                "train.start base of a model from scratch needs train.base (tokens, epochs): human text to fit it to, "
                "and train.base has no meaning for another start"
            )
        if self.train.lora and self.train.start == "scratch":
            yield "train.lora adds to weights that exist; set train.start to base or continue"

    @property
    def words(self) -> TokenizerConfig:
        """Return the tokenizer of a study of text: the one it names, or the pretrained model's own."""
        if isinstance(self.model, PretrainedConfig):
            return TokenizerConfig(pretrained=self.model.path)
        assert self.tokenizer is not None  # _check_tokenizer asks for one where the corpus is text
        return self.tokenizer

    def _check_sizes(self) -> Iterator[str]:
        row, prompt = self.model.n_positions, self.sample.prompt_tokens
        if prompt >= row:
            yield f"sample.prompt_tokens {prompt} leaves nothing of a row of model.n_positions = {row}"
            return
        yield from self._check_canaries()
        for name, tokens in self._sizes().items():
            if tokens is not None and tokens < row:
                yield f"{name} is {tokens:,}, less than one row of model.n_positions = {row:,} tokens"
        kept = self.rows(self.corpus.tokens + (self.corpus.archive_tokens or 0)) + self.sample_rows * self.generations
        if kept > MOST_ROWS:
            yield (
                f"corpus.tokens and {plural(self.generations, 'generation')} of samples are {kept:,} rows of {row:,} "
                f"tokens, and the lab keeps at most {MOST_ROWS:,} in a chain: lower corpus.tokens, the sample or "
                "generations, or raise model.n_positions"
            )
        drawn, human = (rows * (row - prompt) for rows in (self.sample_rows, self.rows(self.corpus.tokens)))
        if self.metrics.tokens > drawn or self.metrics.tokens > (human if prompt else self.corpus.tokens):
            yield (
                f"metrics.tokens {self.metrics.tokens:,} must not exceed the {drawn:,} tokens of a sample "
                f"or corpus.tokens {self.corpus.tokens:,}{f' after prompts, {human:,}' if prompt else ''}: texts are "
                "compared at equal size"
            )

    def _check_canaries(self) -> Iterator[str]:
        if isinstance(self.corpus, SourceConfig) or not self.corpus.canaries:
            return
        if twice := repeated(list(map(str, self.corpus.canaries))):
            yield f"corpus.canaries has {one_line(twice, 200)} more than once; leave each once"
        planted, human = sum(self.corpus.canaries), self.rows(self.corpus.tokens)
        if 2 * planted > human:
            yield (
                f"corpus.canaries plants {planted:,} rows, more than half of the {human:,} rows of corpus.tokens: "
                "leave out the largest numbers, or raise corpus.tokens"
            )

    def _check_population(self) -> Iterator[str]:
        members, row = self.population, self.model.n_positions
        voices = self.sample.voices
        if voices and len(voices) != members:
            yield f"sample.voices is a list of {len(voices)}, and population is {members}: give each model one share"
            return
        if voices and (quiet := [f"{v:g}" for v, n in zip(voices, self.written, strict=True) if v and not n]):
            yield (
                f"sample.voices {', '.join(quiet[:5])} are no row of the sample's {self.sample_rows:,}: "
                "set them to 0, or raise the sample"
            )
        if members == 1:
            return
        shared = {"sample": self.sample_rows, "corpus.tokens": self.rows(self.corpus.tokens)}
        for name, rows in (shared | {"metrics.tokens": self.compared_rows}).items():
            if rows < members:
                yield f"{members} models share {plural(rows, 'row')} of {name}: give each at least one"
        if self.train and self.train.tokens is not None and self.train.tokens // members < row:
            yield f"train.tokens {self.train.tokens:,} is less than one row for each of {members} models"
        if self.train and self.train.steps is not None and self.train.steps % members:
            yield (f"train.steps {self.train.steps} cannot be divided among {members} models; set it to a multiple")

    def _check_mark(self) -> Iterator[str]:
        mark, read, corpus = self.sample.mark, self.metrics.radioactivity, self.corpus
        ratios = {"sample.watermark": mark.get("ratio"), "metrics.radioactivity": read and read.ratio}
        for name, ratio in ratios.items():
            if isinstance(corpus, SourceConfig) and ratio and not int(corpus.types * ratio):
                yield f"{name}.ratio {ratio:g} of corpus.types {corpus.types} is a green list of no token"
        if read and mark.get("scheme") == "kgw" and mark["key"] == read.key and mark["ratio"] != read.ratio:
            yield (
                f"metrics.radioactivity.ratio {read.ratio:g} and sample.watermark.ratio {mark['ratio']:g} make other "
                "lists of the same key; give both the same"
            )

    def _sizes(self) -> dict[str, int | None]:
        training = {} if self.train is None else self.train.model_dump(include={"tokens", "validation_tokens"})
        base = self.train.base.tokens if self.train and self.train.base else None
        return {f"train.{name}": tokens for name, tokens in training.items()} | {
            "train.base.tokens": base,
            "corpus.tokens": self.corpus.tokens,
            "corpus.archive_tokens": self.corpus.archive_tokens,
            "sample.tokens": self.sample.tokens,
            "metrics.tokens": self.metrics.tokens,
            "metrics.test_tokens": self.metrics.test_tokens,
        }

    @property
    def compared_rows(self) -> int:
        """Return the number of rows whose text, without prompts, holds metrics.tokens (layout documents needs more)."""
        return self.metrics.tokens // (self.model.n_positions - self.sample.prompt_tokens)

    @property
    def compared_tokens(self) -> int:
        """Return the tokens of each text that are compared: metrics.tokens, in the layout blocks in whole rows."""
        if self.corpus.layout == "documents":
            return self.metrics.tokens
        return self.compared_rows * (self.model.n_positions - self.sample.prompt_tokens)

    @property
    def sample_rows(self) -> int:
        """Return the number of rows in a generation's sample."""
        return self.sample.rows or self.rows(self.sample.tokens or 0)

    @property
    def written(self) -> tuple[int, ...]:
        """Return the rows of a generation's sample that each model writes."""
        return rows_by_member(self.sample_rows, self.population, self.sample.voices)

    @property
    def in_turn(self) -> bool:
        """Return whether the models write equal parts, so that row i of a sample is of model i modulo their number."""
        return self.written == rows_by_member(self.sample_rows, self.population, None)

    def rows(self, tokens: int) -> int:
        """Return the number of whole rows in so many tokens, rounded down."""
        return tokens // self.model.n_positions
