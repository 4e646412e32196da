"""The step `profile`: what the eight definitions need of a generation, from evidence that no other step reads."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lab.collapse.evidence import Judged, ProfileEvidence
from lab.collapse.numbers import measure_profile
from lab.collapse.telephone import properties
from lab.config.cost import FILES
from lab.errors import printable
from lab.metrics.columns_profile import names
from lab.metrics.evidence import Evidence, Law
from lab.metrics.texts import is_text
from lab.metrics.words import count_words
from lab.steps.evidence.entropy import entropy
from lab.steps.evidence.judge import judge, judged
from lab.steps.evidence.labels import labels, load_labels
from lab.steps.evidence.memory import load_memory, memory
from lab.steps.evidence.plurality import plurality
from lab.steps.evidence.telephone import no_prompt, telephone
from lab.steps.kind import Folders, Kind, NoParams, make_step, write_json
from lab.steps.place import Place
from lab.steps.probes import heldout
from lab.steps.record import RECORD, load_evidence
from lab.steps.sample import PROMPTS, telephone_prompt
from lab.steps.train import train_on_share
from lab.store.step import Attempt, Step
from lab.text.canaries import DOCUMENT as CANARY
from lab.text.tokenizer import load_special, load_tokenizer, token_bytes

FILE, DOCUMENTS, LEXICON_FILE = "profile.json", "documents.npy", "words.txt"
MEASURING = ("evidence", "memory", "modes", "numbers", "plurality", "telephone", "verbatim")
"""Files of lab/collapse that decide a profile's numbers; the others read them."""
PARTS, SHARE = (8, 4, 2), "share-"
"""Models are trained on one of so many parts of a generation's rows; the role of their held-out losses."""
NONE = "(none)"  # the label of documents without one
LABELS = ("domain", "author")
"""Columns of labels by which loss and generated text are divided."""


@dataclass(frozen=True)
class ProfileParams:
    tokens: int
    prompt: int
    layout: str
    plain: bool
    """Whether nothing but the model's own law decides the next token."""


def nested(place: Place, recipe: Step, recipe_rows: int, began: Step | None, sampled: Step) -> dict[str, Step]:
    """Declare the held-out losses of models trained on an eighth, a quarter and half of a generation's rows, by role.

    For the first generation and the last.  In a population the models share their rows already, and there are none.
    """
    study = place.study
    if study.profile is None or not study.profile.scaling or study.population > 1:
        return {}
    if place.t not in (0, study.generations - 1):
        return {}
    models = {parts: train_on_share(place, recipe, recipe_rows, began, parts) for parts in PARTS}
    return {f"{SHARE}{parts}": heldout(place, model, sampled) for parts, model in models.items()}


def profile(
    place: Place,
    models: Sequence[Step],
    sampled: Step,
    record: Step,
    base: Step | None,
    sizes: Mapping[str, Step],
) -> Step | None:
    """Declare the profile of a generation; None where the study asks for none.  `sizes`: see `nested`."""
    study, human = place.study, place.human
    if study.profile is None:
        return None
    inputs = {**record.inputs, **sizes}
    if study.profile.entropy:
        probed = [entropy(place, model) for model in models]
        inputs |= {f"entropy-{m}": step for m, step in enumerate(probed) if step is not None}
        if len(models) > 1:
            inputs["plurality"] = plurality(place, models)
    if study.profile.extraction:
        inputs |= {f"memory-{m}": memory(place, model) for m, model in enumerate(models)}
    if study.profile.telephone:
        inputs["telephone"] = telephone(place, models[0])
    if study.corpus.kind == "text":
        rows = human.human.inputs["rows"]
        inputs |= {"rows": rows, "lexicon": _lexicon(rows, human.tokenizer)}
        if (labelled := labels(place)) is not None:
            inputs["labels"] = labelled
        if study.profile.judge:
            fitted = judge(place, base)
            test, sample = study.rows(study.metrics.test_tokens) * place.row, study.sample_rows * place.row
            prompt = study.sample.prompt_tokens
            inputs["judged-test"] = judged(place, fitted, human.test, "test rows", test)
            inputs["judged"] = judged(place, fitted, sampled, sampled.chain, sample, prompt=prompt)
            if "telephone" in inputs:
                told, begin = inputs["telephone"], telephone_prompt(place.row)
                label = f"telephone {models[0].chain}"
                inputs["judged-telephone"] = judged(place, fitted, told, label, PROMPTS * place.row, prompt=begin)
    given = {field: record.params[field] for field in ("tokens", "prompt", "layout")}
    params = ProfileParams(**given, plain=not study.sample.decoding)
    return make_step(PROFILE, params, inputs, label=f"profile {record.chain}", disk=4 * FILES)


