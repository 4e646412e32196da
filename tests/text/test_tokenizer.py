"""The tokenizer: a function of the train fold alone, lossless, and loadable by transformers."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import transformers
from support.tiny import WORDS
from tokenizers import AddedToken, Tokenizer

from lab.config.text import TokenizerConfig
from lab.errors import InputError
from lab.metrics.risk import bits_per_byte
from lab.run.preflight import prepare_human
from lab.steps.identity import _tokenizer_identity
from lab.steps.kind import make_step
from lab.steps.text import TOKENIZER_KIND, TokenizerParams
from lab.store.store import Store
from lab.text.corpus import SHARES
from lab.text.spelled import spell_special_tokens
from lab.text.tokenizer import (
    LONGEST,
    _cut_long_words,
    copy_tokenizer,
    load_tokenizer,
    save_tokenizer,
    token_bytes,
    token_texts,
    train_tokenizer,
)

TEXTS = [f"Document {i}: the ship went out, naïve and slow — “again” 海 {i * i}.\nA second line." for i in range(40)]


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(train_tokenizer(TEXTS, 350), folder)
    return folder


def test_the_tokenizer_is_a_function_of_its_text() -> None:
    assert train_tokenizer(TEXTS, 350).to_str() == train_tokenizer(TEXTS, 350).to_str()
    assert train_tokenizer(TEXTS, 350).to_str() != train_tokenizer([*TEXTS, "zebra " * 99], 350).to_str()


def test_the_tokenizer_never_sees_another_fold(tmp_path: Path) -> None:
    """A word written a hundred times into documents of the test fold changes no byte of the tokenizer."""
    made = []
    for name, added in [("plain", ""), ("marked", " xylophone" * 100)]:
        folds = {}
        for fold in SHARES:
            folds[fold] = [f"{' '.join(WORDS)} {fold} {i}" + (added if fold != "train" else "") for i in range(5)]
        rows = [{"text": text, "document": text[:60], "fold": fold} for fold in folds for text in folds[fold]]
        (tmp_path / name).mkdir()
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / name / "documents.parquet")
        made.append(run_tokenizer(tmp_path / name, tmp_path / f"{name} out"))
    assert made[0] == made[1]
    assert b"xylophone" not in made[1]["tokenizer.json"]


def run_tokenizer(artifact: Path, out: Path) -> dict[str, bytes]:
    from lab.steps.text import TokenizerParams, _run_tokenizer

    out.mkdir()
    _run_tokenizer(TokenizerParams("", 300), {"corpus": artifact}, out, lambda _: None)
    return {file.name: file.read_bytes() for file in sorted(out.iterdir())}


def test_transformers_loads_it_and_encodes_alike(tokenizer_folder: Path) -> None:
    ours, special = load_tokenizer(tokenizer_folder)
    theirs = transformers.AutoTokenizer.from_pretrained(tokenizer_folder)
    assert special == {"vocab_size": 350, "bos": theirs.bos_token_id, "eos": theirs.eos_token_id}
    assert len(theirs) == 350
    for text in [*TEXTS, "", " ", "unseen ☂ \x00 words\r\n", "a  b   c"]:
        ids = ours.encode(text).ids
        assert theirs(text)["input_ids"] == ids
        assert ours.decode(ids) == theirs.decode(ids) == text


def test_token_bytes_join_to_the_text(tokenizer_folder: Path) -> None:
    tokenizer, special = load_tokenizer(tokenizer_folder)
    entries = token_bytes(tokenizer)
    assert len(entries) == special["vocab_size"] and entries[special["eos"]] == b""
    for text in [*TEXTS, "tab\t and \x7f \x80 ÿ 海 ☂ \U0001f600"]:
        assert b"".join(entries[i] for i in tokenizer.encode(text).ids) == text.encode()
    assert {bytes([byte]) for byte in range(256)} <= set(entries), "every byte has a token: nothing is unknown"


def test_a_pretrained_tokenizer_is_copied(tokenizer_folder: Path, tmp_path: Path) -> None:
    copy_tokenizer(str(tokenizer_folder), None, tmp_path)
    ours, special = load_tokenizer(tmp_path)
    assert special == load_tokenizer(tokenizer_folder)[1]
    assert ours.encode(TEXTS[3]).ids == load_tokenizer(tokenizer_folder)[0].encode(TEXTS[3]).ids


def test_a_tokenizer_that_is_not_byte_level_is_refused(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models

    tokenizer = Tokenizer(models.WordLevel({"hello world": 0, "海": 1}, unk_token="海"))
    with pytest.raises(InputError, match="not byte-level BPE"):
        token_bytes(tokenizer)
    with pytest.raises(InputError, match="holds no tokenizer files"):
        copy_tokenizer(str(tmp_path), None, tmp_path)


# --- pretrained tokenizers: what their files carry -------------------------------------------------------------------

Edit = Callable[[dict[str, Any]], Any]
AWKWARD = [
    *TEXTS[:3],
    "Cafe\u0301 CAFÉ",
    "a <mask>  b",
    "x  y   z\n\n",
    "old river, 日本 日本語",
    "né à über",
    "tail <mask> ",
    "",
]


def pretrained(folder: Path, edit: Edit = lambda settings: None, added: Sequence[str | AddedToken] = ()) -> Path:
    """Write a tokenizer as a model's folder has it, with an edited tokenizer.json."""
    folder.mkdir()
    tokenizer = train_tokenizer([*TEXTS, "old river " * 9], 350)
    tokenizer.add_tokens(list(added))
    save_tokenizer(tokenizer, folder)
    (folder / "special.json").unlink()
    settings = json.loads((folder / "tokenizer.json").read_text())
    edit(settings)
    (folder / "tokenizer.json").write_text(json.dumps(settings))
    return folder


