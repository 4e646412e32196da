"""The tokenizer of a study: a byte-level BPE trained on human text, or that of a pretrained model."""

from __future__ import annotations

import contextlib
import json
import os
import re
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.errors import InputError, brief
from lab.text.plain_tokenizer import check_own_bytes, entry_bytes, plain
from lab.text.untrusted import check_untrusted_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

END = "<|endoftext|>"
"""The one special token. It begins every row and ends every document. Human text may spell it out, too."""
LONGEST = 512
"""Characters of one kind, such as letters, after which training begins a new word. Its time is quadratic in a word's
length, so that one sequence of 400,000 bases would take minutes. Encoding cuts nothing."""
_RUN = re.compile(r"[^\W\d_]+|\d+|\s+|(?:[^\w\s]|_)+")
_GAP = re.compile(rf"\s{{{LONGEST + 1}}}")


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Train a byte-level BPE like GPT-2's: every string has an encoding, and no token is unknown.

    A word of more than LONGEST characters counts as several.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=[END], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator((part for text in texts for part in _cut_long_words(text)), trainer)
    return tokenizer


def _cut_long_words(text: str) -> list[str]:
    """Cut a text inside runs of more than LONGEST characters of one kind: a text of usual words is one part."""
    if max(map(len, text.split()), default=0) <= LONGEST and not _GAP.search(text):
        return [text]
    cuts = [0]
    for run in _RUN.finditer(text):
        cuts += range(run.start() + LONGEST, run.end(), LONGEST)
    return [text[start:end] for start, end in zip(cuts, [*cuts[1:], len(text)], strict=True)]


def token_bytes(tokenizer: Tokenizer) -> list[bytes]:
    """Return the bytes of each vocabulary entry, b"" for special tokens and for numbers that no entry has.

    Raises:
        InputError: the tokenizer is not byte-level BPE, or its numbers cannot be used.
    """
    return entry_bytes(tokenizer.get_vocab(), tokenizer.get_added_tokens_decoder())


def token_texts(tokenizer: Tokenizer) -> list[bytes]:
    """Return how each vocabulary entry is written out: its bytes, or the name of a special token."""
    entries = token_bytes(tokenizer)
    for number, token in tokenizer.get_added_tokens_decoder().items():
        entries[number] = token.content.encode()
    return entries


def save_tokenizer(tokenizer: Tokenizer, folder: Path, bos: str = END, eos: str = END) -> None:
    """Write a tokenizer so that AutoTokenizer.from_pretrained loads it, with special.json beside it.

    Args:
        tokenizer: the tokenizer.
        folder: the folder to write into.
        bos: spelling of the token that begins rows.
        eos: spelling of the token that ends documents.
    """
    settings: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    settings |= {"bos_token": bos, "eos_token": eos, "unk_token": eos}
    tokenizer.save(os.fspath(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1) + "\n")
    ids = tokenizer.token_to_id(bos), tokenizer.token_to_id(eos)
    if ids[0] is None or ids[1] is None:
        raise InputError(f"the tokenizer has no entry for its own {bos} or {eos}: get it again")
    save_special(folder, len(token_bytes(tokenizer)), ids[0], ids[1])


def copy_tokenizer(pretrained: str, revision: str | None, folder: Path) -> None:
    """Copy the tokenizer of a pretrained model, a local folder or a hub id, into an artifact folder.

    What changes the encoding of a text is taken out: see lab/text/plain_tokenizer.py. A tokenizer that was saved with
    padding and one without give the same bytes.

    Raises:
        InputError: the tokenizer is refused, cannot be loaded, or has no end-of-text token.
    """
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer
    from transformers.utils import cached_file

    name = f"tokenizer.pretrained {pretrained}"
    if Path(pretrained).is_dir():
        check_untrusted_tokenizer(Path(pretrained))
    try:
        with quietly():
            loaded = AutoTokenizer.from_pretrained(pretrained, revision=revision, trust_remote_code=False)
            given = cached_file(
                pretrained, "tokenizer.json", revision=revision, _raise_exceptions_for_missing_entries=False
            )
    except Exception as error:
        raise InputError(f"{name} cannot be loaded: {brief(error, 200)}") from error
    if loaded.eos_token is None or not loaded.is_fast:
        raise InputError(f"{name} needs an eos_token and a tokenizer.json (a fast tokenizer)")
    settings = plain(json.loads(loaded.backend_tokenizer.to_str()), name)
    if given is not None:
        _keep_numbers(settings, json.loads(Path(given).read_text(encoding="utf-8")))
    try:
        tokenizer = Tokenizer.from_str(json.dumps(settings))
    except Exception as error:
        raise InputError(f"{name} cannot be loaded: {brief(error, 200)}") from error
    check_own_bytes(settings["model"]["vocab"], tokenizer.get_added_tokens_decoder(), name)
    save_tokenizer(tokenizer, folder, loaded.bos_token or loaded.eos_token, loaded.eos_token)


def _keep_numbers(settings: dict[str, Any], given: dict[str, Any]) -> None:
    """Give added tokens the numbers that the file states, which the tokenizers library counts on where there is a gap.

    An added token that is an entry of the model keeps the number of that entry, so these tokens become entries.
    """
    numbers = {token["content"]: token["id"] for token in given.get("added_tokens") or ()}
    for token in settings["added_tokens"]:
        wanted = numbers.get(token["content"], token["id"])
        if token["id"] != wanted:
            settings["model"]["vocab"][token["content"]] = token["id"] = wanted


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Silence what transformers prints beside its exceptions: reports, advice, warnings and progress."""
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


def save_special(folder: Path, vocab_size: int, bos: int, eos: int) -> None:
    """Write the vocabulary size and the ids of the first and last token as special.json."""
    (folder / "special.json").write_text(json.dumps({"vocab_size": vocab_size, "bos": bos, "eos": eos}) + "\n")


def load_tokenizer(folder: Path) -> tuple[Tokenizer, dict[str, int]]:
    """Return the tokenizer and what `load_special` reads. It needs no transformers, so it loads in milliseconds."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(os.fspath(folder / "tokenizer.json"))
    return tokenizer, load_special(folder)


def load_special(folder: Path) -> dict[str, int]:
    """Return vocab_size and the ids bos and eos from special.json."""
    special: dict[str, int] = json.loads((folder / "special.json").read_text())
    return special
