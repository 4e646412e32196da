"""The human side of a study as steps: text, tokenizer, folds, and the rows that each seed draws.  Nothing runs here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lab.config.study import StudyConfig
from lab.config.text import SourceConfig
from lab.recipe import ARCHIVE, HUMAN, Lineage, Source
from lab.steps import runners
from lab.store.step import Step
from lab.text import corpus

FILES = 1_500
"""Bytes of a manifest and of the headers of files, for estimates."""
TOKENIZER = 56
"""Bytes of a tokenizer's files for each entry of its vocabulary, about."""


@dataclass(frozen=True)
class Human:
    """What a chain needs of human text: the tokenizer, held-out rows, this seed's own rows, and others beside them."""

    tokenizer: Step
    validation: Step | None
    """None for counting models, which are fitted at once."""
    test: Step
    human: Step
    resample: Step
    archive: Step | None
    """Rows kept apart for regimes that ask for fresh ones; None where the study keeps none."""
    base: Step | None
    """Rows that a base model is fitted to; None where the study fits none."""


def make_step(
    name: str,
    params: dict[str, Any],
    inputs: dict[str, Step],
    *,
    label: str = "",
    tokens: int = 0,
    work: float = 0.0,
    disk: int = 0,
    scratch: int = 0,
    where: Mapping[str, Any] | None = None,
) -> Step:
    version = runners.KINDS[name].version or runners.source_hash(name)
    return Step(name, version, params, inputs, tokens, work, disk, scratch, label or name, where or {})


def where_at(path: str | None, identity: str) -> dict[str, str | None]:
    """Where the content lies: a local path, or a hub id with the commit that was resolved."""
    at_hub = path is not None and identity.startswith(f"{path}@")
    return {"path": path, "revision": identity.partition("@")[2] if at_hub else None}


def human(study: StudyConfig, identity: Mapping[str, str], seed: int) -> Human:
    """The human side of one seed.  `identity` says by content what the corpus and a pretrained tokenizer are."""
    if isinstance(study.corpus, SourceConfig):
        return _from_source(study, study.corpus, seed)
    tokenizer, rows = _cut(study, identity)

    def held_out(fold: str, tokens: int) -> Step:
        params = {"fold": fold, "rows": study.rows(tokens)}
        return make_step("heldout-rows", params, {"rows": rows}, label=f"{fold} rows", disk=6 * tokens + 10_000)

    def own(name: str, count: int, after: int, origin: int = HUMAN, beside: Step | None = None) -> Step:
        params = {"seed": seed, "after": after, "rows": count, "origin": origin, **layout(study)}
        inputs = {"rows": rows, "tokenizer": tokenizer}
        if beside is not None and study.corpus.layout == "documents":
            params |= {"tokens": study.metrics.tokens, "prompt": study.sample.prompt_tokens}
            inputs["beside"] = beside
        disk = 5 * count * study.model.n_positions + FILES
        return make_step("human", params, inputs, label=f"{name} seed {seed}", disk=disk)

    # The resample comes last, so that what is compared moves no row that is trained on.
    mine, archive, base = study.rows(study.corpus.tokens), *_beside(study)
    seeds_own = own("human", mine, 0)
    return Human(
        tokenizer,
        validation=held_out("validation", study.train.validation_tokens) if study.train else None,
        test=held_out("test", study.metrics.test_tokens),
        human=seeds_own,
        archive=own("archive", archive, mine, ARCHIVE) if archive else None,
        base=own("base", base, mine + archive) if base else None,
        resample=own("resample", study.compared_rows, mine + archive + base, beside=seeds_own),
    )


def _beside(study: StudyConfig) -> tuple[int, int]:
    """Rows of the archive and of the base's text; 0 for none."""
    base = study.train.base.tokens if study.train and study.train.base else 0
    return study.rows(study.corpus.archive_tokens or 0), study.rows(base)


def layout(study: StudyConfig) -> dict[str, str]:
    """For the parameters of steps: what differs from blocks."""
    return {"layout": "documents"} if study.corpus.layout == "documents" else {}


def _cut(study: StudyConfig, identity: Mapping[str, str]) -> tuple[Step, Step]:
    """The tokenizer, and the text as rows of tokens."""
    assert not isinstance(study.corpus, SourceConfig)
    size, vocabulary = corpus.text_bytes(study.corpus.path), study.words.vocab_size or 50_257
    outside = {"kind", "tokens", "archive_tokens", "path", "revision", "layout"}
    text = make_step(
        "corpus",
        {"corpus": study.corpus.model_dump(exclude=outside), "identity": identity["corpus"]},
        {},
        disk=int(0.4 * size) + FILES,
        where=where_at(study.corpus.path, identity["corpus"]),
    )
    tokenizer = make_step(
        "tokenizer",
        {"vocab_size": study.words.vocab_size, "identity": identity["tokenizer"]},
        {"corpus": text},
        disk=TOKENIZER * vocabulary,
        where=where_at(study.words.pretrained, identity["tokenizer"]),
    )
    params = {"positions": study.model.n_positions, "layout": study.corpus.layout}
    # Each token with the number of its document, 6 bytes; a token of a larger vocabulary spells more of the text.
    disk = int(6 * size / min(4.5, 0.58 * math.log2(vocabulary) - 3)) + FILES
    return tokenizer, make_step("rows", params, {"corpus": text, "tokenizer": tokenizer}, disk=disk)


def _from_source(study: StudyConfig, config: SourceConfig, seed: int) -> Human:
    """The same from a known distribution.  Held-out rows are each seed's own too: seeds are independent altogether."""
    law = config.model_dump(exclude={"tokens", "archive_tokens", "layout"})
    source = make_step("source", {"source": law}, {}, label=config.title, disk=2 * FILES)

    def rows(purpose: str, count: int, origin: int = HUMAN) -> Step:
        positions = study.model.n_positions
        params = {"purpose": purpose, "rows": count, "positions": positions, "seed": seed, "origin": origin}
        disk = 7 * count * positions + FILES
        return make_step("source-rows", params, {"source": source}, label=f"{purpose} seed {seed}", disk=disk)

    archive, base = _beside(study)
    return Human(
        source,
        validation=rows("validation", study.rows(study.train.validation_tokens)) if study.train else None,
        test=rows("test", study.rows(study.metrics.test_tokens)),
        human=rows("human", study.rows(config.tokens)),
        resample=rows("resample", study.compared_rows),
        archive=rows("archive", archive, ARCHIVE) if archive else None,
        base=rows("base", base) if base else None,
    )


def lineage(study: StudyConfig, samples: int) -> Lineage:
    """The sizes of all text that exists before generation `samples` is trained: known before anything runs."""
    made = tuple(Source(t, study.sample_rows) for t in range(samples))
    archive = study.corpus.archive_tokens
    kept = Source(ARCHIVE, study.rows(archive)) if archive else None
    return Lineage(Source(HUMAN, study.rows(study.corpus.tokens)), made, kept)
