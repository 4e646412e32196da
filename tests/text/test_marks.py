"""Byte order marks: dropped from text of every kind, counted, and a part of a corpus's identity."""

import bz2
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lab.config.text import CorpusConfig
from lab.report.corpus import describe
from lab.text.corpus import identity, read_counted
from lab.text.files import files_identity, find_files
from lab.text.formats.marks import MARK, Marks, Unmarked
from lab.text.formats.streams import CHUNK

TEXTS = [f"Note {i}: the ferry left the harbour {i * i} times." for i in range(40)]
Write = Callable[[Path, list[str]], Path]

pytestmark = pytest.mark.fast


def config(path: Path | str, **fields: Any) -> CorpusConfig:
    return CorpusConfig(path=str(path), tokens=1, **fields)


def named(name: str, content: Callable[[list[str]], bytes]) -> Write:
    def write(folder: Path, texts: list[str]) -> Path:
        (folder / name).write_bytes(content(texts))
        return folder / name

    return write


def records(texts: list[str], *, ascii: bool = False) -> str:
    """Return JSON of one record a text; where the text begins with a mark, so does the line."""
    return "".join(
        MARK * text.startswith(MARK) * (not ascii) + json.dumps({"text": text}, ensure_ascii=ascii) + "\n"
        for text in texts
    )


def folder_of_texts(folder: Path, texts: list[str]) -> Path:
    (folder / "texts").mkdir()
    for number, text in enumerate(texts):
        (folder / "texts" / f"{number:02}.txt").write_text(MARK + text, encoding="utf-8")
    return folder / "texts"


def parquet(kind: pa.DataType) -> Write:
    def write(folder: Path, texts: list[str]) -> Path:
        pq.write_table(pa.table({"text": pa.array(texts).cast(kind)}), folder / "a.parquet")
        return folder / "a.parquet"

    return write


def saved(folder: Path, texts: list[str]) -> Path:
    datasets.Dataset.from_dict({"text": texts}).save_to_disk(folder / "saved")
    return folder / "saved"


KINDS: dict[str, Write] = {
    "folder of text": folder_of_texts,
    "jsonl": named("a.jsonl", lambda texts: records(texts).encode()),
    "jsonl with escapes": named("a.jsonl", lambda texts: records(texts, ascii=True).encode()),
    "jsonl.gz": named("a.jsonl.gz", lambda texts: gzip.compress(records(texts).encode())),
    "json.bz2": named("a.json.bz2", lambda texts: bz2.compress(json.dumps(texts).encode())),
    "csv": named("a.csv", lambda texts: "\n".join(["text", *texts]).encode()),
    "tsv.gz": named("a.tsv.gz", lambda texts: gzip.compress("\n".join(["text", *texts]).encode())),
    "parquet": parquet(pa.string()),
    "parquet of views": parquet(pa.string_view()),
    "parquet of words": parquet(pa.dictionary(pa.int32(), pa.string())),
    "save_to_disk": saved,
}
"""A source -> how texts are written as one."""


@pytest.mark.parametrize("kind", KINDS)
def test_marks_are_dropped_and_counted_wherever_they_stand(tmp_path: Path, kind: str) -> None:
    before, inside, after = MARK + TEXTS[1], TEXTS[2][:9] + MARK + TEXTS[2][9:], TEXTS[3] + MARK
    path = KINDS[kind](tmp_path, [TEXTS[0], before, inside, after, MARK + MARK, *TEXTS[4:]])
    table, counts = read_counted(config(path))
    assert table["text"].to_pylist() == TEXTS
    assert counts.without_text == (kind not in ("csv", "tsv.gz")), "a row of marks alone is empty: in a table, no row"
    before_records = 2 * (kind in ("jsonl", "jsonl.gz"))
    assert counts.marks == 5 + before_records, "all except that at the start of a file"


