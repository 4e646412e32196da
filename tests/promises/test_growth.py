"""Work that grows: sizes without draws, files in blocks, words counted in blocks.  Results never depend on blocks."""

from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from support.tiny import write_corpus

from lab import regimes
from lab.config.model import ModelConfig
from lab.errors import InputError
from lab.metrics import tails
from lab.metrics import words as words_module
from lab.metrics.words import count_words, find_words, word_counts
from lab.models import scoring
from lab.models.feed import RecipeRows, load_recipe, save_recipe
from lab.models.initial_weights import random_gpt2
from lab.recipe import ARCHIVE, HUMAN, Lineage, OnTable, Part, Recipe, RowNumbers
from lab.text.tokenizer import train_tokenizer

BYTES = [b"", *(bytes([i]) for i in range(256))]


def spell(text: bytes, positions: int) -> np.ndarray:
    """Rows of single-byte tokens, the last one filled up with spaces."""
    text += b" " * (-len(text) % positions)
    return (np.frombuffer(text, np.uint8).astype(np.uint16) + 1).reshape(-1, positions)


# --- recipes ---------------------------------------------------------------------------------------------------------

OPTIONS = [
    ("human", {}),
    ("replace", {}),
    ("accumulate", {}),
    ("accumulate_subsample", {}),
    ("augment", {}),
    ("last_k", {"k": 2}),
    ("mix", {"human": 0.5}),
    ("mix", {"human": 0.25, "older": 0.25}),
    ("mix", {"human": 0.5, "fresh": True}),
    ("lab.regimes:accumulate_subsample", {}),
]


@pytest.mark.parametrize(("name", "options"), OPTIONS, ids=str)
@pytest.mark.parametrize("samples", [(), (20,), (20, 13), (40, 3, 28)], ids=str)
def test_rows_of_a_recipe_without_drawing_it(name: str, options: dict[str, object], samples: tuple[int, ...]) -> None:
    lineage = Lineage(
        OnTable(HUMAN, 20), tuple(OnTable(t, rows) for t, rows in enumerate(samples)), OnTable(ARCHIVE, 90)
    )
    drawn = regimes.recipe(name, options, lineage, 3, len(samples))
    assert regimes.recipe_rows(name, options, lineage, 4, len(samples)) == drawn.rows


def test_what_is_wrong_with_a_recipe_is_said_without_drawing_it() -> None:
    lineage = Lineage(OnTable(HUMAN, 10), (OnTable(0, 4),))
    with pytest.raises(InputError, match="5 rows were asked for of 4"):
        regimes.recipe_rows("mix", {"human": 0.5}, lineage, 0, 1)


def test_a_subsample_draws_what_a_permutation_of_whole_numbers_draws() -> None:
    """The order of the rows is numpy's permutation of the pool, whatever integers it is held in."""
    found = regimes.recipe("accumulate_subsample", {}, Lineage(OnTable(HUMAN, 50), (OnTable(0, 70),)), 5, 1)
    order = np.sort(regimes.generator(regimes.derive_seed(5, 1, "pool")).permutation(120)[:50])
    assert [list(part.chosen or ()) for part in found.parts] == [
        order[order < 50].tolist(),
        (order[order >= 50] - 50).tolist(),
    ]


part = st.builds(
    lambda origin, start, size, repeat, rows: Part(
        origin, start, start + size, repeat, None if rows is None else sorted({start + row % size for row in rows})
    ),
    st.sampled_from([HUMAN, 0, 1]),
    st.integers(0, 12),
    st.integers(1, 9),
    st.integers(1, 2),
    st.none() | st.lists(st.integers(0, 8), max_size=6),
)


@settings(deadline=None)
@given(st.lists(part, max_size=5))
def test_unique_rows_are_a_set(parts: list[Part]) -> None:
    named = {(p.origin, row) for p in parts for row in (range(p.start, p.stop) if p.chosen is None else p.chosen)}
    assert Recipe(tuple(parts)).unique_rows == len(named)


