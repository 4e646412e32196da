"""A folder of a saved model, as far as plain data goes: settings in JSON, weights as safetensors, no code, no pickle.

Everything here is looked at before a model is built, also by `lab plan`: torch and transformers are not imported.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from lab.errors import InputError

WEIGHTS = "model.safetensors"
REFUSED = {
    "auto_map": "asks for Python code of its own, which the lab never runs; use a model that transformers itself knows",
    "transformers_weights": f"names a weight file of its own; rename that file to {WEIGHTS} and take the entry out",
    "quantization_config": "describes quantized weights; use the model's float32, float16 or bfloat16 weights",
}
"""Entries of config.json that change what is read or run, and what to say of them."""
DEPTHS = ("n_layer", "n_layers", "num_layers", "num_hidden_layers", "encoder_layers", "decoder_layers")
"""Entries of config.json that say how many layers to build."""


def config_of(folder: Path) -> dict[str, Any]:
    """The settings in a folder's config.json.  InputError where there are none."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{folder} holds no readable config.json: give the folder of a saved model ({error})"
        ) from None
    if not isinstance(config, dict):
        raise InputError(f"{folder}/config.json holds a {type(config).__name__}, not the settings of a model")
    return config


def weight_files(folder: Path) -> list[Path]:
    """The files with the weights.  InputError unless all of them lie in the folder, as safetensors."""
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    index = folder / f"{WEIGHTS}.index.json"
    if not index.is_file():
        others = sorted(
            path.name for path in folder.iterdir() if path.suffix in {".bin", ".pt", ".pth", ".h5", ".gguf"}
        )
        raise InputError(
            f"{folder} has no {WEIGHTS} (it has {', '.join(others) or 'no weights'}): only safetensors are read, "
            "because pickles can run code; convert the model with save_pretrained where you trust it"
        )
    try:
        shards = sorted({str(shard) for shard in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()})
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"{index} is no index of weights: get the model again") from None
    if not shards:
        raise InputError(f"{index} names no weights: get the model again")
    for shard in shards:
        if Path(shard).name != shard or not shard.endswith(".safetensors"):
            raise InputError(f"{index} names {shard}; a shard is a safetensors file of that folder")
        if not (folder / shard).is_file():
            raise InputError(f"{folder} lacks {shard}, one of its {len(shards)} shards: get the model again")
    return [folder / shard for shard in shards]


def shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Name and shape of each weight, from the heads of the files.  InputError where one is torn or something else."""
    found: dict[str, tuple[int, ...]] = {}
    for file in weight_files(folder):
        try:
            with safe_open(file, framework="np") as opened:
                found |= {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise InputError(f"{file} cannot be loaded: {type(error).__name__}: {error}; get the model again") from None
    return found


def weights_in(folder: Path) -> int:
    """Numbers in the weights."""
    return sum(map(math.prod, shapes(folder).values()))


def check_plain(folder: Path) -> None:
    """InputError where a folder holds a named pipe or a device: who opens one waits, or reads without end."""
    for path in sorted(folder.iterdir()):
        if path.exists() and not path.is_file() and not path.is_dir():
            raise InputError(f"{path} is no plain file but a pipe, a socket or a device: take it out of the folder")


def check_folder(folder: Path) -> None:
    """InputError where a folder is incomplete, not plain data, or asks for more layers than it has weights."""
    check_plain(folder)
    config = config_of(folder)
    for entry, reason in REFUSED.items():
        if entry in config:
            raise InputError(f'{folder}/config.json has an entry "{entry}": it {reason}')
    # transformers would load the base that an adapter names, from wherever that is.
    if (folder / "adapter_config.json").exists():
        raise InputError(f"{folder} holds an adapter of peft: merge it into its base (merge_and_unload) and save that")
    weights = len(shapes(folder))
    for entry in DEPTHS:
        layers = config.get(entry, 1)
        if type(layers) is not int or not 1 <= layers <= weights:
            raise InputError(
                f"{folder}/config.json: {entry} is {layers!r:.40}; expected a whole number, at least 1 and at most "
                f"{weights}, the number of weights"
            )


def check_tokenizer(folder: Path) -> None:
    """InputError where the files of a tokenizer are absent or no JSON, ask for Python code, or number their entries
    with gaps, for which the library would take memory."""
    check_plain(folder)
    if not any((folder / name).exists() for name in ("tokenizer.json", "vocab.json", "tokenizer.model")):
        raise InputError(f"{folder} holds no tokenizer files (tokenizer.json)")
    for file in (folder / "config.json", folder / "tokenizer_config.json", folder / "tokenizer.json"):
        if not file.exists():
            continue
        try:
            settings = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(f"{file} is no readable JSON ({error}): get it again") from None
        if not isinstance(settings, dict):
            raise InputError(f"{file} holds a {type(settings).__name__}, not settings: get it again")
        if "auto_map" in settings:
            raise InputError(f'{file} has an entry "auto_map": it {REFUSED["auto_map"]}')
    numbered = settings.get("model") if file.exists() else None
    entries = numbered.get("vocab") if isinstance(numbered, dict) else None
    added = settings.get("added_tokens") if entries else None
    if isinstance(entries, dict) and isinstance(added, list):
        last = max((number for number in entries.values() if isinstance(number, int)), default=0)
        if last >= len(entries) + len(added):
            raise InputError(f"{file} has {len(entries):,} entries, and numbers up to {last:,}: get it again")
