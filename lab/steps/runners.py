"""What each step does: parameters, the folders of its inputs, and an empty folder to write into.

A cheap step's version is the hash of the modules it uses; a dear step's version is raised by hand when its meaning
changes, so that a remark in the code trains nothing again.
"""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lab import regimes
from lab.config.text import CorpusConfig, SourceConfig
from lab.config.train import TrainConfig
from lab.hashing import code_hash
from lab.metrics.texts import before_end
from lab.models import counting
from lab.models.feed import RecipeRows, load_recipe, save_recipe
from lab.recipe import ARCHIVE, HUMAN, Lineage, Source
from lab.seeds import derive_seed, generator
from lab.store.step import Attempt
from lab.text import corpus as corpora
from lab.text import known_source as sources
from lab.text import rows as cutting
from lab.text import tokenizer as tokenizers

Folders = Mapping[str, Path]
Run = Callable[[Mapping[str, Any], Folders, Path, Attempt], None]


@dataclass(frozen=True)
class Kind:
    run: Run
    modules: tuple[str, ...]
    """The lab modules whose source decides what the step does."""
    version: str = ""
    """Raised by hand.  Empty for cheap steps: the hash of the modules."""
    spares_weights: bool = False
    """Whether it leaves the weights of the models among its inputs alone; all others need them."""


@functools.cache
def source_hash(name: str) -> str:
    """Hash the code of the modules behind a step, without its prose."""
    root = Path(__file__).parents[1]
    files = sorted(file for module in KINDS[name].modules for file in root.glob(module))
    assert files, name
    return code_hash(*(file.read_text(encoding="utf-8") for file in files))[:16]


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _run_corpus(params: Mapping[str, Any], inputs: Folders, out: Path, attempt: Attempt) -> None:
    config = CorpusConfig(path=params["path"], revision=params["revision"], **params["corpus"], tokens=1)
    corpora.write_documents(config, out / "documents.parquet")


def _run_tokenizer(params: Mapping[str, Any], inputs: Folders, out: Path, attempt: Attempt) -> None:
    if params["vocab_size"] is not None:
        texts = (text for some in corpora.fold_texts(inputs["corpus"], "train") for text in some)
        tokenizers.save_tokenizer(tokenizers.train_tokenizer(texts, params["vocab_size"]), out)
    else:
        tokenizers.copy_tokenizer(params["path"], params["revision"], out)


def _run_rows(params: Mapping[str, Any], inputs: Folders, out: Path, attempt: Attempt) -> None:
    tokenizer, special = tokenizers.load_tokenizer(inputs["tokenizer"])
    for fold in corpora.SHARES:
        table, order = corpora.fold_order(inputs["corpus"], fold)
        encoded = (
            encoding.ids
            for texts in corpora.fold_texts(inputs["corpus"], fold)
            for encoding in tokenizer.encode_batch_fast(texts)
        )
        with cutting.Encoded(encoded, order, tokenizer.get_vocab_size()) as ids:
            cutting.write_cut(out, fold, ids, params["layout"], eos=special["eos"], positions=params["positions"])
        corpora.write_names(table, order, out / f"{fold}-names.arrow")


def _run_heldout_rows(params: Mapping[str, Any], inputs: Folders, out: Path, attempt: Attempt) -> None:
    fold = params["fold"]
    rows = cutting.Rows(*(np.load(inputs["rows"] / f"{fold}{part}.npy", mmap_mode="r") for part in ("", "-document")))
    chosen = cutting.choose_rows(rows, params["rows"], fold)
    np.save(out / "tokens.npy", chosen.tokens)
    np.save(out / "document.npy", chosen.document)
    shutil.copyfile(inputs["rows"] / f"{fold}-names.arrow", out / "names.arrow")


def _run_human(params: Mapping[str, Any], inputs: Folders, out: Path, attempt: Attempt) -> None:
    tokens = np.load(inputs["rows"] / "train.npy", mmap_mode="r")
    owner = np.load(inputs["rows"] / "train-document.npy", mmap_mode="r")
    names = corpora.names(inputs["rows"] / "train-names.arrow")
    mine = cutting.draw_rows(tokens, params["seed"], params["after"], params["rows"])
    if "beside" in inputs:
        mine = cutting.enough_rows(
            tokens,
            np.load(inputs["beside"] / "tokens.npy", mmap_mode="r"),
            eos=tokenizers.load_special(inputs["tokenizer"])["eos"],
            budget=params["tokens"],
            **{name: params[name] for name in ("seed", "after", "prompt")},
        )
    spell = _speller(params, inputs)

    def block(some: slice) -> tuple[np.ndarray, dict[str, Any]]:
        rows, owners = tokens[mine[some]], owner[mine[some], 0]
        return rows, {**spell(rows), **names.select(["domain", "document"]).take(owners).to_pydict()}

    cutting.write_rows(out, (len(mine), tokens.shape[1]), block, origin=params["origin"])


