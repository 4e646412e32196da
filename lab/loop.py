"""THE loop: a study is one chain of generations per regime and seed, and a chain is a graph of keyed steps."""

from __future__ import annotations

import contextlib
import importlib.util
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from pydantic import ValidationError

from lab import machine, regimes
from lab.config.files import parse_study, study_fields
from lab.config.named import CuratorConfig, RegimeConfig
from lab.config.study import StudyConfig
from lab.config.sweep import Arm, arms, faults_beside
from lab.config.watermark import WatermarkConfig
from lab.curators import check_curator, check_order
from lab.environment import instructions
from lab.errors import InputError
from lab.recipe import Lineage
from lab.steps import STEPS, probed
from lab.steps.curation.archived import ARCHIVED, archived, check_archive, released
from lab.steps.curation.curate import check_own_rows, check_registers, curated
from lab.steps.evidence.profile import SHARE, nested, profile
from lab.steps.evidence.radioactivity import READING_ROLE, SAMPLE_ROLE, radioactivity
from lab.steps.evidence.voices import voiced
from lab.steps.extra import extras
from lab.steps.identity import identities
from lab.steps.marked import marked, marked_profile
from lab.steps.place import Machine, Place, lineage, reserved
from lab.steps.pool import pool
from lab.steps.probes import HELDOUT
from lab.steps.record import record
from lab.steps.sample import sample
from lab.steps.text import human
from lab.steps.train import base, train
from lab.store.step import Step, in_order

CONTROL = "human"
"""The regime that is trained on the rows of generation 0 again and again, so that nested sizes say no more."""
OWN = ("entropy-", "memory-", "plurality", "telephone", "judged-telephone", SHARE)
"""Beginnings of the roles of the evidence that only a profile needs."""
MOST_STEPS = 500_000
"""Most steps in one run.  To plan that many takes about 20 seconds and 2 GB."""


def chain(
    arm: Arm, resolved: Machine, identity: Mapping[str, str], regime: RegimeConfig, seed: int
) -> list[Generation]:
    """Declare one chain of generations, in order.  Nothing runs here."""
    study = arm.config
    text = human(study, identity, seed)
    start = base(Place(study, resolved, text, seed, 0), identity)
    samples: dict[int, Step] = {}
    generations: list[Generation] = []
    for t in range(study.generations):
        place = Place(study, resolved, text, seed, t)
        before = generations[-1].models if generations else ()
        first, last = (generations[0].models, generations[-1].recipe) if t else ((), None)
        mixed = archived(place, pool(place, regime, samples), first, before, last)
        recipe = curated(place, mixed, before, start)
        rows, began = _recipe_rows(study, regime, mixed, seed), _began(study, start, generations)
        models = train(place, recipe, rows, began)
        unmarked = sample(place, models)
        sampled = marked(study, unmarked)
        probes = probed(place, models, sampled)
        numbers = voiced(study, record(place, models, sampled, probes))
        own = tuple(voiced(study, metric) for metric in extras(place, numbers))
        sizes = nested(place, recipe, rows, began[0], sampled) if regime.name != CONTROL or not t else {}
        profiled = marked_profile(study, profile(place, models, sampled, numbers, start, sizes))
        traces = radioactivity(place, models, unmarked)
        generations.append(
            Generation(arm, regime.label, seed, t, recipe, models, sampled, probes, numbers, own, profiled, traces)
        )
        samples[t] = sampled
    return generations


def _began(study: StudyConfig, base: Step | None, before: Sequence[Generation]) -> Sequence[Step | None]:
    """Return the model whose weights each member of the next generation starts from; None for random weights."""
    if study.train is not None and study.train.start == "continue" and before:
        return before[-1].models
    return [base] * study.population


