"""The tokenizer: a function of the train fold alone, lossless, and loadable by transformers."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import transformers
from support.tiny import WORDS

from lab.errors import InputError
from lab.text.corpus import SHARES
from lab.text.tokenizer import copy_tokenizer, load_tokenizer, save_tokenizer, token_bytes, train_tokenizer

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
