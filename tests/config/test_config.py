"""Studies as data: strict keys, strict types, overrides, and errors of one line that say what to do."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel
from support.tiny import tiny, write_study

from lab.config.faults import all_fields, models_in
from lab.config.files import difference, load_study, parse_study, study_names
from lab.config.study import MetricsConfig, StudyConfig
from lab.config.sweep import arms
from lab.config.text import CorpusConfig, SourceConfig
from lab.errors import LONGEST_MESSAGE, InputError
from lab.loop import build
from lab.run.folder import FREE


def refusal(study: dict[str, Any]) -> str:
    with pytest.raises(InputError) as caught:
        parse_study(study)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", study_names())
def test_shipped_studies_are_whole(name: str) -> None:
    study = load_study(name)
    assert study.name == name
    assert arms(study)[0].config.regimes[0].name == "human", "the control comes first"


def test_smoke_and_quick_are_shipped() -> None:
    assert {"smoke", "quick"} <= set(study_names())


def test_a_resolved_study_reads_back_as_itself() -> None:
    study = load_study("quick")
    assert parse_study(yaml.safe_load(yaml.safe_dump(study.model_dump(mode="json")))) == study


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"trian": 1}, 'unknown key "trian" - did you mean "train"?'),
        ({"train__speed": 1}, 'unknown key "train.speed"; allowed here: tokens, epochs, steps, batch_rows, lr,'),
        ({"train__batch_row": 1}, 'unknown key "train.batch_row" - did you mean "batch_rows"?'),
        ({"model__n_heads": 1}, 'unknown key "model.n_heads" - did you mean "n_head"?'),
        ({"a\nb": 1}, 'unknown key "a b"'),
        ({"train__tokens": "many"}, "\"train.tokens\" is 'many': expected a whole number"),
        ({"train__tokens": "4e-5"}, "expected a whole number, such as 51200, 51_200, 5e4 or 50k"),
        ({"train__tokens": "50.000"}, "expected a whole number"),
        ({"train__tokens": "1,2"}, "expected a whole number"),
        ({"train__warmup": "5%"}, "expected a number: write 0.05 for 5 %"),
        ({"train__warmup": "0,5"}, "expected a number: write a decimal point, 0.5"),
        ({"train__compile": 3}, '"train.compile" is 3: expected true or false'),
        ({"corpus__path": 3}, '"corpus.path" is 3: expected text'),
        ({"temperature": 0.7}, 'unknown key "temperature": write sample.temperature'),
        ({"train__vocab_size": 9}, 'unknown key "train.vocab_size": write tokenizer.vocab_size'),
        ({"seed": [0]}, 'unknown key "seed" - did you mean "seeds"?'),
        ({"regimes": ["human", {"mix": 0.5}]}, '"regimes entry 2" is {"mix": 0.5}: options have names: expected'),
        ({"regimes": [{"mix": {"human": [1]}}]}, '"regimes entry 1.options.human" is [1]: expected a number, true'),
        ({"metrics__extra": ["a:b", "a:b"]}, '"metrics.extra" is ["a:b", "a:b"]: it has a:b more than once'),
        ({"sweep": {"sample.temperature": 0.7}}, '"sweep" holds sample.temperature: 0.7: give a list of values'),
        ({"sweep": {"sample.temperature": []}}, '"sweep" holds sample.temperature: []: give a list of values'),
        ({"sweep": [{"sample.top_k": 5}, 3]}, '"sweep entry 2" is 3: expected fields, such as'),
        ({"sweep": 3}, '"sweep" is 3: expected fields with values, such as {sample.temperature: [0.7, 1]}'),
        ({"train__tokens": 640.5}, '"train.tokens" is 640.5: expected a whole number'),
        ({"train__tokens": True}, '"train.tokens" is true: expected a whole number'),
        ({"train__lr": True}, '"train.lr" is true: expected a number'),
        ({"train__warmup": True}, '"train.warmup" is true: expected a number'),
        ({"train__lr": "fast"}, "\"train.lr\" is 'fast'"),
        ({"train__lr": float("nan")}, '"train.lr" is nan: input should be a finite number'),
        ({"train__lr": float("inf")}, '"train.lr" is inf: input should be a finite number'),
        ({"train__lr": 0}, '"train.lr" is 0: input should be greater than 0'),
        ({"train__beta1": 1.0}, '"train.beta1" is 1.0: input should be less than 1'),
        ({"train": 3}, '"train" is 3: expected a group of fields'),
        ({"seeds": 3}, '"seeds" is 3: expected a list, such as [0, 1]'),
        ({"seeds": []}, '"seeds" is []'),
        ({"seeds": [-1]}, '"seeds entry 1" is -1'),
        ({"seeds": [2, 1, 2]}, "seeds has 2 more than once; leave each once"),
        ({"regimes": "human"}, "\"regimes\" is 'human': expected a list, such as [human, replace, "),
        ({"regimes": ["human", "human"]}, "regimes has human more than once"),
        ({"generations": 0}, '"generations" is 0: input should be greater than 0'),
        ({"model__n_head": 3}, "n_embd 16 is not divisible by n_head 3; n_head could be 1, 2, 4"),
        ({"train__tokens": 15}, "train.tokens is 15, less than one row of model.n_positions = 16 tokens"),
        ({"train__validation_tokens": 15}, "train.validation_tokens is 15, less than one row"),
        ({"corpus__tokens": 15}, "corpus.tokens is 15, less than one row"),
        ({"sample__tokens": 15}, "sample.tokens is 15, less than one row"),
        ({"metrics__tokens": 15}, "metrics.tokens is 15, less than one row"),
        ({"metrics__test_tokens": 15}, "metrics.test_tokens is 15, less than one row"),
        (
            {"metrics__tokens": 513},
            "metrics.tokens 513 must not exceed the 512 tokens of a sample or corpus.tokens 512",
        ),
        ({"tokenizer": {}}, "give exactly one of vocab_size"),
        ({"tokenizer__vocab_size": 256}, '"tokenizer.vocab_size" is 256'),
        ({"compute__device": "tpu"}, "\"compute.device\" is 'tpu': input should be 'auto', 'cpu' or 'cuda'"),
        ({"train__truncate": 1e-300}, '"train.truncate" is 1e-300: input should be greater than or equal to 0.01'),
        ({"train__truncate": 1.1}, '"train.truncate" is 1.1: input should be less than or equal to 1'),
        (
            {"train__token_weights": "power:0.5"},
            "a group of fields: YAML reads it as one word: write a blank after the",
        ),
        ({"regimes": [{"mix": {"human:0.25": None}}]}, 'write a blank after the colon, "human: 0.25"'),
        ({"name": "../up"}, "\"name\" is '../up'"),
        ({"name": "store"}, 'name is "store"'),
    ],
    ids=str,
)
def test_refused_in_one_line(change: dict[str, Any], said: str) -> None:
    assert said in refusal(tiny("tales.jsonl", **change))


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (
            "train.token_weights={power:0.5, cap: 10}",
            'unknown key "train.token_weights.power:0.5": YAML reads it as one word: write a blank after the colon, '
            '"power: 0.5"',
        ),
        (
            "train.token_weights={power:0.5}",
            'unknown key "train.token_weights.power:0.5": YAML reads it as one word: write a blank after the colon, '
            '"power: 0.5"; "train.token_weights.cap" is missing from the study',
        ),
        ("metrics={tokens:256, test_tokens: 128}", 'write a blank after the colon, "tokens: 256"'),
    ],
)
def test_a_colon_without_a_blank_is_explained(override: str, said: str) -> None:
    """YAML reads {power:0.5} as the key "power:0.5" without a value; the field that was meant is not missing."""
    with pytest.raises(InputError) as caught:
        load_study("smoke", [override])
    assert str(caught.value).endswith(said) or said in str(caught.value)
    assert '"train.token_weights.power"' not in str(caught.value) and '"metrics.tokens"' not in str(caught.value)


@pytest.mark.parametrize("train", [{"truncate": 0.5}, {"token_weights": {"power": 0.5, "cap": 10}}, {"lr": "fast"}])
def test_training_of_a_counting_model_is_no_question_of_missing_fields(train: dict[str, Any]) -> None:
    model = {"kind": "ngram", "order": 2, "smoothing": "none", "n_positions": 16}
    study = tiny("tales.jsonl", model=model, train=train)
    (name,) = train
    said = f"train.{name}: for networks only; model.kind ngram is fitted at once: leave train out (--set train=null)"
    assert refusal(study) == said
    assert refusal(study | {"seed": 1}).startswith(f'{said}; unknown key "seed"')


def test_all_faults_are_said_at_once() -> None:
    study = tiny("tales.jsonl", train__lr=0, model__n_head=3, generations="many", sample={"shard_rows": 20})
    study["seed"] = study.pop("seeds")
    del study["metrics"], study["tokenizer"], study["corpus"]["path"]
    assert refusal(study) == (
        'unknown key "seed" - did you mean "seeds"?; "corpus.path", "metrics" (tokens, test_tokens), "tokenizer" are '
        "missing from the study; lab new FILE writes a study with every field; \"generations\" is 'many': expected a "
        "whole number, such as 51200, 51_200, 5e4 or 50k; model: n_embd 16 is not divisible by n_head 3; n_head could "
        'be 1, 2, 4; "train.lr" is 0: input should be greater than 0; sample: the size of a generation\'s sample is '
        "exactly one of tokens and rows"
    )


def test_one_missing_section_says_what_it_holds() -> None:
    study = tiny("tales.jsonl")
    del study["train"]
    assert refusal(study | {"seeds": []}).startswith('"train" (batch_rows, lr, validation_tokens) is missing from the')


def test_a_list_of_wrong_entries_is_not_called_empty() -> None:
    said = refusal(tiny("tales.jsonl", seeds=["a", -1]))
    assert '"seeds entry 2" is -1' in said and "at least one entry" not in said


def test_all_faults_between_sections_are_said_at_once() -> None:
    said = refusal(tiny("tales.jsonl", seeds=[1, 1], metrics__test_tokens=3, metrics__tokens=600, tokenizer=None))
    parts = ("more than once", "less than one row", "must not exceed", "tokenizer is")
    assert [said.count(part) for part in parts] == [1] * 4


def test_very_many_faults_are_counted() -> None:
    said = refusal(tiny("tales.jsonl", seeds=[-1] * 500))
    assert said.endswith(" more)") and len(said) < LONGEST_MESSAGE


@pytest.mark.parametrize(
    ("written", "number"),
    [
        *(("5e4", 50000), ("51,200", 51200), ("51_200", 51200), ("51 200", 51200), ("1,051,200", 1051200)),
        *(("50k", 50000), ("2M", 2000000), ("1.5M", 1500000), ("1B", 10**9), ("5E+4", 50000), ("1.5e3", 1500)),
        ("51'200", 51200),
    ],
)
def test_whole_numbers_as_people_write_them(tmp_path: Path, written: str, number: int) -> None:
    path = write_study(tmp_path / "tiny.yaml", tiny("tales.jsonl"))
    path.write_text(path.read_text().replace("tokens: 640", f"tokens: {written}"))
    given = load_study(str(path)).train, load_study("smoke", [f"train.tokens={written}"]).train
    assert [train and train.tokens for train in given] == [number] * 2


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("{tokens: 51,200}", "write 51_200, not 51,200"),
        ("{tokens: 51,200, lr: 1}", "write 51_200, not 51,200"),
        ("{tokens: 010}", "010 is no decimal number in YAML"),
        ("{tokens: 1:30}", "1:30 is no decimal number in YAML"),
    ],
)
def test_numbers_that_yaml_takes_for_others(value: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        load_study("smoke", [f"train={value}"])


def test_options_of_regimes_are_numbers_without_a_point_too(tmp_path: Path) -> None:
    assert load_study("smoke", ["regimes=[{mix: {human: 1e-1}}]"]).regimes[0].options == {"human": 0.1}


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (
            "50.000",
            '"corpus.tokens" is 50.0: expected a whole number, without a point: write 50, or 50_000 if the point',
        ),
        ("51.200", "is 51.2: expected a whole number, without a point: write 51_200 if the point parts thousands"),
        ("1.051.200", "expected a whole number, without a point: write 1_051_200"),
        ("51200.0", "expected a whole number, without a point: write 51_200"),
        ("0.12345", "expected a whole number, without a point"),
        (".inf", "expected a whole number, without a point"),
        ("1e300", "expected a whole number, without a point"),
        ("1e90", "less than or equal to"),
    ],
)
def test_a_whole_number_with_a_point_is_not_guessed_at(written: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        load_study("smoke", [f"corpus.tokens={written}"])
    assert said in str(caught.value)


def test_a_number_with_an_exponent_is_whole_where_it_can_be() -> None:
    read = load_study("smoke", ["corpus.tokens=5.12e+4", "metrics.test_tokens=1e4", "train.lr=1e-2"])
    assert (read.corpus.tokens, read.metrics.test_tokens, read.train.lr) == (51_200, 10_000, 0.01)


def test_no_message_of_any_field_holds_a_name_of_pythons(tmp_path: Path) -> None:
    """Every field is set to each of some wrong values."""
    for name in all_fields():
        for value in ("[[1]]", "{a: {b: 1}}", "x y", "-1.5", "null"):
            try:
                load_study("smoke", [f"{name}={value}"])
            except InputError as error:
                words = ("dict", "tuple", "valid integer", "NoneType", "str]", "model_", "Config", "pydantic")
                assert not [word for word in words if word in str(error)], f"{name}={value}: {error}"


@pytest.mark.parametrize(
    ("override", "field", "value"),
    [
        ("seeds=[3,4]", "seeds", (3, 4)),
        ("train.lr=1e-3", "train.lr", 1e-3),
        ("train.lr=0.25", "train.lr", 0.25),
        ("train.tokens=1_000", "train.tokens", 1000),
        ("corpus=some/text.txt", "corpus.path", "some/text.txt"),
        ("corpus.domain=null", "corpus.domain", None),
        ("note=a=b", "note", "a=b"),
        ("compute={threads: 2}", "compute.threads", 2),
    ],
)
def test_overrides(tmp_path: Path, override: str, field: str, value: Any) -> None:
    node: Any = load_study(str(write_study(tmp_path / "tiny.yaml", tiny("tales.jsonl"))), [override])
    for name in field.split("."):
        node = getattr(node, name)
    assert node == value


def test_later_overrides_win() -> None:
    assert load_study("smoke", ["generations=2", "generations=4"]).generations == 4


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.lr", "is not of the form field=value"),
        ("=3", "is not of the form field=value"),
        ("seeds=[0", "the value is not YAML"),
        ("name=2024-13-45", "the value is not YAML: month must be in 1..12"),
        ("train.lr=0x_", "the value is not YAML"),
        ("train.lr.x=1", "lr is a value, not a group of fields"),
        ("train.=1", 'unknown key "train."'),
        ("sample.token=1", 'unknown key "sample.token" - did you mean "tokens"?'),
    ],
)
def test_overrides_refused(override: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        load_study("smoke", [override])
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("study", "said"),
    [
        ("smok", 'no study "smok" - did you mean "smoke"?'),
        ("xyzzy", "or give a YAML file"),
        ("no/such.yaml", "no study file no/such.yaml; shipped studies: "),
    ],
)
def test_unknown_studies(study: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        load_study(study)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("my-study.yml", "my-study.yaml"),
        ("my-study", "my-study.yaml"),
        ("mine/my-study.yaml", "my-study.yaml"),
        ("my-stody.yaml", "my-study.yaml"),
        ("longer.yml", "studies/longer.yaml"),
        ("nowhere/longer", "studies/longer.yaml"),
        ("smoke.yaml", "smoke"),
        ("studies/smoke.yml", "smoke"),
    ],
)
def test_a_study_file_of_another_suffix_or_folder_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, meant: str
) -> None:
    """One file is named, and no list of studies; for `extends` too, whose files are relative to the study's folder."""
    (tmp_path / "studies").mkdir()
    for name in ("my-study.yaml", "studies/longer.yaml"):
        write_study(tmp_path / name, tiny("tales.jsonl"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        load_study(given)
    assert str(caught.value).endswith(f' - did you mean "{meant}"?')
    write_study(tmp_path / "child.yaml", {"extends": given})
    monkeypatch.chdir("/")
    with pytest.raises(InputError) as caught:
        load_study(str(tmp_path / "child.yaml"))
    assert str(caught.value).endswith(f' - did you mean "{meant}"?')


@pytest.mark.parametrize("content", [b"a: [1", b"- 1\n- 2\n", b"", b"\xff\xfe\x00", b"day: 2024-13-45\n", b"[" * 2000])
def test_unreadable_studies(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "study.yaml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"study\.yaml") as caught:
        load_study(str(path))
    assert "\n" not in str(caught.value)


def test_rows_are_rounded_down() -> None:
    """16 positions: 47 tokens hold 2 whole rows, 48 hold 3."""
    study = parse_study(tiny("tales.jsonl"))
    assert (study.rows(47), study.rows(48)) == (2, 3)


def test_a_study_cannot_be_changed() -> None:
    study = parse_study(tiny("tales.jsonl"))
    with pytest.raises(ValueError, match="frozen"):
        study.train.lr = 1.0


def test_difference_by_hand() -> None:
    old = {"a": 1, "b": {"c": [1, 2], "d": None}, "e": "x"}
    new = {"a": 1, "b": {"c": [1, 3], "d": None}, "f": "y"}
    assert difference(old, new) == ["b.c: [1, 2] -> [1, 3]", "e: x -> None", "f: None -> y"]
    assert difference(old, old) == []


def test_compute_has_defaults_and_sizes_have_none() -> None:
    """A number that decides a result is never supplied in silence."""
    assert not StudyConfig.model_fields["compute"].is_required()
    for part in (MetricsConfig, CorpusConfig, SourceConfig):
        assert part.model_fields["tokens"].is_required()


def sections(model: type[BaseModel], seen: set[type[BaseModel]]) -> set[type[BaseModel]]:
    """A section of a study and all sections in it."""
    if model not in seen:
        seen.add(model)
        for field in model.model_fields.values():
            for part in models_in(field.annotation):
                sections(part, seen)
    return seen


@pytest.mark.parametrize("section", sorted(sections(StudyConfig, set()), key=lambda each: each.__name__))
def test_every_field_says_what_it_is(section: type[BaseModel]) -> None:
    """The page of all fields is made from these sentences."""
    assert section.__doc__
    for name, field in section.model_fields.items():
        text = field.description or ""
        assert text.endswith(".") and text[0].isalnum(), f"{section.__name__}.{name}: {text}"


def test_what_a_paper_says_changes_no_key() -> None:
    """`published`, `note` and `name` are for people: two studies that differ in them share every artifact."""
    with_paper = load_study("kazdan-2024-mini")
    without = with_paper.model_copy(update={"published": None, "note": "", "name": "other"})
    assert with_paper.published and FREE["published"] is True
    keys = [{step.key for step in build(config).steps} for config in (with_paper, without)]
    assert keys[0] == keys[1] and len(keys[0]) > 100
