"""A tiny study of human controls alone, and the command line of the scripts that hold pairs of them together."""

from pathlib import Path
from typing import Any

from support.tiny import write_study

STUDY: dict[str, Any] = {
    "name": "tiny-null",
    "seeds": [0],
    "generations": 1,
    "regimes": ["human"],
    "corpus": {"kind": "source", "process": "markov", "types": 12, "zipf": 1, "tokens": 512},
    "model": {"kind": "ngram", "order": 2, "smoothing": "interpolated", "n_positions": 16},
    "sample": {"tokens": 512, "shard_rows": 32},
    "metrics": {"tokens": 512, "test_tokens": 512},
    "compute": {"device": "cpu"},
}


def command(folder: Path, pairs: int, seeds: int, *more: str) -> list[str]:
    """Return the arguments of a test of pairs of controls in a folder: it writes null.json there."""
    options = {
        "study": write_study(folder / "null.yaml", STUDY),
        "pairs": pairs,
        "seeds": seeds,
        "workers": 0,
        "checkpoints": folder,
        "json": folder / "null.json",
    }
    return [*(word for name, value in options.items() for word in (f"--{name}", str(value))), *more]
