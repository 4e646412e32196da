"""Metrics: values worked by hand, laws, and a slow oracle for words."""

import math
import re
import unicodedata
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.tiny import PROJECT

from lab.metrics import words as words_module
from lab.metrics.diversity import distinct_n, ngram_codes
from lab.metrics.letters import kinds
from lab.metrics.letters import words_of as words_of_text
from lab.metrics.risk import bits_per_byte, mean_nats, perplexity
from lab.metrics.tails import (
    bin_label,
    frequency_bins,
    loss_by_domain,
    loss_by_token_bin,
    loss_by_word_bin,
    rare_losses,
    rare_survival,
)
from lab.metrics.words import Words, find_words, word_counts, word_nats

EOS = 0
BYTES = [b"", *(bytes([i]) for i in range(256))]
"""The vocabulary of the tests that spell: token b + 1 is the byte b."""


def spell(*texts: str | bytes) -> np.ndarray:
    """Rows of single-byte tokens; '|' is EOS.  spell("ab|") -> [[98, 99, 0]]"""
    rows = [text.encode() if isinstance(text, str) else text for text in texts]
    return np.array([[EOS if byte == ord("|") else byte + 1 for byte in row] for row in rows], dtype=np.uint16)


def words_of(*texts: str | bytes) -> list[str]:
    found = find_words(spell(*texts), BYTES, EOS)
    return [found.types[i] for i in found.word]


def whole_words(text: str) -> Words:
    """The words of one row that holds the text between two spaces, so that no word touches an edge."""
    return find_words(spell(f" {text} "), BYTES, EOS)


# --- risk ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vocab_size", [2, 257, 8192])
def test_uniform_model_has_perplexity_v(vocab_size: int) -> None:
    nats = np.full((50, 64), math.log(vocab_size))
    assert perplexity(nats) == pytest.approx(vocab_size, rel=1e-12)
    assert perplexity(nats.astype(np.float32)) == pytest.approx(vocab_size, rel=1e-6)


def test_perplexity_by_hand() -> None:
    """Losses ln 2 and ln 8: mean 2 ln 2, so perplexity 4 (the geometric mean, not 5)."""
    nats = np.log([[2.0, 8.0]])
    assert mean_nats(nats) == pytest.approx(2 * math.log(2))
    assert perplexity(nats) == pytest.approx(4)


def test_worse_model_has_higher_perplexity() -> None:
    nats = np.random.default_rng(0).random((4, 8)).astype(np.float32)
    assert perplexity(nats + np.float32(0.5)) > perplexity(nats)


def test_mean_is_summed_in_double_precision() -> None:
    """In float32, 2^24 + 1 = 2^24: a single-precision sum would lose every small loss after a large one."""
    nats = np.ones((1, 1001), dtype=np.float32)
    nats[0, 0] = 2**24
    assert mean_nats(nats) * 1001 == 2**24 + 1000


def test_impossible_token_is_infinite() -> None:
    assert perplexity(np.array([[1.0, math.inf]])) == math.inf
    assert perplexity(np.array([[1e4]])) == math.inf


def test_bits_per_byte_by_hand() -> None:
    """'é' is 2 bytes, 'ab' 2, EOS 0: 3 tokens of 4 ln 2 nats each are 12 bits on 4 bytes = 3."""
    token_bytes = [b"", "é".encode(), b"ab"]
    rows = np.array([[1, 2, 0]], dtype=np.uint16)
    assert bits_per_byte(rows, np.full((1, 3), 4 * math.log(2)), token_bytes) == pytest.approx(3)


def test_bits_per_byte_does_not_depend_on_the_tokenizer() -> None:
    """The same text and total loss, in 1 token and in 2."""
    whole = bits_per_byte(np.array([[2]]), np.array([[3.0]]), [b"a", b"b", b"ab"])
    assert whole == bits_per_byte(np.array([[0, 1]]), np.array([[1.0, 2.0]]), [b"a", b"b", b"ab"])


