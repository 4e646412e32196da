"""The step `sample-marked`: some rows drawn from one model with a watermark (`sample.watermark`).

It is `sample` with a mark after decoding.  It is a kind of its own so that the keys of all other studies stay as they
are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lab.config.study import StudyConfig
from lab.metrics.texts import before_end
from lab.steps.evidence.profile import PROFILE
from lab.steps.kind import Folders, make_step
from lab.steps.place import end_of
from lab.steps.sample import SAMPLE, SYNTHETIC, SampleParams, SyntheticParams, _prompts
from lab.store.step import Attempt, Step
from lab.text import tokenizer as tokenizers


@dataclass(frozen=True)
class MarkedParams(SampleParams):
    watermark: Mapping[str, Any] | None = None
    """Scheme, key and the fields of the scheme."""


def marked(study: StudyConfig, synthetic: Step) -> Step:
    """Return the corpus that the same models write with the study's watermark; `synthetic` itself where it has none."""
    if study.sample.watermark is None:
        return synthetic
    inputs = {
        role: _marked_shard(study.sample.watermark.settings, step) if step.name == SAMPLE.name else step
        for role, step in synthetic.inputs.items()
    }
    params = SyntheticParams(**synthetic.params)
    return make_step(SYNTHETIC, params, inputs, label=synthetic.label, disk=synthetic.disk)


def marked_profile(study: StudyConfig, profile: Step | None) -> Step | None:
    """Return a profile that does not take marked text for draws from the model's own law."""
    if study.sample.watermark is None or profile is None:
        return profile
    params = PROFILE.params(**{**profile.params, "plain": False})
    return make_step(PROFILE, params, profile.inputs, label=profile.label, disk=profile.disk)


def _marked_shard(settings: Mapping[str, Any], shard: Step) -> Step:
    params = MarkedParams(**shard.params, watermark=settings)
    return make_step(
        MARKED, params, shard.inputs, label=shard.label, tokens=shard.tokens, work=shard.work, disk=shard.disk
    )


def _run_marked(params: MarkedParams, inputs: Folders, out: Path, attempt: Attempt) -> None:
    """Write tokens.npy and nats.npy, as `sample` does: nats are what a token costs the model itself, without mark."""
    from lab.models.load import load
    from lab.models.marked import Marked
    from lab.models.sampling.decoding import Decoding
    from lab.models.sampling.sample import sample

    assert params.watermark is not None
    special, length = tokenizers.load_special(inputs["tokenizer"]), params.prompt
    model = load(inputs["model"], params.machine["device"], decoding=params.machine["dtype"])
    stop = end_of(params.layout, inputs["tokenizer"])
    prompts = _prompts(params, inputs, stop) if length else np.empty((params.rows, 0), dtype=np.int64)
    tokens, _ = sample(
        Marked(model, Decoding(**params.decoding), params.watermark, prompt=length),
        rows=params.rows,
        positions=params.positions - length,
        bos=special["bos"],
        seed=params.seed,
        prompts=prompts,
        stop=stop,
        progress=attempt.progress,
    )
    rows = np.concatenate([prompts.astype(tokens.dtype), tokens], axis=1)
    nats = model.nats(rows)
    nats[:, :length] = 0
    np.save(out / "tokens.npy", rows)
    np.save(out / "nats.npy", nats if stop is None else np.where(before_end(rows, stop), nats, 0).astype(np.float32))


MARKED = replace(
    SAMPLE,
    name="sample-marked",
    params=MarkedParams,
    run=_run_marked,
    modules=("steps/marked.py", "models/marked.py", "curators/marks.py", *SAMPLE.modules),
    version="1",
)
