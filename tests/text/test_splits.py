"""A corpus that comes with its own splits: files, splits of a DatasetDict or of the hub, or values of a column."""

import json
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
from support.hostile import call
from support.tiny import tiny, tiny_config, write_study

from lab.cli.terminal import STOPPED
from lab.config.text import CorpusConfig
from lab.errors import InputError, Stopped
from lab.loop import build
from lab.report.corpus import describe
from lab.steps.text import CORPUS, fold_tokens
from lab.text.corpus import check_tokens, identity, read_documents
from lab.text.files import find_files
from lab.text.folds import OF_TRAIN

LETTERS = str.maketrans("0123456789", "abcdefghij")
TEXTS = [" ".join(f"{i:02}{j:02}".translate(LETTERS) for j in range(21)) for i in range(60)]
"""60 documents of 21 words each, and no word twice."""
SPLITS = {"learn": TEXTS[:40], "tune": TEXTS[40:46], "score": TEXTS[46:]}
NAMES = {"train": "learn", "validation": "tune", "test": "score"}


def write_files(folder: Path, splits: dict[str, list[str]]) -> Path:
    folder.mkdir(parents=True)
    for name, texts in splits.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return folder


def of_files(folder: Path, splits: dict[str, list[str]]) -> CorpusConfig:
    names = {fold: f"{name}.jsonl" for fold, name in NAMES.items()}
    return CorpusConfig(path=str(write_files(folder / "files", splits)), splits=names, tokens=1)


def of_folders(folder: Path, splits: dict[str, list[str]]) -> CorpusConfig:
    for name, texts in splits.items():
        (folder / "folders" / name).mkdir(parents=True)
        for number, text in enumerate(texts):
            (folder / "folders" / name / f"{number:02}.txt").write_text(text)
    return CorpusConfig(path=str(folder / "folders"), splits=NAMES, tokens=1)


def of_saved(folder: Path, splits: dict[str, list[str]]) -> CorpusConfig:
    parts = {name: datasets.Dataset.from_dict({"text": texts}) for name, texts in splits.items()}
    datasets.DatasetDict(parts).save_to_disk(folder / "saved")
    return CorpusConfig(path=str(folder / "saved"), splits=NAMES, tokens=1)


def of_column(folder: Path, splits: dict[str, list[str]]) -> CorpusConfig:
    rows = [{"text": text, "part": name} for name, texts in splits.items() for text in texts]
    rows = rows[::2] + rows[1::2]  # the splits need not follow one another
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return CorpusConfig(path=str(folder / "rows.jsonl"), splits={**NAMES, "column": "part"}, tokens=1)


Write = Callable[[Path, dict[str, list[str]]], CorpusConfig]
KINDS: list[Write] = [of_files, of_folders, of_saved, of_column]
each_kind = pytest.mark.parametrize("write", KINDS, ids=lambda write: write.__name__)


def folds(config: CorpusConfig) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for row in read_documents(config).to_pylist():
        found.setdefault(row["fold"], []).append(row["text"])
    return {fold: sorted(texts) for fold, texts in found.items()}


@each_kind
def test_held_out_folds_are_the_corpus_s_own_and_its_train_split_is_divided(tmp_path: Path, write: Write) -> None:
    found = folds(write(tmp_path, SPLITS))
    assert (found["validation"], found["test"]) == (sorted(SPLITS["tune"]), sorted(SPLITS["score"]))
    assert sorted(found["train"] + found["reference"]) == sorted(SPLITS["learn"])
    assert len(found["train"]) / 40 == pytest.approx(OF_TRAIN[0], abs=1 / 40) and sum(OF_TRAIN) == 1
    assert found == folds(of_files(tmp_path / "again", SPLITS)), "whatever kind of splits they are"


