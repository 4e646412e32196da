"""Bad and hostile studies, names and folders: one line, exit code 2, nothing written, nothing run, no time lost."""

import resource
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from support.hostile import EXTRA, TRAP, VALUES, bomb, call, fields
from support.tiny import lab, listing, tiny, write_study

from lab.config import strict_yaml as strictyaml
from lab.config.files import load_study, parse_study
from lab.config.study import StudyConfig
from lab.config.sweep import MOST_ARMS
from lab.errors import LONGEST_MESSAGE, InputError, printable
from lab.loop import MOST_STEPS, build


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, corpus_file: Path) -> Path:
    """Make a working directory with a good study, and modules that a study could name."""
    folder = tmp_path_factory.mktemp("desk")
    write_study(folder / "s.yaml", tiny(corpus_file))
    (folder / "hostile_raises.py").write_text('raise RuntimeError("a\\nb")')
    (folder / "hostile_exits.py").write_text("import sys\nsys.exit(0)")
    (folder / "hostile_own.py").write_text("x = 3\ndef f(lineage): pass\nclass C: pass\n")
    return folder


FIELDS = [*fields(tiny("tales.jsonl")), *EXTRA]


@pytest.mark.parametrize("number", range(len(FIELDS)), ids=FIELDS)
def test_no_value_of_a_field_ends_in_a_traceback(desk: Path, number: int) -> None:
    """Each of 4 values is refused in one line, or is a plan: a twelfth of all, others for the next field.

    scripts/checks/fuzz gives every value to every field.
    """
    field = FIELDS[number]
    for value in VALUES[number % 12 :: 12]:
        end = call("plan", "s.yaml", "--set", f"{field}={value}", cwd=desk)
        assert end.unchanged and not end.fault((0, 2)), f"--set {field}={value:.60}: {end.fault((0, 2))}"


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.dates(), st.binary(max_size=5)
)
garbage = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
names = st.sampled_from([*fields(tiny("tales.jsonl")), *EXTRA, *StudyConfig.model_fields])


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.dictionaries(names, garbage, min_size=1, max_size=3))
def test_any_garbage_is_a_study_or_one_line(changes: dict[str, Any]) -> None:
    study = tiny("tales.jsonl")
    for name, value in changes.items():
        node: Any = study
        *parents, last = name.split(".")
        for parent in parents:
            node = node.setdefault(parent, {}) if isinstance(node, dict) else {}
        if isinstance(node, dict):
            node[last] = value
    try:
        assert isinstance(parse_study(study), StudyConfig)
    except InputError as error:
        assert printable(str(error)) == str(error) and len(str(error)) <= LONGEST_MESSAGE + 5


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.text(max_size=30) | st.text("[]{}:,&*!|>'\"%@`#-? \n\tab01.~=<", max_size=30))
def test_any_override_is_read_or_one_line(text: str) -> None:
    try:
        load_study("smoke", [text])
    except InputError as error:
        assert printable(str(error)) == str(error) and len(str(error)) <= LONGEST_MESSAGE + 5


STUDIES: dict[str, tuple[str | bytes, str]] = {
    "bomb": (bomb("a"), "more than 100,000 values"),
    "bomb in a field": ("published:\n  " + bomb("axes").replace("\n", "\n  "), "more than 100,000 values"),
    "alias into itself": ("sweep: &x [*x]", "stands inside of what it names"),
    "deep": ("note: " + "[" * 5000 + "]" * 5000, "more than 32 levels of nesting"),
    "key twice": ("seeds: [1]", 'the key "seeds" stands there twice'),
    "nested key twice": ("compute2: {threads: 1, threads: 2}", 'the key "threads" stands there twice'),
    "tag": (f"note: !!python/object/apply:os.system [touch {TRAP}]", "plain data, without tags"),
    "list as a key": ("? [a, b]\n: 1", "unhashable key"),
    "number as a key": ("1: 2", "keys should be strings"),
    "two documents": ("---\na: 1", "expected a single document"),
    "surrogate": ('note: "\\ud800"', "surrogates not allowed"),
    "NUL": ("note: a\0b", "special characters are not allowed"),
    "not UTF-8": (b"note: caf\xe9", "can't decode byte 0xe9"),
    "large": ("#" * 2**20, "larger than 1,048,576 bytes"),
}


@pytest.mark.fast
@pytest.mark.parametrize("what", STUDIES)
def test_hostile_yaml(desk: Path, what: str) -> None:
    added, said = STUDIES[what]
    good = (desk / "s.yaml").read_bytes()
    (desk / "hostile.yaml").write_bytes(good + b"\n" + (added.encode() if isinstance(added, str) else added) + b"\n")
    end = call("plan", "hostile.yaml", cwd=desk)
    assert not end.fault() and said in end.err, end