def _lexicon(rows: Step, tokenizer: Step) -> Step:
    return make_step(
        LEXICON, NoParams(), {"rows": rows, "tokenizer": tokenizer}, label="words of all folds", disk=10**6
    )


def _run_lexicon(params: NoParams, inputs: Folders, out: Path, attempt: Attempt) -> None:
    """Write words.txt: the distinct words of all human text except the test fold, sorted, one a line."""
    special, spelled = load_special(inputs["tokenizer"]), token_bytes(load_tokenizer(inputs["tokenizer"])[0])
    words: set[str] = set()
    for fold in ("train", "reference", "validation"):
        words.update(count_words(np.load(inputs["rows"] / f"{fold}.npy", mmap_mode="r"), spelled, special["eos"]))
    (out / LEXICON_FILE).write_text("\n".join(sorted(words)) + "\n", encoding="utf-8")


def load_profile(folder: Path) -> dict[str, Any]:
    """Return what the artifact of a profile holds: columns (NaN: no number), groups, written, and documents [D, 2]."""
    found: dict[str, Any] = json.loads((folder / FILE).read_text(encoding="utf-8"))
    found["columns"] = {name: math.nan if value is None else value for name, value in found["columns"].items()}
    found["losses"] = {float(share): loss for share, loss in found["losses"].items()}
    return {**found, "documents": np.load(folder / DOCUMENTS)}


def _run_profile(params: ProfileParams, inputs: Folders, out: Path, attempt: Attempt) -> None:
    base = load_evidence(inputs, budget=params.tokens, prompt=params.prompt, layout=params.layout)
    text = base.kind == "text"
    lexicon = set((inputs["lexicon"] / LEXICON_FILE).read_text(encoding="utf-8").split("\n")) if text else None
    found = measure_profile(_evidence(base, params, inputs), lexicon)
    columns = {name: found.columns.get(name, math.nan) for name in names(base.kind)}
    kept = {name: None if math.isnan(value) else value for name, value in columns.items()}
    facts = {"groups": found.groups, "written": found.written, "rare_words": found.rare_words}
    facts |= {"losses": _losses(base, inputs), "telephone": _continued(base, inputs), "untold": _untold(inputs)}
    write_json(out / FILE, {"columns": kept, **facts})
    np.save(out / DOCUMENTS, found.documents)


def _losses(base: Evidence, inputs: Folders) -> dict[str, float]:
    """Return share of the generation's rows -> held-out loss; {} where nested sizes were not trained."""
    sizes = {1 / int(role.removeprefix(SHARE)): path for role, path in inputs.items() if role.startswith(SHARE)}
    losses = {share: float(np.load(path / "nats.npy")[base.scored].mean()) for share, path in sizes.items()}
    return (
        {str(share): loss for share, loss in {**losses, 1.0: float(base.scored_nats.mean())}.items()} if sizes else {}
    )


def _continued(base: Evidence, inputs: Folders) -> dict[str, list[float | None]]:
    """Return property -> its value for the continuation of each prompt; {} where none was continued."""
    if "telephone" not in inputs:
        return {}
    rows = np.load(inputs["telephone"] / "tokens.npy")
    if not len(rows):
        return {}
    rows = rows[:, telephone_prompt(rows.shape[1]) :]
    nats = pq.read_table(inputs["telephone"] / "rows.parquet", columns=["nats"])["nats"].to_numpy()
    found = properties(rows, base.token_bytes, base.eos, base.training_counts)
    tokens = is_text(rows, base.end).sum(axis=1)
    found["nats"] = nats / tokens
    if "judged-telephone" in inputs:
        found["judge_nats"] = np.load(inputs["judged-telephone"] / "nats.npy") / tokens
    return {name: [None if math.isnan(x) else x for x in values.tolist()] for name, values in found.items()}


def _untold(inputs: Folders) -> str:
    """Return why the telephone view that was asked for has no texts; an empty string where it has some."""
    if "telephone" not in inputs:
        return ""
    rows, positions = np.load(inputs["telephone"] / "tokens.npy", mmap_mode="r").shape
    return "" if rows else no_prompt(positions)