def _eos(params: Mapping[str, Any], inputs: Folders) -> int | None:
    """In the layout `documents` the token that ends the text of a row."""
    return tokenizers.load_special(inputs["tokenizer"])["eos"] if params.get("layout") == "documents" else None


def _speller(params: Mapping[str, Any], inputs: Folders) -> Callable[[np.ndarray], dict[str, list[str]]]:
    """Rows as {"text": ...}, each document up to its end; {} for a source, which has tokens only."""
    if sources.is_source(inputs["tokenizer"]):
        return lambda tokens: {}
    tokenizer, _ = tokenizers.load_tokenizer(inputs["tokenizer"])
    eos = _eos(params, inputs)

    def spell(tokens: np.ndarray) -> dict[str, list[str]]:
        rows = tokens.tolist() if eos is None else [row[before_end(row[None], eos)[0]].tolist() for row in tokens]
        return {"text": tokenizer.decode_batch(rows, skip_special_tokens=False)}

    return spell


def _run_source(params: Mapping[str, Any], inputs: Folders, out: Path, attempt: Attempt) -> None:
    source = sources.Source.of(SourceConfig(**params["source"], tokens=1))
    source.save(out)
    # One token beyond the types begins every row and is never drawn.
    tokenizers.save_special(out, vocab_size=source.types + 1, bos=source.types, eos=source.types)


def _run_source_rows(params: Mapping[str, Any], inputs: Folders, out: Path, attempt: Attempt) -> None:
    source = sources.Source.load(inputs["source"])
    drawn = source.rows(params["purpose"], params["rows"], params["positions"], seed=params["seed"])
    tokens = drawn.astype(cutting.token_type(source.types + 1))
    nats = source.nats(tokens)
    cutting.write_rows(
        out, tokens.shape, lambda some: (tokens[some], {"nats": _row_nats(nats[some])}), origin=params["origin"]
    )
    np.save(out / "nats.npy", nats)


def _row_nats(nats: np.ndarray) -> np.ndarray:
    """The loss of each row, of those of its tokens."""
    return np.asarray(nats.sum(axis=1, dtype=np.float32))


def _corpora(inputs: Folders) -> dict[int, np.ndarray]:
    """The token arrays on the table, by origin."""
    paths = {int(role.removeprefix("synthetic-")): path for role, path in inputs.items() if role[:10] == "synthetic-"}
    paths[HUMAN] = inputs["human"]
    if "archive" in inputs:
        paths[ARCHIVE] = inputs["archive"]
    return {origin: np.load(path / "tokens.npy", mmap_mode="r") for origin, path in sorted(paths.items())}


def _run_pool(params: Mapping[str, Any], inputs: Folders, out: Path, attempt: Attempt) -> None:
    table = {origin: Source(origin, len(tokens)) for origin, tokens in _corpora(inputs).items()}
    samples = tuple(table[origin] for origin in sorted(table) if origin not in (HUMAN, ARCHIVE))
    lineage = Lineage(table[HUMAN], samples, table.get(ARCHIVE))
    recipe = regimes.recipe(params["regime"], params["options"], lineage, params["seed"], params["generation"])
    save_recipe(recipe, out)


def _run_base(params: Mapping[str, Any], inputs: Folders, out: Path, attempt: Attempt) -> None:
    from lab.models import load as models

    folder = models.fetched(params["path"], params["revision"])
    special = tokenizers.load_special(inputs["tokenizer"])
    model = models.start(folder, vocab_size=special["vocab_size"], bos=special["bos"], positions=params["positions"])
    model.save(out)


def _run_train(params: Mapping[str, Any], inputs: Folders, out: Path, attempt: Attempt) -> None:
    special = tokenizers.load_special(inputs["tokenizer"])
    recipe = load_recipe(inputs["pool"])
    members = params.get("members", 1)
    rows = RecipeRows(
        recipe,
        _corpora(inputs),
        context=params.get("context", 0),
        eos=_eos(params, inputs),
        share=(params.get("member", 0), members),
        seed=derive_seed(params["seed"], params["generation"], "members") if members > 1 else 0,
    )
    if "train" in params:
        curve = _train_network(params, inputs, special, rows, out, attempt)
    else:
        curve = []
        counting.fit(params["model"], rows.take(np.arange(len(rows))), **special).save(out)
    rows.check_shares()
    for file in inputs["tokenizer"].glob("tokenizer*.json"):
        shutil.copyfile(file, out / file.name)
    fed = {"fed_rows": rows.fed_by_origin(), "fed_tokens": rows.fed_tokens, "unique_tokens": rows.unique_tokens()}
    _write_json(out / "training.json", {"curve": curve, **fed})


