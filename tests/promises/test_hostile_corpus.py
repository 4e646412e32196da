"""Bad and hostile corpora: read as they should be, or one line, exit code 2 and nothing in the store."""

import gzip
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.hostile import Payload, call
from support.tiny import tiny, write_study

from lab.config.text import CorpusConfig
from lab.text.corpus import cut_document, read_documents

TEXTS = [f"Tale {n}. The old sea sang of {n * 7} ships, {n * n} sailors and nobody else." for n in range(60)]
Make = Callable[[Path], None]


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    study = tiny("x", regimes=["human"], generations=1)
    study["corpus"] = {"path": "x", "tokens": 512}
    write_study(tmp_path / "s.yaml", study)
    return tmp_path


def jsonl(texts: list[str]) -> bytes:
    return "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()


def write(content: bytes | str) -> Make:
    return lambda path: path.write_bytes(content if isinstance(content, bytes) else content.encode()) and None


def parquet(**columns: object) -> Make:
    return lambda path: pq.write_table(pa.table(columns), path)


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.jsonl", jsonl(TEXTS))


def bad_utf8(path: Path) -> None:
    fine = pa.array([b"\xff\xfe" * 9 + str(n).encode() for n in range(40)])
    pq.write_table(pa.table({"text": pa.Array.from_buffers(pa.string(), 40, fine.buffers())}), path)


def cut(path: Path) -> None:
    parquet(text=TEXTS)(path)
    path.write_bytes(path.read_bytes()[:-50])


REFUSED: dict[str, tuple[str, Make, str]] = {
    "empty": ("a.txt", write(""), "is empty: 0 bytes"),
    "one word": ("a.txt", write("word"), "1 group, too few to divide"),
    "binary": ("a.txt", write(bytes(range(256))), "it is not UTF-8 (byte 0x80 at line 2"),
    "line ends": ("a.txt", write("\n" * 5_000_000), "none with text"),
    "duplicates": ("a.jsonl", write(jsonl(["the same text"] * 99)), "1 group, too few"),
    "blank lines": ("a.jsonl", write("\n\n\n"), "is empty: 0 rows"),
    "broken line": (
        "a.jsonl",
        write(jsonl(TEXTS[:20]) + b'{"text": "x\n' + jsonl(TEXTS[20:])),
        "line 21: JSON parse error",
    ),
    "numbers for lines": ("a.jsonl", write("1\n2\n"), "cannot be read"),
    "numbers for text": ("a.jsonl", write('{"text": 1}\n' * 9), "holds the number 1, not text"),
    "NaN for text": ("a.jsonl", write('{"text": NaN}\n' * 9), "holds the number NaN, not text"),
    "null for text": ("a.jsonl", write('{"text": null}\n' * 9), "is empty: 9 rows, none with text"),
    "groups for text": ("a.jsonl", write('{"text": {"a": "b"}}\n' * 9), "holds an object, not text"),
    "text and numbers": ("a.jsonl", write('{"text": "a"}\n{"text": 1}\n' * 9), "not text"),
    "a key twice": ("a.jsonl", write('{"text": "a", "text": "b"}\n' * 9), 'its key "text" is there twice'),
    "deep": ("a.jsonl", write('{"text":' + "[" * 5000 + "]" * 5000 + "}\n"), "cannot be read"),
    "a string": ("a.json", write('"abc"'), "cannot be read"),
    "surrogate": ("a.jsonl", write('{"text": "\\ud800"}\n' * 9), "surrogate"),
    "raw surrogate": ("a.jsonl", write(b'{"text": "\xed\xa0\x80 a"}\n' * 9), "not UTF-8 (byte 0xed at line 1, byte 11"),
    "UTF-16": ("a.jsonl", write(jsonl(TEXTS).decode().encode("utf-16")), "it is a file of UTF-16"),
    "other column": ("a.jsonl", write('{"texts": "a"}\n' * 9), 'no column "text" (corpus.text) - did you mean "texts"'),
    "long rows": ("a.csv", write("text,b\n" + "x,1,2,3\n" * 9), "the row at line 2 has 4 cells and the heading 2"),
    "open quote": ("a.csv", write('text,b\n"abc\n' + "x,1\n" * 9), "the row at line 2 has an open quote"),
    "CSV of numbers": ("a.csv", write("text\n1\n2\n"), "2 groups, too few to divide"),
    "no heading": ("a.csv", write("\n\n"), "is empty: it has no heading"),
    "integers": ("a.parquet", parquet(text=list(range(60))), "holds int64, not text"),
    "lists": ("a.parquet", parquet(text=[[text] for text in TEXTS]), "holds list"),
    "bytes": ("a.parquet", parquet(text=[text.encode() for text in TEXTS]), "holds binary"),
    "no rows": ("a.parquet", parquet(text=pa.array([], pa.string())), "is empty: 0 rows"),
    "no columns": ("a.parquet", parquet(), "it has no columns"),
    "bad UTF-8": ("a.parquet", bad_utf8, "UTF8"),
    "torn": ("a.parquet", cut, "cannot be read"),
    "no Parquet": ("a.parquet", write(b"PAR1" + b"\xff" * 99 + b"PAR1"), "cannot be read"),
    "pickle": ("a.pkl", write(pickle.dumps(Payload())), "no .txt, .raw, .jsonl"),
    "torch": ("a.pt", write(pickle.dumps(Payload())), "no .txt, .raw, .jsonl"),
    "code": ("a.py", write("open('executed', 'w')"), "no .txt, .raw, .jsonl"),
    "zip": ("a.zip", zipped, "no .txt, .raw, .jsonl"),
    "pickle as text": ("a.txt", write(pickle.dumps(Payload())), "cannot be read"),
    "pickle as JSON": ("a.jsonl", write(pickle.dumps(Payload())), "cannot be read"),
    "pickle as Parquet": ("a.parquet", write(pickle.dumps(Payload())), "cannot be read"),
    "zip as JSON": ("a.jsonl", zipped, "is a zip archive"),
    "zip as text": ("a.txt", zipped, "is a zip archive"),
    "gzip as JSON": ("a.jsonl", write(gzip.compress(jsonl(TEXTS))), "is a gzip archive"),
    "a pipe": ("a.jsonl", os.mkfifo, "no .txt, .raw, .jsonl"),
    "link into itself": ("a.jsonl", lambda path: path.symlink_to(path), "does not exist"),
}