def test_splits_of_a_hub_data_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def load(path: str, subset: str, split: str, revision: str | None) -> Any:
        return datasets.Dataset.from_dict({"text": SPLITS[split]})

    monkeypatch.setattr(datasets, "load_dataset", load)
    config = CorpusConfig(path="some/texts", splits=NAMES, tokens=1)
    assert folds(config) == folds(of_files(tmp_path, SPLITS))


@each_kind
def test_copies_within_a_fold_are_left_out_and_those_between_folds_are_counted(tmp_path: Path, write: Write) -> None:
    """Two test documents of 14 are copies of training text: so are 2 x 9 of 14 x 9 sequences (21 words each)."""
    trained = folds(write(tmp_path, SPLITS))["train"][:2]
    (tmp_path / "again").mkdir()
    leaky = {**SPLITS, "score": SPLITS["score"][2:] + trained, "tune": SPLITS["tune"] + SPLITS["tune"][:3]}
    config = write(tmp_path / "again", leaky)
    assert folds(config)["test"] == sorted(leaky["score"])
    said = describe(config)
    assert said["rows"] == {"rows": 63, "without_text": 0, "copies": 3, "marks": 0} and said["groups_on_two_sides"] == 2
    assert said["shared"]["validation"] == {"documents": 6, "copies": 0, "overlap": 0}
    assert said["shared"]["test"] == {"documents": 14, "copies": 2, "overlap": pytest.approx(2 / 14)}
    assert "of the test fold 2 of 14 documents and 14.29% of the 13-word sequences" in said["lines"][-2]
    assert not any("instead of" in line for line in said["lines"]), "its sizes are the corpus's own"


def test_groups_of_the_train_split_stay_on_one_side(tmp_path: Path) -> None:
    rows = [
        {"text": text, "part": name, "book": f"{name} {i // 4}"}
        for name, texts in SPLITS.items()
        for i, text in enumerate(texts)
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = CorpusConfig(path=str(tmp_path / "a.jsonl"), group="book", splits={**NAMES, "column": "part"}, tokens=1)
    sides = {(row["group"], row["fold"]) for row in read_documents(config).to_pylist()}
    assert max(Counter(group for group, _ in sides).values()) == 1


def test_identity_hears_in_which_split_a_file_lies(tmp_path: Path) -> None:
    """The same bytes in the same order, with the last file of one folder as the first of the next."""
    config = of_folders(tmp_path, SPLITS)
    before, folder = identity(config), tmp_path / "folders"
    (folder / "learn" / "39.txt").rename(folder / "tune" / "0-.txt")
    assert [file.path.read_text() for file in find_files(config).files] == TEXTS
    assert identity(config) != before


def test_keys_without_splits_have_no_trace_of_them(tmp_path: Path, corpus_file: Path) -> None:
    (plain,) = (step for step in build(tiny_config(corpus_file)).steps if step.name == CORPUS.name)
    assert "splits" not in plain.params["corpus"]
    splits = {"train": "sea", "validation": "x", "test": "land", "column": "domain"}
    own = tiny_config(corpus_file, corpus__splits=splits)
    (step,) = (step for step in build(own).steps if step.name == CORPUS.name)
    assert step.key != plain.key and step.params["corpus"]["splits"]["column"] == "domain"


def test_sizes_are_those_of_the_splits(tmp_path: Path, corpus_file: Path) -> None:
    """No more tokens than the train file has bytes; and a plan estimates each fold from its own file."""
    config = of_files(tmp_path, SPLITS)
    size = {name: (tmp_path / "files" / f"{name}.jsonl").stat().st_size for name in SPLITS}
    check_tokens(config.model_copy(update={"tokens": size["learn"]}), 8)
    with pytest.raises(InputError, match="holds at most"):
        check_tokens(config.model_copy(update={"tokens": size["learn"] + 2}), 8)
    study = tiny_config(corpus_file)
    study = study.model_copy(update={"corpus": config})
    held = {fold: fold_tokens(study, fold) for fold in ("train", "reference", "validation", "test")}
    assert held["test"] / held["validation"] == pytest.approx(size["score"] / size["tune"])
    assert (held["train"] + held["reference"]) / held["test"] == pytest.approx(size["learn"] / size["score"])
    unknown = study.model_copy(update={"corpus": of_column(tmp_path, SPLITS)})
    assert fold_tokens(unknown, "test") == math.inf


def refusal(path: Path, **splits: str) -> str:
    with pytest.raises(InputError) as caught:
        read_documents(CorpusConfig(path=str(path), splits={**NAMES, **splits}, tokens=1))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_unknown_names_and_empty_folds_are_refused_in_one_line(tmp_path: Path) -> None:
    files, rows = write_files(tmp_path / "files", SPLITS), Path(of_column(tmp_path, SPLITS).path)
    saved = Path(of_saved(tmp_path, SPLITS).path)
    assert f"names learn, and corpus.path {files} holds learn.jsonl, score.jsonl, tune.jsonl" in refusal(files)
    assert "is no folder: give the names of files" in refusal(rows)
    assert "has no split dev" in refusal(saved, validation="dev")
    said = refusal(rows, test="dev", column="part")
    assert 'has "score" in column "part", and corpus.splits names learn, tune, dev' in said
    assert 'no column "prt" (corpus.splits.column) - did you mean "part"' in refusal(rows, column="prt")
    empty = of_column(tmp_path, {"learn": TEXTS[:40], "tune": [" "], "score": TEXTS[40:]})
    assert "corpus.splits leaves no text for validation;" in refusal(Path(empty.path), column="part")
    one = of_column(tmp_path, {"learn": TEXTS[:1], "tune": TEXTS[1:2], "score": TEXTS[2:]})
    assert "leaves no text for reference; its train split is divided" in refusal(Path(one.path), column="part")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--splits", "a,b"], "--splits is a,b: give three names"),
        (["--splits-column", "part"], "--splits is missing: give three names"),
        (["--splits", "a,a,b"], "error: splits: train, validation and test are a, a, b: give three different names"),
        (["--splits", "a,b,c", "--split", "d"], "error: split and splits are both given"),
    ],
    ids=str,
)
def test_options_of_lab_corpus_are_checked(tmp_path: Path, options: list[str], said: str) -> None:
    write_files(tmp_path / "files", SPLITS)
    ended = call("corpus", "files", *options, cwd=tmp_path)
    assert ended.code == 2 and said in ended.err and not ended.fault()


