"""The step constructors: name, parameters, inputs; and below them the functions that run the steps.

A step's function gets its parameters, the folders of its inputs and an empty folder to write into.  What it returns is
what it wrote.  A cheap step's version is the hash of the modules it uses; a dear step's version is raised by hand when
its meaning changes.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lab import corpus as corpora
from lab import regimes
from lab import tokenizer as tokenizers
from lab.config import CorpusConfig, ModelConfig, StudyConfig, TrainConfig
from lab.seeds import derive_seed, generator
from lab.types import HUMAN, InputError, Lineage, Recipe, Source, Step

Progress = Callable[[int], None]
"""Told the number of the step's tokens done so far."""
Folders = Mapping[str, Path]
Run = Callable[[Mapping[str, Any], Folders, Path, Progress], None]


@dataclass(frozen=True)
class Kind:
    run: Run
    modules: tuple[str, ...]
    """The lab modules whose source decides what the step does."""
    version: str = ""
    """Raised by hand.  Empty for cheap steps: the hash of the modules."""


@functools.cache
def source_hash(name: str) -> str:
    """Hash of the source of the modules behind a step."""
    root = Path(__file__).parent
    files = sorted(file for module in KINDS[name].modules for file in root.glob(module))
    assert files, name
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()[:16]


def _step(
    name: str,
    params: dict[str, Any],
    inputs: dict[str, Step],
    *,
    label: str = "",
    tokens: int = 0,
    work: float = 0.0,
    where: Mapping[str, Any] | None = None,
) -> Step:
    version = KINDS[name].version or source_hash(name)
    return Step(name, version, params, inputs, tokens, work, label or name, where or {})


def parameters(config: ModelConfig, vocab_size: int) -> int:
    """Weights of a GPT-2 of this shape, its output matrix shared with the embedding."""
    block = 12 * config.n_embd**2 + 13 * config.n_embd
    return (vocab_size + config.n_positions) * config.n_embd + config.n_layer * block + 2 * config.n_embd


def _work(study: StudyConfig, tokens: int, passes: int) -> float:
    """Operations of so many passes (forward 1, with its backward 3) over tokens: 2 a weight, and the attention."""
    vocab_size = study.tokenizer.vocab_size or 50_257
    attention = study.model.n_layer * study.model.n_positions * study.model.n_embd
    return float(passes * tokens * 2 * (parameters(study.model, vocab_size) + attention))


# --- constructors --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Human:
    """What a chain needs of human text: the tokenizer, held-out rows, this seed's own rows, and as many others."""

    tokenizer: Step
    validation: Step
    test: Step
    human: Step
    resample: Step


@dataclass(frozen=True)
class Machine:
    """The arithmetic, resolved: part of the key of every step that multiplies matrices."""

    device: str
    dtype: str
    threads: int


def _where(path: str | None, identity: str) -> dict[str, str | None]:
    """Where the content lies: a local path, or a hub id with the commit that was resolved."""
    at_hub = path is not None and identity.startswith(f"{path}@")
    return {"path": path, "revision": identity.partition("@")[2] if at_hub else None}


def human(study: StudyConfig, identity: Mapping[str, str], seed: int) -> Human:
    """The human side of one seed.  `identity` says by content what the corpus and a pretrained tokenizer are."""
    config = study.corpus.model_dump(exclude={"tokens", "path", "revision"})
    text = _step(
        "corpus",
        {"corpus": config, "identity": identity["corpus"]},
        {},
        where=_where(study.corpus.path, identity["corpus"]),
    )
    tokenizer = _step(
        "tokenizer",
        {"vocab_size": study.tokenizer.vocab_size, "identity": identity["tokenizer"]},
        {"corpus": text},
        where=_where(study.tokenizer.pretrained, identity["tokenizer"]),
    )
    rows = _step("rows", {"positions": study.model.n_positions}, {"corpus": text, "tokenizer": tokenizer})

    def held_out(fold: str, tokens: int) -> Step:
        return _step("heldout-rows", {"fold": fold, "rows": study.rows(tokens)}, {"rows": rows}, label=f"{fold} rows")

    mine, others = study.rows(study.corpus.tokens), study.rows(study.metrics.tokens)
    drawn = _step(
        "human", {"seed": seed, "rows": mine}, {"rows": rows, "tokenizer": tokenizer}, label=f"human seed {seed}"
    )
    again = _step(
        "resample", {"seed": seed, "after": mine, "rows": others}, {"rows": rows}, label=f"resample seed {seed}"
    )
    validation, test = (
        held_out("validation", study.train.validation_tokens),
        held_out("test", study.metrics.test_tokens),
    )
    return Human(tokenizer, validation, test, drawn, again)


