"""Checks before a run writes its folder: bad text, a bad base model and a missing compiler are one line each."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from lab.config.cost import reachable
from lab.config.study import StudyConfig
from lab.config.sweep import arms
from lab.config.text import CorpusConfig
from lab.errors import InputError
from lab.loop import Study
from lab.run.worker import UNATTENDED, run_job
from lab.steps import job_of
from lab.steps.text import ROWS, TOKENIZER_KIND, bytes_per_token, check_sizes, fold_tokens
from lab.steps.train import BASE
from lab.store.step import Step
from lab.store.store import Damaged, Job, Store
from lab.text import corpus as corpora
from lab.text import tokenizer as tokenizers
from lab.text.untrusted import check_special_words


def check_base(study: Study, store: Store) -> None:
    """Raise InputError unless the pretrained base of a study loads and computes finite losses.

    Nothing is done where there is none, or where it is in the store.
    """
    for step in study.steps:
        if step.name != BASE.name or store.whole(job_of(step)):
            continue
        from lab.models.initial_weights import fetched, start

        words, where = step.inputs["tokenizer"].where, step.where
        with tempfile.TemporaryDirectory(prefix="lab-base-") as folder:
            tokenizers.copy_tokenizer(words["path"], words["revision"], Path(folder))
            special = tokenizers.load_special(Path(folder))
        base = fetched(where["path"], where["revision"])
        model = start(base, vocab_size=special["vocab_size"], bos=special["bos"], positions=step.params["positions"])
        try:
            with np.errstate(all="ignore"), tokenizers.quietly():
                nats = model.nats(np.arange(step.params["positions"])[None] % special["vocab_size"])
        except Exception as error:  # settings that load may still fit no forward pass
            raise InputError(f"{base} cannot be run: {type(error).__name__}: {error}") from error
        if not (np.isfinite(nats).all() and all(bool(w.isfinite().all()) for w in model.module.parameters())):
            raise InputError(f"{base} has weights that are NaN, infinite or so large that its losses are: get it again")


def check_compiler(study: Study, store: Store) -> None:
    """Raise InputError if trainings that are still to be done want torch.compile and it does not work here."""
    if any(step.params.get("train", {}).get("compile") and not store.whole(job_of(step)) for step in study.steps):
        from lab.models.torch_compile import check_works

        check_works(study.machine.device)


def check_tokens(study: Study) -> None:
    """Raise InputError if a study wants more human text than its files can hold, whatever is in them.

    This is for a plan, which reads no text.  A run reads it, and then says how much there is.
    """
    for config in (arm.config for arm in arms(study.config)):
        if isinstance(config.corpus, CorpusConfig):
            corpora.check_tokens(config.corpus, config.model.n_positions)


def check_text(study: Study, store: Store) -> None:
    """Raise InputError, as a run would, if text that is in the store already holds fewer rows than a study wants."""
    for step in study.human:
        rows = step.inputs.get("rows")
        if rows is not None and store.whole(job_of(rows)) and not store.whole(job_of(step)):
            check_sizes(step, store.folder(rows.name, rows.key))


def unread(study: Study, store: Store) -> list[str]:
    """Say that human text is not read yet, and what of a study it will hardly be enough for."""
    if all(store.whole(job_of(step)) for step in study.steps if step.name == ROWS.name):
        return []
    lines = ["human text is not read yet: whether it holds all that is asked for is known after lab run has read it"]
    for config in (arm.config for arm in arms(study.config) if arm.config.corpus.layout == "blocks"):
        wanted = {"metrics.test_tokens": ("test", config.metrics.test_tokens)}
        base = config.train.base.tokens if config.train and config.train.base else 0
        human = config.corpus.tokens + (config.corpus.archive_tokens or 0) + base + config.metrics.tokens
        wanted["the sum of corpus, archive, base and metrics.tokens"] = ("train", human)
        if config.train is not None:
            wanted["train.validation_tokens"] = ("validation", config.train.validation_tokens)
        lines += [
            f"the {fold} fold of {config.corpus.title} will hold some {fold_tokens(config, fold):,.0f} tokens, "
            f"fewer than {field} = {tokens:,}"
            for field, (fold, tokens) in wanted.items()
            if tokens > fold_tokens(config, fold)
        ]
    lines += [_small_text(arm.config) for arm in arms(study.config)]
    return list(dict.fromkeys(filter(None, lines)))


def _small_text(config: StudyConfig) -> str:
    """Say that a text of known size is too short for the vocabulary that is asked for; "" where it may do."""
    asked = config.tokenizer.vocab_size if config.tokenizer is not None else None
    if asked is None or not isinstance(config.corpus, CorpusConfig):
        return ""
    entries = reachable(fold_tokens(config, "train") * bytes_per_token(config))
    if asked <= entries:
        return ""
    return (
        f"the vocabulary will have some {entries:,.0f} entries if {config.corpus.title} is prose: so short a text "
        f"gives hardly more of tokenizer.vocab_size {asked:,}"
    )


def prepare_human(store: Store, human: Sequence[Step], say: Callable[[str], None]) -> None:
    """Make the steps that read human text, in this process, so that bad text shows before a run's folder is written.

    Steps before a bad one stay in the store: they are whole, and the next run continues after them.  Where nothing was
    made, no folder stays that was not there before.  `say` is called with the label of a step before it runs.

    Raises:
        InputError: the text cannot be used, or the disk is full.
    """
    jobs, root = [job_of(step) for step in human], store.root.absolute()
    folders = (*(root / name for name in sorted({".locks", *(job.name for job in jobs)})), root, *root.parents)
    absent = [folder for folder in folders if not folder.exists()]
    try:
        _make_all(store, jobs, say)
    except BaseException:
        for folder in absent:
            with contextlib.suppress(OSError):  # a folder that holds something stays
                folder.rmdir()
        raise


def _make_all(store: Store, jobs: Sequence[Job], say: Callable[[str], None]) -> None:
    for job in jobs:
        if not store.whole(job):
            say(job.label)
            try:
                run_job(store, job, lambda _: None, UNATTENDED, fresh=False)
            except Damaged:  # an input, which is out of the way now: begin again with it
                return _make_all(store, jobs, say)
        if job.name == TOKENIZER_KIND.name:  # also what transformers added to the file from beside it, or from the hub
            file = store.folder(job.name, job.key) / "tokenizer.json"
            check_special_words(json.loads(file.read_text(encoding="utf-8")), "the tokenizer")