def test_aliases_and_merges_that_stand_for_little_are_read() -> None:
    text = "a: &a {x: 1, y: 2}\nb: *a\nc: {<<: *a, y: 3}\n"
    assert (
        strictyaml.read(text)
        == yaml.safe_load(text)
        == {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 2}, "c": {"x": 1, "y": 3}}
    )


NAMES = (
    "../x",
    "/etc/x",
    "..",
    ".x",
    "-x",
    "",
    "a/b",
    "a\nb",
    "x\n",
    "a b",
    "é",
    "[bold]",
    "a\x1b[2J",
    "a" * 65,
    "store",
    "Store",
)


@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_names_that_are_no_names(desk: Path, name: str) -> None:
    for arguments in (
        ["run", "s.yaml", f"--run={name}"],
        ["show", "--", name],
        ["status", "--", name],
        ["report", "--", name],
    ):
        end = call(*arguments, cwd=desk)
        assert not end.fault(), f"{arguments}: {end.fault()}"


TOO_MUCH = {
    "a million arms": (
        "sweep={train.lr: [%s], train.beta1: [%s]}",
        f"sweep has 1,000,000 arms, more than the {MOST_ARMS:,}",
    ),
    "generations": ("generations=1000000000", "less than or equal to 1000"),
    "seeds": (f"seeds=[{','.join(map(str, range(20_000)))}]", f"more than the {MOST_STEPS:,} of one run"),
    "shards": ("sample={tokens: 100000000, shard_rows: 1}", f"more than the {MOST_STEPS:,} of one run"),
    "rows": ("corpus.tokens=10000000000", "the lab keeps at most 134,217,728 in a chain"),
    "width": ("model={n_layer: 1, n_head: 7, n_embd: 1000000000000, n_positions: 16}", "less than or equal to 65536"),
    "population": ("population=1000000", "less than or equal to 1000"),
}


