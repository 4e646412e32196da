"""The loop: a study is one chain of generations for each regime and seed, and a chain is a graph of keyed steps."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab import machine, regimes
from lab.config.model import PretrainedConfig
from lab.config.named import RegimeConfig
from lab.config.study import StudyConfig
from lab.config.sweep import Arm, arms
from lab.config.text import CorpusConfig, TokenizerConfig
from lab.curators import check_curator
from lab.errors import InputError
from lab.hashing import digest
from lab.steps import STEPS, probed
from lab.steps.curate import curated
from lab.steps.place import Machine, Place, lineage
from lab.steps.pool import pool
from lab.steps.probes import HELDOUT
from lab.steps.record import record
from lab.steps.sample import sample
from lab.steps.text import human
from lab.steps.train import base, train
from lab.store.atomic import file_sha256
from lab.store.step import Step
from lab.text import corpus
from lab.text.untrusted import check_untrusted_checkpoint, check_untrusted_tokenizer

MOST_STEPS = 500_000
"""The graph is known before anything runs: 500,000 steps take some 20 seconds and 2 GB to plan."""


@dataclass(frozen=True)
class Generation:
    """One generation of one chain: what it was trained on, what it became, what it wrote, what was measured."""

    arm: Arm
    regime: str
    """The label of the regime: its name, and its options if any."""
    seed: int
    t: int
    recipe: Step
    models: tuple[Step, ...]
    """One model, or several in a population."""
    synthetic: Step
    probes: Mapping[str, tuple[Step, ...]]
    """Kind of probe -> its step for each model."""
    record: Step

    @property
    def chain(self) -> str:
        """The name of the chain, and of its folder: replace-seed0."""
        return f"{self.regime}{self.arm.label}-seed{self.seed}"

    @property
    def steps(self) -> list[Step]:
        """The steps of this generation alone, in order, with its shards and, where it is curated, the pool before."""
        pools = [step for role, step in self.recipe.inputs.items() if role == "pool"]
        shards = [step for step in self.synthetic.inputs.values() if set(step.inputs.values()) & set(self.models)]
        probes = [step for steps in self.probes.values() for step in steps]
        return [*pools, self.recipe, *self.models, *shards, self.synthetic, *probes, self.record]

    @property
    def artifacts(self) -> dict[str, Step]:
        """What a run's folder links to, by name."""
        several = len(self.models) > 1
        links = {"synthetic": self.synthetic, "record": self.record}
        evidence = {"evidence" if name == HELDOUT.name else name: steps for name, steps in self.probes.items()}
        for name, made in {"model": self.models, **evidence}.items():
            links |= {f"{name}-{m}" if several else name: step for m, step in enumerate(made)}
        return links


@dataclass(frozen=True)
class Study:
    config: StudyConfig
    machine: Machine
    generations: tuple[Generation, ...]

    @property
    def human(self) -> list[Step]:
        """The steps that read and divide human text.  They come first, and they are where bad text shows."""
        return [step for step in self.steps if STEPS[step.name].reads_text]

    @property
    def steps(self) -> list[Step]:
        """Every step once, inputs before what needs them."""
        return in_order(generation.record for generation in self.generations)


def resolve(config: StudyConfig) -> Machine:
    """The arithmetic of a study on this machine."""
    device = machine.resolve_device(config.compute.device)
    return Machine(device, machine.resolve_dtype(config.compute.dtype, device), config.compute.threads)


def build(config: StudyConfig, on: Machine | None = None) -> Study:
    """The whole graph, before anything runs.  Reads the corpus files' bytes (for their hash) and nothing else.

    `on` is the arithmetic of the machine that has run it; None: of this one.
    """
    resolved = on or resolve(config)
    generations: list[Generation] = []
    swept = arms(config)
    _refuse_too_many(swept)
    for arm in swept:
        _check_regimes(arm.config)
        for each in arm.config.curators:
            check_curator(each.name, each.options)
        _check_extras(arm.config)
        identity = _identity(arm.config)
        generations += [
            generation
            for regime in arm.config.regimes
            for seed in arm.config.seeds
            for generation in chain(arm, resolved, identity, regime, seed)
        ]
    return Study(config, resolved, tuple(generations))


def _refuse_too_many(swept: Sequence[Arm]) -> None:
    total = 0
    for config in (arm.config for arm in swept):
        chains, members = len(config.regimes) * len(config.seeds), config.population
        shards = max(members, math.ceil(config.sample_rows / config.sample.shard_rows))
        total += chains * config.generations * (3 + 2 * members + shards)
    if total > MOST_STEPS:
        raise InputError(
            f"the study has some {total:,} steps (arms x regimes x seeds x generations, and each sample's shards), "
            f"more than the {MOST_STEPS:,} of one run: make several studies of it, or raise sample.shard_rows"
        )


