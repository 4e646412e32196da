"""Settings of a tokenizer.json that change what is encoded: each is taken out, or refused in one line.

The lab encodes a document as its own bytes: no more, no less, and the same alone and beside others. Perplexity, bits
per byte and words rest on that. tokenizer.json may hold settings that break it, and transformers writes some of them
there unasked: who called a tokenizer with padding=True finds the padding in the next file saved.

Taken out, because the tokens of a text stay what its model has learnt:

- padding and truncation, which are left over from the last call;
- post-processors, because the lab itself begins rows with BOS and ends documents with EOS;
- the dropout of BPE, which draws another encoding each time, and byte_fallback, which 256 byte entries never need;
- add_prefix_space, which puts a space before a document (only a document's first word is spelled differently);
- lstrip and rstrip of added tokens, which swallow the spaces beside them;
- the normalizer NFC of GPT-NeoX, Pythia, OLMo and Qwen: text in NFC, as nearly all text is, has the same tokens
  without it, and other text keeps its own bytes.

Refused, because text would lose or change bytes, or because taking them out would change most tokens:

- every other normalizer, such as Lowercase, NFKC or Replace;
- pre-tokenizers that drop or replace characters, such as Whitespace or Metaspace, or a Split that removes;
- models other than BPE over bytes, prefixes or suffixes of word pieces, and a vocabulary that lacks a byte;
- an added token that has the number of other bytes: "ñ" is the name of the byte F1 in GPT-2's alphabet.

Added tokens stay as they are, also runs of spaces (GPT-NeoX) and words of other scripts; so do single_word and
normalized, which only say where one is found. Special tokens that a text spells out are these tokens; see
lab/text/spelled.py for their bytes.
split_special_tokens is a setting of transformers that tokenizer.json does not hold: the lab does not read it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lab.errors import InputError, printable

Settings = dict[str, Any]
KEEPS_TEXT = frozenset({"ByteLevel", "Split", "Digits", "Punctuation", "UnicodeScripts", "FixedLength"})
"""Pre-tokenizers that only cut."""
IMPOSSIBLE = frozenset({0xC0, 0xC1, *range(0xF5, 0x100)})
"""Bytes that no UTF-8 text holds."""


def plain(settings: Settings, name: str) -> Settings:
    """Return the settings of a tokenizer.json without what changes the encoding of a text.

    Args:
        settings: what tokenizer.json holds.
        name: what messages call the tokenizer.

    Raises:
        InputError: the tokenizer changes text in a way that cannot be taken out.
    """
    model = settings["model"]
    _check_model(model, name)
    for kind in _parts(settings.get("normalizer"), "normalizers"):
        if kind["type"] != "NFC":
            raise InputError(
                f"{name} has the normalizer {kind['type']}, which changes text before it is encoded, so that bits per "
                "byte would not be those of your text: use a tokenizer without one, or train one (tokenizer.vocab_size)"
            )
    cutters = [_plain_cutter(cutter, name) for cutter in _parts(settings.get("pre_tokenizer"), "pretokenizers")]
    levels = sum(cutter["type"] == "ByteLevel" for cutter in cutters)
    if levels != 1:  # a second one takes the spelling of bytes for text
        raise InputError(f"{name} has {levels or 'no'} ByteLevel pre-tokenizer{'s' * (levels > 1)}: {_NOT_BYTES}")
    return {
        **settings,
        **dict.fromkeys(("padding", "truncation", "post_processor", "normalizer")),
        "added_tokens": [{**token, "lstrip": False, "rstrip": False} for token in settings.get("added_tokens") or ()],
        "pre_tokenizer": cutters[0] if len(cutters) == 1 else {"type": "Sequence", "pretokenizers": cutters},
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {**model, "dropout": None, "byte_fallback": False},
    }


_NOT_BYTES = "it is not byte-level BPE, which bits per byte and words need: use GPT-2's, or set tokenizer.vocab_size"


def _check_model(model: Mapping[str, Any], name: str) -> None:
    if model.get("type") != "BPE":
        raise InputError(f"{name} has a model of type {model.get('type')}: {_NOT_BYTES}")
    for affix in ("continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(affix):
            raise InputError(f"{name} has the {affix} {printable(str(model[affix]))}, which is no text: {_NOT_BYTES}")


def _plain_cutter(cutter: Settings, name: str) -> Settings:
    """Return a pre-tokenizer that adds no space.  InputError: it drops or replaces characters."""
    if cutter["type"] not in KEEPS_TEXT or cutter.get("behavior") == "Removed":
        raise InputError(
            f"{name} has the pre-tokenizer {cutter['type']}, which drops or replaces characters, so that its tokens do "
            "not spell your text: use a byte-level one such as GPT-2's, or train one (tokenizer.vocab_size)"
        )
    return {**cutter, "add_prefix_space": False} if "add_prefix_space" in cutter else cutter


def _parts(part: Settings | None, several: str) -> Iterator[Settings]:
    """Yield the settings of a part of the pipeline, or of each part of a sequence of them."""
    if part and part["type"] == "Sequence":
        for each in part[several]:
            yield from _parts(each, several)
    elif part:
        yield part


def entry_bytes(vocab: Mapping[str, int], added: Mapping[int, Any]) -> list[bytes]:
    """Return the bytes of each entry by its number; b"" for special tokens, and for numbers that no entry has.

    An entry of byte-level BPE is spelled in GPT-2's alphabet of bytes, an added token in UTF-8.

    Args:
        vocab: entry -> number, added tokens included.
        added: number -> added token.

    Raises:
        InputError: the tokenizer is not byte-level BPE, two entries have one number, or a number is far too large.
    """
    last = max(vocab.values(), default=-1)
    if last >= 2 * len(vocab):
        raise InputError(f"the tokenizer numbers its {len(vocab):,} entries up to {last:,}: get it again")
    entries, owner = [b""] * (last + 1), dict[int, str]()
    for token, number in vocab.items():
        if owner.setdefault(number, token) != token:
            raise InputError(
                f"the tokenizer gives {owner[number]!r} and {token!r} one number, {number:,}: get it again"
            )
        if number not in added:
            entries[number] = _spelled(token)
        elif not added[number].special:
            entries[number] = token.encode()
    return entries


def check_own_bytes(vocab: Mapping[str, int], added: Mapping[int, Any], name: str) -> None:
    """Check that BPE alone has an entry for each byte, and that no added token has the number of other bytes.

    Args:
        vocab: entry -> number, of the model of the tokenizer.
        added: number -> added token.
        name: what messages call the tokenizer.
    """
    held = {_spelled(token) for token, number in vocab.items() if number not in added}
    held |= {token.content.encode() for token in added.values() if not token.special and token.content in vocab}
    missing = [byte for byte in range(256) if byte not in IMPOSSIBLE and bytes([byte]) not in held]
    clash = next((t.content for t in added.values() if t.content in vocab and not _same(t)), None)
    if clash is not None:
        raise InputError(
            f"{name} adds the token {printable(clash)}, and its number is also that of other bytes in GPT-2's "
            "alphabet: take the added token out"
        )
    if missing:
        raise InputError(
            f"{name} has no entry for {len(missing)} of the bytes, such as {missing[0]:#04x}: text with one would lose "
            "it; use a byte-level tokenizer with all 256, or train one (tokenizer.vocab_size)"
        )


def _same(token: Any) -> bool:
    """Return whether an added token that is also an entry of BPE has the same bytes as both, or none."""
    if token.special:
        return True
    try:
        return bool(_spelled(token.content) == token.content.encode())
    except InputError:  # no byte string: BPE never makes it
        return True


def _spelled(token: str) -> bytes:
    """Return the bytes of an entry in GPT-2's alphabet."""
    try:
        return bytes(map(BYTE_OF_CHAR.__getitem__, token))
    except KeyError:
        raise InputError(
            f"the tokenizer is not byte-level BPE (its entry {token!r} is no byte string): bits per byte and "
            "words need one, such as GPT-2's; or set tokenizer.vocab_size to train one"
        ) from None


def _byte_of_char() -> dict[str, int]:
    """Return GPT-2's alphabet: printable Latin-1 bytes are themselves, the others are characters from U+0100 on."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(0x100 + number): byte for number, byte in enumerate(others)}


BYTE_OF_CHAR = _byte_of_char()