def test_all_three_are_required(tmp_path: Path) -> None:
    write_study(tmp_path / "s.yaml", tiny("a.jsonl", corpus__splits={"train": "a", "test": "b"}))
    ended = call("plan", "s.yaml", cwd=tmp_path)
    assert ended.code == 2 and '"corpus.splits.validation" is missing' in ended.err


def stopped(*_: Any, **__: Any) -> None:
    raise Stopped


def test_a_run_says_what_the_folds_share_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The overlap is measured once, when the text is read, and the next run says it again."""
    monkeypatch.setattr("lab.environment.clean", lambda: [])
    monkeypatch.setattr("lab.run.executors.execute", stopped)
    write_files(tmp_path / "files", {**SPLITS, "score": SPLITS["score"] + TEXTS[:40]})
    names = {fold: f"{name}.jsonl" for fold, name in NAMES.items()}
    fields = tiny("files") | {"corpus": {"path": "files", "splits": names, "tokens": 512}}
    write_study(tmp_path / "s.yaml", fields)
    trained = len(folds(CorpusConfig(path=str(tmp_path / "files"), splits=names, tokens=1))["train"])
    for _ in range(2):
        ended = call("run", "s.yaml", cwd=tmp_path)
        assert ended.code == STOPPED, ended.err
        said = " ".join(ended.err.split())
        assert (
            "note: corpus files comes with its own splits: the train fold holds, of the validation fold 0 of 6 " in said
        )
        assert f"{trained} of 54 documents" in said
