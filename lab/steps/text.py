"""Steps that read human text: corpus, tokenizer, rows, held-out rows, and the rows that each seed draws."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from lab.config.cost import FILES, tokenizer_bytes, vocabulary
from lab.config.study import StudyConfig
from lab.config.text import CorpusConfig, SourceConfig
from lab.errors import InputError, printable
from lab.metrics.contamination import shared
from lab.recipe import ARCHIVE, HUMAN
from lab.steps.kind import Folders, Kind, Run, make_step, unkeyed, write_json
from lab.steps.place import Human, speller, where_at
from lab.steps.source import human_of_source, rows_beside
from lab.store.step import Attempt, Step
from lab.text import canaries
from lab.text import corpus as corpora
from lab.text import rows as cutting
from lab.text import tokenizer as tokenizers
from lab.text.files import Found, find_files, text_bytes
from lab.text.folds import OF_TRAIN

_TEXT = (
    *("columns", "corpus", "delimited", "files", "folds", "plain_tokenizer", "readers", "records", "rows"),
    *("streams", "tokenizer", "canaries"),
)
OVERLAP = "overlap.json"
"""File in the artifact of a corpus with its own splits: what its held-out folds share with the train fold."""
MODULES = (
    "steps/text.py",
    "steps/place.py",
    *(f"text/{name}.py" for name in _TEXT),
    "metrics/contamination.py",
    "seeds.py",
)


def human(study: StudyConfig, identity: Mapping[str, str], seed: int) -> Human:
    """Declare the human side of one seed.  `identity`: what the corpus and a pretrained tokenizer are, by content."""
    if isinstance(study.corpus, SourceConfig):
        return human_of_source(study, study.corpus, seed)
    config, text = study.corpus, _corpus(study, identity)
    tokenizer = _tokenizer(study, identity, text)
    rows = _rows(study, text, tokenizer)

    def own(name: str, count: int, after: int, origin: int = HUMAN, beside: Step | None = None) -> Step:
        """Rows of the train fold.  `beside`: of a resample, the seed's own rows that it is compared with."""
        inputs, budget = {"rows": rows, "tokenizer": tokenizer}, dict[str, Any]()
        if name == "human" and config.canaries:
            budget = {"canaries": list(config.canaries)}
        if beside is not None and study.corpus.layout == "documents":
            budget = {"tokens": study.metrics.tokens, "prompt": study.sample.prompt_tokens}
            inputs["beside"] = beside
        params = HumanParams(seed, after, count, origin, study.corpus.layout, **budget)
        disk = 5 * count * study.model.n_positions + FILES
        return make_step(HUMAN_ROWS, params, inputs, label=f"{name} seed {seed}", disk=disk)

    # The resample comes last, so that what is compared moves no row that is trained on.
    mine, archive, base = study.rows(study.corpus.tokens), *rows_beside(study)
    seeds_own = own("human", mine, 0)
    return Human(
        tokenizer,
        validation=_held_out(study, rows, "validation", study.train.validation_tokens) if study.train else None,
        test=_held_out(study, rows, "test", study.metrics.test_tokens),
        human=seeds_own,
        archive=own("archive", archive, mine, ARCHIVE) if archive else None,
        base=own("base", base, mine + archive) if base else None,
        resample=own("resample", study.compared_rows, mine + archive + base, beside=seeds_own),
    )


@dataclass(frozen=True)
class CorpusParams:
    corpus: Mapping[str, Any]
    """Fields of CorpusConfig that decide which documents there are."""
    identity: str
    """What the files hold, by content."""
    path: str = unkeyed()
    revision: str | None = unkeyed()


def _corpus(study: StudyConfig, identity: Mapping[str, str]) -> Step:
    assert isinstance(study.corpus, CorpusConfig)
    outside = {"kind", "tokens", "archive_tokens", "path", "revision", "layout", "canaries"}
    if study.corpus.splits is None:  # keys from before there were splits stay as they are
        outside.add("splits")
    fields = study.corpus.model_dump(exclude=outside)
    params = CorpusParams(fields, identity["corpus"], **where_at(study.corpus.path, identity["corpus"]))
    return make_step(CORPUS, params, {}, disk=int(0.4 * corpora.text_bytes(study.corpus)) + FILES)


def _run_corpus(params: CorpusParams, inputs: Folders, out: Path, attempt: Attempt) -> None:
    config = CorpusConfig(path=params.path, revision=params.revision, **params.corpus, tokens=1)
    corpora.write_documents(config, out / "documents.parquet")
    if config.splits is not None:
        found = shared(lambda fold: (text for some in corpora.fold_texts(out, fold) for text in some))
        write_json(out / OVERLAP, found)


@dataclass(frozen=True)
class TokenizerParams:
    identity: str
    """What a pretrained tokenizer is, by content.  Empty for one that is trained here."""
    vocab_size: int | None = None
    """Entries of a tokenizer to train.  None: it is a pretrained one."""
    path: str | None = unkeyed(None)
    revision: str | None = unkeyed(None)


