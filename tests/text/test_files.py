"""Which files a corpus path means, what of a folder is left out, and how that is said."""

import json
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.hostile import call

from lab.config.text import CorpusConfig
from lab.errors import InputError
from lab.report.corpus import describe
from lab.text.corpus import check_tokens, identity, read_documents
from lab.text.files import Found, find_files

TEXTS = [f"Note {i}: the ferry left the harbour {i * i} times." for i in range(40)]

pytestmark = pytest.mark.fast


def config(path: Path | str, **fields: Any) -> CorpusConfig:
    return CorpusConfig(path=str(path), **{"tokens": 1, **fields})


def jsonl(texts: list[str]) -> str:
    return "".join(json.dumps({"text": text}) + "\n" for text in texts)


def found(path: Path | str, **fields: Any) -> Found:
    return find_files(config(path, **fields))


def names(path: Path | str, **fields: Any) -> list[str]:
    return [file.path.name for file in found(path, **fields).files]


def refusal(path: Path | str, **fields: Any) -> str:
    with pytest.raises(InputError) as caught:
        read_documents(config(path, **fields))
    return str(caught.value)


@pytest.mark.parametrize("name", ["A.TXT", "a.Txt", "wiki.train.raw", "b.JSONL", "c.ndjson", "d.tsv", "e.Csv.GZ"])
def test_a_name_tells_the_format_in_any_case(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    assert names(tmp_path / name) == names(tmp_path) == [name]


@pytest.mark.parametrize("name", ["notes", "notes.md", "a.parquet.gz", "a.tar.gz", "a.gz"])
def test_a_name_that_tells_no_format_is_refused_with_what_to_do(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("text")
    assert "rename" in refusal(tmp_path / name) or "unpack" in refusal(tmp_path / name)
    assert f"1 of no known format ({name})" in refusal(tmp_path)


def test_hidden_files_and_folders_are_left_out_and_counted(tmp_path: Path) -> None:
    for name in (
        ".ipynb_checkpoints/a-checkpoint.txt",
        "__MACOSX/a.txt",
        "sub/.b.txt",
        "._a.txt",
        "a.txt",
        "sub/b.txt",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / ".linked").symlink_to(tmp_path)
    assert names(tmp_path) == ["a.txt", "b.txt"]
    assert found(tmp_path).line() == (
        "read 2 files (a.txt, b.txt); left out: 5 hidden (.ipynb_checkpoints/, .linked/, __MACOSX/ and 2 more)"
    )
    assert names(tmp_path / "._a.txt") == ["._a.txt"], "a file that is named is read"


@pytest.mark.parametrize(
    "paper", ["LICENSE.txt", "licence-mit.TXT", "README.txt", "Readme_en.txt", "CHANGELOG.txt", "AUTHORS.txt"]
)
def test_a_licence_or_a_readme_is_not_the_corpus(tmp_path: Path, paper: str) -> None:
    (tmp_path / paper).write_text("A licence. " * 99)
    assert f"1 about the data, by name ({paper})" in refusal(tmp_path)
    (tmp_path / "a.jsonl").write_text(jsonl(TEXTS))
    assert names(tmp_path) == ["a.jsonl"] and f"left out: 1 about the data, by name ({paper})" in found(tmp_path).line()
    (tmp_path / "a.jsonl").rename(tmp_path / "a.txt")
    assert names(tmp_path) == ["a.txt"]
    assert names(tmp_path / paper) == [paper]


@pytest.mark.parametrize("name", ["licensed-to-sing.md.txt", "history.txt", "read.txt", "the readme.txt"])
def test_texts_with_like_names_are_texts(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    assert names(tmp_path) == [name]


def test_names_of_files_are_safe_to_print(tmp_path: Path) -> None:
    (tmp_path / ".\x1b[2J").touch()
    (tmp_path / "\u202ea.txt").touch()
    assert found(tmp_path).line().isprintable()


def test_lab_corpus_says_what_is_read_and_what_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a.jsonl").write_text(jsonl([*TEXTS, *TEXTS[:3], " ", ""]) + '{"text": null}\n')
    (tmp_path / "d" / "LICENSE.txt").write_text("A licence.")
    printed = call("corpus", "d", cwd=tmp_path)
    assert "read 1 file (a.jsonl); left out: 1 about the data, by name (LICENSE.txt)" in printed.out
    assert "kept 40 of 46 rows; left out: 3 without text, 3 copies of an earlier row" in printed.out
    found = json.loads(call("corpus", "d", "--json", cwd=tmp_path).out)
    left = [{"why": "about the data, by name", "count": 1, "first": ["LICENSE.txt"]}]
    assert found["files"] == {"read": 1, "first": ["a.jsonl"], "left": left}
    assert found["rows"] == {"rows": 46, "without_text": 3, "copies": 3, "marks": 0}


def test_one_domain_is_not_printed_twice(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(jsonl(TEXTS))
    rows = describe(config(tmp_path / "a.jsonl"))["domains"]
    assert [row["domain"] for row in rows] == ["all"] * 4


# --- data sets that `datasets` saved


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    data = datasets.Dataset.from_dict({"text": TEXTS, "place": [f"{i % 2:03}" for i in range(40)]})
    data.save_to_disk(folder / "one", num_shards=2)
    datasets.DatasetDict({"train": data, "test": data.select(range(30))}).save_to_disk(folder / "several")
    datasets.DatasetDict({"dev": data}).save_to_disk(folder / "dev")
    return folder


def test_a_saved_data_set_is_read(saved: Path) -> None:
    table = read_documents(config(saved / "one", domain="place"))
    assert table["text"].to_pylist() == TEXTS and set(table["domain"].to_pylist()) == {"000", "001"}
    assert names(saved / "one") == ["data-00000-of-00002.arrow", "data-00001-of-00002.arrow"]


def test_a_split_of_several_is_asked_for(saved: Path) -> None:
    assert read_documents(config(saved / "several", split="test"))["text"].to_pylist() == TEXTS[:30]
    assert "left out: 1 other split (test)" in found(saved / "several").line()
    assert "dev: 40 documents" in call("corpus", "dev", "--split", "dev", cwd=saved).out
    assert "has no split train: set corpus.split to one of dev" in refusal(saved / "dev")
    assert "has no split banana: set corpus.split to one of train, test" in refusal(saved / "several", split="banana")


def test_a_saved_data_set_that_leads_elsewhere_is_refused(saved: Path, tmp_path: Path) -> None:
    for files in ([{"filename": "../a.arrow"}], [{"filename": "gone.arrow"}], [], None, [3]):
        (tmp_path / "state.json").write_text(json.dumps({"_data_files": files}))
        assert "save" in refusal(tmp_path)


def test_an_arrow_file_is_read_in_both_forms(tmp_path: Path) -> None:
    table = pa.table({"text": TEXTS})
    for name, new in (("a.arrow", pa.ipc.new_file), ("b.arrow", pa.ipc.new_stream)):
        with new(tmp_path / name, table.schema) as writer:
            writer.write_table(table)
        assert read_documents(config(tmp_path / name))["text"].to_pylist() == TEXTS


# --- fields that a local corpus has no use for


@pytest.mark.parametrize("field", ["split", "subset", "revision"])
@pytest.mark.parametrize("path", ["a.jsonl", "."])
def test_a_split_or_a_subset_of_local_files_is_refused(tmp_path: Path, field: str, path: str) -> None:
    (tmp_path / "a.jsonl").write_text(jsonl(TEXTS))
    with pytest.raises(InputError, match=rf"corpus\.{field} is banana, but corpus\.path .* is a local f"):
        identity(config(tmp_path / path, **{field: "banana"}))


# --- more tokens than the text can hold


def sizes(folder: Path) -> list[Path]:
    """The same texts in every format, with none to spare: the first byte that is too much is refused."""
    (folder / "a.jsonl").write_text(jsonl(TEXTS))
    (folder / "a.txt").write_text("\n".join(TEXTS))
    (folder / "a.csv").write_text("text\n" + "\n".join(TEXTS))
    pq.write_table(pa.table({"text": TEXTS}), folder / "a.parquet", compression="zstd")
    pq.write_table(pa.table({"text": TEXTS}), folder / "b.parquet", use_dictionary=False)
    return sorted(folder.iterdir())


def test_tokens_that_the_text_cannot_hold_are_refused(tmp_path: Path) -> None:
    """Bytes and ends of documents are a number of tokens that can be reached: so many are never refused."""
    text = sum(len(text.encode()) + 1 for text in TEXTS)
    for path in sizes(tmp_path):
        check_tokens(config(path, tokens=text - 1), 8)
        with pytest.raises(InputError, match=r"corpus.tokens is .* holds at most [\d,]+ tokens"):
            check_tokens(config(path, tokens=3 * text), 8)
        with pytest.raises(InputError, match=r"corpus.tokens and corpus.archive_tokens are"):
            check_tokens(config(path, tokens=text, archive_tokens=2 * text), 8)
        check_tokens(config(path, tokens=7 * text, layout="documents"), 8)


def test_texts_that_share_their_bytes_are_not_counted_by_them(tmp_path: Path) -> None:
    texts = [f"{'the same beginning ' * 50}{i}" for i in range(200)]
    encoding = {"column_encoding": "DELTA_BYTE_ARRAY", "use_dictionary": False}
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet", **encoding)
    assert (tmp_path / "a.parquet").stat().st_size < 0.1 * sum(map(len, texts))
    check_tokens(config(tmp_path / "a.parquet", tokens=sum(map(len, texts))), 8)