def pool(regime: str, source: Human, samples: Mapping[int, Step], seed: int, t: int) -> Step:
    """What is on the table for generation t.  Without synthetic text it is the same step for every regime."""
    seen = {t: step for t, step in samples.items() if t in regimes.visible(regime, len(samples))}
    params: dict[str, Any] = {"regime": "human", "seed": seed, "generation": t}
    if samples:
        params["regime"] = regime
        params["source"] = hashlib.sha256(_regime_source(regime).encode()).hexdigest()
    inputs = {"human": source.human} | {f"synthetic-{t}": step for t, step in seen.items()}
    return _step("pool", params, inputs, label=f"pool {regime if samples else 'shared'} seed {seed} gen {t}")


def _regime_source(regime: str) -> str:
    """The function's own source for a regime of the lab, the whole module for a user's: it may call anything there."""
    function = regimes.regime(regime).pool
    try:
        return inspect.getsource(function if regime in regimes.REGIMES else inspect.getmodule(function) or function)
    except (TypeError, OSError) as error:
        raise InputError(f'regime "{regime}" has no Python source to tell its versions apart: {error}') from error


def train(study: StudyConfig, machine: Machine, recipe: Step, source: Human, seed: int, t: int) -> Step:
    params = {
        "model": study.model.model_dump(),
        "train": study.train.model_dump(),
        "seed": seed,
        "generation": t,
        "machine": machine.__dict__,
    }
    inputs = {**recipe.inputs, "pool": recipe, "validation": source.validation, "tokenizer": source.tokenizer}
    label = f"train {recipe.label.removeprefix('pool ')}"
    tokens = study.rows(study.train.tokens) * study.model.n_positions
    return _step("train", params, inputs, label=label, tokens=tokens, work=_work(study, tokens, passes=3))


def sample(study: StudyConfig, machine: Machine, model: Step, source: Human, seed: int, t: int) -> Step:
    """The synthetic corpus of a generation: its shards, gathered."""
    total, most = study.rows(study.sample.tokens), study.sample.shard_rows
    positions, name = study.model.n_positions, model.label.removeprefix("train ")
    shards = {}
    for shard, first in enumerate(range(0, total, most)):
        rows = min(most, total - first)
        params = {
            "rows": rows,
            "positions": positions,
            "seed": derive_seed(seed, t, "sample", shard),
            "machine": {"device": machine.device, "threads": machine.threads},
        }
        inputs = {"model": model, "tokenizer": source.tokenizer}
        tokens = rows * positions
        shards[f"shard-{shard:04d}"] = _step(
            "sample",
            params,
            inputs,
            label=f"sample {name} shard {shard}",
            tokens=tokens,
            work=_work(study, tokens, passes=1),
        )
    gathered = {**shards, "tokenizer": source.tokenizer}
    return _step("synthetic", {"origin": t}, gathered, label=f"gather {name}")


def heldout(study: StudyConfig, machine: Machine, model: Step, source: Human) -> Step:
    """The probe of held-out human text: the loss of each token under the model."""
    params = {"machine": {"device": machine.device, "threads": machine.threads}}
    tokens = study.rows(study.metrics.test_tokens) * study.model.n_positions
    label = f"heldout {model.label.removeprefix('train ')}"
    work = _work(study, tokens, passes=1)
    return _step("heldout", params, {"model": model, "test": source.test}, label=label, tokens=tokens, work=work)


def record(study: StudyConfig, source: Human, recipe: Step, model: Step, sampled: Step, evidence: Step) -> Step:
    """Every number of one generation, from evidence alone."""
    inputs = {
        "tokenizer": source.tokenizer,
        "test": source.test,
        "human": source.human,
        "resample": source.resample,
        "pool": recipe,
        "model": model,
        "synthetic": sampled,
        "heldout": evidence,
    }
    label = f"measure {model.label.removeprefix('train ')}"
    return _step("record", {"tokens": study.rows(study.metrics.tokens) * study.model.n_positions}, inputs, label=label)