def _train_network(
    params: Mapping[str, Any],
    inputs: Folders,
    special: Mapping[str, int],
    rows: RecipeRows,
    out: Path,
    attempt: Attempt,
) -> list[dict[str, Any]]:
    """Train and save; the learning curve."""
    from lab.models import train as training
    from lab.models.checkpoints import Checkpoints

    config, eos = TrainConfig(**params["train"]), _eos(params, inputs)
    validation = np.load(inputs["validation"] / "tokens.npy")
    model = _first_weights(params, inputs, special, config, validation.shape[1])
    curve = training.fit(
        model,
        rows,
        config,
        validation=validation,
        counted=None if eos is None else before_end(validation, eos),
        row_tokens=float(rows.lengths().mean()),
        seed=derive_seed(params["seed"], params["generation"], "train", params.get("member", 0)),
        dtype=params["machine"]["dtype"],
        progress=attempt.report,
        checkpoints=Checkpoints(attempt),
    )
    model.save(out)
    return curve


def _first_weights(
    params: Mapping[str, Any], inputs: Folders, special: Mapping[str, int], config: TrainConfig, positions: int
) -> Any:
    """Random ones, or those of the base or of the previous generation, with low-rank additions if the study says so."""
    from lab.models import load as models
    from lab.models.causal import Lora

    device = params["machine"]["device"]
    chance = (params["seed"], params["generation"], "init", params.get("member", 0))
    if "began" not in inputs:
        shape = {name: value for name, value in params["model"].items() if name != "kind"}
        return models.fresh(
            params["model"]["kind"],
            shape,
            vocab_size=special["vocab_size"],
            bos=special["bos"],
            seed=derive_seed(*chance),
            device=device,
        )
    model = models.start(
        inputs["began"], vocab_size=special["vocab_size"], bos=special["bos"], positions=positions, device=device
    )
    if config.lora is None:
        return model
    return Lora(model.module, **config.lora.model_dump(), seed=derive_seed(*chance))


def _run_sample(params: Mapping[str, Any], inputs: Folders, out: Path, attempt: Attempt) -> None:
    from lab.models import load as models
    from lab.models.sampling import sample as sampling
    from lab.models.sampling.decoding import Decoding

    special = tokenizers.load_special(inputs["tokenizer"])
    resolved = params["machine"]
    model = models.load(inputs["model"], resolved["device"], decoding=resolved["dtype"])
    rows, length = params["rows"], params["prompt"]
    stop = _eos(params, inputs)
    prompts = _prompts(params, inputs, stop) if length else np.empty((rows, 0), dtype=np.int64)
    positions = params["positions"] - length
    if "beams" in params["decoding"]:
        tokens, nats = _beams(model, prompts, params["decoding"]["beams"], positions, stop, attempt)
    else:
        tokens, nats = sampling.sample(
            model,
            rows=rows,
            positions=positions,
            bos=special["bos"],
            seed=params["seed"],
            decoding=Decoding(**params["decoding"]),
            prompts=prompts if length else None,
            stop=stop,
            progress=attempt.progress,
        )
    np.save(out / "tokens.npy", np.concatenate([prompts.astype(tokens.dtype), tokens], axis=1))
    np.save(out / "nats.npy", np.pad(nats, ((0, 0), (length, 0))))


def _prompts(params: Mapping[str, Any], inputs: Folders, stop: int | None) -> np.ndarray:
    """The first tokens of human training rows, in an order of the generation's own.

    In all shards together each row comes once before one comes again.  Documents that end within the prompt are none.
    """
    heads = np.load(inputs["human"] / "tokens.npy", mmap_mode="r")[:, : params["prompt"]]
    if stop is not None:
        heads = heads[(heads != stop).all(axis=1)]
    order = generator(params["prompts"]).permutation(len(heads))
    places = np.arange(params["first"], params["first"] + params["rows"])
    return np.asarray(heads[order[places % len(heads)]])


def _beams(
    model: Any, prompts: np.ndarray, beams: int, positions: int, stop: int | None, attempt: Attempt
) -> tuple[np.ndarray, np.ndarray]:
    """Rows found by beam search, and what each token costs the model behind its prompt."""
    from lab.models.sampling.beams import beam_search

    found = beam_search(model, prompts, positions=positions, num_beams=beams, progress=attempt.progress, stop=stop)
    found = found.astype(cutting.token_type(model.vocab_size))
    nats = model.nats(np.concatenate([prompts.astype(found.dtype), found], axis=1))[:, prompts.shape[1] :]
    return found, nats if stop is None else np.where(before_end(found, stop), nats, 0).astype(np.float32)