def test_risk_of_nothing_is_nan() -> None:
    rows, nats = np.empty((0, 8), np.uint16), np.empty((0, 8), np.float32)
    assert math.isnan(mean_nats(nats)) and math.isnan(perplexity(nats))
    assert math.isnan(bits_per_byte(rows, nats, BYTES))
    assert math.isnan(bits_per_byte(np.array([[EOS]]), np.array([[1.0]]), BYTES))
    with pytest.raises(ValueError, match="one shape"):
        bits_per_byte(np.array([[1, 2]]), np.array([[1.0]]), BYTES)
    with pytest.raises(ValueError, match="token 257 is not in the vocabulary of 257"):
        bits_per_byte(np.array([[257]]), np.array([[1.0]]), BYTES)


# --- diversity -----------------------------------------------------------------------------------------------------


def test_distinct_2_by_hand() -> None:
    """'a b a b' has bigrams ab, ba, ab: 2 distinct of 3.  (Li et al. 2016 divide by tokens, 4; here by n-grams.)"""
    assert distinct_n([[1, 2, 1, 2]], n=2, eos=EOS, tokens=4) == 2 / 3
    assert distinct_n(np.array([[1, 2, 1, 2]], np.uint16), n=1, eos=EOS, tokens=4) == 2 / 4


def test_metrics_are_plain_floats() -> None:
    """Results are written by repr, and repr(np.float64(0.5)) is no number."""
    rows, nats, found = spell("ab c d "), np.ones((1, 7), np.float32), whole_words("ab c")
    numbers = [perplexity(nats), mean_nats(nats), bits_per_byte(rows, nats, BYTES), rare_survival(found, found)]
    numbers += [distinct_n(rows, n=1, eos=EOS, tokens=7), *rare_losses(found, nats[:, :6], {"c": 1}).values()]
    bins = [*loss_by_token_bin(rows, nats, rows, 257), *loss_by_word_bin(found, nats[:, :6], {"c": 1})]
    assert {type(number) for number in numbers} == {float}
    assert {type(value) for item in bins for value in vars(item).values()} == {str, int, float}


def test_no_ngram_crosses_a_row_or_a_document() -> None:
    """Rows 'a b' and 'a b': 2 bigrams ab, not ba.  In 'a b EOS a b' likewise, and EOS is in none."""
    assert distinct_n(np.array([[1, 2], [1, 2]]), n=2, eos=EOS, tokens=4) == 1 / 2
    assert distinct_n(np.array([[1, 2, EOS, 1, 2]]), n=2, eos=EOS, tokens=5) == 1 / 2
    assert distinct_n(np.array([[1, 2, EOS, 1, 2]]), n=1, eos=EOS, tokens=5) == 2 / 4
    assert distinct_n(np.array([[1, 2, EOS, 1, 2]]), n=2, eos=None, tokens=5) == 3 / 4


def test_budget_takes_the_first_tokens() -> None:
    rows = np.array([[1, 1, 1], [2, 3, 4]])
    assert distinct_n(rows, n=1, eos=EOS, tokens=3) == 1 / 3
    assert distinct_n(rows, n=1, eos=EOS, tokens=4) == 2 / 4
    with pytest.raises(ValueError, match="7 tokens, but the rows hold 6"):
        distinct_n(rows, n=1, eos=EOS, tokens=7)
    with pytest.raises(ValueError, match="n is 0"):
        distinct_n(rows, n=0, eos=EOS, tokens=6)


def test_distinct_n_of_nothing_is_nan() -> None:
    for rows in ([], [[]], [[EOS]], [[1], [2]]):
        assert math.isnan(distinct_n(rows, n=2, eos=EOS, tokens=sum(map(len, rows))))
    assert math.isnan(distinct_n(np.empty((0, 4), np.uint16), n=1, eos=EOS, tokens=0))


def test_repetition_lowers_distinct_n() -> None:
    rng = np.random.default_rng(0)
    varied, narrow = rng.integers(1, 1000, (20, 50)), rng.integers(1, 5, (20, 50))
    assert distinct_n(varied, n=2, eos=EOS, tokens=1000) > distinct_n(narrow, n=2, eos=EOS, tokens=1000)