def _recipe_rows(study: StudyConfig, regime: RegimeConfig, pooled: Step, seed: int) -> int:
    """Return the rows of the recipe to come; 0 where neither the length of training nor a model's size needs them.

    Rules may drop some of them.
    """
    if study.model.kind != "ngram" and (study.train is None or study.train.epochs is None):
        return 0
    t = pooled.params["generation"]
    more = released(study, t) if pooled.name == ARCHIVED.name else 0
    return more + regimes.recipe_rows(regime.name, regime.options, lineage(study, t), seed, t)


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
    extras: tuple[Step, ...] = ()
    """One step per metric of the user's own."""
    profile: Step | None = None
    """What the definitions of collapse need; None where the study asks for none."""
    radioactivity: Step | None = None
    """Traces of a mark in what the models write without one; None where the study does not ask."""

    @property
    def chain(self) -> str:
        """The name of the chain, and of its folder: replace-seed0."""
        return f"{self.regime}{self.arm.label}-seed{self.seed}"

    @property
    def steps(self) -> list[Step]:
        """The steps of this generation alone, in order, with its shards and what its curators ask for."""
        probes = [step for steps in self.probes.values() for step in steps]
        own = [*self._written(self.synthetic), *probes, *self._profiled(), *self._traced()]
        return [*self.curation, self.recipe, *self.models, *own, *self.ends]

    @property
    def curation(self) -> list[Step]:
        """The steps between the text that a pool may choose from and its curated recipe, the pool among them."""
        pool, beside = self.recipe, list[Step]()
        while "pool" in pool.inputs:
            pool = pool.inputs["pool"]
            beside += [pool.inputs["before"]] if "before" in pool.inputs else []
        if pool == self.recipe:
            return []
        known = {self.recipe, *in_order([*pool.inputs.values(), *beside])}
        return [step for step in in_order([self.recipe]) if step not in known]

    def _written(self, synthetic: Step) -> list[Step]:
        """Return a sample of this generation's models after its shards."""
        shards = [step for step in synthetic.inputs.values() if set(step.inputs.values()) & set(self.models)]
        return [*shards, synthetic]

    def _traced(self) -> list[Step]:
        """Return the steps that only the radioactivity of this generation needs: readings, and an unmarked sample."""
        given = {} if self.radioactivity is None else self.radioactivity.inputs
        readings = [step for role, step in given.items() if role.startswith(READING_ROLE)]
        unmarked = given.get(SAMPLE_ROLE, self.synthetic)
        return readings if unmarked == self.synthetic else [*self._written(unmarked), *readings]

    def _profiled(self) -> list[Step]:
        """Return the steps that only the profile of this generation needs: its evidence, and models on nested sizes."""
        given = {} if self.profile is None else self.profile.inputs
        own = {role: step for role, step in given.items() if role.startswith(OWN) or role == "judged"}
        before = [step.inputs["model"] for role, step in own.items() if role.startswith(SHARE)]
        before += [own["telephone"].inputs["shard-000000"]] if "telephone" in own else []
        return [*before, *own.values()]

    @property
    def ends(self) -> tuple[Step, ...]:
        """The steps that no other step needs: what was measured."""
        asked = [step for step in (self.profile, self.radioactivity) if step]
        return (self.record, *self.extras, *asked)

    @property
    def artifacts(self) -> dict[str, Step]:
        """What a run's folder links to, by name."""
        several = len(self.models) > 1
        links = {"synthetic": self.synthetic, "record": self.record}
        beside = {"profile": self.profile, "radioactivity": self.radioactivity}
        links |= {name: step for name, step in beside.items() if step}
        evidence = {"evidence" if name == HELDOUT.name else name: steps for name, steps in self.probes.items()}
        for name, made in {"model": self.models, **evidence}.items():
            links |= {f"{name}-{m}" if several else name: step for m, step in enumerate(made)}
        if self.profile and "telephone" in self.profile.inputs:
            links["telephone"] = self.profile.inputs["telephone"]
        return links | {f"extra-{step.params['metric'].replace(':', '.')}": step for step in self.extras}


@dataclass(frozen=True)
class Study:
    """A study as a graph of steps."""

    config: StudyConfig
    machine: Machine
    generations: tuple[Generation, ...]
    content: Mapping[str, Mapping[str, str]]
    """Label of an arm -> what its corpus, tokenizer and model are, by content."""

    @property
    def human(self) -> list[Step]:
        """The steps that read and divide human text.  They run first, because bad text shows there."""
        return [step for step in self.steps if STEPS[step.name].reads_text]

    @property
    def steps(self) -> list[Step]:
        """Every step once, inputs first, generation by generation."""
        return in_order(step for each in sorted(self.generations, key=lambda each: each.t) for step in each.ends)


def build(
    config: StudyConfig, on: Machine | None = None, content: Mapping[str, Mapping[str, str]] | None = None
) -> Study:
    """Build the whole graph of a study.  Nothing runs; files of corpus, tokenizer and model are read for their hash.

    Args:
        config: the study.
        on: the machine that ran it, by default this one.
        content: label of an arm -> what its corpus, tokenizer and model were when it was run, so that nothing of them
            is read.  By default what they are now.

    Raises:
        InputError: what is known to be wrong before anything runs.
    """
    resolved = on or resolve(config)
    generations: list[Generation] = []
    swept = arms(config)
    _check_size(swept)
    known = content if content is not None and content.keys() == {arm.label for arm in swept} else {}
    found: dict[str, Mapping[str, str]] = {}
    _check_functions([arm.config for arm in swept])
    for arm in swept:
        identity = found[arm.label] = known.get(arm.label) or identities(arm.config)
        generations += [
            generation
            for regime in arm.config.regimes
            for seed in arm.config.seeds
            for generation in chain(arm, resolved, identity, regime, seed)
        ]
    return Study(config, resolved, tuple(generations), found)


def resolve(config: StudyConfig) -> Machine:
    """Return the device, dtype and threads of a study on this machine."""
    device = machine.resolve_device(config.compute.device)
    dtype = machine.resolve_dtype(config.compute.dtype, device)
    return Machine(device, dtype, config.compute.threads, instructions())


