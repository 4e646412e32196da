"""Human text from files of every kind, and its folds by group."""

import errno
import io
import json
import os
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.tiny import PROJECT, write_corpus

from lab.config.text import CorpusConfig
from lab.errors import DiskFull, InputError
from lab.report.corpus import describe
from lab.seeds import generator
from lab.store.space import full_in_one_line
from lab.text import corpus
from lab.text.corpus import SHARES, cut_document, read_documents
from lab.text.files import find_files
from lab.text.folds import assign_folds
from lab.text.rows import Encoded

TEXTS = [f"Document {i}: the ship went out, naïve and slow — “again” 海 {i * i}.\nA second line." for i in range(40)]


def config(path: Path | str, **fields: Any) -> CorpusConfig:
    return CorpusConfig(path=str(path), tokens=1, **fields)


def refusal(path: Path | str, **fields: Any) -> str:
    with pytest.raises(InputError) as caught:
        read_documents(config(path, **fields))
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- files ---------------------------------------------------------------------------------------------------------


def write_txt(folder: Path, texts: list[str]) -> Path:
    (folder / "txt").mkdir()
    for number, text in enumerate(texts):
        (folder / "txt" / f"{number:03}.txt").write_text(text)
    return folder / "txt"


def write_jsonl(folder: Path, texts: list[str]) -> Path:
    (folder / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return folder / "a.jsonl"


def write_json(folder: Path, texts: list[str]) -> Path:
    (folder / "a.json").write_text(json.dumps([{"text": text} for text in texts]))
    return folder / "a.json"


def write_csv(folder: Path, texts: list[str]) -> Path:
    (folder / "a.csv").write_text("text\n" + "".join('"' + text + '"\n' for text in texts))
    return folder / "a.csv"


def write_parquet(folder: Path, texts: list[str]) -> Path:
    pq.write_table(pa.table({"text": texts}), folder / "a.parquet")
    return folder / "a.parquet"


def write_jsonl_folder(folder: Path, texts: list[str]) -> Path:
    (folder / "parts" / "deeper").mkdir(parents=True)
    write_jsonl(folder / "parts" / "deeper", texts[:9])
    write_jsonl(folder / "parts", texts[9:])
    (folder / "parts" / "README.md").write_text("not a corpus file")
    return folder / "parts"


KINDS = [write_txt, write_jsonl, write_json, write_csv, write_parquet, write_jsonl_folder]


@pytest.mark.parametrize("write", KINDS, ids=lambda write: write.__name__[6:])
def test_every_kind_of_file_gives_the_same_documents(tmp_path: Path, write: Callable[..., Path]) -> None:
    table = read_documents(config(write(tmp_path, TEXTS)))
    assert sorted(table["text"].to_pylist()) == sorted(TEXTS)
    assert set(table["fold"].to_pylist()) == set(SHARES)
    assert table.column_names == ["text", "domain", "author", "document", "group", "fold"]


def test_reading_leaves_no_cache_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache)
    read_documents(config(write_parquet(tmp_path, TEXTS)))
    assert not cache.exists()


def test_a_relative_path_is_found_in_the_project_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = find_files(config("data/human-small.parquet"))
    assert [file.path for file in found.files] == [PROJECT / "data" / "human-small.parquet"]


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.json", "a.csv", "a.parquet"])
@pytest.mark.filterwarnings("default")
def test_an_empty_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    assert "is empty" in refusal(tmp_path / name)


def test_text_of_spaces_is_no_text(tmp_path: Path) -> None:
    assert "is empty: 2 rows, none with text" in refusal(write_jsonl(tmp_path, [" ", "\n\t"]))


def test_an_empty_folder_and_one_without_corpus_files(tmp_path: Path) -> None:
    assert "no .txt, .raw, .jsonl, .ndjson, .json, .csv, .tsv, .parquet, .arrow file" in refusal(tmp_path)
    (tmp_path / "notes.md").write_text("text")
    assert "no .txt" in refusal(tmp_path)
    assert "no .txt" in refusal(tmp_path / "notes.md")


def test_mixed_kinds(tmp_path: Path) -> None:
    write_jsonl(tmp_path, TEXTS)
    write_csv(tmp_path, TEXTS)
    assert "mixes kinds of files (" in refusal(tmp_path)


@pytest.mark.parametrize("path", ["missing.txt", "/no/such", "./a/b", "missing", "a/b/c", "a/", "my texts/b", ""])
def test_a_missing_path(path: str) -> None:
    assert "does not exist; give a file" in refusal(path)