def copied(source: Path, out: Path) -> dict[str, bytes]:
    """Return the files of the artifact, after checks that hold for every tokenizer that is not refused."""
    out.mkdir()
    copy_tokenizer(str(source), None, out)
    tokenizer, special = load_tokenizer(out)
    entries = token_bytes(tokenizer)
    assert len(entries) == special["vocab_size"] > max(tokenizer.get_vocab().values())
    alone = [tokenizer.encode(text).ids for text in AWKWARD]
    assert [each.ids for each in tokenizer.encode_batch_fast(AWKWARD)] == alone
    assert [each.ids for each in tokenizer.encode_batch(AWKWARD[::-1])] == alone[::-1]
    written = token_texts(tokenizer)
    for text, ids in zip(AWKWARD, alone, strict=True):
        assert b"".join(written[i] for i in ids) == text.encode(), text
        assert special["eos"] not in ids and (
            b"<mask>" in written or b"".join(entries[i] for i in ids).decode() == text
        )
    theirs = transformers.AutoTokenizer.from_pretrained(out)
    assert [theirs(text)["input_ids"] for text in AWKWARD] == alone
    return {file.name: file.read_bytes() for file in sorted(out.iterdir())}


def setting(**entries: Any) -> Edit:
    return lambda settings: settings.update(entries)


def of_model(**entries: Any) -> Edit:
    return lambda settings: settings["model"].update(entries)


