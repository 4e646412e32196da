"""The collapse lab: what happens to language models when each generation learns from the text of the last one.

>>> import lab
>>> lab.load("checkpoints/quick").results          # a pandas table, one row per chain and generation
>>> lab.metric_path("distinct_n")                  # a folder that evaluate.load takes, offline
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lab.former import Finder

if TYPE_CHECKING:
    from lab.run.folder import Run

sys.meta_path.append(Finder())

__version__ = "0.1.0"


def load(folder: str | Path) -> Run:
    """Return the tables of a run, for a notebook.  InputError if the folder holds no run."""
    from lab.run.folder import Run

    return Run.open(Path(folder))


def metric_path(name: str) -> str:
    """Return the folder of a shipped `evaluate` module: perplexity, distinct_n or rare_token_loss."""
    from lab.lookup import lookup

    modules = {path.name: str(path) for path in sorted((Path(__file__).parent / "evaluate_modules").glob("[a-z]*"))}
    return str(lookup("metric", name, modules))
