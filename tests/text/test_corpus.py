"""Human text in: files of every kind, folds by group, a tokenizer that never saw the test fold, rows."""

import io
import json
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from support.tiny import PROJECT, WORDS, write_corpus

from lab.config.text import CorpusConfig
from lab.errors import InputError
from lab.models.feed import RecipeRows
from lab.recipe import HUMAN, Part, Recipe
from lab.seeds import generator
from lab.text import corpus
from lab.text import rows as cutting
from lab.text.corpus import SHARES, cut_document, read_documents
from lab.text.folds import assign_folds
from lab.text.rows import Encoded, Rows, choose_rows, write_cut, write_rows
from lab.text.tokenizer import copy_tokenizer, load_tokenizer, save_tokenizer, token_bytes, train_tokenizer

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
    assert corpus.local_files("data/human-small.parquet") == [PROJECT / "data" / "human-small.parquet"]


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.json", "a.csv", "a.parquet"])
@pytest.mark.filterwarnings("default")
def test_an_empty_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    assert "is empty" in refusal(tmp_path / name)


def test_text_of_spaces_is_no_text(tmp_path: Path) -> None:
    assert "is empty: 2 rows, none with text" in refusal(write_jsonl(tmp_path, [" ", "\n\t"]))


def test_an_empty_folder_and_one_without_corpus_files(tmp_path: Path) -> None:
    assert "no .txt, .jsonl, .json, .csv, .parquet file there" in refusal(tmp_path)
    (tmp_path / "notes.md").write_text("text")
    assert "no .txt" in refusal(tmp_path)
    assert "no .txt" in refusal(tmp_path / "notes.md")


def test_mixed_kinds(tmp_path: Path) -> None:
    write_jsonl(tmp_path, TEXTS)
    write_csv(tmp_path, TEXTS)
    assert "mixes kinds of files (" in refusal(tmp_path)


@pytest.mark.parametrize("path", ["missing.txt", "/no/such/folder", "./a/b", "missing", "a/b/c", ""])
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
    assert "1 groups, too few" in refusal(tmp_path / "a.txt")
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


# --- tokenizer -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(train_tokenizer(TEXTS, 350), folder)
    return folder


def test_the_tokenizer_is_a_function_of_its_text() -> None:
    assert train_tokenizer(TEXTS, 350).to_str() == train_tokenizer(TEXTS, 350).to_str()
    assert train_tokenizer(TEXTS, 350).to_str() != train_tokenizer([*TEXTS, "zebra " * 99], 350).to_str()


def test_the_tokenizer_never_sees_another_fold(tmp_path: Path) -> None:
    """A word written a hundred times into documents of the test fold changes no byte of the tokenizer."""
    made = []
    for name, added in [("plain", ""), ("marked", " xylophone" * 100)]:
        folds = {}
        for fold in SHARES:
            folds[fold] = [f"{' '.join(WORDS)} {fold} {i}" + (added if fold != "train" else "") for i in range(5)]
        rows = [{"text": text, "document": text[:60], "fold": fold} for fold in folds for text in folds[fold]]
        (tmp_path / name).mkdir()
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / name / "documents.parquet")
        made.append(run_tokenizer(tmp_path / name, tmp_path / f"{name} out"))
    assert made[0] == made[1]
    assert b"xylophone" not in made[1]["tokenizer.json"]


def run_tokenizer(artifact: Path, out: Path) -> dict[str, bytes]:
    from lab.steps.text import TokenizerParams, _run_tokenizer

    out.mkdir()
    _run_tokenizer(TokenizerParams("", 300), {"corpus": artifact}, out, lambda _: None)
    return {file.name: file.read_bytes() for file in sorted(out.iterdir())}