token_rows = st.lists(st.lists(st.integers(0, 4), max_size=9), max_size=6)


@given(token_rows, st.integers(1, 4), st.sampled_from([1, 10**9]), st.integers(0, 60))
def test_distinct_n_equals_plain_python(rows: list[list[int]], n: int, scale: int, budget: int) -> None:
    """With ids around 10^9 a trigram no longer fits 63 bits: ranks must give the same count."""
    rows = [[token * scale for token in row] for row in rows]
    budget = min(budget, sum(map(len, rows)))
    grams, left = [], budget
    for row in rows:
        row, left = row[:left], left - min(left, len(row))
        document: list[int] = []
        for token in [*row, EOS]:
            if token == EOS:
                grams += [tuple(document[i : i + n]) for i in range(len(document) - n + 1)]
                document = []
            else:
                document.append(token)
    found = distinct_n(rows, n=n, eos=EOS, tokens=budget)
    assert found == len(set(grams)) / len(grams) if grams else math.isnan(found)


def test_distinct_n_leaves_its_input_alone() -> None:
    rows = np.array([[3, 2, 1, 1]])
    distinct_n(rows, n=1, eos=EOS, tokens=4)
    assert rows.tolist() == [[3, 2, 1, 1]]


def test_large_ids_do_not_collide() -> None:
    """Digits of base 2^32: in 64 bits the first of three would be lost, and (1, 5, 5) equal (2, 5, 5)."""
    rows = np.array([[1, 5, 5], [2, 5, 5], [2**32 - 1] * 3], dtype=np.uint32)
    assert distinct_n(rows, n=3, eos=EOS, tokens=9) == 1


def test_ngram_codes_are_equal_for_equal_ngrams_only() -> None:
    """The trigrams of 0 9 0 9 0 0: 090, 909, 090, 900."""
    codes = ngram_codes(np.array([0, 9, 0, 9, 0, 0]), np.zeros(6, int), n=3).tolist()
    assert codes[0] == codes[2] and len(set(codes)) == 3


# --- words ---------------------------------------------------------------------------------------------------------


def test_words_by_hand() -> None:
    """Lower-cased runs of letters and apostrophes; digits and punctuation end a word; a lone apostrophe is none."""
    assert words_of(" Don't stop, it\u2019s 4th ' a-b Über ") == ["don't", "stop", "it\u2019s", "th", "a", "b", "über"]


@pytest.mark.parametrize(
    "text",
    [
        *("हिन्दी भाषा", "বাংলা ভাষা", "كِتَابٌ", "שָׁלוֹם עוֹלָם", "தமிழ் மொழி", "naïve café", "می\u200cخوریم", "क्\u200dष"),
        *("한국어 낱말", "Ελλάδα", "мир", "ⴰⵣⵓⵍ ⴰⴽⴰⵍ", "བོད ཡིག"),
    ],
)
def test_marks_stay_inside_their_words(text: str) -> None:
    """Vowel signs, points and accents do not cut a word, and composed or decomposed it is one word."""
    wanted = sorted(unicodedata.normalize("NFC", word.lower()) for word in text.split())
    for form in ("NFC", "NFD"):
        given = unicodedata.normalize(form, text)
        assert sorted(words_of(f" {given} ")) == wanted == sorted(words_of_text(given))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("日本語のテスト", "日 本 語 の テ ス ト"),
        ("我爱GPT模型", "我 爱 gpt 模 型"),
        ("ภาษาไทย", "ภ า ษ า ไ ท ย"),
        ("น้ำ กำ", "น้ำ กำ"),
        ("ພາສາ", "ພ າ ສ າ"),
        ("ភាសា", "ភា សា"),
        ("မြန်မာ", "မြ န် မာ"),
        ("が カ\uff9e", "が カ\uff9e"),
        ("\U00020000\U00020001", "\U00020000 \U00020001"),
    ],
)
def test_letters_of_scripts_without_spaces_are_words(text: str, wanted: str) -> None:
    assert [word for _, word in sorted(_placed(f" {text} "))] == wanted.split()
    assert words_of_text(text) == wanted.split()


