"""Kinds of characters: which of them make up words.

A word of most scripts is a run of letters (Unicode category L) with their marks.  Combining marks (category M) belong
to the character before them: vowel signs of Devanagari and Bengali, vowels of Arabic and points of Hebrew, accents of
decomposed Latin.  So do the two joiners U+200C and U+200D, which stand inside words of Persian and of Indic scripts,
and signs that Unicode calls letters: am of Thai and of Lao, and the sound marks of halfwidth Katakana.

Chinese, Japanese, Thai, Lao, Khmer, Burmese and some of their neighbours write no spaces between words.  A dictionary
would be needed to find them, and results would depend on its version.  There each letter, with its marks, counts as a
word of its own: about a syllable or a morpheme.  Captions say so where more than UNSPACED_SHARE of the words are such.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

OTHER, LETTER, APOSTROPHE, BROKEN, MARK, ALONE = range(6)
"""Kinds.  BROKEN: a byte that is not UTF-8.  ALONE: a letter of a script without spaces."""
UNSPACED = (
    *((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x1950, 0x19DF), (0x1A20, 0x1AAF), (0xA9E0, 0xA9FF)),
    *((0xAA60, 0xAADF), (0x11700, 0x1174F), (0x116D0, 0x116FF)),  # to here Southeast Asia, as in line breaking class SA
    *((0x3005, 0x3007), (0x3031, 0x3035), (0x303B, 0x303C), (0x3040, 0x312F), (0x31A0, 0x31BF), (0x31F0, 0x31FF)),
    *((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xA000, 0xA48F), (0xF900, 0xFAFF), (0xFF66, 0xFF9F), (0x16FE0, 0x18D8F)),
    *((0x1AFF0, 0x1B2FF), (0x20000, 0x3FFFF)),
)
"""Ranges of scripts without spaces, first and last: Thai, Lao, Burmese, Khmer, Tai; Han, Kana, Bopomofo, Yi, Tangut."""
UNSPACED_SHARE = 0.01
"""Share of such words from which on captions speak of them."""
UNSPACED_NOTE = "single letters of scripts without spaces (Chinese, Japanese, Thai ...), each counted as a word"
JOINED = (0x200C, 0x200D, 0x0E33, 0x0EB3, 0xFF9E, 0xFF9F)
"""Characters that belong to the one before them, though they are no marks."""


@cache
def kinds() -> NDArray[np.uint8]:
    """Return the kind of every Unicode character.  A byte that is no UTF-8 is one of U+DC80 to U+DCFF."""
    table = np.full(0x110000, OTHER, np.uint8)
    for c in (*range(0x40000), *range(0xE0000, 0xE0200)):  # no letter and no mark lies elsewhere
        if chr(c).isalpha():
            table[c] = LETTER
        elif unicodedata.category(chr(c))[0] == "M":
            table[c] = MARK
    for first, last in UNSPACED:
        table[first : last + 1][table[first : last + 1] == LETTER] = ALONE
    table[list(JOINED)] = MARK
    table[[ord("'"), 0x2019]] = APOSTROPHE
    table[0xDC80:0xDD00] = BROKEN
    return table


def one_spelling(text: str) -> str:
    """Return text in lower case and in NFC, so that an accent typed as a mark makes no other word: E + U+0301 -> é."""
    return unicodedata.normalize("NFC", text.lower())


def is_unspaced(word: str) -> bool:
    """Return whether a word is a letter of a script without spaces."""
    return not word.isascii() and bool(kinds()[ord(word[0])] == ALONE)


def unspaced_share(words: Iterable[str]) -> float:
    """Return the share of words that are letters of scripts without spaces; 0 for no words."""
    counts = Counter(map(is_unspaced, words))
    return counts[True] / max(1, counts.total())


def words_of(text: str) -> list[str]:
    """Return the words of a text without their apostrophes, in one spelling: words_of("Don't!") -> ["don", "t"]."""
    spelled = one_spelling(text)
    codes = np.frombuffer(spelled.encode("utf-32-le", "surrogatepass"), np.uint32)
    plain, words = _patterns()
    return (words if not spelled.isascii() and (kinds()[codes] >= MARK).any() else plain).findall(spelled)


@cache
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Return the pattern of a word in text without marks and unspaced scripts, and the slower one for any text."""
    marks, alone = (_ranges(kinds() == kind) for kind in (MARK, ALONE))
    one, letter = f"[{alone}][{marks}]*", rf"[^\W\d_{alone}]"
    return re.compile(r"[^\W\d_]+"), re.compile(f"{one}|(?:{letter}[{marks}]*)+")


def _ranges(chosen: NDArray[np.bool_]) -> str:
    """Return characters as ranges of a regular expression."""
    edges: NDArray[Any] = np.flatnonzero(np.diff(chosen, prepend=False, append=False)).reshape(-1, 2)
    return "".join(f"{chr(first)}-{chr(end - 1)}" for first, end in edges.tolist())