@pytest.mark.fast
@pytest.mark.parametrize("what", [pytest.param(what, marks=[pytest.mark.slow] * (what == "deep")) for what in REFUSED])
def test_refused_in_one_line(desk: Path, what: str) -> None:
    name, make, said = REFUSED[what]
    make(desk / name)
    end = call("run", "s.yaml", "--workers", "0", "--set", f"corpus={name}", cwd=desk)
    assert not end.fault() and said in end.err, end


def loop(folder: Path) -> None:
    (folder / "sub").symlink_to(folder)


FOLDERS: dict[str, tuple[Make, str]] = {
    "empty": (lambda folder: (folder / "a.jsonl").unlink(), "no .txt, .raw, .jsonl"),
    "mixed": (lambda folder: write("x")(folder / "b.txt"), "mixes kinds of files (a.jsonl, b.txt)"),
    "symlink loop": (loop, "holds a link to a folder"),
    "link to nothing": (lambda folder: (folder / "b.jsonl").symlink_to("nothing"), "is no file that can be read"),
    "pipe": (lambda folder: os.mkfifo(folder / "b.jsonl"), "is no file that can be read"),
}


@pytest.mark.parametrize("what", FOLDERS)
def test_folders_refused_in_one_line(desk: Path, what: str) -> None:
    (desk / "texts").mkdir()
    (desk / "texts" / "a.jsonl").write_bytes(jsonl(TEXTS))
    make, said = FOLDERS[what]
    make(desk / "texts")
    end = call("run", "s.yaml", "--workers", "0", "--set", "corpus=texts", cwd=desk)
    assert not end.fault() and said in end.err, end


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_files_that_may_not_be_read(desk: Path) -> None:
    (desk / "a.jsonl").write_bytes(jsonl(TEXTS))
    (desk / "a.jsonl").chmod(0)
    assert not call("run", "s.yaml", "--set", "corpus=a.jsonl", cwd=desk).fault()


def texts_of(path: Path, **options: str | int) -> list[str]:
    return list(read_documents(CorpusConfig(path=str(path), tokens=1, **options))["text"].to_pylist())


STRANGE = {
    "NUL": [text.replace(" ", "\0") for text in TEXTS],
    "right to left": [f"\u202e\u05e9\u05dc\u05d5\u05dd {text}" for text in TEXTS],
    "combining": [text.replace("a", "a\u0301\u0301\u0301\u0489") for text in TEXTS],
    "joined": [f"👩\u200d👩\u200d👧 {text} \U0001d518" for text in TEXTS],
    "controls": [f"\x1b[2J\x07\x08 {text}\x7f\u2028\x85" for text in TEXTS],
    "markup": [f"<script>[bold] $x$ \\ % {text}" for text in TEXTS],
}