def _placed(text: str) -> list[tuple[int, str]]:
    found = find_words(spell(text), BYTES, EOS)
    return [(int(at), found.types[word]) for at, word in zip(found.first, found.word, strict=True)]


def test_a_mark_belongs_to_the_character_before_it() -> None:
    """A heart with a variation selector, or a digit with an accent, gives no mark to the word after it."""
    assert words_of(" \u2764\ufe0flove 4\u0301th \u0301x '\u0301a ") == ["love", "th", "x", "'\u0301a"]
    assert words_of_text("\u2764\ufe0flove 4\u0301th \u0301x") == ["love", "th", "x"]


def test_a_mark_at_the_head_of_a_row_cuts_its_word() -> None:
    """Its letter stands in the row before."""
    assert words_of(" a  cafe", "\u0301s bc d") == ["a", "bc"]
    assert words_of(b" a cafe\xcc", b"\x81s bc ee") == ["a", "bc"]
    assert words_of("\u0e31ก ข ค") == ["ก", "ข"]


def test_the_table_of_kinds_has_every_letter_and_mark() -> None:
    """Also in the planes that it passes over."""
    rest = [c for c in (*range(0x2FA20, 0x110000, 7), *range(0xE0100, 0xE01F0)) if not kinds()[c]]
    assert not any(chr(c).isalpha() or unicodedata.category(chr(c))[0] == "M" for c in rest)


def test_words_of_english_text_are_as_before_marks_counted() -> None:
    text = (PROJECT / "README.md").read_text()
    assert words_of_text(text) == re.findall(r"[^\W\d_]+", text.lower())


def test_words_at_the_edge_of_a_row_are_skipped() -> None:
    assert words_of("ome old men 'll re") == ["old", "men", "'ll"]
    assert words_of("whole") == []
    assert words_of("a bc", "d ef", "g hi") == []
    assert words_of("a.b.c", "d.e.f") == ["b", "e"]


def test_eos_ends_a_word_without_cutting_it() -> None:
    assert words_of("|ab|cd|") == ["ab", "cd"]
    assert words_of("ab|cd|ef") == ["cd"]


def test_every_special_token_ends_a_word() -> None:
    """Any token without bytes, and EOS even where the vocabulary gives it bytes."""
    assert find_words(np.array([[1, 2, 3]]), [b"", b" ab", b"", b"cd "], eos=0).types == ["ab", "cd"]
    assert find_words(np.array([[0, 1, 0]]), [b"<|end|>", b"ab"], eos=0).types == ["ab"]


def test_bytes_that_are_no_text_end_a_word() -> None:
    """A lone continuation byte inside a row is a character that is no letter."""
    assert words_of(b" ab\xa9cd ") == ["ab", "cd"]
    assert words_of(b" ab\xed\xa0\x80cd\xf5 ") == ["ab", "cd"]


def test_a_letter_cut_in_two_by_a_row_end_cuts_its_word() -> None:
    """'é' = C3 A9, U+1D4B3 = F0 9D 92 B3.  What is left at an edge is no letter, but the word beside it is cut."""
    assert words_of(b" abc caf\xc3", b"\xa9s x yzzz") == ["abc", "x"]
    assert words_of(b" a b\xf0\x9d\x92", b"\xb3c d ee") == ["a", "d"]
    assert words_of(b"\x9d\x92\xb3c d e") == ["d"]
    assert words_of(b"\xa9|cd|\xc3") == ["cd"]


def test_tokens_of_a_word_are_those_that_hold_its_characters() -> None:
    """' the' is one token; 'Ünder' is 4 tokens whose Ü is split; U+2019 is split between a word's tokens."""
    token_bytes = [b"", b" the", b" \xc3", b"\x9c", b"nd", b"er ", b"it\xe2", b"\x80\x99", b"s", b" "]
    rows = np.array([[9, 1, 2, 3, 4, 5], [9, 6, 7, 8, 9, 1]])
    found = find_words(rows, token_bytes, eos=0)
    assert found.types == ["it\u2019s", "the", "ünder"]
    assert [found.types[i] for i in found.word] == ["the", "ünder", "it\u2019s"]
    assert found.first.tolist() == [1, 2, 7] and found.last.tolist() == [1, 5, 9]
    assert found.row.tolist() == [0, 0, 1] and found.lengths.tolist() == [1, 4, 3] and found.tokens == 12