@pytest.mark.parametrize("what", TOO_MUCH)
def test_what_no_machine_could_do_is_refused_without_taking_its_memory(desk: Path, what: str) -> None:
    override, said = TOO_MUCH[what]
    if "%s" in override:
        override %= (",".join(f"{i}e-6" for i in range(1, 1001)), ",".join(f"0.{i:04}" for i in range(1000)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    end = call("plan", "s.yaml", "--set", override, cwd=desk)
    assert not end.fault() and said in end.err, end
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000, "kilobytes"


def test_large_but_sensible_studies_are_planned() -> None:
    """A recipe of 10^9 tokens in rows of 128, in 10 generations, 3 regimes and 5 seeds."""
    sizes = ["corpus.tokens=1_000_000_000", "sample.tokens=1_000_000_000", "sample.shard_rows=65536"]
    more = ["train.tokens=1_000_000_000", "seeds=[0,1,2,3,4]", "generations=10", "regimes=[human,replace,accumulate]"]
    assert len(build(load_study("quick", [*sizes, *more])).generations) == 150


REGIMES = ("hostile_raises:f", "hostile_exits:f", "hostile_own:x", "hostile_own:f", "hostile_own:C", "hostile_own:nope")
REGIMES += (
    "no_such_module:f",
    "os:system",
    "os:",
    ":",
    "::f",
    ".x:f",
    "../x:f",
    "builtins:exec",
    "shutil:rmtree",
    "a b:c",
)
OPTIONS = (
    "{mix: {human: abc}}",
    "{mix: {human: true}}",
    "{mix: {human: 0.5, older: x}}",
    "{mix: {human: 1e300}}",
    "[human]",
)
OPTIONS += (
    "{mix: {human: .nan}}",
    "{mix: {human: -1}}",
    "{mix: [1]}",
    "{last_k: {k: true}}",
    "{last_k: {k: 1.5}}",
    "{}",
    "null",
)
OPTIONS += (
    "{mix: {human: 0.5, fresh: 1}}",
    "{mix: {human: 0.5, repeat_human: maybe}}",
    "{last_k: {k: x}}",
    "3",
    '"a\\nb"',
)


@pytest.mark.parametrize("regime", [*(f'"{name}"' for name in REGIMES), *OPTIONS])
def test_regimes_that_are_none(desk: Path, regime: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(desk))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # Python's own cache is not what the lab writes
    end = call("plan", "s.yaml", "--set", f"regimes=[human,{regime}]", cwd=desk)
    assert not end.fault((2,)), end


SWEEPS = (
    "{train.lr: [.nan]}",
    "{corpus.path: [2024-01-01]}",
    "{..: [1]}",
    '{"": [1]}',
    "{1: [1]}",
    "{regime: [[]]}",
    "3",
)
SWEEPS += ('[{arm: "a\\nb", train.lr: 0.1}]', '{corpus.domain: ["a\\0b"]}', "[{arm: =1+1, train.lr: 0.1}]", "[[1]]")
SWEEPS += ("{corpus.domain: [%s]}" % ("x" * 300), "[{arm: -x, train.lr: 0.1}]", "[{arm: '@x', train.lr: 0.1}]")


@pytest.mark.parametrize("sweep", SWEEPS)
def test_sweeps_that_are_none(desk: Path, sweep: str) -> None:
    end = call("plan", "s.yaml", "--set", f"sweep={sweep}", cwd=desk)
    assert not end.fault(), end


def places(desk: Path) -> dict[str, list[str]]:
    """Folders that cannot be a run's, with the arguments that name them."""
    (desk / "elsewhere").mkdir(exist_ok=True)
    for name, target in (
        ("link", desk / "elsewhere"),
        ("dangling", desk / "nowhere"),
        ("loop", desk / "runs" / "loop"),
    ):
        (desk / "runs").mkdir(exist_ok=True)
        (desk / "runs" / name).symlink_to(target)
    (desk / "runs" / "file").write_text("")
    (desk / "runs" / "inside").mkdir()
    (desk / "runs" / "inside" / "replace-seed0").symlink_to(desk / "elsewhere")
    (desk / "runs" / "folder" / "config.yaml").mkdir(parents=True)
    for name in ("file-store", "dangling-store"):
        (desk / name).mkdir()
    (desk / "file-store" / "store").write_text("")
    (desk / "dangling-store" / "store").symlink_to(desk / "nowhere")
    (desk / "no-folder").write_text("")
    runs = {
        name: ["--checkpoints", "runs", "--run", name]
        for name in ("link", "dangling", "loop", "file", "inside", "folder")
    }
    stores = {
        name: ["--checkpoints", name] for name in ("file-store", "dangling-store", "no-folder", "/dev/null", "x" * 300)
    }
    return runs | stores


def test_a_damaged_config_of_a_run_is_moved_aside(tmp_path: Path, corpus_file: Path) -> None:
    """It is a copy of the study at hand: the same command again ends with the same table."""
    write_study(tmp_path / "s.yaml", tiny(corpus_file))
    table, tables = tmp_path / "checkpoints" / "tiny" / "results.csv", []
    for damage in (None, b"", b"\xff\0", b"name: tiny\nseeds: none\n"):
        if damage is not None:
            (table.parent / "config.yaml").write_bytes(damage)
        assert call("run", "s.yaml", "--workers", "0", cwd=tmp_path).code == 0
        tables.append(table.read_bytes())
    assert len(set(tables)) == 1 and len(list(table.parent.glob(".corrupt-config-*.yaml"))) == 3


def test_folders_that_cannot_be_a_runs(tmp_path: Path, corpus_file: Path) -> None:
    write_study(tmp_path / "s.yaml", tiny(corpus_file))
    for name, arguments in places(tmp_path).items():
        end = call("run", "s.yaml", "--workers", "0", *arguments, cwd=tmp_path)
        assert not end.fault(), f"{name:.20}: {end.fault()}"
    for name in ("dangling", "loop", "file", "broken", "folder"):
        for command in ("show", "status", "report"):
            end = call(command, name, "--checkpoints", "runs", cwd=tmp_path)
            assert not end.fault(), f"{command} {name}: {end.fault()}"


DAMAGED = (b"", b"regime,seed,generation\n", b"\xff\xfe", b"a,b\n1,2\n", b"regime,seed,generation,nll\nhuman,0\n")
DAMAGED += (
    b"regime,seed,generation,nll\nhuman,0,0,x\n",
    b"regime,seed,generation,nll\nhuman,0,0,1,2\n",
    b'regime,seed\n"a',
)


@pytest.mark.parametrize("content", DAMAGED, ids=repr)
def test_damaged_results(tmp_path: Path, corpus_file: Path, content: bytes) -> None:
    run = tmp_path / "checkpoints" / "tiny"
    run.mkdir(parents=True)
    write_study(run / "config.yaml", tiny(corpus_file))
    (run / "results.csv").write_bytes(content)
    for command in ("show", "report"):
        end = call(command, "tiny", cwd=tmp_path)
        assert not end.fault(), f"{command}: {end.fault()}"


def test_from_a_shell_too(desk: Path) -> None:
    before = listing(desk)
    for arguments in (
        ["plan", "s.yaml", "--set", f"note=!!python/object/apply:os.system [touch {TRAP}]"],
        ["run", "s.yaml", "--run", "../x"],
    ):
        done = lab(*arguments, cwd=desk)
        assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1), done.stderr
    assert listing(desk) == before