@pytest.mark.parametrize("what", STRANGE)
@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_strange_text_is_read_as_it_is(tmp_path: Path, what: str, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    (write(jsonl(STRANGE[what])) if suffix == ".jsonl" else parquet(text=STRANGE[what]))(path)
    assert texts_of(path) == STRANGE[what]


def test_what_is_missing_is_left_out(tmp_path: Path) -> None:
    """Nulls, short CSV rows, a byte order mark, line ends of Windows, keys that only some lines have."""
    some = [None if n % 5 == 0 else text for n, text in enumerate(TEXTS)]
    parquet(text=some)(tmp_path / "nulls.parquet")
    assert texts_of(tmp_path / "nulls.parquet") == [text for text in some if text]
    rows = "".join(f'"{text}"\n' if n % 7 else f'"{text}",1\n' for n, text in enumerate(TEXTS))
    (tmp_path / "short.csv").write_text("text,b\n" + rows)
    (tmp_path / "mark.jsonl").write_bytes(b"\xef\xbb\xbf" + jsonl(TEXTS))
    (tmp_path / "windows.jsonl").write_bytes(jsonl(TEXTS).replace(b"\n", b"\r\n"))
    some_keys = [json.dumps({"text": text, f"k{n}": n}) + "\n" for n, text in enumerate(TEXTS)]
    (tmp_path / "keys.jsonl").write_text("".join(some_keys))
    for name in ("short.csv", "mark.jsonl", "windows.jsonl", "keys.jsonl"):
        assert texts_of(tmp_path / name) == TEXTS, name


PATHS = ("a b", "a'b", 'a"b', "a\nb", "é 日本", "\u202ea", "a*", "a?", "a[0-9]", "a{b}", "-rf", "~", "$HOME", "a::b")
PATHS += ("zip:a", "a%20b", "hf:a", "a#b", "a\\b", "a;b", "[bold]", "<b>")


def test_a_file_is_read_whatever_its_name_and_no_other(tmp_path: Path) -> None:
    """For `datasets` * ? [ are patterns, $HOME a variable and :: a chain: `a*` would read all of them."""
    for number, name in enumerate(PATHS):
        (tmp_path / f"{name}.jsonl").write_bytes(jsonl([f"{number} {text}" for text in TEXTS]))
    for number, name in enumerate(PATHS):
        assert texts_of(tmp_path / f"{name}.jsonl") == [f"{number} {text}" for text in TEXTS], name
    for name in ("a*", "a\nb", "\u202ea", "[bold]"):
        end = call("corpus", f"./{name}.jsonl", cwd=tmp_path)
        assert not end.fault((0,)) and "60 documents" in " ".join(end.out.split()) and "\u202e" not in end.out, end


def test_a_folder_is_all_its_files_of_one_kind(tmp_path: Path) -> None:
    (tmp_path / "sub.jsonl").mkdir()
    for place, part in ((tmp_path / "a*.jsonl", TEXTS[:30]), (tmp_path / "sub.jsonl" / "b.jsonl", TEXTS[30:])):
        place.write_bytes(jsonl(part))
    (tmp_path / "own.py").write_text("open('executed', 'w')")
    shutil.copy(tmp_path / "own.py", tmp_path / f"{tmp_path.name}.py")
    assert sorted(texts_of(tmp_path)) == sorted(TEXTS)


@pytest.mark.parametrize("word", ["word ", "x", "日本語", "\u0301", " "], ids=ascii)
def test_a_megabyte_on_one_line(tmp_path: Path, word: str) -> None:
    """Cut in time that grows with the text and not with its square; nothing is lost."""
    text = word * (1_000_000 // len(word.encode()))
    pieces = cut_document({"text": text, "document": "d", "group": "g"}, 8000, keep_group=False)
    if text.strip():
        assert "".join(piece["text"] for piece in pieces) == text
        assert max(len(piece["text"]) for piece in pieces) <= 16_000
        (tmp_path / "a.txt").write_text(text)
        assert "".join(texts_of(tmp_path / "a.txt", piece=8000)) == text
    whole = cut_document({"text": "ab\n" * 300_000, "document": "d", "group": "g"}, 10**12, keep_group=False)
    assert len(whole) == 1 and len(whole[0]["text"]) == 900_000
