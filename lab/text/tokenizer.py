"""The tokenizer: a byte-level BPE trained on human text, or that of a pretrained model."""

from __future__ import annotations

import contextlib
import json
import os
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.errors import InputError, brief
from lab.text.untrusted import check_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

END = "<|endoftext|>"
"""The one special token: it begins every row and ends every document, also where human text spells it out."""


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """A byte-level BPE as GPT-2's: every string has an encoding, and no token is unknown."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=[END], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def token_bytes(tokenizer: Tokenizer) -> list[bytes]:
    """The bytes of each vocabulary entry; b"" for special tokens.  InputError unless the tokenizer is byte-level."""
    byte_of = _byte_of_char()
    special = {token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special}
    entries = [b""] * tokenizer.get_vocab_size()
    for token, index in tokenizer.get_vocab().items():
        if token not in special:
            try:
                entries[index] = bytes(byte_of[char] for char in token)
            except IndexError:
                raise InputError(
                    f"the tokenizer numbers its {len(entries):,} entries up to {index:,}: get it again"
                ) from None
            except KeyError:
                raise InputError(
                    f"the tokenizer is not byte-level BPE (its entry {token!r} is no byte string): bits per byte and "
                    "words need one, such as GPT-2's; or set tokenizer.vocab_size to train one"
                ) from None
    return entries


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """As AutoTokenizer.from_pretrained loads it."""
    settings: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    settings |= dict.fromkeys(("bos_token", "eos_token", "unk_token"), END)
    tokenizer.save(os.fspath(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1) + "\n")
    _save_special(folder, tokenizer, END, END)


def copy_tokenizer(pretrained: str, revision: str | None, folder: Path) -> None:
    """The tokenizer of a pretrained model: a local folder or a hub id.  InputError if it cannot be used."""
    from transformers import AutoTokenizer

    if Path(pretrained).is_dir():
        check_tokenizer(Path(pretrained))
    try:
        with quietly():
            loaded = AutoTokenizer.from_pretrained(pretrained, revision=revision, trust_remote_code=False)
    except Exception as error:
        raise InputError(f"tokenizer.pretrained {pretrained} cannot be loaded: {brief(error, 200)}") from error
    if loaded.eos_token is None or not loaded.is_fast:
        raise InputError(
            f"tokenizer.pretrained {pretrained} needs an eos_token and a tokenizer.json (a fast tokenizer)"
        )
    loaded.save_pretrained(folder)
    tokenizer = loaded.backend_tokenizer
    token_bytes(tokenizer)
    _save_special(folder, tokenizer, loaded.bos_token or loaded.eos_token, loaded.eos_token)


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Without what transformers prints beside its exceptions: reports, advice, warnings and progress."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _save_special(folder: Path, tokenizer: Tokenizer, bos: str, eos: str) -> None:
    ids = tokenizer.token_to_id(bos), tokenizer.token_to_id(eos)
    if ids[0] is None or ids[1] is None:
        raise InputError(f"the tokenizer has no entry for its own {bos} or {eos}: get it again")
    save_special(folder, tokenizer.get_vocab_size(), ids[0], ids[1])


def save_special(folder: Path, vocab_size: int, bos: int, eos: int) -> None:
    (folder / "special.json").write_text(json.dumps({"vocab_size": vocab_size, "bos": bos, "eos": eos}) + "\n")


def load_tokenizer(folder: Path) -> tuple[Tokenizer, dict[str, int]]:
    """The tokenizer, and its vocab_size, bos and eos ids.  Needs no transformers, so it loads in milliseconds."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(os.fspath(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.post_processor = None
    return tokenizer, load_special(folder)


def load_special(folder: Path) -> dict[str, int]:
    """vocab_size, bos and eos ids."""
    special: dict[str, int] = json.loads((folder / "special.json").read_text())
    return special


def _byte_of_char() -> dict[str, int]:
    """GPT-2's alphabet: printable Latin-1 bytes stand for themselves, the others for characters from U+0100 on."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(0x100 + place): byte for place, byte in enumerate(others)}