def test_a_words_loss_is_the_sum_over_its_tokens() -> None:
    found = whole_words("ab c")
    nats = np.array([[9.0, 1.0, 2.0, 9.0, 4.0, 9.0]])
    assert word_nats(found, nats).tolist() == [3.0, 4.0]
    nats[0, 1] = math.inf  # an impossible token spoils its own word only
    assert word_nats(found, nats).tolist() == [math.inf, 4.0]
    with pytest.raises(ValueError, match="one shape"):
        word_nats(found, nats.T)


def test_a_word_may_end_in_the_last_token() -> None:
    """The last token is 'b ': its word does not touch the edge, though its token does."""
    found = find_words(np.array([[1, 2]]), [b"", b" a", b"b "], eos=0)
    assert found.types == ["ab"] and word_nats(found, np.array([[1.0, 2.0]])).tolist() == [3.0]


def test_no_rows_no_words() -> None:
    for rows in (np.empty((0, 5), np.uint16), np.empty((3, 0), np.uint16), spell("   "), spell("|")):
        found = find_words(rows, BYTES, EOS)
        assert found.types == [] and len(found.word) == 0 and word_counts(found) == {}
        assert len(word_nats(found, np.zeros(rows.shape))) == 0
    with pytest.raises(ValueError, match="not in the vocabulary"):
        find_words(np.array([[257]]), BYTES, EOS)


JOINED = "\u200c\u200d\u0e33\u0eb3\uff9e\uff9f"
CHARACTERS = [chr(c) for c in range(0x20000) if not 0xD800 <= c < 0xE000]
MARKS = "".join(c for c in CHARACTERS if unicodedata.category(c)[0] == "M" or c in JOINED)
SCRIPTS = {"CJK", "HIRAGANA", "KATAKANA", "BOPOMOFO", "YI", "THAI", "LAO", "KHMER", "MYANMAR"}
ALONE = "".join(
    c for c in CHARACTERS if c.isalpha() and c not in JOINED and unicodedata.name(c, "?").split()[0] in SCRIPTS
)
WORD = rf"(?:(?:[^\W\d_{MARKS}{ALONE}]|['\u2019])[{MARKS}]*)*"
"""Marks, letters of scripts without spaces, and a run of other letters (or of none), by the names of Unicode."""


def oracle(rows: np.ndarray, token_bytes: list[bytes]) -> list[tuple[str, int, int]]:
    """Words with their first and last flat positions, by a regular expression over decoded text, one byte at a time."""
    found, T = [], rows.shape[1]
    for r, row in enumerate(rows.tolist()):
        data, owner = b"", []
        for t, token in enumerate(row):
            piece = token_bytes[token] or b"\n"
            data += piece
            owner += [r * T + t] * len(piece)
        text = data.decode("utf-8", "surrogateescape")
        core = re.fullmatch("([\udc80-\udcff]{0,3})(.*?)([\udc80-\udcff]{0,3})", text, re.DOTALL)
        assert core is not None
        for match in re.finditer(rf"\A[{MARKS}]+{WORD}|[{ALONE}][{MARKS}]*|{WORD}", core[2]):
            if (
                match.start() == 0
                or match.end() == len(core[2])
                or not any(c.isalpha() and c not in JOINED for c in match[0])
            ):
                continue
            before = len((core[1] + core[2][: match.start()]).encode("utf-8", "surrogateescape"))
            size = len(match[0].encode())
            spelling = unicodedata.normalize("NFC", match[0].lower())
            found.append((spelling, owner[before], owner[before + size - 1]))
    return found


