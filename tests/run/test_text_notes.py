"""What a run says of its text."""

from pathlib import Path

import pytest
from support.tiny import tiny_config

from lab.loop import Study, build
from lab.run.preflight import prepare_human
from lab.run.text_notes import marks_notes, special_notes
from lab.steps.text import CORPUS
from lab.store.step import Step
from lab.store.store import Store
from lab.text.formats.marks import MARK

pytestmark = pytest.mark.fast


def corpus_of(study: Study) -> list[Step]:
    return [step for step in study.human if step.name == CORPUS.name]


def test_a_run_says_how_many_marks_were_dropped_and_not_of_none(tmp_path: Path, corpus_file: Path) -> None:
    lines = corpus_file.read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "joined.jsonl").write_text(lines[0] + "".join(MARK + line for line in lines[1:]), encoding="utf-8")
    plain, joined = (build(tiny_config(path)) for path in (corpus_file, tmp_path / "joined.jsonl"))
    store = Store(tmp_path / "store")
    assert marks_notes(joined, store) == [], "it is not read yet"
    for study in (plain, joined):
        prepare_human(store, corpus_of(study), lambda _: None)
    assert marks_notes(plain, store) == []
    (said,) = marks_notes(joined, store)
    assert said.endswith(f"joined.jsonl: dropped {len(lines) - 1} byte order marks (U+FEFF) inside the text")


def test_text_of_the_hub_that_an_older_lab_read_with_marks_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its commit is the same, and so is its key."""
    import datasets

    texts = [f"Note {i}: the ferry left the harbour {i * i} times." for i in range(40)]
    data = datasets.Dataset.from_dict({"text": [MARK + text for text in texts]})
    monkeypatch.setattr(datasets, "load_dataset", lambda *names, **options: data)
    monkeypatch.setattr("lab.text.corpus.hub_revision", lambda kind, name, revision, field: f"{name}@{revision}")
    study = build(tiny_config("someone/tales", corpus__domain=None, corpus__author=None, corpus__group=None))
    new, old = Store(tmp_path / "new"), Store(tmp_path / "old")
    prepare_human(new, corpus_of(study), lambda _: None)
    assert "dropped 40 byte order marks" in marks_notes(study, new)[0]
    monkeypatch.setattr("lab.text.formats.marks.Marks.out_of_batch", lambda self, batch: batch)
    prepare_human(old, corpus_of(study), lambda _: None)
    assert "was read by an older lab, with byte order marks" in marks_notes(study, old)[0]


def test_special_tokens_that_an_older_lab_gave_no_bytes_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tokenizers import AddedToken

    from lab.text.tokenizer import save_tokenizer, train_tokenizer

    tokenizer = train_tokenizer(["old rivers 0123456789 "], 260)
    tokenizer.add_tokens([AddedToken("<s>", special=True)])
    (tmp_path / "words").mkdir()
    save_tokenizer(tokenizer, tmp_path / "words")
    (tmp_path / "a.jsonl").write_text("".join(f'{{"text": "<s> {i} old rivers <s>"}}\n' for i in range(400)))
    none = dict.fromkeys(("corpus__domain", "corpus__author", "corpus__group"))
    study = build(tiny_config(tmp_path / "a.jsonl", tokenizer={"pretrained": str(tmp_path / "words")}, **none))
    rows = [step for step in study.human if step.name in ("corpus", "tokenizer", "rows")]
    new, old = Store(tmp_path / "new"), Store(tmp_path / "old")
    prepare_human(new, rows, lambda _: None)
    assert special_notes(study, new) == []
    monkeypatch.setattr("lab.steps.text.spell_special_tokens", lambda folder: None)
    prepare_human(old, rows, lambda _: None)
    (said,) = special_notes(study, old)
    assert "for which an older lab counted no bytes: bits per byte are too high" in said
