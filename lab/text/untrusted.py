"""Refusal of hostile or damaged checkpoint and tokenizer folders that come from somewhere else.

A folder that a user downloaded is untrusted. It may ask for Python code, hold pickles or device files, or claim far
more layers than it has weights. The lab reads plain data only: settings as JSON and weights as safetensors. The checks
run before a model is built, and in `lab plan` too. They need neither torch nor transformers.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from lab.errors import InputError, printable

WEIGHTS = "model.safetensors"
REFUSED = {
    "auto_map": "asks for Python code of its own, which the lab never runs; use a model that transformers itself knows",
    "transformers_weights": f"names a weight file of its own; rename that file to {WEIGHTS} and take the entry out",
    "quantization_config": "describes quantized weights; use the model's float32, float16 or bfloat16 weights",
}
"""Entries of config.json that change which files are read or which code runs, and the reason to refuse each."""
DEPTHS = ("n_layer", "n_layers", "num_layers", "num_hidden_layers", "encoder_layers", "decoder_layers")
"""Entries of config.json that give the number of layers to build."""

MARKS = frozenset("<>[]{}|")
"""Characters of which a special token has one, as <|endoftext|> and [MASK] do: prose then hardly ever spells it."""

_MASK = re.compile(r"\.attn\.(attention\.)?((?P<number>masked_)?bias|causal_mask)$")


def check_untrusted_checkpoint(folder: Path) -> None:
    """Refuse a checkpoint folder that is incomplete, that is not plain data, or that claims more layers than weights.

    Raises:
        InputError: the folder is unusable; the message names the file and says what to do.
    """
    _check_plain_files(folder)
    config = config_of(folder)
    for entry, reason in REFUSED.items():
        if entry in config:
            raise InputError(f'{folder}/config.json has an entry "{entry}": it {reason}')
    # transformers would load the base model that an adapter names, from wherever that is.
    if (folder / "adapter_config.json").exists():
        raise InputError(f"{folder} holds an adapter of peft: merge it into its base (merge_and_unload) and save that")
    weights = len(weight_shapes(folder))
    for entry in DEPTHS:
        layers = config.get(entry, 1)
        if type(layers) is not int or not 1 <= layers <= weights:
            raise InputError(
                f"{folder}/config.json: {entry} is {layers!r:.40}; expected a whole number, at least 1 and at most "
                f"{weights}, the number of weights"
            )


def check_untrusted_tokenizer(folder: Path) -> None:
    """Refuse a tokenizer folder with missing or unreadable files, with code of its own, or with huge numbers.

    The tokenizers library reserves memory up to the largest entry number. A single huge number would exhaust it.

    Raises:
        InputError: the folder is unusable; the message names the file and says what to do.
    """
    _check_plain_files(folder)
    if not any((folder / name).exists() for name in ("tokenizer.json", "vocab.json", "tokenizer.model")):
        raise InputError(f"{folder} holds no tokenizer files (tokenizer.json)")
    for name in ("config.json", "tokenizer_config.json", "tokenizer.json"):
        file = folder / name
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
        if name == "tokenizer.json":
            _check_entry_numbers(file, settings)
            check_special_words(settings, str(file))


def check_special_words(settings: dict[str, Any], name: str) -> None:
    """Raise InputError if a tokenizer.json has a special token that is a word of usual text, such as "river".

    A special token has no bytes, so each "river" of a text would count as nothing in bits per byte and in words.

    Args:
        settings: what tokenizer.json holds.
        name: what messages call the tokenizer.
    """
    added = settings.get("added_tokens")
    for token in added if isinstance(added, list) else ():
        content = token.get("content") if isinstance(token, dict) and token.get("special") else None
        if isinstance(content, str) and not MARKS.intersection(content):
            raise InputError(
                f'{name} has the special token "{printable(content)}", which text may spell as a word, and special '
                "tokens have no bytes: add it with special: false, or put it into marks, as in <|river|>"
            )


def _check_entry_numbers(file: Path, settings: dict[str, Any]) -> None:
    """Raise InputError if a tokenizer.json numbers its entries far beyond their count.

    Some gaps are usual, because vocabularies are padded; they are entries without bytes.
    """
    model, added = settings.get("model"), settings.get("added_tokens")
    entries = model.get("vocab") if isinstance(model, dict) else None
    if not entries or not isinstance(entries, dict) or not isinstance(added, list):
        return
    numbers = [*entries.values(), *(token.get("id") for token in added if isinstance(token, dict))]
    last = max((number for number in numbers if isinstance(number, int)), default=0)
    if last >= 2 * (len(entries) + len(added)):
        raise InputError(f"{file} has {len(entries):,} entries, and numbers up to {last:,}: get it again")


def _check_plain_files(folder: Path) -> None:
    """Raise InputError if a folder holds a named pipe, a socket or a device: reading one may never end."""
    for path in sorted(folder.iterdir()):
        if path.exists() and not path.is_file() and not path.is_dir():
            raise InputError(f"{path} is no plain file but a pipe, a socket or a device: take it out of the folder")


def config_of(folder: Path) -> dict[str, Any]:
    """Return the settings in a folder's config.json.

    Raises:
        InputError: the file is missing, unreadable or not a JSON object.
    """
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
    """Return the files that hold the weights: model.safetensors, or the shards that its index names.

    Raises:
        InputError: a file is missing, lies outside the folder, or is not safetensors.
    """
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


def weight_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of each weight by name, read from the headers of the files alone.

    Raises:
        InputError: a file is torn or is no safetensors file.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for file in weight_files(folder):
        try:
            with safe_open(file, framework="np") as weights:
                shapes |= {name: tuple(weights.get_slice(name).get_shape()) for name in weights.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise InputError(f"{file} cannot be loaded: {type(error).__name__}: {error}; get the model again") from None
    return shapes


def is_old_mask(folder: Path, name: str) -> bool:
    """Return whether an entry that a model has no place for is a causal mask, which is no weight.

    GPT-2, GPT-Neo and CodeGen of transformers before 4.30 were saved with their masks, [1, 1, T, T], and with the
    number that stood in masked places. The values are read: no position of the mask sees a later one. (transformers
    itself passes over some masks, of GPT-2 and GPT-NeoX, and over the frequencies of rotary positions.)
    """
    kind = _MASK.search(name)
    values = _values(folder, name) if kind else None
    if kind is None or values is None:
        return False
    if kind["number"]:
        return values.size == 1
    seen = values[0, 0] != 0 if values.ndim == 4 and values.shape[:2] == (1, 1) else None
    return bool(seen is not None and not np.triu(seen, 1).any() and seen.diagonal().all())


def _values(folder: Path, name: str) -> np.ndarray | None:
    """Return the values of an entry as float32; None where there is none.  torch reads them: numpy has no bfloat16.

    A checkpoint of a model without its head leaves out the first part of a name, such as "transformer.".
    """
    for file in weight_files(folder):
        with safe_open(file, framework="pt") as weights:
            for key in {name, name.partition(".")[2]}.intersection(weights.keys()):
                return np.asarray(weights.get_tensor(key).float())
    return None


def weights_in(folder: Path) -> int:
    """Return the number of parameters that the weight files hold."""
    return sum(map(math.prod, weight_shapes(folder).values()))