# --- what runs -----------------------------------------------------------------------------------------------------


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _run_corpus(params: Mapping[str, Any], inputs: Folders, out: Path, progress: Progress) -> None:
    import pyarrow.parquet as pq

    config = CorpusConfig(path=params["path"], revision=params["revision"], **params["corpus"], tokens=1)
    documents = corpora.read_documents(config)
    pq.write_table(documents, out / "documents.parquet", compression="zstd")


def _run_tokenizer(params: Mapping[str, Any], inputs: Folders, out: Path, progress: Progress) -> None:
    if params["vocab_size"] is not None:
        text = corpora.documents(inputs["corpus"], "train")["text"].to_pylist()
        tokenizers.save_tokenizer(tokenizers.train_tokenizer(text, params["vocab_size"]), out)
    else:
        tokenizers.copy_tokenizer(params["path"], params["revision"], out)


def _run_rows(params: Mapping[str, Any], inputs: Folders, out: Path, progress: Progress) -> None:
    tokenizer, special = tokenizers.load_tokenizer(inputs["tokenizer"])
    documents = {}
    for fold in corpora.SHARES:
        table = corpora.documents(inputs["corpus"], fold)
        ids = [encoding.ids for encoding in tokenizer.encode_batch_fast(table["text"].to_pylist())]
        rows = corpora.cut_rows(
            ids, eos=special["eos"], positions=params["positions"], vocab_size=tokenizer.get_vocab_size()
        )
        np.save(out / f"{fold}.npy", rows.tokens)
        np.save(out / f"{fold}-document.npy", rows.document)
        documents[fold] = table.select(["document", "domain", "author"]).to_pylist()
    _write_json(out / "documents.json", documents)


def _run_heldout_rows(params: Mapping[str, Any], inputs: Folders, out: Path, progress: Progress) -> None:
    fold = params["fold"]
    rows = corpora.Rows(*(np.load(inputs["rows"] / f"{fold}{part}.npy", mmap_mode="r") for part in ("", "-document")))
    chosen = corpora.choose_rows(rows, params["rows"], fold)
    np.save(out / "tokens.npy", chosen.tokens)
    np.save(out / "document.npy", chosen.document)
    _write_json(out / "documents.json", _read_json(inputs["rows"] / "documents.json")[fold])


def _run_human(params: Mapping[str, Any], inputs: Folders, out: Path, progress: Progress) -> None:
    tokens = np.load(inputs["rows"] / "train.npy", mmap_mode="r")
    owner = np.load(inputs["rows"] / "train-document.npy", mmap_mode="r")
    documents = _read_json(inputs["rows"] / "documents.json")["train"]
    mine = corpora.draw_rows(tokens, params["seed"], 0, params["rows"])
    labels = {name: [documents[i][name] for i in owner[mine, 0]] for name in ("domain", "document")}
    tokenizer, _ = tokenizers.load_tokenizer(inputs["tokenizer"])
    corpora.write_rows(out, tokens[mine], tokenizer, origin=HUMAN, labels=labels, nats=None)


def _run_resample(params: Mapping[str, Any], inputs: Folders, out: Path, progress: Progress) -> None:
    tokens = np.load(inputs["rows"] / "train.npy", mmap_mode="r")
    others = corpora.draw_rows(tokens, params["seed"], params["after"], params["rows"])
    np.save(out / "tokens.npy", tokens[others])


def _corpora(inputs: Folders) -> dict[int, np.ndarray]:
    """The token arrays on the table, by origin."""
    paths = {int(role.removeprefix("synthetic-")): path for role, path in inputs.items() if role[:10] == "synthetic-"}
    paths[HUMAN] = inputs["human"]
    return {origin: np.load(path / "tokens.npy", mmap_mode="r") for origin, path in sorted(paths.items())}


def _run_pool(params: Mapping[str, Any], inputs: Folders, out: Path, progress: Progress) -> None:
    sources = [Source(origin, len(tokens)) for origin, tokens in _corpora(inputs).items()]
    lineage = Lineage(sources[0], tuple(sources[1:]))
    rng = generator(derive_seed(params["seed"], params["generation"], "pool"))
    recipe = regimes.regime(params["regime"]).pool(lineage, rng=rng)
    if not isinstance(recipe, Recipe) or recipe.rows == 0:
        raise InputError(f'regime "{params["regime"]}" returned {recipe!r:.80}, not a Recipe with at least one row')
    _write_json(out / "recipe.json", recipe.to_json())


