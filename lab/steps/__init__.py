"""The ONE table of all kinds of steps.  Each kind is defined, with its properties, in one file of this folder."""

from __future__ import annotations

from collections.abc import Sequence

from lab.steps import (
    extra,
    marked,
    pool,
    probes,
    record,
    sample,
    source,
    text,
    train,
)
from lab.steps.curation import archived, curate, edited, scored
from lab.steps.evidence import entropy, judge, labels, plurality, profile, telephone, voices
from lab.steps.evidence.memory import MEMORY
from lab.steps.kind import Kind, source_hash
from lab.steps.place import Place
from lab.store.step import Step
from lab.store.store import Job

STEPS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        text.CORPUS,
        text.TOKENIZER_KIND,
        text.ROWS,
        text.HELDOUT_ROWS,
        text.HUMAN_ROWS,
        source.SOURCE,
        source.SOURCE_ROWS,
        pool.POOL,
        archived.ARCHIVED,
        edited.EDITED,
        curate.CURATE,
        scored.SCORED,
        train.BASE,
        train.TRAIN,
        sample.SAMPLE,
        marked.MARKED,
        sample.SYNTHETIC,
        probes.HELDOUT,
        record.RECORD,
        extra.EXTRA,
        voices.VOICED_RECORD,
        voices.VOICED_EXTRA,
        entropy.ENTROPY,
        plurality.PLURALITY,
        judge.JUDGED,
        labels.LABELS,
        MEMORY,
        telephone.CONTINUED,
        telephone.TOLD,
        profile.LEXICON,
        profile.PROFILE,
    )
}
"""Name -> kind, in the order of the loop.  A new kind of step is a file and a line here."""
SOON = frozenset(name for name, kind in STEPS.items() if kind.takes == "evidence" or not kind.cost)
"""Kinds that go before training and sampling, so that a generation is measured as soon as it has written its text, and
its weights may be dropped."""


def job_of(step: Step) -> Job:
    """Return a step as a worker gets it."""
    return Job.of(step, source_hash(STEPS[step.name]))


def probed(place: Place, models: Sequence[Step], synthetic: Step) -> dict[str, tuple[Step, ...]]:
    """Declare every probe that the study asks for: kind of probe -> its step for each model."""
    declared: dict[str, tuple[Step, ...]] = {}
    for kind in STEPS.values():
        if kind.probe is not None:
            steps = [kind.probe(place, model, synthetic) for model in models]
            if wanted := tuple(step for step in steps if step is not None):
                declared[kind.name] = wanted
    return declared
