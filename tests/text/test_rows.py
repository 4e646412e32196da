"""Rows of tokens: cut as by hand, whatever the order and the size of a block, and readable as a data set."""

import io
import tempfile
from pathlib import Path
from random import Random

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.errors import InputError
from lab.recipe import HUMAN
from lab.text import rows as cutting
from lab.text.rows import Encoded, Rows, choose_rows, write_cut, write_rows
from lab.text.tokenizer import load_tokenizer, save_tokenizer, train_tokenizer

TEXTS = [f"Document {i}: the ship went out, naïve and slow — “again” 海 {i * i}.\nA second line." for i in range(40)]


def cut_rows(documents: list[list[int]], *, eos: int, positions: int, vocab_size: int, layout: str = "blocks") -> Rows:
    """Write the rows of these documents and read them back."""
    with tempfile.TemporaryDirectory() as folder:
        with Encoded(documents, range(len(documents)), vocab_size) as encoded:
            write_cut(Path(folder), "train", encoded, layout, eos=eos, positions=positions)
        return Rows(*(np.load(Path(folder) / f"train{part}.npy") for part in ("", "-document")))


def test_rows_by_hand() -> None:
    """1 2 . 3 . 4 5 6 . in rows of 4, the . being EOS 0: the last incomplete row (the single 0) is dropped."""
    rows = cut_rows([[1, 2], [3], [4, 5, 6]], eos=0, positions=4, vocab_size=7)
    assert rows.tokens.tolist() == [[1, 2, 0, 3], [0, 4, 5, 6]]
    assert rows.document.tolist() == [[0, 0, 0, 1], [1, 2, 2, 2]]


def test_rows_of_too_little_text() -> None:
    assert cut_rows([[1]], eos=0, positions=4, vocab_size=7).tokens.shape == (0, 4)
    assert cut_rows([], eos=0, positions=4, vocab_size=7).tokens.shape == (0, 4)


@pytest.mark.parametrize(("vocab_size", "dtype"), [(2**16, np.uint16), (2**16 + 1, np.uint32)])
def test_tokens_fit_their_type(vocab_size: int, dtype: type) -> None:
    rows = cut_rows([[vocab_size - 1] * 3], eos=0, positions=4, vocab_size=vocab_size)
    assert rows.tokens.dtype == dtype
    assert rows.tokens.tolist() == [[vocab_size - 1] * 3 + [0]]


def plain_rows(documents: list[list[int]], eos: int, positions: int, layout: str) -> tuple[list[int], list[int]]:
    """Return tokens and owners one after another, by plain lists. A last incomplete row of blocks is dropped."""
    tokens, owners = [], []
    for owner, document in enumerate(documents):
        tokens += [*document, eos]
        if layout == "documents":
            tokens += [eos] * (-len(tokens) % positions)
        owners += [owner] * (len(tokens) - len(owners))
    whole = len(tokens) // positions * positions
    return tokens[:whole], owners[:whole]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.lists(st.integers(0, 9), max_size=9), max_size=9), st.integers(1, 5), st.randoms())
@pytest.mark.parametrize("layout", ["blocks", "documents"])
def test_rows_are_what_plain_lists_give(
    layout: str, documents: list[list[int]], positions: int, chance: Random
) -> None:
    """Documents come in one order and are read in another; the file is what np.save writes."""
    order = list(range(len(documents)))
    chance.shuffle(order)
    with tempfile.TemporaryDirectory() as folder:
        with Encoded(documents, order, 10) as encoded:
            write_cut(Path(folder), "test", encoded, layout, eos=9, positions=positions)
        found = [np.load(Path(folder) / f"test{part}.npy") for part in ("", "-document")]
        again = io.BytesIO()
        np.save(again, found[0])
        assert (Path(folder) / "test.npy").read_bytes() == again.getvalue()
    plain = plain_rows([documents[place] for place in order], 9, positions, layout)
    assert [array.ravel().tolist() for array in found] == list(plain)
    assert all(array.shape == (len(plain[0]) // positions, positions) for array in found)


def test_blocks_of_rows_make_one_artifact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the size of a block, the same rows and labels; the file of tokens has the same bytes."""
    tokens, names = np.arange(28, dtype=np.uint16).reshape(7, 4), [f"name {row}" for row in range(7)]
    tables = []
    for size in (1 << 22, 9, 1):
        monkeypatch.setattr(cutting, "GROUP_TOKENS", size)
        folder = tmp_path / str(size)
        folder.mkdir()
        write_rows(folder, (7, 4), lambda some: (tokens[some], {"document": names[some]}), origin=3)
        tables.append(pq.read_table(folder / "rows.parquet").to_pylist())
        np.save(tmp_path / "whole.npy", tokens)
        assert (folder / "tokens.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()
    assert tables[0] == tables[1] == tables[2] and [row["document"] for row in tables[0]] == names


def test_held_out_rows_are_chosen_once_for_all_seeds() -> None:
    rows = cut_rows([list(range(400))], eos=0, positions=4, vocab_size=400)
    chosen = choose_rows(rows, 10, "test")
    assert chosen.tokens.tolist() == choose_rows(rows, 10, "test").tokens.tolist()
    places = (chosen.tokens[:, 0] // 4).tolist()
    assert places == sorted(set(places)) and places != list(range(10))
    with pytest.raises(InputError, match=r"metrics.test_tokens = 404: lower it to 400"):
        choose_rows(rows, 101, "test")
    with pytest.raises(InputError, match=r"train.validation_tokens"):
        choose_rows(rows, 101, "validation")


def test_a_corpus_artifact_loads_with_datasets_and_reads_as_text(tmp_path: Path) -> None:
    save_tokenizer(train_tokenizer(TEXTS, 350), tmp_path)
    tokenizer, special = load_tokenizer(tmp_path)
    ids = [tokenizer.encode(text).ids for text in TEXTS]
    rows = cut_rows(ids, eos=special["eos"], positions=32, vocab_size=350)
    labels = {"domain": ["sea"] * len(rows.tokens), "document": [str(i) for i in rows.document[:, 0]]}
    nats = np.full(rows.tokens.shape, 0.25, np.float32)
    texts = tokenizer.decode_batch(rows.tokens.tolist(), skip_special_tokens=False)
    known = {"text": texts, **labels, "nats": nats.sum(axis=1)}
    write_rows(
        tmp_path, rows.tokens.shape, lambda some: (rows.tokens[some], {k: v[some] for k, v in known.items()}), origin=2
    )
    file = str(tmp_path / "rows.parquet")
    found = datasets.load_dataset("parquet", data_files=file, split="train", cache_dir=str(tmp_path / "cache"))
    assert found.column_names == ["text", "tokens", "origin", "domain", "document", "nats"]
    assert np.array_equal(np.array(found["tokens"]), rows.tokens)
    assert np.array_equal(np.load(tmp_path / "tokens.npy"), rows.tokens)
    assert found[0]["text"].startswith("Document 0: the ship went out, naïve and slow")
    assert "<|endoftext|>" in "".join(found["text"])
    assert found[0]["origin"] == 2 and found[0]["domain"] == "sea" and found[0]["nats"] == 8.0


def test_human_rows_have_no_nats_and_labels_may_be_absent(tmp_path: Path) -> None:
    write_rows(tmp_path, (2, 4), lambda some: (np.zeros((2, 4), np.uint16)[some], {}), origin=HUMAN)
    row = pq.read_table(tmp_path / "rows.parquet").to_pylist()[0]
    assert row["origin"] == -1 and row["nats"] is None and row["domain"] is None and row["document"] is None