@pytest.mark.parametrize("write", [write_txt, write_jsonl, write_csv], ids=lambda write: write.__name__[6:])
def test_invalid_utf8(tmp_path: Path, write: Callable[..., Path]) -> None:
    path = write(tmp_path, ["plain text"] * 3)
    file = path if path.is_file() else path / "000.txt"
    file.write_bytes(file.read_bytes().replace(b"plain", b"pl\xff\xfein"))
    assert "cannot be read" in refusal(path)


def test_broken_json(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": \n')
    assert "cannot be read" in refusal(tmp_path / "a.jsonl")


def test_a_missing_column(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path, TEXTS)
    assert 'has no column "txt" (corpus.text) - did you mean "text"?' in refusal(path, text="txt")
    assert 'has no column "genre" (corpus.domain); it has text' in refusal(path, domain="genre")


def test_columns_of_the_wrong_type_and_without_value(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": [1, 2], "domain": ["a", None], "words": ["x", "y"]}), tmp_path / "a.parquet")
    assert 'column "text" (corpus.text) holds int64, not text' in refusal(tmp_path / "a.parquet")
    said = refusal(tmp_path / "a.parquet", text="words", domain="domain")
    assert 'row 1 has no value in column "domain" (corpus.domain)' in said


def test_too_few_groups(tmp_path: Path) -> None:
    said = refusal(write_jsonl(tmp_path, TEXTS[:2]))
    assert "has 2 groups, too few to divide: no text for validation, test" in said


def test_labels_become_text_and_documents_keep_their_names(tmp_path: Path) -> None:
    rows = {"text": TEXTS, "year": [1800 + i % 3 for i in range(40)], "document": [f"book {i}" for i in range(40)]}
    pq.write_table(pa.table(rows), tmp_path / "a.parquet")
    table = read_documents(config(tmp_path / "a.parquet", domain="year")).to_pylist()
    assert {row["domain"] for row in table} == {"1800", "1801", "1802"}
    assert {row["document"]: row["text"] for row in table} == dict(zip(rows["document"], TEXTS, strict=True))


# --- folds ---------------------------------------------------------------------------------------------------------


def shares_of(folds: list[str], sizes: list[int]) -> dict[str, float]:
    size = Counter[str]()
    for fold, bytes_ in zip(folds, sizes, strict=True):
        size[fold] += bytes_
    return {fold: size[fold] / sum(sizes) for fold in SHARES}


def many() -> tuple[list[str], list[str], list[int]]:
    """600 documents of 200 groups in 2 domains, of sizes 50 .. 149."""
    rng = generator(3)
    groups = [f"group {i % 200}" for i in range(600)]
    domains = [("verse", "prose")[i % 2] for i in range(600)]
    return groups, domains, rng.integers(50, 150, size=600).tolist()


def folds_of(groups: list[str], domains: list[str], sizes: list[int]) -> list[str]:
    found, count = assign_folds(zip(groups, domains, sizes, strict=True))
    assert count == len(set(groups))
    return [list(SHARES)[place] for place in found]


def test_no_group_stands_on_two_sides() -> None:
    groups, domains, sizes = many()
    sides = defaultdict(set)
    for group, fold in zip(groups, folds_of(groups, domains, sizes), strict=True):
        sides[group].add(fold)
    assert all(len(folds) == 1 for folds in sides.values()) and len(sides) == 200


def test_each_domain_is_divided_by_the_shares() -> None:
    """A domain has 100 groups of about 300: a fold is off by less than one group, 1.5 % or so."""
    groups, domains, sizes = many()
    folds = folds_of(groups, domains, sizes)
    for domain in ("verse", "prose"):
        mine = [i for i, name in enumerate(domains) if name == domain]
        found = shares_of([folds[i] for i in mine], [sizes[i] for i in mine])
        assert found == pytest.approx(SHARES, abs=0.015)


def test_folds_do_not_depend_on_the_order_of_rows() -> None:
    groups, domains, sizes = many()
    domains[0] = "prose"  # a group that spans two domains
    folds = folds_of(groups, domains, sizes)
    order = generator(0).permutation(600)
    shuffled = folds_of([groups[i] for i in order], [domains[i] for i in order], [sizes[i] for i in order])
    assert shuffled == [folds[i] for i in order]


def test_folds_are_a_hash_and_not_an_order_of_names() -> None:
    """Were groups taken by name, the first ones would share the big folds in a fixed pattern."""
    names = [f"{i:03}" for i in range(100)]
    folds = folds_of(names, ["all"] * 100, [1] * 100)
    other = folds_of([f"x{name}" for name in names], ["all"] * 100, [1] * 100)
    assert Counter(folds) == Counter(other) == {"train": 65, "reference": 20, "validation": 5, "test": 10}
    assert folds != other


def test_a_group_that_spans_domains_stays_on_one_side() -> None:
    groups = ["spanning", "spanning", *map(str, range(40))]
    domains = ["verse", "prose", *(("verse", "prose")[i % 2] for i in range(40))]
    folds = folds_of(groups, domains, [10] * 42)
    assert folds[0] == folds[1]


@pytest.mark.parametrize("fields", [{}, {"group": "group", "domain": "domain"}], ids=["documents", "groups"])
def test_reading_divides_text_alike_whatever_the_order_of_rows(tmp_path: Path, fields: dict[str, str]) -> None:
    lines = write_corpus(tmp_path / "a.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "b.jsonl").write_text("".join(reversed(lines)))
    a, b = (read_documents(config(tmp_path / name, **fields)).to_pylist() for name in ("a.jsonl", "b.jsonl"))
    assert {row["text"]: row["fold"] for row in a} == {row["text"]: row["fold"] for row in b}


def test_exact_duplicates_are_dropped(tmp_path: Path) -> None:
    """Else a document could stand in train and in test."""
    table = read_documents(config(write_jsonl(tmp_path, TEXTS + TEXTS[5:25] + ["", "  "])))
    assert sorted(table["text"].to_pylist()) == sorted(TEXTS)


def test_pieces_hold_the_whole_document_in_order() -> None:
    text = "one line\n" * 10 + "\n\n" + "another\r\n" * 3 + "end"
    pieces = cut_document({"text": text, "document": "d", "group": "g"}, 20, keep_group=False)
    assert "".join(piece["text"] for piece in pieces) == text
    assert [piece["document"] for piece in pieces] == [f"d/{i}" for i in range(len(pieces))]
    assert all(piece["group"] == piece["document"] for piece in pieces)
    assert [len(piece["text"]) for piece in pieces[:3]] == [27, 27, 27], "3 lines of 9 are the first to reach 20"


def test_a_long_line_is_cut_at_white_space() -> None:
    text = "word " * 100
    pieces = cut_document({"text": text, "document": "d", "group": "g"}, 50, keep_group=True)
    assert [piece["text"] for piece in pieces] == ["word " * 10] * 10
    assert {piece["group"] for piece in pieces} == {"g"}


def test_pieces_keep_the_groups_that_the_user_named(tmp_path: Path) -> None:
    rows = read_documents(config(write_corpus(tmp_path / "a.jsonl"), group="group", piece=200)).to_pylist()
    folds: dict[str, set[str]] = {}
    for row in rows:
        folds.setdefault(row["group"], set()).add(row["fold"])
    assert len(rows) > 48 and set(folds) == {f"book {i}" for i in range(48)}
    assert all(len(found) == 1 for found in folds.values())


def test_a_csv_with_a_comma_after_each_row_is_read_as_its_header_says(tmp_path: Path) -> None:
    """pandas alone would take the first field for the row's name, and `note` for the text."""
    (tmp_path / "a.csv").write_text("text,note\n" + "".join(f"text number {i},note,\n" for i in range(60)))
    texts = read_documents(config(tmp_path / "a.csv"))["text"].to_pylist()
    assert sorted(texts) == sorted(f"text number {i}" for i in range(60))


def test_a_csv_row_with_too_many_fields_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,note\n" + "a text,b\n" * 60 + "a text,b,c,d\n")
    assert "cannot be read" in refusal(tmp_path / "a.csv")


def test_one_long_text_can_be_cut(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n".join(f"line {i} of the only document" for i in range(400)))
    assert "1 group, too few" in refusal(tmp_path / "a.txt")
    table = read_documents(config(tmp_path / "a.txt", piece=300))
    assert set(table["fold"].to_pylist()) == set(SHARES)


def test_documents_of_a_fold_come_in_an_order_that_their_names_decide(tmp_path: Path) -> None:
    lines = write_corpus(tmp_path / "a.jsonl").read_text().splitlines(keepends=True)
    orders = []
    for number, text in enumerate(["".join(lines), "".join(reversed(lines))]):
        rows = [{**json.loads(line), "document": json.loads(line)["group"]} for line in text.splitlines()]
        (tmp_path / f"{number}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (tmp_path / f"artifact{number}").mkdir()
        folder = tmp_path / f"artifact{number}"
        corpus.write_documents(config(tmp_path / f"{number}.jsonl", group="group"), folder / "documents.parquet")
        table, order = corpus.fold_order(folder, "train")
        texts = [text for some in corpus.fold_texts(folder, "train") for text in some]
        names = table["document"].to_pylist()
        assert all(f"Tale {name.split()[1]}." in text for name, text in zip(names, texts, strict=True))
        orders.append([texts[place] for place in order])
    assert orders[0] == orders[1]
    assert orders[0] != sorted(orders[0]) and len(orders[0]) > 20


def test_identity_is_content(tmp_path: Path) -> None:
    first = corpus.identity(config(write_jsonl(tmp_path, TEXTS)))
    (tmp_path / "a.jsonl").rename(tmp_path / "b.jsonl")
    assert corpus.identity(config(tmp_path / "b.jsonl")) == first
    (tmp_path / "b.jsonl").write_text((tmp_path / "b.jsonl").read_text() + '{"text": "more"}\n')
    assert corpus.identity(config(tmp_path / "b.jsonl")) != first


def test_folds_do_not_depend_on_how_much_is_read_at_one_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_corpus(tmp_path / "a.jsonl")
    whole = read_documents(config(file, group="group"))
    monkeypatch.setattr(corpus, "GROUP_BYTES", 1000)
    monkeypatch.setattr(corpus, "DOCUMENTS_AT_ONCE", 3)
    corpus.write_documents(config(file, group="group"), tmp_path / "documents.parquet")
    assert pq.ParquetFile(tmp_path / "documents.parquet").num_row_groups > 5
    assert pq.read_table(tmp_path / "documents.parquet").to_pylist() == whole.to_pylist()
    train = [row["text"] for row in whole.to_pylist() if row["fold"] == "train"]
    assert [text for some in corpus.fold_texts(tmp_path, "train") for text in some] == train


def small_domains(folder: Path, per_domain: int) -> Path:
    rows = [{"text": text, "day": f"day {i // per_domain}"} for i, text in enumerate(TEXTS)]
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "a.jsonl"


def test_domains_that_are_too_small_are_named(tmp_path: Path) -> None:
    """4 texts of a domain are divided 65, 20, 5, 10 by themselves, so none goes to the fold of 5 %."""
    path = small_domains(tmp_path, 4)
    said = refusal(path, domain="day")
    assert "40 groups in 10 domains; each domain is divided by itself, and these are too small: no text for" in said
    assert "join domains, or leave corpus.domain out" in said
    assert len(read_documents(config(path))) == 40
    path = small_domains(tmp_path, 20)
    assert len(read_documents(config(path, domain="day"))) == 40
    assert len(describe(config(path, domain="day"))["lines"]) == 2


def test_folds_that_small_domains_leave_nearly_empty_are_spoken_of(tmp_path: Path) -> None:
    rows = [{"text": text, "day": f"day {max(0, i // 2 - 9)}"} for i, text in enumerate(TEXTS * 2)]
    many = [{**row, "text": f"{i}: {row['text']}"} for i, row in enumerate(rows)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in many))
    lines = describe(config(tmp_path / "a.jsonl", domain="day"))["lines"][2:]
    assert [line.partition(":")[0] for line in lines] == [
        "the validation fold holds 1.3% of the text instead of 5%",
        "the test fold holds 2.5% of the text instead of 10%",
    ]


def test_a_full_folder_of_temporary_files_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the corpus nor the store is full. The text of a corpus and its tokens lie there for a while."""

    class Full(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, data: object) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: io.BufferedWriter(Full()))
    with pytest.raises(DiskFull, match=r"^the folder of temporary files is full: .* \(TMPDIR\)"):
        read_documents(config(write_jsonl(tmp_path, TEXTS)))
    with pytest.raises(DiskFull, match=r"TMPDIR"), full_in_one_line(tmp_path):
        Encoded([[1, 2, 3]], [0], 300)


def test_a_hub_data_set_is_read_by_the_same_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one way that still goes through `datasets`: columns that nobody names are not touched, labels become text."""
    asked = []

    def load(*names: str | None, **options: str | None) -> datasets.Dataset:
        asked.append((*names, options))
        return datasets.Dataset.from_dict(
            {"body": [*TEXTS, None, TEXTS[0]], "year": [1800] * 42, "other": [{"k": 1}] * 42}
        )

    monkeypatch.setattr(datasets, "load_dataset", load)
    read = {"subset": "raw", "split": "dev", "text": "body", "domain": "year"}
    table = read_documents(config("someone/tales", **read))
    assert table["text"].to_pylist() == TEXTS and set(table["domain"].to_pylist()) == {"1800"}
    assert asked == [("someone/tales", "raw", {"split": "dev", "revision": None})]
    assert 'corpus someone/tales has no column "text" (corpus.text)' in refusal("someone/tales")
    assert 'corpus someone/tales: column "year" (corpus.text) holds int64, not text' in refusal(
        "someone/tales", text="year"
    )