def _check_regimes(config: StudyConfig) -> None:
    """InputError now for what the lab's own regimes would refuse later: options, shares, an archive that runs out."""
    last = config.generations - 1
    for regime in config.regimes:
        regimes.check_regime(regime.name, regime.options)
        if regime.name in regimes.REGIMES and last:
            regimes.recipe_rows(regime.name, regime.options, lineage(config, last), config.seeds[0], last)


def _check_extras(config: StudyConfig) -> None:
    if config.train and config.train.lora and importlib.util.find_spec("peft") is None:
        raise InputError('train.lora needs peft, which is not installed: pip install "collapse-lab[lora]"')


def _identity(config: StudyConfig) -> dict[str, str]:
    """By content, what the corpus, a pretrained tokenizer and a pretrained model are.  A source is its own fields."""
    if not isinstance(config.corpus, CorpusConfig):
        return {}
    own = config.model if isinstance(config.model, PretrainedConfig) else None
    found = {
        "corpus": corpus.identity(config.corpus),
        "tokenizer": tokenizer_identity(config.words, own.revision if own else None),
    }
    return found | ({"model": model_identity(own)} if own else {})


def chain(arm: Arm, resolved: Machine, identity: dict[str, str], regime: RegimeConfig, seed: int) -> list[Generation]:
    """One chain of generations, in order.  Nothing runs here."""
    config = arm.config
    source = human(config, identity, seed)
    samples: dict[int, Step] = {}
    generations: list[Generation] = []
    start = base(Place(config, resolved, source, seed, 0), identity)
    for t in range(config.generations):
        place = Place(config, resolved, source, seed, t)
        recipe = curated(place, pool(place, regime, samples))
        rows = _recipe_rows(config, regime, seed, t)
        models = train(place, recipe, rows, _began(config, start, generations))
        sampled = sample(place, models)
        probes = probed(place, models)
        numbers = record(place, models, sampled, probes)
        generations.append(Generation(arm, regime.label, seed, t, recipe, models, sampled, probes, numbers))
        samples[t] = sampled
    return generations


def _began(config: StudyConfig, base: Step | None, before: Sequence[Generation]) -> Sequence[Step | None]:
    """The model that each member of the next generation begins as; None for random weights."""
    if config.train is not None and config.train.start == "continue" and before:
        return before[-1].models
    return [base] * config.population


def _recipe_rows(config: StudyConfig, regime: RegimeConfig, seed: int, t: int) -> int:
    """Rows of the recipe to come; looked at only where the length of training or the model's size depends on them."""
    if config.model.kind != "ngram" and (config.train is None or config.train.epochs is None):
        return 0
    return regimes.recipe_rows(regime.name, regime.options, lineage(config, t), seed, t)


def in_order(ends: Iterable[Step]) -> list[Step]:
    """All steps behind these, each once, inputs first.  Without recursion: chains are long."""
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
                stack.append((step, True))
                stack.extend(
                    (parent, False) for parent in reversed(list(step.inputs.values())) if parent not in ordered
                )
    return list(ordered)


def tokenizer_identity(config: TokenizerConfig, revision: str | None) -> str:
    """By content: the hash of a local folder's tokenizer files, or a hub model's revision.  Empty when trained here."""
    if config.pretrained is None:
        return ""
    folder = Path(config.pretrained)
    if folder.is_dir():
        check_untrusted_tokenizer(folder)
        files = sorted(file for pattern in ("*.json", "merges.txt") for file in folder.glob(pattern))
        return digest({file.name: file_sha256(file) for file in files})
    return corpus.hub_revision("model", config.pretrained, revision, "tokenizer.pretrained")


def model_identity(config: PretrainedConfig) -> str:
    """By content: the hash of a local folder's configuration and weights, or a hub model's revision."""
    folder = Path(config.path)
    if folder.is_dir():
        files = sorted(file for pattern in ("config.json", "*.safetensors") for file in folder.glob(pattern))
        if len(files) < 2:
            raise InputError(f"model.path {folder} holds no config.json with *.safetensors weights beside it")
        check_untrusted_checkpoint(folder)
        return digest({file.name: file_sha256(file) for file in files})
    return corpus.hub_revision("model", config.path, config.revision, "model.path")
