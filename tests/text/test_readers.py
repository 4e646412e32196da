"""Rows of files of every format: the columns that are named, as text, and errors that name the file and the line."""

import bz2
import gzip
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lab.config.text import CorpusConfig
from lab.errors import InputError
from lab.text.corpus import identity, read_documents
from lab.text.formats import records

TEXTS = [f"Note {i}: the ferry left the harbour {i * i} times." for i in range(40)]

pytestmark = pytest.mark.fast


def read(path: Path, **fields: Any) -> list[dict[str, Any]]:
    return list(read_documents(CorpusConfig(path=str(path), tokens=1, **fields)).to_pylist())


def texts(path: Path, **fields: Any) -> list[str]:
    return [row["text"] for row in read(path, **fields)]


def refusal(path: Path, **fields: Any) -> str:
    with pytest.raises(InputError) as caught:
        read(path, **fields)
    assert path.name in str(caught.value)
    return str(caught.value)


def jsonl(some: list[str]) -> bytes:
    return "".join(json.dumps({"text": text}) + "\n" for text in some).encode()


# --- CSV and TSV


def test_words_for_missing_values_are_texts(tmp_path: Path) -> None:
    words = ["NA", "null", "None", "nan", "N/A", "NULL", "true", "1", "007", "1e5", "-", " "]
    rows = "".join(f"{text},{words[i % 11]}\n" for i, text in enumerate(TEXTS))
    (tmp_path / "a.csv").write_text("text,answer\n" + rows + "".join(f"{word},x\n" for word in words))
    assert texts(tmp_path / "a.csv") == TEXTS + words[:-1], "only the blank is no text"
    found = {row["author"] for row in read(tmp_path / "a.csv", author="answer")}
    assert found == {*words[:-1], "x"}