def _run_synthetic(params: Mapping[str, Any], inputs: Folders, out: Path, attempt: Attempt) -> None:
    """Row i is of member i modulo their number, so that the head of the corpus has as many rows of each."""
    shards = [path for role, path in sorted(inputs.items()) if role.startswith("shard-")]
    lengths = [len(np.load(path / "tokens.npy", mmap_mode="r")) for path in shards]
    members = np.repeat(params["members"], lengths)
    place = np.empty_like(members)
    for member in np.unique(members):
        mine = members == member
        place[mine] = np.arange(mine.sum()) * (members.max() + 1) + member
    order = np.argsort(place, kind="stable")
    starts, spell = np.cumsum([0, *lengths]), _speller(params, inputs)
    arrays = [[np.load(path / f"{name}.npy", mmap_mode="r") for path in shards] for name in ("tokens", "nats")]

    def block(some: slice) -> tuple[np.ndarray, dict[str, Any]]:
        places = order[some]
        shard = np.searchsorted(starts, places, side="right") - 1
        tokens, nats = (np.empty((len(places), kind[0].shape[1]), kind[0].dtype) for kind in arrays)
        for which in np.unique(shard):
            mine = shard == which
            for gathered, kind in ((tokens, arrays[0]), (nats, arrays[1])):
                gathered[mine] = kind[which][places[mine] - starts[which]]
        return tokens, {**spell(tokens), "nats": _row_nats(nats)}

    cutting.write_rows(out, (len(order), arrays[0][0].shape[1]), block, origin=params["origin"])


def _run_heldout(params: Mapping[str, Any], inputs: Folders, out: Path, attempt: Attempt) -> None:
    from lab.models import load as models
    from lab.steps import probes

    model = models.load(inputs["model"], device=params["machine"]["device"])
    np.save(out / "nats.npy", probes.heldout(model, np.load(inputs["test"] / "tokens.npy"), attempt.progress))


def _run_record(params: Mapping[str, Any], inputs: Folders, out: Path, attempt: Attempt) -> None:
    from lab.steps import record as records

    measured = records.measure(inputs, budget=params["tokens"], prompt=params["prompt"], layout=params["layout"])
    _write_json(out / "record.json", measured)


HUMAN_STEPS = ("corpus", "tokenizer", "rows", "heldout-rows", "human", "source", "source-rows")
"""The steps that read and divide human text."""
_MODELS = (
    "steps/runners.py",
    "models/gpt2.py",
    "models/gpt2_ops.py",
    "models/sampling/cpu.py",
    "models/sampling/cuda.py",
    "models/causal.py",
    "models/counting.py",
    "seeds.py",
)
_HUMAN = ("steps/runners.py", "text/corpus.py", "text/folds.py", "text/rows.py", "text/tokenizer.py", "seeds.py")
KINDS = {
    "corpus": Kind(_run_corpus, _HUMAN, version="1"),
    "tokenizer": Kind(_run_tokenizer, _HUMAN, version="1"),
    "rows": Kind(_run_rows, _HUMAN, version="2"),
    "heldout-rows": Kind(_run_heldout_rows, _HUMAN, version="1"),
    "human": Kind(_run_human, _HUMAN, version="1"),
    "source": Kind(_run_source, (*_HUMAN, "text/known_source.py"), version="1"),
    "source-rows": Kind(_run_source_rows, (*_HUMAN, "text/known_source.py"), version="1"),
    # Its parameters hold the hash of the one regime's source: adding a regime must not train the others again.
    "pool": Kind(_run_pool, ("steps/runners.py", "regimes.py", "models/feed.py", "seeds.py", "recipe.py"), version="2"),
    "base": Kind(_run_base, _MODELS, version="1"),
    "train": Kind(
        _run_train,
        ("models/train.py", "models/compile.py", "models/checkpoints.py", *_MODELS, "models/feed.py"),
        version="2",
    ),
    "sample": Kind(
        _run_sample,
        (
            "models/sampling/sample.py",
            "models/sampling/decoding.py",
            "models/sampling/beams.py",
            "models/feed.py",
            *_MODELS,
        ),
        version="3",
    ),
    "synthetic": Kind(_run_synthetic, _HUMAN, version="1"),
    "heldout": Kind(_run_heldout, ("steps/probes.py", *_MODELS), version="1"),
    "record": Kind(
        _run_record,
        ("steps/record.py", "models/feed.py", "metrics/*.py", "text/known_source.py", "text/tokenizer.py", "recipe.py"),
        spares_weights=True,
    ),
}