PIECES = [
    *(b"", b"", b" ", b"a", b"B", b" the", b"'", b"s' ", b".", b"4", b"_", b"\n", b"x y", b"\x00"),
    *("\u2019".encode(), b"\xe2", b"\x80", b"\x99", b"\x80\x99t", "é".encode(), b"\xc3", b"\xa9", b"\xc3\xa9\xc3"),
    *(
        "İ".encode(),
        "ß".encode(),
        "漢字".encode(),
        "\U0001d4b3".encode(),
        b"\xf0\x9d",
        b"\x92\xb3",
        b"\xff",
        b"\xed\xa0\x80",
    ),
    *("e\u0301".encode(), b"\xcc", b"\x81", "\u02bc".encode(), "\u00a0".encode(), b"\xc2", b"\xa0"),
    *(
        "कि".encode(),
        "\u094dक".encode(),
        "\u093e ".encode(),
        "ก\u0e31".encode(),
        "\u0e33".encode(),
        b"\xe0\xb8",
        b"\xb1",
    ),
    *("ナ'".encode(), "م\u200cی".encode(), "\u2764\ufe0f".encode(), "E\u0301".encode()),
]


@settings(max_examples=400)
@given(
    st.integers(1, 12).flatmap(
        lambda T: st.lists(st.lists(st.integers(0, len(PIECES) - 1), min_size=T, max_size=T), min_size=1, max_size=5)
    )
)
def test_words_equal_the_oracle(rows: list[list[int]]) -> None:
    array = np.array(rows, dtype=np.uint16)
    found = find_words(array, PIECES, EOS)
    spelled = [found.types[i] for i in found.word]
    assert list(zip(spelled, found.first.tolist(), found.last.tolist(), strict=True)) == oracle(array, PIECES)
    assert found.types == sorted(set(spelled))


def test_words_equal_the_oracle_on_many_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(0).integers(0, len(PIECES), size=(301, 40)).astype(np.uint16)
    found = find_words(rows, PIECES, EOS)
    assert [(found.types[w], a, b) for w, a, b in zip(found.word, found.first, found.last, strict=True)] == oracle(
        rows, PIECES
    )
    monkeypatch.setattr(words_module, "TOKENS_AT_ONCE", 100)
    blocks = find_words(rows, PIECES, EOS)
    assert blocks.types == found.types
    for name in ("word", "first", "last"):
        np.testing.assert_array_equal(getattr(blocks, name), getattr(found, name))


def test_word_counts() -> None:
    assert word_counts(whole_words("a b A c a")) == {"a": 3, "b": 1, "c": 1}


# --- tails ---------------------------------------------------------------------------------------------------------


def test_frequency_bins_by_hand() -> None:
    counts = np.array([0, 1, 2, 3, 4, 7, 8, 15, 16, 2**40 - 1, 2**40])
    assert frequency_bins(counts).tolist() == [0, 1, 2, 2, 3, 3, 4, 4, 5, 40, 41]
    assert [bin_label(b) for b in range(6)] == ["0", "1", "2-3", "4-7", "8-15", "16-31"]


@given(st.integers(0, 2**50))
def test_a_count_lies_in_its_label(count: int) -> None:
    ends = [int(end) for end in bin_label(int(frequency_bins(np.array([count]))[0])).split("-")]
    assert ends[0] <= count <= ends[-1]


def test_token_bins_by_hand() -> None:
    """Training: token 1 three times, 2 once, EOS once, 3 never."""
    bins = loss_by_token_bin(
        np.array([[1, 1, 2], [3, 3, EOS]], np.uint16),
        np.array([[1, 2, 4], [5, 7, 6]], np.float32),
        np.array([[1, 1], [1, 2], [EOS, 1]], np.uint16)[:, :2],
        vocab_size=9,
    )
    assert [(b.label, b.tokens, b.types, b.nats_per_token) for b in bins] == [
        ("0", 2, 1, 6.0),
        ("1", 2, 2, 5.0),
        ("4-7", 2, 1, 1.5),
    ]


