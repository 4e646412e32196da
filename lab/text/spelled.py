"""Special tokens that a text may spell, such as <s> or <|user|>: they get the bytes of their spelling.

A special token has no bytes. Each <s> of a text would raise bits per byte, and would be no part of a word. The numbers
that a text is encoded to stay as the model has learnt them. Only EOS is left without bytes: it ends documents, also
where a text spells it. BOS stands before rows, never in them, so one in a row is text.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from lab.text.tokenizer import load_tokenizer
from lab.text.untrusted import MARKS


def spell_special_tokens(folder: Path) -> None:
    """Make the special tokens in marks, except EOS, tokens with bytes in the tokenizer of an artifact."""
    from tokenizers import Tokenizer

    tokenizer, special = load_tokenizer(folder)
    settings = json.loads(tokenizer.to_str())
    for token in settings["added_tokens"]:
        if token["id"] != special["eos"] and MARKS.intersection(token["content"]):
            token["special"] = False
    Tokenizer.from_str(json.dumps(settings)).save(os.fspath(folder / "tokenizer.json"))