PADDING = {"strategy": "BatchLongest", "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0}
PADDING |= {"pad_type_id": 0, "pad_token": "<|endoftext|>"}
BOS_FIRST = {"type": "TemplateProcessing", "pair": [{"Sequence": {"id": "A", "type_id": 0}}]}
BOS_FIRST |= {
    "single": [{"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
}
BOS_FIRST |= {"special_tokens": {"<|endoftext|>": {"id": "<|endoftext|>", "ids": [0], "tokens": ["<|endoftext|>"]}}}
SPACED = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
LLAMA = {"type": "Split", "pattern": {"Regex": r" ?\p{L}+|\s+"}, "behavior": "Isolated", "invert": False}
TAKEN_OUT: dict[str, Edit] = {
    "padding": setting(padding=PADDING),
    "truncation": setting(truncation={"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}),
    "post-processor": setting(post_processor=BOS_FIRST),
    "dropout": of_model(dropout=0.5),
    "byte fallback": of_model(byte_fallback=True),
    "prefix space": setting(pre_tokenizer=SPACED),
    "NFC": setting(normalizer={"type": "NFC"}),
    "NFC in a sequence": setting(normalizer={"type": "Sequence", "normalizers": [{"type": "NFC"}]}),
    "decoder": setting(decoder={"type": "Fuse"}),
}


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("plain")
    return copied(pretrained(folder / "m"), folder / "out")


@pytest.mark.parametrize("kind", TAKEN_OUT)
def test_what_changes_the_encoding_is_taken_out(kind: str, tmp_path: Path, untouched: dict[str, bytes]) -> None:
    """The artifact has the bytes of the same tokenizer without the setting."""
    assert copied(pretrained(tmp_path / "m", TAKEN_OUT[kind]), tmp_path / "out") == untouched


def test_a_tokenizer_of_transformers_saved_after_padding_is_the_same(
    tmp_path: Path, untouched: dict[str, bytes]
) -> None:
    theirs = transformers.AutoTokenizer.from_pretrained(pretrained(tmp_path / "m"))
    theirs.pad_token = theirs.eos_token
    theirs(AWKWARD, padding=True, truncation=True, max_length=20)
    theirs.save_pretrained(tmp_path / "padded")
    assert json.loads((tmp_path / "padded" / "tokenizer.json").read_text())["padding"]
    assert copied(tmp_path / "padded", tmp_path / "out") == untouched


def test_padding_is_not_in_the_identity(tmp_path: Path) -> None:
    names = {"plain": setting(), "padded": TAKEN_OUT["padding"], "other": TAKEN_OUT["NFC"]}
    plain, padded, other = (
        _tokenizer_identity(TokenizerConfig(pretrained=str(pretrained(tmp_path / name, edit))), None)
        for name, edit in names.items()
    )
    assert plain == padded != other


CUT = {"type": "Sequence", "pretokenizers": [LLAMA, {**SPACED, "add_prefix_space": False, "use_regex": False}]}
REMOVED = {**CUT, "pretokenizers": [{**LLAMA, "behavior": "Removed"}, SPACED]}
REFUSED: dict[str, tuple[Edit, str]] = {
    "lowercase": (setting(normalizer={"type": "Lowercase"}), "normalizer Lowercase"),
    "NFKC": (setting(normalizer={"type": "NFKC"}), "normalizer NFKC"),
    "nested": (
        setting(normalizer={"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "StripAccents"}]}),
        "normalizer StripAccents",
    ),
    "removed": (setting(pre_tokenizer=REMOVED), "pre-tokenizer Split"),
    "whitespace": (setting(pre_tokenizer={"type": "Whitespace"}), "pre-tokenizer Whitespace"),
    "no bytes": (setting(pre_tokenizer=None), "no ByteLevel"),
    "bytes of bytes": (
        setting(pre_tokenizer={"type": "Sequence", "pretokenizers": [SPACED, SPACED]}),
        "2 ByteLevel pre-tokenizers",
    ),
    "suffix": (of_model(end_of_word_suffix="</w>"), "end_of_word_suffix </w>"),
    "no model of bytes": (
        setting(model={"type": "WordLevel", "vocab": {"<|endoftext|>": 0}, "unk_token": "<|endoftext|>"}),
        "model of type WordLevel",
    ),
    "a byte is missing": (lambda settings: settings["model"]["vocab"].pop("Z"), "no entry for 1 of the bytes"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_changes_text_is_refused(kind: str, tmp_path: Path) -> None:
    edit, reason = REFUSED[kind]
    with pytest.raises(InputError, match=re.escape(reason)):
        copied(pretrained(tmp_path / "m", edit), tmp_path / "out")


def test_a_split_that_only_cuts_stays(tmp_path: Path, untouched: dict[str, bytes]) -> None:
    """Llama 3 and Qwen cut by an expression of their own first."""
    assert copied(pretrained(tmp_path / "m", setting(pre_tokenizer=CUT)), tmp_path / "out") != untouched


@pytest.mark.parametrize(
    "added",
    [
        ["  ", "   "],
        ["old river"],
        ["日本"],
        ["né", "é à"],
        ["a", "the"],
        [AddedToken("<mask>", lstrip=True, rstrip=True, special=True)],
        [AddedToken("river", lstrip=True, rstrip=True)],
        [AddedToken("old", single_word=True, normalized=False)],
    ],
    ids=str,
)
def test_added_tokens_are_their_own_text(added: list[str | AddedToken], tmp_path: Path) -> None:
    """Runs of spaces as in GPT-NeoX, words with a space, other scripts, letters that are names of bytes."""
    files = copied(pretrained(tmp_path / "m", added=added), tmp_path / "out")
    tokenizer = load_tokenizer(tmp_path / "out")[0]
    for token in added:
        content = token if isinstance(token, str) else token.content
        number = tokenizer.token_to_id(content)
        assert number in tokenizer.encode(f"x.{content}.y").ids and token_texts(tokenizer)[number] == content.encode()
    assert files


@pytest.mark.parametrize("word", ["river", " ", "日本", "🙂", "(a)"])
@pytest.mark.parametrize("place", ["tokenizer.json", "beside it"])
def test_a_special_token_that_text_spells_is_refused(word: str, place: str, tmp_path: Path) -> None:
    """Special tokens have no bytes: each "river" of a text would be nothing in bits per byte."""
    source = pretrained(tmp_path / "m", added=[AddedToken(word, special=True)] if place == "tokenizer.json" else [])
    said = f'has the special token "{word}", which text may spell as a word'
    if place == "tokenizer.json":
        with pytest.raises(InputError, match=re.escape(said)):
            _tokenizer_identity(TokenizerConfig(pretrained=str(source)), None)
        return
    settings = json.loads((source / "tokenizer_config.json").read_text()) | {"additional_special_tokens": [word]}
    (source / "tokenizer_config.json").write_text(json.dumps(settings))
    identity = _tokenizer_identity(TokenizerConfig(pretrained=str(source)), None)
    params = TokenizerParams(identity, path=str(source))
    step = make_step(TOKENIZER_KIND, params, {})
    with pytest.raises(InputError, match=re.escape(said)):
        prepare_human(Store(tmp_path / "store"), [step], lambda _: None)


@pytest.mark.parametrize("word", ["<s>", "<|user|>", "[INST]", "<é>"])
def test_a_special_token_in_marks_that_text_spells_has_its_bytes(word: str, tmp_path: Path) -> None:
    """Also where it begins rows: the lab puts BOS before a row, so each one in a row is text."""
    source = pretrained(tmp_path / "m", added=[AddedToken(word, special=True)])
    settings = json.loads((source / "tokenizer_config.json").read_text()) | {"bos_token": word}
    (source / "tokenizer_config.json").write_text(json.dumps(settings))
    given = Tokenizer.from_file(str(source / "tokenizer.json"))
    number = given.token_to_id(word)
    before = copied(source, tmp_path / "out")
    spell_special_tokens(tmp_path / "out")
    assert [name for name in before if before[name] != (tmp_path / "out" / name).read_bytes()] == ["tokenizer.json"]
    tokenizer, special = load_tokenizer(tmp_path / "out")
    text = f"old{word} {word}river"
    ids = tokenizer.encode(text).ids
    assert ids == given.encode(text).ids and ids.count(number) == 2, "its model knows the token"
    entries = token_bytes(tokenizer)
    assert b"".join(entries[i] for i in ids).decode() == text
    nats = np.full((1, len(ids)), 0.5)
    assert bits_per_byte(np.array([ids]), nats, entries) == pytest.approx(
        0.5 * len(ids) / (np.log(2) * len(text.encode()))
    )
    assert special["bos"] == number and entries[special["eos"]] == b"", "EOS is no text: it ends documents"


def test_an_added_token_that_is_the_name_of_a_byte_is_refused(tmp_path: Path) -> None:
    """'ñ' is how GPT-2's alphabet writes the byte F1: one number would stand for two texts."""
    with pytest.raises(InputError, match="adds the token ñ, and its number is also that of other bytes"):
        copied(pretrained(tmp_path / "m", added=["ñ"]), tmp_path / "out")


def test_numbers_with_gaps_are_padded(tmp_path: Path) -> None:
    """The file numbers its entries 0 .. 349 with a gap, and its added token 400; the library alone would say 349."""

    def gaps(settings: dict[str, Any]) -> None:
        vocab = settings["model"]["vocab"]
        vocab[max(vocab, key=vocab.get)] = 380
        settings["added_tokens"].append({**settings["added_tokens"][0], "id": 400, "content": "日本", "special": False})

    copied(pretrained(tmp_path / "m", gaps), tmp_path / "out")
    tokenizer, special = load_tokenizer(tmp_path / "out")
    assert special["vocab_size"] == 401 and tokenizer.encode("日本").ids == [400]
    assert token_bytes(tokenizer)[349:380] == [b""] * 31 and token_bytes(tokenizer)[400].decode() == "日本"


def test_two_entries_of_one_number_are_refused(tmp_path: Path) -> None:
    """The tokenizers library numbers an added token by the count of entries, which may be a number in use."""

    def twice(settings: dict[str, Any]) -> None:
        vocab = settings["model"]["vocab"]
        vocab[max(vocab, key=vocab.get)] = 350
        settings["added_tokens"].append({**settings["added_tokens"][0], "id": 350, "content": "日本", "special": False})

    with pytest.raises(InputError, match="one number, 350"):
        copied(pretrained(tmp_path / "m", twice), tmp_path / "out")


def test_text_is_written_out_as_the_tokenizer_decodes_it(tokenizer_folder: Path) -> None:
    """Also rows of any tokens, whose bytes are often not UTF-8."""
    tokenizer, written = load_tokenizer(tokenizer_folder)[0], token_texts(load_tokenizer(tokenizer_folder)[0])
    rows = np.random.default_rng(0).integers(0, 350, (300, 30)).tolist()
    texts = [b"".join(written[i] for i in row).decode(errors="replace") for row in rows]
    assert texts == tokenizer.decode_batch(rows, skip_special_tokens=False)


# --- long words -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ACGT", " ", "日本語", "0123456789", "-=", "\n\t", "éà"])
def test_long_words_are_cut_for_training_alone(kind: str) -> None:
    text = "Before it. " + kind * (3 * LONGEST // len(kind)) + " after"
    parts = _cut_long_words(text)
    assert "".join(parts) == text and len(parts) >= 3 and max(map(len, parts)) <= LONGEST + 11
    assert all(len(part) >= LONGEST for part in parts[:-1])


def test_text_of_usual_words_is_not_cut() -> None:
    """Also a line without spaces, whose words are short: only a run of one kind of character is cut."""
    usual = ["", "word " * 999, "x," * 999, "a" * LONGEST, " " * LONGEST, "日本、" * 999]
    assert [_cut_long_words(text) for text in usual] == [[text] for text in usual]


def test_a_long_sequence_is_trained_on_in_pieces() -> None:
    """The merges are those of the pieces: the trainer never sees a longer word, in which it is quadratic."""
    sequence = "".join(Random(1).choices("ACGT", k=8 * LONGEST))
    pieces = [sequence[at : at + LONGEST] for at in range(0, len(sequence), LONGEST)]
    assert train_tokenizer([sequence], 300).to_str() == train_tokenizer(pieces, 300).to_str()
    assert train_tokenizer([sequence], 300).decode(train_tokenizer([sequence], 300).encode(sequence).ids) == sequence
