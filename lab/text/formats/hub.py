"""Data sets of the hub: their commits, and their rows."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping

import pyarrow as pa

from lab.config.text import CorpusConfig
from lab.errors import InputError, brief
from lab.text.formats.columns import of_split
from lab.text.formats.marks import Marks
from lab.text.formats.readers import as_text, check_types

ROWS_AT_ONCE = 32


def hub_revision(kind: str, name: str, revision: str | None, field: str) -> str:
    """Return "name@commit" for the commit that a hub id refers to now.

    Args:
        kind: "dataset" or "model".
        name: the hub id.
        revision: a branch, a tag or a commit. None: the main branch.
        field: the study's field that names the id, for the error message.

    Raises:
        InputError: the hub cannot be reached or does not know the id.
    """
    if revision and len(revision) == 40:
        return f"{name}@{revision}"
    from huggingface_hub import HfApi

    try:
        return f"{name}@{HfApi().repo_info(name, repo_type=kind, revision=revision).sha}"
    except Exception as error:
        raise InputError(
            f"{field} {name} is no local path, and the hub could not resolve it ({type(error).__name__}: "
            f"{brief(error, 120)}); offline, download it first and give the folder"
        ) from error


def hub_batches(
    config: CorpusConfig, columns: Mapping[str, str], marks: Marks
) -> Callable[[], Iterator[pa.RecordBatch]]:
    """Load a split of a hub data set, or its own splits, with `datasets`, which keeps it in its own cache.

    `marks` counts what the last reading of the batches dropped.
    """
    import datasets

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)  # the errors below say what goes wrong
    parts = {}
    for split in config.split_names or (config.split,):
        with _one_line_errors(config):
            data = datasets.load_dataset(config.path, config.subset, split=split, revision=config.revision)
        check_types(config.path, data.features.arrow_schema, columns)
        parts[split] = data

    def batches() -> Iterator[pa.RecordBatch]:
        marks.dropped = 0
        with _one_line_errors(config):
            for split, data in parts.items():
                for table in data.with_format("arrow").iter(batch_size=ROWS_AT_ONCE):
                    for batch in table.combine_chunks().to_batches():
                        rows = marks.out_of_batch(as_text(batch, columns))
                        yield of_split(rows, split if config.split_names else None)

    return batches


@contextlib.contextmanager
def _one_line_errors(config: CorpusConfig) -> Iterator[None]:
    """Turn any error of `datasets` into an InputError."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        cause = error.__cause__ or error
        raise InputError(f"corpus {config.path} cannot be read: {type(cause).__name__}: {brief(cause, 200)}") from error
