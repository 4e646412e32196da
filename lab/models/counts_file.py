"""The files of a counting model: config.json and counts.safetensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def write(folder: Path, config: Mapping[str, Any], arrays: Mapping[str, NDArray[np.int64]]) -> None:
    """Write both files into an existing folder."""
    from safetensors.numpy import save_file

    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, folder / "counts.safetensors")


def read(folder: Path) -> tuple[dict[str, Any], dict[str, NDArray[np.int64]]]:
    """Return the config and the arrays that `write` was given."""
    from safetensors.numpy import load_file

    return json.loads((folder / "config.json").read_text(encoding="utf-8")), load_file(folder / "counts.safetensors")