def test_transformers_loads_it_and_encodes_alike(tokenizer_folder: Path) -> None:
    ours, special = load_tokenizer(tokenizer_folder)
    theirs = transformers.AutoTokenizer.from_pretrained(tokenizer_folder)
    assert special == {"vocab_size": 350, "bos": theirs.bos_token_id, "eos": theirs.eos_token_id}
    assert len(theirs) == 350
    for text in [*TEXTS, "", " ", "unseen ☂ \x00 words\r\n", "a  b   c"]:
        ids = ours.encode(text).ids
        assert theirs(text)["input_ids"] == ids
        assert ours.decode(ids) == theirs.decode(ids) == text


def test_token_bytes_join_to_the_text(tokenizer_folder: Path) -> None:
    tokenizer, special = load_tokenizer(tokenizer_folder)
    entries = token_bytes(tokenizer)
    assert len(entries) == special["vocab_size"] and entries[special["eos"]] == b""
    for text in [*TEXTS, "tab\t and \x7f \x80 ÿ 海 ☂ \U0001f600"]:
        assert b"".join(entries[i] for i in tokenizer.encode(text).ids) == text.encode()
    assert {bytes([byte]) for byte in range(256)} <= set(entries), "every byte has a token: nothing is unknown"


def test_a_pretrained_tokenizer_is_copied(tokenizer_folder: Path, tmp_path: Path) -> None:
    copy_tokenizer(str(tokenizer_folder), None, tmp_path)
    ours, special = load_tokenizer(tmp_path)
    assert special == load_tokenizer(tokenizer_folder)[1]
    assert ours.encode(TEXTS[3]).ids == load_tokenizer(tokenizer_folder)[0].encode(TEXTS[3]).ids


def test_a_tokenizer_that_is_not_byte_level_is_refused(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models

    tokenizer = Tokenizer(models.WordLevel({"hello world": 0, "海": 1}, unk_token="海"))
    with pytest.raises(InputError, match="not byte-level BPE"):
        token_bytes(tokenizer)
    with pytest.raises(InputError, match="holds no tokenizer files"):
        copy_tokenizer(str(tmp_path), None, tmp_path)


# --- rows ----------------------------------------------------------------------------------------------------------


def cut_rows(documents: list[list[int]], *, eos: int, positions: int, vocab_size: int, layout: str = "blocks") -> Rows:
    """The rows that are written of these documents."""
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
    """Tokens and owners one after another, by plain lists; a last incomplete row of blocks is dropped."""
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


def test_recipe_rows_are_the_plain_concatenation() -> None:
    rng = generator(1)
    corpora = {HUMAN: rng.integers(99, size=(7, 3)), 0: rng.integers(99, size=(5, 3)), 1: rng.integers(99, size=(4, 3))}
    recipe = Recipe((Part(HUMAN, 2, 6, repeat=2), Part(1, 0, 4), Part(0, 3, 3), Part(0, 4, 5)))
    plain = np.concatenate([corpora[HUMAN][2:6], corpora[HUMAN][2:6], corpora[1], corpora[0][4:5]])
    rows = RecipeRows(recipe, corpora)
    assert len(rows) == len(plain) == recipe.rows
    order = rng.permutation(len(plain))
    assert np.array_equal(rows.take(order), plain[order])


def test_recipe_rows_count_what_they_hand_out() -> None:
    """Places 0-3 are human, 4-7 the same again, 8-10 sample 0."""
    recipe = Recipe((Part(HUMAN, 0, 4, repeat=2), Part(0, 0, 3)))
    rows = RecipeRows(recipe, {HUMAN: np.zeros((4, 2), np.uint16), 0: np.ones((3, 2), np.uint16)})
    assert rows.fed_by_origin() == {"-1": 0, "0": 0}
    rows.take(np.array([0, 5, 8, 8]))
    rows.take(np.array([10]))
    assert rows.fed_by_origin() == {"-1": 2, "0": 3}


def test_a_corpus_artifact_loads_with_datasets_and_reads_as_text(tokenizer_folder: Path, tmp_path: Path) -> None:
    tokenizer, special = load_tokenizer(tokenizer_folder)
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
