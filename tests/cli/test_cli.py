"""The command line as a user meets it: exit codes, one line for bad input, and the artifacts that a run leaves."""

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from click import Context
from support.hostile import call
from support.tiny import ENVIRONMENT, Finished, lab, listing, tiny, tiny_config, write_study

from lab import __version__, steps
from lab.cli.app import COMMANDS, app, main
from lab.errors import plural
from lab.metrics.columns import names
from lab.run.folder import keys

Here = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Here:
    """The command line in this process: here("run", "tiny.yaml", cwd=folder)."""

    def call(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
        monkeypatch.setattr(signal, "signal", lambda *_: None)
        monkeypatch.setattr(sys, "argv", ["lab", *map(str, arguments)])
        monkeypatch.chdir(cwd)
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capsys.readouterr()
        return subprocess.CompletedProcess(sys.argv, int(end.value.code or 0), out, err)

    return call


HEAVY = ("torch", "transformers", "datasets", "evaluate", "accelerate", "matplotlib", "pandas")


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, corpus_file: Path) -> Path:
    """A working directory with a good study and some bad material."""
    folder = tmp_path_factory.mktemp("desk")
    write_study(folder / "tiny.yaml", tiny(corpus_file))
    (folder / "empty.jsonl").write_text("")
    (folder / "blank.txt").write_text(" \n")
    (folder / "small.jsonl").write_text("".join(f'{{"text": "a{i}"}}\n' for i in range(30)))
    (folder / "few.jsonl").write_text('{"text": "one"}\n')
    (folder / "latin.jsonl").write_bytes('{"text": "caf\u00e9"}\n'.encode("latin-1") * 30)
    (folder / "nofolder").mkdir()
    (folder / "broken.yaml").write_text("a: [1")
    (folder / "file").write_text("")
    other = folder / "checkpoints" / "other"
    other.mkdir(parents=True)
    (other / "config.yaml").write_text(yaml.safe_dump(tiny(corpus_file, name="other", train__lr=0.1)))
    bare = folder / "checkpoints" / "bare"
    shutil.copytree(other, bare)
    (bare / "results.csv").write_text(",".join((*keys(tiny_config(corpus_file)), *names("text"))) + "\n")
    return folder


PLAIN = ["--set", "corpus.domain=null", "--set", "corpus.author=null", "--set", "corpus.group=null"]
BAD: dict[str, tuple[list[str], str]] = {
    "unknown key": (["run", "tiny.yaml", "--set", "trian.lr=1"], 'unknown key "trian" - did you mean "train"?'),
    "unknown nested key": (["plan", "tiny.yaml", "--set", "train.lrr=1"], '"train.lrr" - did you mean "lr"?'),
    "wrong type": (["run", "tiny.yaml", "--set", "train.tokens=many"], "\"train.tokens\" is 'many'"),
    "heads": (["run", "tiny.yaml", "--set", "model.n_head=3"], "n_embd 16 is not divisible by n_head 3"),
    "regime": (["run", "tiny.yaml", "--set", "regimes=[human,replase]"], 'regime "replase" - did you mean "replace"?'),
    "study": (["run", "smoek"], 'no study "smoek" - did you mean "smoke"?'),
    "study file": (["run", "missing.yaml"], "no study file missing.yaml"),
    "broken study": (["run", "broken.yaml"], "broken.yaml is not readable YAML"),
    "missing corpus": (["run", "tiny.yaml", "--set", "corpus=missing.jsonl"], "missing.jsonl does not exist"),
    "empty corpus": (["run", "tiny.yaml", "--set", "corpus=empty.jsonl", *PLAIN], "empty.jsonl is empty"),
    "blank corpus": (["run", "tiny.yaml", "--set", "corpus=blank.txt", *PLAIN], "is empty: 1 rows, none with text"),
    "empty folder": (["run", "tiny.yaml", "--set", "corpus=nofolder", *PLAIN], "no .txt, .raw, .jsonl"),
    "not UTF-8": (["run", "tiny.yaml", "--set", "corpus=latin.jsonl", *PLAIN], "latin.jsonl cannot be read"),
    "no row": (["run", "tiny.yaml", "--set", "corpus=small.jsonl", *PLAIN], "fold has"),
    "few groups": (["run", "tiny.yaml", "--set", "corpus=few.jsonl", *PLAIN], "has 1 group, too few to divide"),
    "text column": (["run", "tiny.yaml", "--set", "corpus.text=txt"], 'no column "txt" (corpus.text)'),
    "other run": (["run", "tiny.yaml", "--run", "other"], "(train.lr: 0.1 -> 0.005)"),
    "run named store": (["run", "tiny.yaml", "--run", "store"], 'name is "store"'),
    "fresh": (["run", "tiny.yaml", "--fresh", "trian"], 'unknown step "trian" - did you mean "train"?'),
    "no split": (["plan", "tiny.yaml", "--set", "corpus.split=banana"], "corpus.split is banana, but corpus.path"),
    "much text": (["plan", "tiny.yaml", "--set", "corpus.tokens=25_600_000"], "corpus.tokens is 25,600,000, and"),
    "corpus of nothing": (["corpus", "missing.txt"], "does not exist"),
    "show no run": (["show", "tiny"], "holds no run; runs beside it: bare, other"),
    "show no results": (["show", "other"], "other has no results.csv yet"),
    "show no generation": (["show", "bare"], "has no generation measured yet"),
    "report no generation": (["report", "bare"], "has no generation measured yet"),
    "status no run": (["status", "tiny"], "holds no run"),
    "report no results": (["report", "other"], "has no results.csv yet"),
    "checkpoints is a file": (["run", "tiny.yaml", "--checkpoints", "file"], "file"),
}


