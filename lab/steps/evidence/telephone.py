"""The telephone view in the layout `documents`, whose held-out documents may all be shorter than a prompt.

`continued` and `told` are `sample` and `synthetic`, and write no rows where there is nothing to continue, so that the
rest of the profile is measured.  They are kinds of their own so that the keys of studies in blocks stay as they are.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from lab.steps.kind import Folders, make_step
from lab.steps.place import Place, end_of
from lab.steps.sample import SAMPLE, SYNTHETIC, SampleParams, SyntheticParams, telephone_prompt
from lab.steps.sample import telephone as continue_prompts
from lab.store.step import Attempt, Step


def telephone(place: Place, model: Step) -> Step:
    """Declare 16 held-out prompts that a model continues; in the layout `documents` there may be none."""
    whole = continue_prompts(place, model)
    if place.study.corpus.layout != "documents":
        return whole
    drawn = whole.inputs["shard-000000"]
    rows = make_step(
        CONTINUED,
        SampleParams(**drawn.params),
        drawn.inputs,
        label=drawn.label,
        tokens=drawn.tokens,
        work=drawn.work,
        disk=drawn.disk,
    )
    inputs = {**whole.inputs, "shard-000000": rows}
    return make_step(TOLD, SyntheticParams(**whole.params), inputs, label=whole.label, disk=whole.disk)


def no_prompt(row: int) -> str:
    """Return in words why rows of this many tokens have no prompt."""
    return f"no held-out document is longer than a prompt of {telephone_prompt(row)} tokens"


def _run_continued(params: SampleParams, inputs: Folders, out: Path, attempt: Attempt) -> None:
    """Write what `sample` writes; arrays without rows where every document ends within the prompt."""
    human = np.load(inputs["human"] / "tokens.npy", mmap_mode="r")
    ended = (human[:, : params.prompt] == end_of(params.layout, inputs["tokenizer"])).any(axis=1)
    if not ended.all():
        return SAMPLE.run(params, inputs, out, attempt)
    np.save(out / "tokens.npy", human[:0])
    np.save(out / "nats.npy", np.empty((0, params.positions), np.float32))


def _run_told(params: SyntheticParams, inputs: Folders, out: Path, attempt: Attempt) -> None:
    """Write what `synthetic` writes; of no rows tokens.npy alone."""
    tokens = np.load(inputs["shard-000000"] / "tokens.npy", mmap_mode="r")
    if len(tokens):
        return SYNTHETIC.run(params, inputs, out, attempt)
    np.save(out / "tokens.npy", tokens)


OWN = "steps/evidence/telephone.py"
CONTINUED = replace(SAMPLE, name="continued", run=_run_continued, modules=(OWN, *SAMPLE.modules), version="1")
TOLD = replace(SYNTHETIC, name="told", run=_run_told, modules=(OWN, *SYNTHETIC.modules), version="1")