def _check_size(swept: Sequence[Arm]) -> None:
    """Check the number of steps before any is made.  InputError for more than MOST_STEPS."""
    total = 0
    for study in (arm.config for arm in swept):
        chains, members = len(study.regimes) * len(study.seeds), study.population
        shards = max(members, math.ceil(study.sample_rows / study.sample.shard_rows))
        total += chains * study.generations * (3 + 2 * members + shards + len(study.metrics.extra))
    if total > MOST_STEPS:
        raise InputError(
            f"the study has some {total:,} steps (arms x regimes x seeds x generations, and each sample's shards), "
            f"more than the {MOST_STEPS:,} of one run: make several studies of it, or raise sample.shard_rows"
        )


def load_whole(study: str, overrides: Sequence[str] = ()) -> StudyConfig:
    """Load a study.  InputError names the faults of its fields, of its sweep, and of regimes and curators at once."""
    fields = study_fields(study, overrides)
    try:
        return parse_study(fields)
    except InputError as error:
        faults = [str(error), *faults_beside(fields, str(error))]
    for name, kind, check in (
        ("regimes", RegimeConfig, regimes.check_regime),
        ("curators", CuratorConfig, partial(check_curator, mark=WatermarkConfig(scheme="kgw").settings)),
    ):
        given = fields.get(name)
        for each in given if isinstance(given, list) else ():
            with contextlib.suppress(ValidationError):  # the faults of its fields are named already
                named = kind.model_validate(each)
                faults += _faults([partial(check, named.name, named.options)])
    raise InputError("; ".join(dict.fromkeys(faults)))


def _faults(checks: Iterable[Callable[[], None]]) -> list[str]:
    """Return what is wrong according to these checks."""
    faults = []
    for check in checks:
        try:
            check()
        except InputError as error:
            faults.append(str(error))
    return faults


def _check_functions(swept: Sequence[StudyConfig]) -> None:
    """Check regimes, curators and LoRA: options, what a regime asks for in each generation, and that peft is there.

    The lab's own regimes are tried here, because they need sizes alone.  InputError names every fault.
    """
    faults = []
    for study in swept:
        faults += _faults(partial(_check_regime, study, regime) for regime in study.regimes)
        mark = study.sample.mark
        options = _faults(partial(check_curator, curator.name, curator.options, mark) for curator in study.curators)
        order = partial(check_order, [curator.name for curator in study.curators])
        # what curators ask of a study is read from options that are right
        asked = [partial(check, study) for check in (check_archive, check_registers, check_own_rows, _check_kept)]
        faults += options or _faults([order, *asked])
    if any(study.train and study.train.lora for study in swept) and importlib.util.find_spec("peft") is None:
        faults.append('train.lora needs peft, which is not installed: pip install "collapse-lab[lora]"')
    if faults:
        raise InputError("; ".join(dict.fromkeys(faults)))


def _check_kept(study: StudyConfig) -> None:
    """Raise InputError where it is known beforehand that curators keep no row, or ask for text that there is not."""
    if study.corpus.kind == "source" and any(each.name == "stop_words" for each in study.curators):
        raise InputError("curator stop_words reads text, and rows of a known source have none")
    whole = lineage(study, study.generations - 1)
    oracles = [each.options for each in study.curators if each.name == "oracle"]
    for regime in (each for each in study.regimes if each.name in regimes.REGIMES and each.name != CONTROL and oracles):
        for t in range(1, study.generations):
            before = replace(whole, samples=whole.samples[:t])
            parts = regimes.recipe(regime.name, regime.options, before, study.seeds[0], t).parts
            human = sum(part.distinct_rows for part in parts if part.origin < 0)
            machine = sum(part.distinct_rows for part in parts) - human
            for kept in oracles:
                if not round(float(kept["human"]) * human) + round(float(kept["machine"]) * machine):
                    raise InputError(
                        f"regime {regime.label}, generation {t}: the oracle keeps none of {human:,} human and "
                        f"{machine:,} generated rows; raise its shares, or take a regime with human rows"
                    )


def _check_regime(study: StudyConfig, regime: RegimeConfig) -> None:
    regimes.check_regime(regime.name, regime.options)
    if regime.name in regimes.REGIMES:
        whole = lineage(study, study.generations - 1)
        _try_regime(study, regime, whole, study.seeds[0])


def check_own_regimes(study: Study) -> None:
    """Call the user's own regimes for every generation, as the steps will.  InputError: one gives no valid recipe."""
    for arm in arms(study.config):
        whole = lineage(arm.config, arm.config.generations - 1)
        for regime in arm.config.regimes:
            if regime.name not in regimes.REGIMES:
                for seed in arm.config.seeds:
                    _try_regime(arm.config, regime, whole, seed)


def _try_regime(study: StudyConfig, regime: RegimeConfig, whole: Lineage, seed: int) -> None:
    """Ask a regime for the recipe of each generation after the first: one may fail early or late."""
    for t in range(1, len(whole.samples) + 1):
        try:
            regimes.recipe_rows(regime.name, regime.options, replace(whole, samples=whole.samples[:t]), seed, t)
        except InputError as error:
            kept = reserved(study) if regimes.regime(regime.name).archive(regime.options) else 0
            beside = f" ({kept:,} more rows are reserved by the curator archive)" if kept else ""
            raise InputError(f"regime {regime.label}, generation {t}: {error}{beside}") from error