def test_word_bins_by_hand() -> None:
    """'ab' has count 0, 'c' 1, 'd' 3.  Per token 'ab' costs (2 + 4) / 2, per word 2 + 4."""
    bins = loss_by_word_bin(
        whole_words("ab c d d"),
        np.array([[9.0, 2.0, 4.0, 9.0, 5.0, 9.0, 1.0, 9.0, 2.0, 9.0]]),
        word_counts(whole_words("c d d d")),
    )
    assert [(b.label, b.tokens, b.words, b.types, b.nats_per_token, b.nats_per_word) for b in bins] == [
        ("0", 2, 1, 1, 3.0, 6.0),
        ("1", 1, 1, 1, 5.0, 5.0),
        ("2-3", 2, 2, 1, 1.5, 1.5),
    ]


def test_a_words_loss_does_not_depend_on_the_tokenizer() -> None:
    """' ab ' as one token and as three, with the same loss."""
    one = loss_by_word_bin(find_words(np.array([[1]]), [b"", b" ab "], 0), np.array([[6.0]]), {})
    two = loss_by_word_bin(whole_words("ab"), np.array([[0.0, 2.0, 4.0, 0.0]]), {})
    assert one[0].nats_per_word == two[0].nats_per_word == 6


letters = st.text(alphabet="aab c.d|é", min_size=1, max_size=40)


@given(letters, letters, st.randoms(use_true_random=False))
def test_word_bins_partition_the_words(train: str, test: str, random) -> None:
    """Each word and each token inside a word is in one bin, with its loss."""
    found, counts = whole_words(test), word_counts(whole_words(train))
    nats = np.array([[random.random() for _ in range(found.tokens)]])
    bins = loss_by_word_bin(found, nats, counts)
    inside = np.zeros(found.tokens, bool)
    for a, b in zip(found.first, found.last, strict=True):
        assert not inside[a : b + 1].any()
        inside[a : b + 1] = True
    assert sum(b.words for b in bins) == len(found.word)
    assert sum(b.types for b in bins) == len(found.types)
    assert sum(b.tokens for b in bins) == inside.sum()
    assert sum(b.tokens * b.nats_per_token for b in bins) == pytest.approx(nats[0, inside].sum())
    assert sum(b.words * b.nats_per_word for b in bins) == pytest.approx(nats[0, inside].sum())