def _run_train(params: Mapping[str, Any], inputs: Folders, out: Path, progress: Progress) -> None:
    from lab import models
    from lab import train as training

    _, special = tokenizers.load_tokenizer(inputs["tokenizer"])
    recipe = Recipe.from_json(_read_json(inputs["pool"] / "recipe.json"))
    rows = corpora.RecipeRows(recipe, _corpora(inputs))
    seed, t, machine = params["seed"], params["generation"], params["machine"]
    model = models.Gpt2.fresh(
        ModelConfig(**params["model"]),
        vocab_size=special["vocab_size"],
        bos=special["bos"],
        seed=derive_seed(seed, t, "init"),
        device=machine["device"],
    )
    log = training.fit(
        model,
        rows,
        TrainConfig(**params["train"]),
        validation=np.load(inputs["validation"] / "tokens.npy"),
        seed=derive_seed(seed, t, "train"),
        dtype=machine["dtype"],
        progress=progress,
    )
    model.save(out)
    for file in inputs["tokenizer"].glob("tokenizer*.json"):
        shutil.copyfile(file, out / file.name)
    _write_json(out / "training.json", {"curve": log, "fed_rows": rows.fed_by_origin()})


def _run_sample(params: Mapping[str, Any], inputs: Folders, out: Path, progress: Progress) -> None:
    from lab import models
    from lab import sample as sampling

    _, special = tokenizers.load_tokenizer(inputs["tokenizer"])
    model = models.load(inputs["model"], device=params["machine"]["device"])
    tokens, nats = sampling.sample(
        model,
        rows=params["rows"],
        positions=params["positions"],
        bos=special["bos"],
        seed=params["seed"],
        progress=progress,
    )
    np.save(out / "tokens.npy", tokens)
    np.save(out / "nats.npy", nats)


def _run_synthetic(params: Mapping[str, Any], inputs: Folders, out: Path, progress: Progress) -> None:
    shards = [path for role, path in sorted(inputs.items()) if role.startswith("shard-")]
    tokens, nats = (np.concatenate([np.load(path / f"{name}.npy") for path in shards]) for name in ("tokens", "nats"))
    tokenizer, _ = tokenizers.load_tokenizer(inputs["tokenizer"])
    corpora.write_rows(out, tokens, tokenizer, origin=params["origin"], labels={}, nats=nats)


def _run_heldout(params: Mapping[str, Any], inputs: Folders, out: Path, progress: Progress) -> None:
    from lab import models, probes

    model = models.load(inputs["model"], device=params["machine"]["device"])
    np.save(out / "nats.npy", probes.heldout(model, np.load(inputs["test"] / "tokens.npy"), progress))


def _run_record(params: Mapping[str, Any], inputs: Folders, out: Path, progress: Progress) -> None:
    from lab import records

    _write_json(out / "record.json", records.measure(inputs, budget=params["tokens"]))


HUMAN_STEPS = ("corpus", "tokenizer", "rows", "heldout-rows", "human", "resample")
"""The steps that read and divide human text."""
_HUMAN = ("steps.py", "corpus.py", "tokenizer.py")
KINDS = {
    "corpus": Kind(_run_corpus, _HUMAN, version="1"),
    "tokenizer": Kind(_run_tokenizer, _HUMAN, version="1"),
    "rows": Kind(_run_rows, _HUMAN, version="1"),
    "heldout-rows": Kind(_run_heldout_rows, _HUMAN, version="1"),
    "human": Kind(_run_human, _HUMAN, version="1"),
    "resample": Kind(_run_resample, _HUMAN, version="1"),
    "pool": Kind(_run_pool, ("regimes.py", "types.py"), version="1"),
    "train": Kind(_run_train, ("train.py", "models.py", "seeds.py"), version="1"),
    "sample": Kind(_run_sample, ("sample.py", "models.py"), version="1"),
    "synthetic": Kind(_run_synthetic, _HUMAN, version="1"),
    "heldout": Kind(_run_heldout, ("probes.py", "models.py"), version="1"),
    "record": Kind(_run_record, ("records.py", "metrics/*.py", "tokenizer.py", "types.py")),
}