def test_an_empty_cell_is_no_value(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,n\n" + "".join(f"{text},1\n" for text in TEXTS) + ',1\n"",1\nlast,""\n')
    assert texts(tmp_path / "a.csv") == [*TEXTS, "last"]
    assert 'row 42 has no value in column "n" (corpus.domain)' in refusal(tmp_path / "a.csv", domain="n")


def test_columns_that_nobody_names_may_hold_anything(tmp_path: Path) -> None:
    numbers = "".join(f"{text},{i}\n" for i, text in enumerate(TEXTS * 300))
    (tmp_path / "a.csv").write_text("text,n\n" + numbers + "a text,word\n")
    assert len(read(tmp_path / "a.csv")) == 41


def test_quotes_line_ends_and_commas(tmp_path: Path) -> None:
    hard = ['a "quoted" word', "two\nlines", "two\r\nlines of Windows", "old\rMac", "a, b", "\ttab", "'"]
    cells = "".join('"{}",1{}'.format(text.replace('"', '""'), "\r\n") for text in hard + TEXTS)
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbftext,n\r\n" + cells.encode())
    assert texts(tmp_path / "a.csv") == hard + TEXTS
    (tmp_path / "b.csv").write_bytes(("text,n\r" + "".join(f"{text},1\r" for text in TEXTS)).encode())
    assert texts(tmp_path / "b.csv") == TEXTS
    (tmp_path / "c.tsv").write_text("n\ttext\n" + "".join(f"1\t{text}, and so on\n" for text in TEXTS))
    assert texts(tmp_path / "c.tsv") == [f"{text}, and so on" for text in TEXTS]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_texts_that_begin_with_a_quote_do_not_become_one(tmp_path: Path, name: str) -> None:
    mark = "," if name == "a.csv" else "\t"
    (tmp_path / name).write_text(f"text{mark}n\n" + "".join(f'"{text}{mark}1\n' for text in TEXTS))
    assert "the row at line 2 has an open quote" in refusal(tmp_path / name)
    (tmp_path / name).write_text(f"text{mark}n\n" + "".join(f'"{text}" and "so" on{mark}1\n' for text in TEXTS))
    assert texts(tmp_path / name) == [f'{text} and "so" on' for text in TEXTS], "on one line a quote misleads nobody"


@pytest.mark.parametrize("mark", [";", "\t", "|"])
@pytest.mark.parametrize("columns", [{}, {"text": "text{}n"}])
def test_another_delimiter_is_named(tmp_path: Path, mark: str, columns: dict[str, str]) -> None:
    rows = "".join(f'"{text}, well{mark} well"{mark}{i}\n' for i, text in enumerate(TEXTS))
    (tmp_path / "a.csv").write_text(f"text{mark}n\n{rows}")
    said = refusal(tmp_path / "a.csv", **{key: name.format(mark) for key, name in columns.items()})
    assert f"looks divided by {({';': 'semicolons', '|': 'bars (|)'}).get(mark, 'tabs')}, not by commas" in said
    assert "did you mean" not in said


def test_a_tsv_with_commas(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("text,n\n" + "".join(f"{text},1\n" for text in TEXTS))
    assert "looks divided by commas, not by tabs: rename it to .csv" in refusal(tmp_path / "a.tsv")


def test_a_single_column_with_semicolons_in_its_texts(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\n" + "".join(f"{text}; and more\n" for text in TEXTS))
    assert texts(tmp_path / "a.csv") == [f"{text}; and more" for text in TEXTS]


def test_a_table_without_a_heading(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("".join(f'"0","{text}"\n' for text in TEXTS))
    assert "the first row is read as the heading" in refusal(tmp_path / "a.csv")


def test_two_columns_of_one_name(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,n,text\n" + "".join(f"{text},1,x\n" for text in TEXTS))
    assert 'has two columns "text"' in refusal(tmp_path / "a.csv")


# --- JSON


def test_labels_are_text_as_it_stands_in_the_file(tmp_path: Path) -> None:
    spelled = ['"007"', "1.50", "1e3", "123456789012345678901234567890", "-0", "NaN", "true", "false"]
    spelled += ['["a", "ü"]', '{"k": "v"}']
    lines = [f'{{"text": {json.dumps(text)}, "n": {spelled[i % 10]}}}\n' for i, text in enumerate(TEXTS)]
    (tmp_path / "a.jsonl").write_text("".join(lines))
    assert {row["author"] for row in read(tmp_path / "a.jsonl", author="n")} == {"007", *spelled[1:]}


def test_keys_that_nobody_names_may_hold_anything(tmp_path: Path) -> None:
    others = [None, "seen", {"k": 1}, {"k": "x"}, [1, "a"], 10**400, "\ud800"]
    rows = [{"text": text, "note": others[i % len(others)], f"k{i}": i} for i, text in enumerate(TEXTS)]
    lines = "".join(json.dumps(row) + "\n" for row in rows) + '{"text": "last", "twice": 1, "twice": 2}\n'
    (tmp_path / "a.jsonl").write_text(lines)
    assert texts(tmp_path / "a.jsonl") == [*TEXTS, "last"]


FORMS: dict[str, Callable[[list[str]], str]] = {
    "array": lambda some: json.dumps([{"text": text} for text in some]),
    "array of strings": json.dumps,
    "indented array": lambda some: "\n\n" + json.dumps([{"text": text} for text in some], indent=4) + "\n",
    "indented records": lambda some: "\n".join(json.dumps({"text": text}, indent=1) for text in some),
    "one line": lambda some: "".join(json.dumps({"text": text}) for text in some),
    "lines of Windows": lambda some: "".join(json.dumps({"text": text}) + "\r\n" for text in some),
    "escapes": lambda some: json.dumps([{"n": [1.5e-3, -0, True, None], "text": text} for text in some]),
    "no escapes": lambda some: json.dumps([{"text": text} for text in some], ensure_ascii=False),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
def test_records_are_read_in_every_form_and_cut_anywhere(
    tmp_path: Path, form: str, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = [f'{text} \u2028 — “naïve” 海 \U0001d518 \n \\ " {{[,]}} \0' for text in TEXTS]
    (tmp_path / "a.json").write_text(FORMS[form](some), encoding="utf-8", newline="")
    monkeypatch.setattr(records, "CHUNK", chunk)
    assert texts(tmp_path / "a.json") == some


BROKEN = {
    "an open array": ('[{"text": "a"},\n{"text": "b"}', "line 2: JSON parse error: the array has no end"),
    "no comma": ('[{"text": "a"}\n{"text": "b"}]', "line 2: JSON parse error: a comma is missing"),
    "a comma at the end": ('[{"text": "a"},\n]', "line 2: JSON parse error"),
    "two arrays": ('[{"text": "a"}]\n[{"text": "b"}]', "line 2: JSON parse error: there is more after the array"),
    "a torn line": ('{"text": "a"}\n\n{"text": "b\n{"text": "c"}\n', "line 3: JSON parse error"),
    "a cut file": ('{"text": "a"}\n{"text": "b', "line 2: JSON parse error"),
    "a list of lists": ('[["a"], ["b"]]', "line 1: it holds an array where a record is expected"),
    "columns": ('{"text": ["a", "b"]}', "holds an array, not text"),
    "wrapped": ('{"data": [{"text": "a"}]}', 'has no column "text" (corpus.text); it has data'),
    "half a character": ('{"text": "a"}\n{"text": "\\ud800"}\n', "line 2: it holds half of a character"),
    "a number": ('{"text": "a"}\n{"text": 12.50}\n', 'line 2: "text" (corpus.text) holds the number 12.50, not text'),
}


@pytest.mark.parametrize("what", BROKEN)
@pytest.mark.parametrize("chunk", [5, 1 << 20])
def test_broken_json_is_refused_with_its_line(
    tmp_path: Path, what: str, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, said = BROKEN[what]
    (tmp_path / "a.json").write_text(content)
    monkeypatch.setattr(records, "CHUNK", chunk)
    assert said in refusal(tmp_path / "a.json")


def test_the_torn_file_of_many_is_named(tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"{number:03}.jsonl").write_bytes(jsonl([TEXTS[number]]))
    (tmp_path / "011.jsonl").write_text('{"texts": "another key"}\n')
    with pytest.raises(InputError, match=r'011\.jsonl has no column "text"'):
        read(tmp_path)
    (tmp_path / "011.jsonl").write_text('{"text": "torn\n')
    with pytest.raises(InputError, match=r"011\.jsonl cannot be read: line 1"):
        read(tmp_path)


# --- encodings


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv", "a.tsv"])
def test_a_byte_order_mark_is_no_text(tmp_path: Path, name: str) -> None:
    lines = "\n".join(["text", *TEXTS] if name in ("a.csv", "a.tsv") else TEXTS)
    content = jsonl(TEXTS) if name == "a.jsonl" else lines.encode()
    (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + content)
    found = texts(tmp_path / name, **({"piece": 50} if name == "a.txt" else {}))
    assert not any("\ufeff" in text for text in found) and found[0].startswith("Note 0")


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-16-le", "utf-32", "utf-32-be"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_other_encodings_are_refused_by_name(tmp_path: Path, name: str, encoding: str, mark: str) -> None:
    (tmp_path / name).write_bytes((mark + "text\n" + "\n".join(TEXTS)).encode(encoding))
    assert "save it as UTF-8" in refusal(tmp_path / name)


def test_the_place_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("\n".join(TEXTS).encode() + "\nun café".encode("latin-1"))
    assert "it is not UTF-8 (byte 0xe9 at line 41, byte 7 of it)" in refusal(tmp_path / "a.txt")
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress("text\nun café\n".encode("latin-1")))
    assert "it is not UTF-8 (byte 0xe9 at line 2, byte 7 of it)" in refusal(tmp_path / "a.csv.gz")


# --- packed files


def zstd(data: bytes) -> bytes:
    return bytes(pa.compress(data, "zstd", asbytes=True))


PACK: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".bz2": bz2.compress, ".zst": zstd}


@pytest.mark.parametrize("end", PACK)
def test_packed_files_are_read_like_plain_ones(tmp_path: Path, end: str) -> None:
    table = "\n".join(["text", *TEXTS]).encode()
    for name, content in (("a.jsonl", jsonl(TEXTS)), ("b.csv", table), ("c.tsv", table)):
        half = len(content) // 2
        (tmp_path / f"{name}{end}").write_bytes(PACK[end](content[:half]) + PACK[end](content[half:]))
        assert texts(tmp_path / f"{name}{end}") == TEXTS, "packed in two parts, as log files are"
    (tmp_path / f"d.txt{end.upper()}").write_bytes(PACK[end]("\n".join(TEXTS).encode()))
    assert "".join(texts(tmp_path / f"d.txt{end.upper()}", piece=40)) == "\n".join(TEXTS)


def test_plain_and_packed_files_of_a_folder_are_one_corpus(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(jsonl(TEXTS[:20]))
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(jsonl(TEXTS[20:])))
    assert texts(tmp_path) == TEXTS


@pytest.mark.parametrize("end", PACK)
def test_a_packed_file_that_is_torn_or_no_packed_file(tmp_path: Path, end: str) -> None:
    path = tmp_path / f"a.jsonl{end}"
    path.write_bytes(PACK[end](jsonl(TEXTS))[:-9])
    assert "cannot be read" in refusal(path)
    path.write_bytes(jsonl(TEXTS))
    assert "cannot be read" in refusal(path)


@pytest.mark.parametrize("end", PACK)
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv"])
def test_a_bomb_is_refused(tmp_path: Path, name: str, end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lab.text.files.FREE_UNPACKED", 1 << 16)
    line = b'{"text": "text"}\n' if name == "a.jsonl" else b"text\n"
    (tmp_path / f"{name}{end}").write_bytes(PACK[end](line * 50_000))
    assert "unpacks to more than 100 times its size" in refusal(tmp_path / f"{name}{end}")


def test_archives_in_packed_files_are_refused(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a.jsonl"), io.BytesIO())
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(packed.getvalue()))
    assert "is a tar archive" in refusal(tmp_path / "a.txt.gz")
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(gzip.compress(b"text")))
    assert "is a gzip archive" in refusal(tmp_path / "b.txt.gz")


# --- Parquet


@pytest.mark.parametrize("kind", [pa.string_view(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())], ids=str)
def test_every_kind_of_string_is_text(tmp_path: Path, kind: pa.DataType) -> None:
    columns = {"text": pa.array([*TEXTS, None]).cast(kind), "n": pa.array([{"k": 1}] * 41)}
    pq.write_table(pa.table({**columns, "place": pa.array(["007"] * 41).cast(kind)}), tmp_path / "a.parquet")
    assert texts(tmp_path / "a.parquet", domain="place") == TEXTS


def test_the_identity_of_a_parquet_file_is_its_format_and_hash(tmp_path: Path) -> None:
    """It stands in the keys of all that was made from the shipped corpus: a change retrains every study."""
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    found = identity(CorpusConfig(path=str(tmp_path / "a.parquet"), tokens=1))
    assert found == "50dc97c7ab8efc439ebed8c7553081ff670b6be2dd416b3251459f450c0e4738"