def test_a_recipe_of_a_billion_tokens_is_small(tmp_path: Path) -> None:
    """Ranges take no memory by the row: a hundred thousand million rows."""
    recipe = Recipe(tuple(Part(origin, 0, 10**10, repeat=2) for origin in range(5)))
    save_recipe(recipe, tmp_path)
    rows = RecipeRows(load_recipe(tmp_path), {t: np.broadcast_to(np.uint16(t), (10**10, 2)) for t in range(5)})
    assert len(rows) == 10**11 and rows.unique_tokens() == 10**11 and len(rows.lengths()) == 10**11
    assert rows.take(np.array([0, 10**11 - 1, 3 * 10**10]))[:, 0].tolist() == [0, 4, 1]


def test_row_numbers_are_a_sequence_of_ints() -> None:
    rows = RowNumbers([2, 5, 9])
    assert list(rows) == [2, 5, 9] and rows[1] == 5 and rows[1:] == RowNumbers((5, 9)) and rows != RowNumbers([2, 5])
    assert {type(row) for row in rows} == {type(rows[0])} == {int} and hash(rows) == hash(RowNumbers((2, 5, 9)))
    assert rows.array.dtype == np.uint32 and RowNumbers([2**33]).array.dtype == np.int64
    with pytest.raises(ValueError, match="read-only"):
        rows.array[0] = 1


# --- words and counts ------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.lists(st.sampled_from(["a", "É", "ß", "ΑΣ", "İ", "K", "'", "\u2019", " ", "\U0001d504"]), max_size=60))
def test_words_of_any_length_are_lowered_as_text_is(pieces: list[str]) -> None:
    """Words of 1 byte to more than 100; the sigma that ends a word has a small letter of its own."""
    text = "".join(pieces)
    found = find_words(spell(f" {text} ".encode(), len(f" {text} ".encode())), BYTES, 0)
    plain = [word.lower() for word in text.split(" ") if any(c.isalpha() for c in word)]
    assert [found.types[index] for index in found.word] == plain


def test_words_with_one_beginning_of_eight_bytes_differ() -> None:
    """Widths 8, 16, 32: the same first bytes, and a word that fills its width to the byte."""
    texts = ["abcdefgh", "abcdefghi", "abcdefghabcdefgh", "abcdefghabcdefghi", "a" * 33, "a" * 8]
    text = f" {' '.join(texts)} ".encode()
    found = find_words(spell(text, len(text)), BYTES, 0)
    assert [found.types[index] for index in found.word] == texts and found.types == sorted(texts)


@pytest.mark.parametrize("block", [1, 30, 10**6])
def test_counts_do_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    rng = Random(0)
    text = " ".join(rng.choice(["the", "The", "sea", "naïve", "b", "unconscionable"]) for _ in range(400))
    rows = spell(text.encode(), 50)
    whole = word_counts(find_words(rows, BYTES, 0))
    for name in ("COUNTED_AT_ONCE", "TOKENS_AT_ONCE"):
        monkeypatch.setattr(words_module, name, block)
    monkeypatch.setattr(tails, "TOKENS_AT_ONCE", block)
    assert count_words(rows, BYTES, 0) == whole and sum(whole.values()) > 300
    by_token = tails.loss_by_token_bin(rows, np.ones(rows.shape), rows, 257)
    assert sum(b.types for b in by_token) == len(np.unique(rows)) and sum(b.tokens for b in by_token) == rows.size


def test_a_tokenizer_does_not_depend_on_the_order_of_documents(tmp_path: Path) -> None:
    """Merges follow counts, so that documents may come as they lie in their file."""
    texts = write_corpus(tmp_path / "a.jsonl").read_text().splitlines()
    assert train_tokenizer(texts, 400).to_str() == train_tokenizer(iter(texts[::-1]), 400).to_str()


# --- scoring ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tokens", [1, 7, 10**6])
def test_scoring_in_parts_is_transformers_loss(monkeypatch: pytest.MonkeyPatch, tokens: int) -> None:
    shape = ModelConfig(n_layer=1, n_head=2, n_embd=16, n_positions=12, initializer_range=0.3)
    model = random_gpt2(shape, vocab_size=50, bos=0, seed=0)
    rows = np.random.default_rng(0).integers(0, 50, (5, 12))
    ids = torch.from_numpy(rows)
    with torch.no_grad():
        logits = model.module(F.pad(ids[:, :-1], (1, 0), value=0)).logits
    want = F.cross_entropy(logits.transpose(1, 2), ids, reduction="none").numpy()
    monkeypatch.setattr(scoring, "LOGIT_TOKENS", tokens)
    np.testing.assert_allclose(model.nats(rows), want, rtol=1e-5)