FROM_A_SHELL = ("unknown key", "other run", "text column", "no row")


def entries(folder: Path) -> dict[str, tuple[int, int] | None]:
    """Return the listing of a folder without its store and without the times of folders.

    Human text that was read before a fault shows stays in the store, whole, for the next run.
    """
    kept = {name: stat for name, stat in listing(folder).items() if not name.startswith("checkpoints/store")}
    return {name: stat if (folder / name).is_file() else None for name, stat in kept.items()}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_exit_2_and_no_run_is_written(desk: Path, case: str, here: Here) -> None:
    """In this process; some of them from a shell as well, to the same effect."""
    arguments, said = BAD[case]
    before = entries(desk)
    done = here(*arguments, cwd=desk)
    complaint = done.stderr.splitlines()
    assert (done.returncode, len(complaint), done.stdout) == (2, 1, ""), done.stderr
    assert complaint[0].startswith("error: ") and said in complaint[0]
    if case in FROM_A_SHELL:
        shell = lab(*arguments, cwd=desk)
        assert (shell.returncode, shell.stdout, shell.stderr) == (2, "", done.stderr)
    assert entries(desk) == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["show", "tiny", "--metric", "perplexty"], 'unknown metric "perplexty" - did you mean "perplexity"?'),
        (["show", "tiny", "--format", "html"], 'unknown format "html"; allowed: md, csv, json, latex'),
        (["show", "tiny", "--json", "--format", "csv"], "--json and --format csv are two forms of one answer"),
        (["show", "tiny", "--against", "acumulate"], 'no regime "acumulate" in this run; it has human, replace'),
        (["show", "tiny", "--by", "domain", "--metric", "perplexity"], "has the loss (nll) only, not perplexity"),
        (["compare", "tiny"], "compare tiny with what?"),
        (["compare", "tiny", "tiny", "--to", "drayson-2025"], "compare tiny with what?"),
        (["compare", "tiny", "--to", "drayson-2025", "--metric", "nll"], "--metric is for two runs"),
        (["compare", "tiny", "tiny", "--format", "json"], "printed plain or as md"),
        (["report", "tiny", "--figure", "a.jpeg"], "must end in .png, .svg or .pdf"),
        (["report", "tiny", "--figure", "no/folder/a.png"], "no/folder"),
        (["report", "tiny", "--profile", "--log"], "--log is for the panel of perplexity"),
        (["report", "tiny", "--profile", "--figure", "a.svg"], "lab profile RUN measures"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_requests_of_a_finished_run(finished: Finished, here: Here, arguments: list[str], said: str) -> None:
    before = listing(finished.cwd)
    done = here(*arguments, cwd=finished.cwd)
    assert (done.returncode, len(done.stderr.splitlines()), done.stdout) == (2, 1, ""), done.stderr
    assert done.stderr.startswith("error: ") and said in done.stderr
    assert listing(finished.cwd) == before


# --- the commands --------------------------------------------------------------------------------------------------


def test_run_prints_plain_lines_and_one_headline(finished: Finished) -> None:
    """Every step is in a line of its own or in a sum; then a table, its reading, what to type next, the caption."""
    steps = [line for line in finished.log.splitlines() if line.startswith("[")]
    sums = [int(count) for line in steps for count in re.findall(r"(?:train|write) x (\d+)", line)]
    single = [name for line in steps for name in re.findall(r"\b(?:train|write)\b(?! x)", line)]
    assert sum(sums) + len(single) == 6 + 12 + 6, "models, parts of samples, and samples"
    assert steps[-1].endswith("all done")
    assert sum(line.startswith("read human text: ") for line in finished.log.splitlines()) == 1
    assert "\x1b" not in finished.log + finished.output, "no colours off a terminal"
    lines = finished.output.splitlines()
    assert lines[0].startswith("Generation 1, mean of 2 seeds; change vs human")
    for heading in ("perplexity", "rare loss", "distinct-2", "rare survival"):
        assert heading in lines[1]
    assert [line.split()[0] for line in lines[2:4]] == ["human", "replace"]
    assert any(line.startswith("Under replace, held-out perplexity ") for line in lines)
    for said in ("tiny: GPT-2", "lab show tiny", "lab report tiny", "all columns: checkpoints/tiny/results.csv"):
        assert any(line.startswith(said) for line in lines), said


def test_run_in_80_columns(finished: Finished) -> None:
    """Reading and caption are prose and may be longer; the table is not."""
    done = lab("run", finished.study, cwd=finished.cwd, COLUMNS="80")
    table = done.stdout.split("\nrare loss: ")[0].splitlines()
    assert done.returncode == 0 and len(table) == 4 and max(map(len, table)) <= 80, done.stdout


def test_run_again_computes_nothing_and_prints_the_same(finished: Finished) -> None:
    store, table = finished.cwd / "checkpoints" / "store", (finished.folder / "results.csv").read_bytes()
    before = listing(store)
    done = lab("run", finished.study, cwd=finished.cwd)
    shown = [
        [line for line in text.splitlines() if not line.startswith("took ")] for text in (done.stdout, finished.output)
    ]
    assert done.returncode == 0 and shown[0] == shown[1]
    assert not [line for line in done.stderr.splitlines() if line.startswith(("[", "reading"))]
    assert listing(store) == before and (finished.folder / "results.csv").read_bytes() == table


def test_edited_code_of_the_same_version_is_said_and_what_it_made_is_used(
    finished: Finished, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    hash_of = steps.source_hash
    monkeypatch.setattr(steps, "source_hash", lambda kind: "edited" if kind.name == "train" else hash_of(kind))
    before = listing(finished.cwd / "checkpoints" / "store")
    done = here("run", finished.study, cwd=finished.cwd)
    assert done.returncode == 0 and listing(finished.cwd / "checkpoints" / "store") == before
    assert "the lab's code for train has changed" in " ".join(done.stderr.split())


def test_a_run_in_which_a_step_fails_ends_with_1_and_finishes_the_rest(
    tmp_path: Path, corpus_file: Path, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user's regime returns nonsense from its second call on; the control is measured all the same."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "own_failing_module.py").write_text(
        "from lab.recipe import Part, Recipe\nCALLS = []\n"
        "def nothing(lineage, *, rng):\n    CALLS.append(1)\n"
        "    return Recipe((Part.whole(lineage.human),)) if len(CALLS) == 1 else None\n"
    )
    study = tiny(corpus_file, regimes=["human", "own_failing_module:nothing"])
    done = here("run", write_study(tmp_path / "s.yaml", study), "--workers", "0", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr and "not a Recipe" in done.stderr
    rows = (tmp_path / "checkpoints" / "tiny" / "results.csv").read_text().splitlines()[1:]
    assert [row.split(",")[:3] for row in rows] == [
        ["human", "0", "0"],
        ["human", "0", "1"],
        ["own_failing_module:nothing", "0", "0"],
    ]
    incomplete = "INCOMPLETE: own_failing_module:nothing seed 0 (1 of 2 generations)"
    assert incomplete in done.stdout and "own_failing_module:nothing (gen 0)" in done.stdout
    assert incomplete in here("show", "tiny", cwd=tmp_path).stdout, "whoever looks at the table later sees it too"
    failure = json.loads((tmp_path / "checkpoints" / "tiny" / "failures.jsonl").read_text())
    assert "Traceback" in failure["trace"]
    (tmp_path / "own_failing_module.py").write_text(
        "from lab.recipe import Part, Recipe\n"
        "def nothing(lineage, *, rng):\n    return Recipe((Part.whole(lineage.human),))\n"
    )
    monkeypatch.delitem(sys.modules, "own_failing_module")
    again = here("run", tmp_path / "s.yaml", "--workers", "0", cwd=tmp_path)
    assert again.returncode == 0 and "INCOMPLETE" not in again.stdout, again.stderr


@pytest.mark.parametrize("body", ["return None", "raise RuntimeError('a' + chr(10) + 'b')", "return 1 / 0"])
def test_a_regime_of_the_users_that_fails_is_refused_before_anything_is_written(
    tmp_path: Path, corpus_file: Path, here: Here, monkeypatch: pytest.MonkeyPatch, body: str
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "own_bad_regime", raising=False)
    (tmp_path / "own_bad_regime.py").write_text(f"def bad(lineage, *, rng):\n    {body}\n")
    write_study(tmp_path / "s.yaml", tiny(corpus_file, regimes=["human", "own_bad_regime:bad"]))
    before = listing(tmp_path)
    for command in ("plan", "run"):
        done = here(command, "s.yaml", cwd=tmp_path)
        assert done.returncode == 2 and "regime own_bad_regime:bad, generation 1: " in done.stderr, done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert listing(tmp_path) == before


def test_plan_writes_nothing_and_counts(desk: Path, finished: Finished, here: Here) -> None:
    before = listing(desk)
    done = here("plan", "tiny.yaml", "--json", cwd=desk)
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    train = next(line for line in plan["lines"] if line["step"] == "train")
    assert (train["uses"], train["unique"], train["done"]) == (4, 3, 0)
    done = lab("plan", "tiny.yaml", cwd=desk)
    assert done.returncode == 0 and "2 chains of 2 generations" in done.stdout
    assert listing(desk) == before
    before = listing(finished.cwd)
    done = here("plan", finished.study, "--json", cwd=finished.cwd)
    assert all(line["done"] == line["unique"] for line in json.loads(done.stdout)["lines"])
    assert listing(finished.cwd) == before


def test_status(finished: Finished, here: Here) -> None:
    before = listing(finished.cwd)
    status = json.loads(here("status", "tiny", "--json", cwd=finished.cwd).stdout)
    assert status["done"] == status["steps"] == 51 and status["run"] == "tiny"
    assert status["chains"] == {f"{regime}-seed{seed}": 2 for regime in ("human", "replace") for seed in (0, 1)}
    assert "complete" in lab("status", "checkpoints/tiny", cwd=finished.cwd).stdout
    assert listing(finished.cwd) == before


def test_show_in_every_format(finished: Finished, here: Here) -> None:
    before = listing(finished.cwd)
    shown = {kind: here("show", "tiny", "--format", kind, cwd=finished.cwd) for kind in ("md", "csv", "json", "latex")}
    assert all(done.returncode == 0 for done in shown.values())
    rows = json.loads(shown["json"].stdout)
    assert {row["metric"] for row in rows} == {
        "perplexity",
        "nll_rare",
        "nll_common",
        "distinct_2",
        "rare_survival",
    }
    assert shown["csv"].stdout.splitlines()[0].startswith("metric,regime,generation,mean,sd,n")
    assert len(shown["csv"].stdout.splitlines()) == 1 + len(rows) == 1 + 5 * 2 * 2
    assert "| replace |" in shown["md"].stdout and r"\toprule" in shown["latex"].stdout
    one = json.loads(here("show", "tiny", "--metric", "nll", "--json", cwd=finished.cwd).stdout)
    assert {row["metric"] for row in one} == {"nll"}
    table = lab("show", "tiny", cwd=finished.cwd).stdout
    assert "perplexity of held-out human text" in table and table.splitlines()[-1] in finished.output.splitlines()
    assert listing(finished.cwd) == before


def test_show_against_another_regime_and_by_domain(finished: Finished, here: Here) -> None:
    """The mean of the domains' losses, weighted by their tokens in bins.csv, is the loss of the whole test text."""
    table = here("show", "tiny", "--metric", "nll", "--against", "replace", cwd=finished.cwd).stdout
    assert "last gen vs replace" in table and "vs replace: paired difference" in " ".join(table.split())
    shown = here("show", "tiny", "--by", "domain", cwd=finished.cwd).stdout
    assert "domain land" in shown and "domain sea" in shown and "  vs human" in shown
    bins = [line.split(",") for line in (finished.folder / "bins.csv").read_text().splitlines()]
    results = [line.split(",") for line in (finished.folder / "results.csv").read_text().splitlines()]
    for chain in results[1:]:
        by_domain = [row for row in bins if row[:3] == chain[:3] and row[3] == "domain"]
        assert [row[4] for row in by_domain] == ["land", "sea"]
        sums = [(int(row[5]), int(row[5]) * float(row[8])) for row in by_domain]
        mean = sum(nats for _, nats in sums) / sum(tokens for tokens, _ in sums)
        assert mean == pytest.approx(float(chain[results[0].index("nll")]))


def test_compare_two_runs(finished: Finished, here: Here) -> None:
    done = here("compare", "tiny", "checkpoints/tiny", "--metric", "nll", "--metric", "perplexity", cwd=finished.cwd)
    assert done.returncode == 0, done.stderr
    assert "checkpoints/tiny vs tiny" in done.stdout and "+0.000 [+0.000, +0.000]  0, 1 (paired)" in done.stdout
    assert "tiny -> checkpoints/tiny: no field differs" in done.stdout
    md = here("compare", "tiny", "tiny", "--metric", "nll", "--format", "md", cwd=finished.cwd).stdout
    assert md.startswith("**loss on held-out human text") and "| replace | 1 |" in md


def test_report_draws_a_figure(finished: Finished, tmp_path: Path, here: Here) -> None:
    done = here("report", "tiny", "--figure", tmp_path / "a.svg", cwd=finished.cwd)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "a.svg")
    assert (tmp_path / "a.svg").read_text().startswith("<?xml")


def test_corpus_describes(corpus_file: Path, tmp_path: Path, here: Here) -> None:
    done = lab("corpus", corpus_file, "--domain", "domain", "--group", "group", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["groups"] == 48 and found["groups_on_two_sides"] == 0
    assert {(row["domain"], row["fold"]) for row in found["domains"]} == {
        (domain, fold) for domain in ("all", "land", "sea") for fold in ("train", "reference", "validation", "test")
    }
    everything = [row for row in found["domains"] if row["domain"] == "all"]
    assert sum(row["documents"] for row in everything) == 48
    assert next(row for row in everything if row["fold"] == "train")["overlap"] == 1.0
    plain = here("corpus", corpus_file, cwd=tmp_path)
    assert plain.returncode == 0 and "48 groups" in " ".join(plain.stdout.split())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            (),
            "has 3 groups, too few to divide: no text for validation, test; add documents, or set --piece 8000",
        ),
        (("--piece", "900000"), "add documents, or lower --piece"),
        (("--split", "test"), "--split"),
        (("--author", "who"), "--author"),
        (("--splits", "0.txt,1.txt,9.txt"), "--splits names 9.txt"),
        (("--splits", "a,b,c"), "set --splits-column, or take --splits out"),
        (("--splits", "a,b,c", "--splits-column", "fold"), "(--splits-column)"),
    ],
)
def test_corpus_names_its_own_options(tmp_path: Path, options: tuple[str, ...], said: str) -> None:
    """A message of three long files names what this command takes, and not the fields of a study."""
    (tmp_path / "texts").mkdir()
    for number in range(3):
        (tmp_path / "texts" / f"{number}.txt").write_text(f"A line of text {number}.\n" * 200)
    ended = call("corpus", "texts", *options, cwd=tmp_path)
    assert ended.code == 2 and said in " ".join(ended.err.split()) and "corpus." not in ended.err, ended.err


