"""The step `record`: every number of one generation, from the evidence that its other steps left."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from lab.config.cost import FILES
from lab.errors import printable
from lab.metrics.columns import BY_NAME, names
from lab.metrics.evidence import Evidence, Law, Training
from lab.metrics.measure import Measured, measure
from lab.steps.kind import Folders, Kind, make_step, write_json
from lab.steps.place import Place
from lab.store.step import Attempt, Step
from lab.text.known_source import KnownSource, is_known_source
from lab.text.tokenizer import load_special, load_tokenizer, token_bytes


@dataclass(frozen=True)
class RecordParams:
    tokens: int
    """All compared texts are cut to this number of tokens."""
    prompt: int
    layout: str
    columns: Sequence[Sequence[str]]
    """Name of each column and of the function that computes it: a title or a definition changes no key."""


def record(place: Place, models: Sequence[Step], sampled: Step, probed: Mapping[str, Sequence[Step]]) -> Step:
    """Declare the step that computes every number of one generation, from evidence alone."""
    study, human = place.study, place.human
    inputs = {
        "tokenizer": human.tokenizer,
        "test": human.test,
        "human": human.human,
        "resample": human.resample,
        "synthetic": sampled,
    }
    inputs |= {f"model-{m}": model for m, model in enumerate(models)}
    inputs |= {f"{name}-{m}": step for name, steps in probed.items() for m, step in enumerate(steps)}
    columns = [[name, getattr(BY_NAME[name].group, "__name__", "")] for name in names(study.corpus.kind)]
    params = RecordParams(study.metrics.tokens, study.sample.prompt_tokens, study.corpus.layout, columns)
    return make_step(RECORD, params, inputs, label=f"measure {sampled.chain}", disk=3 * FILES)


def load_evidence(inputs: Folders, *, budget: int, prompt: int, layout: str) -> Evidence:
    """Return the evidence of one generation from the inputs of its record step.

    Token arrays stay memory-mapped; losses of the test rows are read.

    Args:
        inputs: the folders of tokenizer, test, human, resample, synthetic, model-<m> and heldout-<m>.
        budget: tokens at which texts are compared.
        prompt: human tokens at the beginning of each sampled row.
        layout: blocks or documents.
    """
    test, human, sample, resample = (
        np.load(inputs[name] / "tokens.npy", mmap_mode="r") for name in ("test", "human", "synthetic", "resample")
    )
    tokenizer, known = inputs["tokenizer"], is_known_source(inputs["tokenizer"])
    probed = [inputs[role] for role in sorted(inputs, key=_number) if role.startswith("heldout-")]
    domains, test_domain = ([], None) if known else _domains(inputs["test"])
    return Evidence(
        test=test,
        member_nats=[np.load(folder / "nats.npy") for folder in probed],
        human=human,
        sample=sample,
        resample=resample,
        budget=budget,
        prompt=prompt,
        layout=layout,
        **load_special(tokenizer),
        trainings=[_training(folder) for role, folder in inputs.items() if role.startswith("model-")],
        token_bytes=() if known else token_bytes(load_tokenizer(tokenizer)[0]),
        law=_law(tokenizer, inputs["test"]) if known else None,
        domains=domains,
        test_domain=test_domain,
    )


def _domains(test: Path) -> tuple[list[str], np.ndarray]:
    """Return the domains of the documents of the test fold, and the index of the one of each test token."""
    names = pa.ipc.open_file(pa.memory_map(str(test / "names.arrow"))).read_all()["domain"]
    coded = names.combine_chunks().dictionary_encode()
    domains = [printable(name) for name in coded.dictionary.to_pylist()]
    indices = coded.indices.to_numpy(zero_copy_only=False)
    return domains, indices[np.load(test / "document.npy", mmap_mode="r")]


def _number(role: str) -> tuple[str, int]:
    """Return a role such as "heldout-10" as (name, number), which sort as numbers do."""
    name, _, number = role.rpartition("-")
    return name, int(number) if number.isdigit() else 0


def _training(model: Path) -> Training:
    report = json.loads((model / "training.json").read_text(encoding="utf-8"))
    validation = report["curve"][-1]["validation"] if report["curve"] else None
    return Training(report["fed_rows"], report["fed_tokens"], report["unique_tokens"], validation)


def _law(source: Path, test: Path) -> Law:
    known = KnownSource.load(source)
    return Law(known.first, known.then, np.load(test / "nats.npy"))


def as_record(measured: Measured) -> dict[str, Any]:
    """Return what record.json holds.  A number that does not exist is null."""
    columns = {name: None if math.isnan(value) else value for name, value in measured.columns.items()}
    return {"columns": columns, "shares": measured.shares, "bins": measured.bins}


def _run_record(params: RecordParams, inputs: Folders, out: Path, attempt: Attempt) -> None:
    evidence = load_evidence(inputs, budget=params.tokens, prompt=params.prompt, layout=params.layout)
    write_json(out / "record.json", as_record(measure(evidence)))


RECORD = Kind(
    "record",
    RecordParams,
    _run_record,
    ("steps/record.py", "metrics/[!c]*.py", "text/known_source.py", "text/tokenizer.py", "text/plain_tokenizer.py"),
    takes="evidence",
    libraries=frozenset({"tokenizers", "pyarrow"}),
    reads_weights=False,
)
