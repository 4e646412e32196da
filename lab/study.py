"""The loop: a study is one chain of generations for each regime and seed, and a chain is a graph of keyed steps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lab import corpus, machine, regimes, runners, steps
from lab.config import CorpusConfig, RegimeConfig, StudyConfig, TokenizerConfig
from lab.store import file_sha256
from lab.sweep import Arm, arms
from lab.types import InputError, Step, digest


@dataclass(frozen=True)
class Generation:
    """One generation of one chain: what it was trained on, what it became, what it wrote, what was measured."""

    arm: Arm
    regime: str
    """Its label: the name, and the options if any."""
    seed: int
    t: int
    recipe: Step
    model: Step
    synthetic: Step
    evidence: Step
    record: Step

    @property
    def chain(self) -> str:
        return f"{self.regime}{self.arm.label}-seed{self.seed}"


@dataclass(frozen=True)
class Study:
    config: StudyConfig
    machine: steps.Machine
    generations: tuple[Generation, ...]

    @property
    def human(self) -> list[Step]:
        """The steps that read and divide human text.  They come first, and they are where bad text shows."""
        return [step for step in self.steps if step.name in runners.HUMAN_STEPS]

    @property
    def steps(self) -> list[Step]:
        """Every step once, inputs before what needs them."""
        return in_order(generation.record for generation in self.generations)


def build(config: StudyConfig) -> Study:
    """The whole graph, before anything runs.  Reads the corpus files' bytes (for their hash) and nothing else."""
    device = machine.resolve_device(config.compute.device)
    dtype = machine.resolve_dtype(config.compute.dtype, device)
    resolved = steps.Machine(device, dtype, config.compute.threads)
    generations: list[Generation] = []
    for arm in arms(config):
        _check_regimes(arm.config)
        identity = _identity(arm.config)
        generations += [
            generation
            for regime in arm.config.regimes
            for seed in arm.config.seeds
            for generation in chain(arm, resolved, identity, regime, seed)
        ]
    return Study(config, resolved, tuple(generations))


def _check_regimes(config: StudyConfig) -> None:
    """InputError now for what the lab's own regimes would refuse later: options, shares, an archive that runs out."""
    last = config.generations - 1
    for regime in config.regimes:
        regimes.check_options(regime.name, regime.options)
        if regime.name in regimes.REGIMES and last:
            regimes.recipe(regime.name, regime.options, steps.lineage(config, last), config.seeds[0], last)


def _identity(config: StudyConfig) -> dict[str, str]:
    """By content, what the corpus and a pretrained tokenizer are.  A source is its own fields."""
    if not isinstance(config.corpus, CorpusConfig):
        return {}
    assert config.tokenizer is not None  # StudyConfig asks for one where the corpus is text
    return {"corpus": corpus.identity(config.corpus), "tokenizer": tokenizer_identity(config.tokenizer)}


def chain(
    arm: Arm, resolved: steps.Machine, identity: dict[str, str], regime: RegimeConfig, seed: int
) -> list[Generation]:
    """One chain of generations, in order.  Nothing runs here."""
    config = arm.config
    human = steps.human(config, identity, seed)
    samples: dict[int, Step] = {}
    generations = []
    for t in range(config.generations):
        recipe = steps.pool(regime, human, samples, seed, t)
        model = steps.train(config, resolved, recipe, _recipe_rows(config, regime, seed, t), human, seed, t)
        sampled = steps.sample(config, resolved, model, human, seed, t)
        evidence = steps.heldout(config, resolved, model, human)
        record = steps.record(config, human, recipe, model, sampled, evidence)
        generations.append(Generation(arm, regime.label, seed, t, recipe, model, sampled, evidence, record))
        samples[t] = sampled
    return generations


def _recipe_rows(config: StudyConfig, regime: RegimeConfig, seed: int, t: int) -> int:
    """Rows of the recipe to come; looked at only where the length of training depends on them."""
    if config.train is None or config.train.epochs is None:
        return 0
    return regimes.recipe(regime.name, regime.options, steps.lineage(config, t), seed, t).rows


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


def tokenizer_identity(config: TokenizerConfig) -> str:
    """By content: the hash of a local folder's tokenizer files, or a hub model's revision.  Empty when trained here."""
    if config.pretrained is None:
        return ""
    folder = Path(config.pretrained)
    if folder.is_dir():
        files = sorted(file for pattern in ("*.json", "merges.txt") for file in folder.glob(pattern))
        if not files:
            raise InputError(f"tokenizer.pretrained {folder} holds no tokenizer files (tokenizer.json)")
        return digest({file.name: file_sha256(file) for file in files})
    return corpus.hub_revision("model", config.pretrained, None, "tokenizer.pretrained")
