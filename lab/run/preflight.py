"""What can be tried before a run writes anything: what is wrong with it is said in one line, not by a step."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from lab.errors import InputError
from lab.loop import Study
from lab.steps import job_of
from lab.store.store import Store
from lab.text import tokenizer as tokenizers


def check_base(study: Study, store: Store) -> None:
    """InputError unless the pretrained base of a study, if it has one that is not in the store, loads and is whole."""
    for step in study.steps:
        if step.name != "base" or store.whole(job_of(step)):
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
    """InputError where trainings are still to be done that want torch.compile, and it does not work here."""
    if any(step.params.get("train", {}).get("compile") and not store.whole(job_of(step)) for step in study.steps):
        from lab.models.torch_compile import check_works

        check_works(study.machine.device)