def _evidence(base: Evidence, params: ProfileParams, inputs: Folders) -> ProfileEvidence:
    """Add to the evidence of a record what the judge, the entropy probe and the labels of human text say."""
    probed = [np.load(folder / "entropy.npy") for role, folder in sorted(inputs.items()) if role.startswith("entropy-")]
    writer = pq.read_table(inputs["synthetic"] / "rows.parquet", columns=["nats"])["nats"].to_numpy()
    text = base.law is None
    return ProfileEvidence(
        base,
        human_groups=_labels_of_rows(inputs) if text else {},
        canary=np.array([each == CANARY for each in _documents_of_rows(inputs)], np.bool_) if text else None,
        test_groups=_labels(inputs["test"] / "names.arrow", inputs) if text else {},
        test_document=np.load(inputs["test"] / "document.npy", mmap_mode="r") if text else None,
        writer_nats=writer.astype(np.float64),
        plain=params.plain,
        judged=_judged(inputs) if text else _by_law(base, base.law),
        entropies=np.mean(probed, axis=0, dtype=np.float64) if probed else None,
        divergence=np.load(inputs["plurality"] / "divergence.npy") if "plurality" in inputs else None,
        memories=[load_memory(folder) for role, folder in sorted(inputs.items()) if role.startswith("memory-")],
    )


def _judged(inputs: Folders) -> Judged | None:
    if "judged" not in inputs:
        return None
    return Judged(np.load(inputs["judged"] / "nats.npy"), np.load(inputs["judged-test"] / "nats.npy"))


def _by_law(base: Evidence, law: Law | None) -> Judged:
    """Return the exact losses under the known source, which judges the samples of its models after their prompts."""
    assert law is not None
    first, then = (np.pad(table, [(0, 1)] * table.ndim) for table in (law.first, law.then))  # BOS is never drawn
    rows = base.sample
    with np.errstate(divide="ignore"):
        nats = -np.log(np.column_stack([first[rows[:, 0]], then[rows[:, :-1], rows[:, 1:]]]))
    return Judged(nats[:, base.prompt :].sum(axis=1), law.test_nats.sum(axis=1, dtype=np.float64))


def _labels(path: Path, inputs: Folders) -> dict[str, list[str]]:
    """Return the labels of the documents of a fold, by column."""
    table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    columns = {name: table[name].to_pylist() for name in LABELS}
    if "labels" in inputs:
        documents = table["document"].to_pylist()
        given = load_labels(inputs["labels"])
        columns |= {name: [values.get(document) for document in documents] for name, values in given.items()}
    return {name: [printable(each or NONE) for each in values] for name, values in columns.items()}


def _labels_of_rows(inputs: Folders) -> dict[str, list[str]]:
    """Return the labels of the human training rows: those of the document of the first token.

    A column that says nothing of the train fold is left out.  Held-out text may lack labels that training text has.
    """
    path = inputs["rows"] / "train-names.arrow"
    documents = pa.ipc.open_file(pa.memory_map(str(path))).read_all()["document"].to_pylist()
    at = {name: index for index, name in enumerate(documents)}
    rows = _documents_of_rows(inputs)
    found = {name: [*values, NONE] for name, values in _labels(path, inputs).items() if len(set(values)) > 1}
    return {name: [values[at.get(each, -1)] for each in rows] for name, values in found.items()}


def _documents_of_rows(inputs: Folders) -> list[str]:
    """Return the name of the document of the first token of each human training row; CANARY of a canary."""
    table = pq.read_table(inputs["human"] / "rows.parquet", columns=["document"])
    found: list[str] = table["document"].to_pylist()
    return found


LEXICON = Kind(
    "lexicon",
    NoParams,
    _run_lexicon,
    (
        "steps/evidence/profile.py",
        "metrics/words.py",
        "metrics/letters.py",
        "text/tokenizer.py",
        "text/plain_tokenizer.py",
    ),
    version="1",
    libraries=frozenset({"tokenizers"}),
)
PROFILE = Kind(
    "profile",
    ProfileParams,
    _run_profile,
    ("steps/evidence/profile.py", *(f"collapse/{name}.py" for name in MEASURING), *RECORD.modules),
    takes="evidence",
    libraries=frozenset({"tokenizers", "pyarrow"}),
    reads_weights=False,
)