def test_plurals() -> None:
    assert [plural(n, "group") for n in (0, 1, 2, 2000)] == ["0 groups", "1 group", "2 groups", "2,000 groups"]


def examples(text: str) -> list[str]:
    """Return the commands in the examples of a help text."""
    return re.findall(r"^    (lab .*?)(?:  .*)?$", text.partition("Example")[2], re.M)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_has_an_example_that_parses(command: str, here: Here) -> None:
    done = here(command, "--help", cwd=Path("/"))
    assert done.returncode == 0 and done.stdout.startswith(f"Usage: lab {command} ")
    assert max(map(len, done.stdout.splitlines())) <= 100
    whole = typer.main.get_command(app)
    for example in examples(done.stdout):
        name, *arguments = shlex.split(example)[1:]
        assert name == command, example
        whole.commands[name].make_context(name, arguments, parent=Context(whole))  # type: ignore[attr-defined]
    assert examples(done.stdout), done.stdout


def test_help(here: Here) -> None:
    """Every command with one whole sentence, and examples."""
    done = lab("--help", cwd=Path("/"), COLUMNS="80")
    assert done.returncode == 0 and max(map(len, done.stdout.splitlines())) <= 80
    for command in COMMANDS:
        assert re.search(rf"^  {command} +[A-Z].*\.$", done.stdout, re.M), command
    assert [example.split()[1] for example in examples(done.stdout)] == ["run", "plan", "run", "show"]
    assert here(cwd=Path("/")).stdout.startswith("Usage: lab ")