@pytest.mark.parametrize("kind", KINDS)
def test_only_a_text_with_marks_has_another_identity_than_before(tmp_path: Path, kind: str) -> None:
    """A finished run of a text without marks stays, and one that trained on them is not taken for today's."""
    for name, texts in {"plain": TEXTS, "marked": [*TEXTS[:-1], TEXTS[-1][:-1] + MARK + "."]}.items():
        (tmp_path / name).mkdir()
        wanted = config(KINDS[kind](tmp_path / name, texts))
        found = find_files(wanted)
        before = files_identity(found, [False] * len(found.files))
        assert (identity(wanted) == before) == (name == "plain")


@pytest.mark.parametrize(("content", "same"), [(MARK + "text", True), (MARK + MARK + "text", False), ("", True)])
def test_a_mark_at_the_start_of_a_file_moves_no_key(tmp_path: Path, content: str, same: bool) -> None:
    (tmp_path / "a.txt").write_text(content, encoding="utf-8")
    found = find_files(config(tmp_path / "a.txt"))
    assert (identity(config(tmp_path / "a.txt")) == files_identity(found, [False])) == same


@pytest.mark.parametrize("place", [-1, 0, 1, 2])
def test_a_mark_across_the_border_of_two_chunks_is_found(tmp_path: Path, place: int) -> None:
    content = "x" * (CHUNK - place) + MARK + "x"
    (tmp_path / "a.txt").write_text(content, encoding="utf-8")
    found = find_files(config(tmp_path / "a.txt"))
    assert identity(config(tmp_path / "a.txt")) != files_identity(found, [False])


def test_a_mark_before_a_quote_of_csv_does_not_open_the_cell(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\n" + "".join(f'{MARK}"{text}, or so"\n' for text in TEXTS), encoding="utf-8")
    assert read_counted(config(tmp_path / "a.csv"))[0]["text"].to_pylist() == [f"{text}, or so" for text in TEXTS]


def test_columns_beside_the_text_lose_their_marks(tmp_path: Path) -> None:
    """Otherwise each joined file would begin a domain of its own."""
    rows = {"text": TEXTS, "place": [MARK * (i % 2) + "sea" for i in range(40)]}
    pq.write_table(pa.table(rows), tmp_path / "a.parquet")
    table, counts = read_counted(config(tmp_path / "a.parquet", domain="place"))
    assert set(table["domain"].to_pylist()) == {"sea"} and counts.marks == 20


def test_marks_of_a_hub_data_set_are_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    data = datasets.Dataset.from_dict({"text": [MARK + text for text in TEXTS]})
    monkeypatch.setattr(datasets, "load_dataset", lambda *names, **options: data)
    table, counts = read_counted(config("someone/tales"))
    assert table["text"].to_pylist() == TEXTS and counts.marks == 40


def test_marks_of_splits_are_counted(tmp_path: Path) -> None:
    for name, texts in {"learn": TEXTS[:30], "tune": TEXTS[30:35], "score": TEXTS[35:]}.items():
        (tmp_path / f"{name}.jsonl").write_text(records([MARK + text for text in texts]), encoding="utf-8")
    splits = {"train": "learn.jsonl", "validation": "tune.jsonl", "test": "score.jsonl"}
    table, counts = read_counted(config(tmp_path, splits=splits))
    assert sorted(table["text"].to_pylist()) == sorted(TEXTS)
    assert counts.marks == 2 * 40 - 3


def test_a_chunk_of_marks_is_not_the_end_of_a_stream() -> None:
    marks = Marks()
    stream = Unmarked(io.BufferedReader(io.BytesIO(("a" + MARK * 9 + "b").encode())), None, marks)  # type: ignore[arg-type]
    assert (stream.read(1), stream.read(4), stream.read(), stream.read(), marks.dropped) == ("a", "b", "", "", 9)


def test_lab_corpus_says_how_many_were_dropped(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(records([TEXTS[0], *(MARK + text for text in TEXTS[1:])]), encoding="utf-8")
    described = describe(config(tmp_path / "a.jsonl"))
    assert "dropped 78 byte order marks (U+FEFF) inside the text" in described["lines"]
    assert described["rows"]["marks"] == 78
    (tmp_path / "b.jsonl").write_text(records(TEXTS), encoding="utf-8")
    assert not any("mark" in line for line in describe(config(tmp_path / "b.jsonl"))["lines"])