def _tokenizer(study: StudyConfig, identity: Mapping[str, str], text: Step) -> Step:
    where = where_at(study.words.pretrained, identity["tokenizer"])
    params = TokenizerParams(identity["tokenizer"], study.words.vocab_size, **where)
    return make_step(TOKENIZER_KIND, params, {"corpus": text}, disk=tokenizer_bytes(study) + FILES)


def _run_tokenizer(params: TokenizerParams, inputs: Folders, out: Path, attempt: Attempt) -> None:
    if params.vocab_size is not None:
        texts = (text for some in corpora.fold_texts(inputs["corpus"], "train") for text in some)
        tokenizers.save_tokenizer(tokenizers.train_tokenizer(texts, params.vocab_size), out)
    else:
        assert params.path is not None
        tokenizers.copy_tokenizer(params.path, params.revision, out)


@dataclass(frozen=True)
class RowsParams:
    positions: int
    """Tokens in a row."""
    layout: str


def _rows(study: StudyConfig, text: Step, tokenizer: Step) -> Step:
    assert isinstance(study.corpus, CorpusConfig)
    params = RowsParams(study.model.n_positions, study.corpus.layout)
    # Each token with the number of its document, 6 bytes.
    disk = int(6 * corpora.text_bytes(study.corpus) / bytes_per_token(study)) + FILES
    return make_step(ROWS, params, {"corpus": text, "tokenizer": tokenizer}, disk=disk)


def _run_rows(params: RowsParams, inputs: Folders, out: Path, attempt: Attempt) -> None:
    tokenizer, special = tokenizers.load_tokenizer(inputs["tokenizer"])
    for fold in corpora.SHARES:
        table, order = corpora.fold_order(inputs["corpus"], fold)
        encoded = (
            encoding.ids
            for texts in corpora.fold_texts(inputs["corpus"], fold)
            for encoding in tokenizer.encode_batch_fast(texts)
        )
        with cutting.Encoded(encoded, order, special["vocab_size"]) as ids:
            cutting.write_cut(out, fold, ids, params.layout, eos=special["eos"], positions=params.positions)
        corpora.write_names(table, order, out / f"{fold}-names.arrow")


@dataclass(frozen=True)
class HeldoutRowsParams:
    fold: str
    rows: int


def _held_out(study: StudyConfig, rows: Step, fold: str, tokens: int) -> Step:
    params = HeldoutRowsParams(fold, study.rows(tokens))
    return make_step(HELDOUT_ROWS, params, {"rows": rows}, label=f"{fold} rows", disk=6 * tokens + 10_000)


