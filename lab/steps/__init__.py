"""Every kind of step in ONE table: its file declares it, runs it, and says what the rest of the lab asks about it."""

from __future__ import annotations

from lab.steps import pool, probes, record, sample, source, text, train
from lab.steps.kind import Kind, source_hash
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
        train.BASE,
        train.TRAIN,
        sample.SAMPLE,
        sample.SYNTHETIC,
        probes.HELDOUT,
        record.RECORD,
    )
}
"""Name -> kind, in the order of the loop.  A new kind of step is a file and a line here."""


def job_of(step: Step) -> Job:
    """Return a step as a worker gets it."""
    return Job.of(step, source_hash(STEPS[step.name]))