def test_version(here: Here) -> None:
    done = here("--version", cwd=Path("/"))
    assert (done.returncode, done.stdout) == (0, f"lab {__version__}\n")


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments", [["--help"], ["show", "tiny"], ["status", "tiny"], ["plan", "tiny.yaml"]], ids=str
)
def test_reading_commands_import_nothing_heavy(finished: Finished, arguments: list[str]) -> None:
    """So that they answer at once."""
    code = (
        "import sys\nsys.argv = ['lab', *sys.argv[1:]]\n"
        "import lab.cli.app\n"
        "try:\n    lab.cli.app.main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        f"print('HEAVY', [name for name in {HEAVY} if name in sys.modules])"
    )
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, cwd=finished.cwd, env=ENVIRONMENT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "HEAVY []"


# --- what others can do with what a run leaves ---------------------------------------------------------------------


def test_each_model_loads_with_transformers_and_writes(finished: Finished) -> None:
    import transformers

    folder = str(finished.folder / "replace-seed0" / "gen-01" / "model")
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert model.config.vocab_size == len(tokenizer) and model.config.n_layer == 1
    assert tokenizer.decode(tokenizer("the old sea")["input_ids"]) == "the old sea"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # transformers' own
        write = transformers.pipeline("text-generation", model=folder, tokenizer=folder)
        text = write("Ba so", max_new_tokens=5, max_length=None)[0]["generated_text"]
    assert text.startswith("Ba so") and len(text) > len("Ba so")


def test_each_synthetic_corpus_loads_with_datasets(finished: Finished, tmp_path: Path) -> None:
    import datasets

    file = str(finished.folder / "replace-seed0" / "gen-01" / "synthetic" / "rows.parquet")
    found: Any = datasets.load_dataset("parquet", data_files=file, split="train", cache_dir=str(tmp_path))
    assert len(found) == 32 and set(found["origin"]) == {1}
    assert all(isinstance(row["text"], str) and len(row["tokens"]) == 16 and row["nats"] > 0 for row in found)


def test_provenance_is_written(finished: Finished) -> None:
    environment = json.loads((finished.folder / "env.json").read_text())
    assert environment["versions"]["torch"] and environment["device"] == "cpu" and environment["threads"] == 1
    assert yaml.safe_load((finished.folder / "config.yaml").read_text())["train"]["lr"] == 5e-3
    manifest = json.loads((finished.folder / "human-seed0" / "gen-00" / "model" / "manifest.json").read_text())
    assert manifest["params"]["seed"] == 0 and set(manifest["inputs"]) == {"human", "pool", "validation", "tokenizer"}
    assert len((finished.folder / "timings.jsonl").read_text().splitlines()) == 43  # and one of the program