def spare_validation(study: StudyConfig, human: Human) -> Step:
    """Return the validation rows; of a study of text without a learning curve, half as many as there are test rows.

    The validation fold holds half as much text as the test fold.
    """
    if human.validation is not None:
        return human.validation
    tokens = max(study.model.n_positions, study.metrics.test_tokens // 2)
    return _held_out(study, human.human.inputs["rows"], "validation", tokens)


def _run_heldout_rows(params: HeldoutRowsParams, inputs: Folders, out: Path, attempt: Attempt) -> None:
    fold = params.fold
    rows = cutting.Rows(*(np.load(inputs["rows"] / f"{fold}{part}.npy", mmap_mode="r") for part in ("", "-document")))
    chosen = cutting.choose_rows(rows, params.rows, fold)
    np.save(out / "tokens.npy", chosen.tokens)
    np.save(out / "document.npy", chosen.document)
    shutil.copyfile(inputs["rows"] / f"{fold}-names.arrow", out / "names.arrow")


def check_sizes(step: Step, rows: Path) -> None:
    """Raise InputError if a step of human rows asks for more rows than `rows`, the folder of its input, holds."""
    if step.name == HELDOUT_ROWS.name:
        fold = step.params["fold"]
        cutting.check_held_out(np.load(rows / f"{fold}.npy", mmap_mode="r"), step.params["rows"], fold)
    elif step.name == HUMAN_ROWS.name and "half" in step.params:
        owner = np.load(rows / "reference-document.npy", mmap_mode="r")
        cutting.half_rows(owner, step.params["half"], step.params["rows"])
    elif step.name == HUMAN_ROWS.name:
        cutting.check_train(np.load(rows / "train.npy", mmap_mode="r"), step.params["after"] + step.params["rows"])


def fold_tokens(study: StudyConfig, fold: str) -> float:
    """Estimate the tokens of a fold before the text is read; infinite where its size is unknown."""
    assert isinstance(study.corpus, CorpusConfig)
    if study.corpus.splits is None:
        held = corpora.SHARES[fold] * corpora.text_bytes(study.corpus)
    else:
        place = list(corpora.SHARES).index(fold)
        name, share = study.corpus.splits.names[max(0, place - 1)], (*OF_TRAIN, 1, 1)[place]
        own = [file for file in find_files(study.corpus).files if file.split == name]
        held = share * text_bytes(Found(own))
    return held / bytes_per_token(study) or math.inf


def bytes_per_token(study: StudyConfig) -> float:
    """Estimate the bytes that a token spells: more in a larger vocabulary."""
    return min(4.5, 0.58 * math.log2(vocabulary(study)) - 3)


@dataclass(frozen=True)
class HumanParams:
    seed: int
    after: int
    """Rows in the seed's order that others use before these."""
    rows: int
    origin: int
    layout: str
    tokens: int | None = None
    """In the layout `documents`, of a resample: tokens of text that it must hold."""
    prompt: int | None = None
    """The same: tokens at the head of each row that do not count."""
    canaries: Sequence[int] | None = None
    """Copies of each canary that stands in the place of some of these rows.  None: there is none."""
    half: int | None = None
    """Of rows of the reference fold: 0 for its half A, 1 for B, 2 and 3 for the halves of B.  None: rows of the train
    fold."""
    domain: str | None = None
    """Of rows of the reference fold: the one domain that they come from.  None: all domains."""


JUDGE_HALF, TRUSTED_HALF, CURATORS_HALF = 0, 2, 3
"""Parts of the reference fold: for the judge of a profile, for curators to trust, for the models of curators."""


def reference_rows(study: StudyConfig, human: Human, half: int, label: str, domain: str | None = None) -> Step:
    """Declare rows of a half of the reference fold: as many as a seed's own, or all of the half if it has fewer."""
    params = HumanParams(0, 0, study.rows(study.corpus.tokens), HUMAN, study.corpus.layout, half=half, domain=domain)
    disk = 5 * params.rows * study.model.n_positions + FILES
    return make_step(HUMAN_ROWS, params, human.human.inputs, label=label, disk=disk)


def _run_human(params: HumanParams, inputs: Folders, out: Path, attempt: Attempt) -> None:
    fold = "train" if params.half is None else "reference"
    tokens = np.load(inputs["rows"] / f"{fold}.npy", mmap_mode="r")
    owner = np.load(inputs["rows"] / f"{fold}-document.npy", mmap_mode="r")
    names = corpora.names(inputs["rows"] / f"{fold}-names.arrow")
    if params.half is None:
        drawn = cutting.draw_rows(tokens, params.seed, params.after, params.rows)
    else:
        drawn = cutting.half_rows(owner, params.half, params.rows, _of_domain(names["domain"], params.domain))
    if "beside" in inputs:
        assert params.tokens is not None and params.prompt is not None
        drawn = cutting.enough_rows(
            tokens,
            np.load(inputs["beside"] / "tokens.npy", mmap_mode="r"),
            eos=tokenizers.load_special(inputs["tokenizer"])["eos"],
            budget=params.tokens,
            seed=params.seed,
            after=params.after,
            prompt=params.prompt,
        )
    spell = speller(params.layout, inputs["tokenizer"])
    if params.canaries:
        planted = canaries.candidates(params.seed, tokens.shape[1], **tokenizers.load_special(inputs["tokenizer"]))
        which = canaries.planted(params.seed, len(drawn), params.canaries)

    def block(some: slice) -> tuple[np.ndarray, dict[str, Any]]:
        rows, owners = tokens[drawn[some]], owner[drawn[some], 0]
        known = names.select(["domain", "document"]).take(owners).to_pydict()
        rows = canaries.plant(rows, known, which[some], planted) if params.canaries else rows
        return rows, {**spell(rows), **known}

    cutting.write_rows(out, (len(drawn), tokens.shape[1]), block, origin=params.origin)


def _of_domain(domains: pa.ChunkedArray, wanted: str | None) -> np.ndarray | None:
    """Return which documents are of a domain, [documents]; None where all are wanted.  InputError if none is."""
    if wanted is None:
        return None
    named = np.array([str(domain) for domain in domains.to_pylist()])
    if not (found := named == wanted).any():
        there = ", ".join(printable(name) for name in np.unique(named)[:20])
        raise InputError(f'a curator asks for the register "{wanted}", and the domains of the corpus are: {there}')
    return np.asarray(found)


def _kind(name: str, params: type[Any], run: Run, version: str, *libraries: str) -> Kind:
    return Kind(name, params, run, MODULES, version=version, libraries=frozenset(libraries), reads_text=True)


CORPUS = _kind("corpus", CorpusParams, _run_corpus, "1", "datasets", "pyarrow")
TOKENIZER_KIND = _kind("tokenizer", TokenizerParams, _run_tokenizer, "1", "tokenizers", "pyarrow")
ROWS = _kind("rows", RowsParams, _run_rows, "2", "tokenizers", "pyarrow")
HELDOUT_ROWS = _kind("heldout-rows", HeldoutRowsParams, _run_heldout_rows, "1")
HUMAN_ROWS = _kind("human", HumanParams, _run_human, "1", "tokenizers", "pyarrow")