@given(token_rows, st.integers(1, 5))
def test_token_bins_partition_the_tokens(train: list[list[int]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, nats = rng.integers(0, 9, (3, 7)), rng.random((3, 7)).astype(np.float32)
    flat = np.array([token for row in train for token in row], dtype=np.int64)
    bins = loss_by_token_bin(rows, nats, flat, vocab_size=9)
    assert sum(b.tokens for b in bins) == rows.size and sum(b.types for b in bins) == len(np.unique(rows))
    assert sum(b.tokens * b.nats_per_token for b in bins) == pytest.approx(nats.sum(), rel=1e-5)
    counts = Counter(flat.tolist())
    assert [b.label for b in bins if b.label == "0"] == ["0"] * bool({*rows.ravel().tolist()} - {*counts})


def test_bins_of_nothing_are_none() -> None:
    empty = np.empty((0, 4), np.uint16)
    assert loss_by_token_bin(empty, np.empty((0, 4), np.float32), empty, 9) == []
    assert loss_by_word_bin(find_words(empty, BYTES, EOS), np.empty((0, 4)), {"a": 1}) == []
    with pytest.raises(ValueError, match="one shape"):
        loss_by_token_bin(empty, np.empty((0, 5), np.float32), empty, 9)


def losses_of(text: str, nats: list[float], train: str) -> dict[str, float]:
    return rare_losses(whole_words(text), np.array([nats]), word_counts(whole_words(train)))


def test_rare_losses_by_hand() -> None:
    """Held out: a a bc d e.  Training counts: a 5, bc 3, d 1, e 0.  Half of 5 words is 2.5: 'a' (2) and 'bc' (1)."""
    losses = losses_of("a a bc d e", [9, 1, 9, 2, 9, 3, 4, 9, 8, 9, 7, 9], "a a a a a bc bc bc d")
    assert losses == {"nll_rare": 15 / 3, "nll_common": 10 / 4, "nll_unseen": 7.0}


def test_a_word_of_count_4_is_not_rare() -> None:
    losses = losses_of("a b", [9, 1, 9, 2, 9], "a a a a b b b")
    assert losses["nll_rare"] == 2 and losses["nll_common"] == 1 and math.isnan(losses["nll_unseen"])


def test_ties_among_common_words_go_by_the_word() -> None:
    """'b' and 'a' both have count 2 and one of two is half: 'a', wherever it stands."""
    assert losses_of("b a", [9, 1, 9, 2, 9], "a a b b")["nll_common"] == 2


def test_forgetting_the_tail_raises_nll_rare_alone() -> None:
    """Direction: a model that is worse on rare words has a higher, that is worse, nll_rare."""
    before = losses_of("a a b", [1, 1, 1, 1, 1, 1, 1], "a a a a b")
    after = losses_of("a a b", [1, 1, 1, 1, 1, 5, 1], "a a a a b")
    assert after["nll_rare"] == 5 > before["nll_rare"] == 1
    assert after["nll_common"] == before["nll_common"]


def test_rare_losses_of_nothing_are_nan() -> None:
    losses = rare_losses(find_words(spell("  "), BYTES, EOS), np.zeros((1, 2)), {"a": 1})
    assert sorted(losses) == ["nll_common", "nll_rare", "nll_unseen"] and all(map(math.isnan, losses.values()))


def test_rare_survival_by_hand() -> None:
    """Human: a 4 times, b 3, c 2, d 1.  The other text has a, c and x: of b, c, d one third survives."""
    assert rare_survival(whole_words("a a a a b b b c c d"), whole_words("c x a a a a a a a a")) == 1 / 3


def test_rare_survival_rises_with_what_is_kept() -> None:
    """Direction: identical text keeps all, text without the rare words none; repeating a common word helps nothing."""
    human = whole_words("a a a a b c d")
    kept = [rare_survival(human, whole_words(text)) for text in ("a a a a a a a", "a a a a a a d", "a a a a b c d")]
    assert kept == [0, 1 / 3, 1]


def test_rare_survival_wants_equal_budgets() -> None:
    with pytest.raises(ValueError, match="4 human tokens against 3"):
        rare_survival(whole_words("ab"), whole_words("a"))
    assert math.isnan(rare_survival(whole_words("a a a a"), whole_words("a a a a")))
    assert math.isnan(rare_survival(find_words(spell(" "), BYTES, EOS), find_words(spell(" "), BYTES, EOS)))


def test_resampling_alone_loses_hapaxes() -> None:
    """n words drawn with replacement from n distinct ones keep a share of 1 - 1/e = .632 (standard error .005)."""
    n, rng = 4000, np.random.default_rng(0)
    names = ["".join(chr(97 + i // 26**k % 26) for k in range(3)) for i in range(n)]
    human, resample = (whole_words(" ".join(names[i] for i in drawn)) for drawn in (range(n), rng.integers(n, size=n)))
    assert rare_survival(human, resample) == pytest.approx(1 - math.exp(-1), abs=0.02)


def test_loss_by_domain_by_hand() -> None:
    """Domain b: (1 + 2 + 3) / 3 = 2; a: 7; c has no held-out token."""
    found = loss_by_domain(np.array([1, 1, 0, 1]), np.array([1.0, 2, 7, 3]), ["a", "b", "c"])
    assert [(each.label, each.tokens, each.nats_per_token) for each in found] == [("a", 1, 7), ("b", 3, 2)]
    assert loss_by_domain(np.array([], int), np.array([]), ["a"]) == []


def test_many_domains_are_listed_up_to_a_limit() -> None:
    """Domain d has d tokens of loss 1, so the smallest domains, 1 to 5 with 15 tokens, come together."""
    domain = np.repeat(np.arange(26), np.arange(26))
    found = loss_by_domain(domain, np.ones(len(domain)), [f"d{i:02}" for i in range(26)])
    assert [each.label for each in found] == [*(f"d{i:02}" for i in range(6, 26)), "(others)"]
    assert found[-1].tokens == 15 and found[-1].nats_per_token == 1
