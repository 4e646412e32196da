"""The executors: failures stay where they are, deaths are tried again, and any way through the graph gives one result.

The stub graph has cheap steps that fail, or die with their process, when their folder of orders says so; the real ones
are a tiny GPT-2's.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.tiny import ENVIRONMENT, Finished, Reports, listing, run_study, store_at, tiny, tiny_config, write_study

from lab.config.study import StudyConfig
from lab.errors import InputError
from lab.loop import Study, build
from lab.models import load as models
from lab.run import worker
from lab.run.executors import execute
from lab.run.preflight import prepare_human
from lab.run.walk import ATTEMPTS, Walk
from lab.steps import STEPS, job_of
from lab.steps.kind import Kind
from lab.store.manifest import PRUNED
from lab.store.step import Step
from lab.store.store import Store

# --- a stub graph --------------------------------------------------------------------------------------------------

STUB = """
import os, signal, sys
from pathlib import Path

def run(params, inputs, out, attempt):
    orders = Path(params["orders"])
    with (orders / "ran").open("a") as file:
        file.write(params["name"] + "\\n")
    if params["name"] in (orders / "fail").read_text().split():
        raise ValueError("told to\\nfail")
    deaths = (orders / "die").read_text().split()
    if params["name"] in deaths:
        deaths.remove(params["name"])
        (orders / "die").write_text(" ".join(deaths))
        os.kill(os.getpid(), signal.SIGKILL)
    print("noise on the worker's output")
    attempt.report(1)
    text = params["name"] + "".join((path / "text").read_text() for _, path in sorted(inputs.items()))
    (out / "text").write_text(text)
"""
WORKER = """
import sys, types
sys.modules["torch"] = types.SimpleNamespace(set_num_threads=lambda n: None)
sys.path.insert(0, {here!r})
import stub_kind
from lab.run import worker
from lab.steps import STEPS
from lab.steps.kind import Kind
STEPS["toy"] = Kind("toy", dict, stub_kind.run, ("recipe.py",), version="1")
sys.argv = ["lab.run.worker", *sys.argv[-3:]]
worker.main()
"""


class Toys:
    """A diamond and an island: a -> b, c -> d, and e alone."""

    def __init__(self, folder: Path) -> None:
        self.orders = folder
        self.store = store_at(folder)
        for name in ("ran", "fail", "die"):
            (folder / name).write_text("")
        a, e = self._step("a"), self._step("e")
        b, c = self._step("b", a=a), self._step("c", a=a)
        self.order = [a, b, c, self._step("d", b=b, c=c), e]

    def _step(self, name: str, **inputs: Step) -> Step:
        return Step("toy", "1", {"name": name, "orders": str(self.orders)}, inputs, tokens=1, label=name)

    def order_to(self, what: str, names: str) -> None:
        (self.orders / what).write_text(names)

    @property
    def ran(self) -> list[str]:
        return (self.orders / "ran").read_text().split()

    def text(self, name: str) -> str:
        step = next(step for step in self.order if step.label == name)
        return (self.store.folder("toy", step.key) / "text").read_text()

    def execute(self, workers: int, fresh: frozenset[str] = frozenset()) -> tuple[dict[str, str], Reports]:
        reports, store = Reports(), Store(self.store.root)
        log = self.orders / "workers.log"
        failures = execute(store, self.order, reports, workers=workers, threads=1, fresh=fresh, log=log)
        return {step.label: reason for step, reason in failures.items()}, reports


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Toys]:
    """Both this process and the workers know one kind of step, the stub's."""
    (tmp_path / "stub_kind.py").write_text(STUB)
    (tmp_path / "worker.py").write_text(WORKER.format(here=str(tmp_path)))
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{tmp_path}/worker.py" "$@"\n')
    python.chmod(0o755)
    scope: dict[str, Any] = {}
    exec(STUB, scope)
    monkeypatch.setitem(STEPS, "toy", Kind("toy", dict, scope["run"], ("recipe.py",), version="1"))
    monkeypatch.setattr("lab.run.executors.local.sys.executable", str(python))
    yield Toys(tmp_path)


both = pytest.mark.parametrize("workers", [0, 2])


@both
def test_the_graph_is_worked_through_once(toys: Toys, workers: int) -> None:
    failures, reports = toys.execute(workers)
    assert failures == {}
    assert sorted(toys.ran) == ["a", "b", "c", "d", "e"]
    assert toys.text("d") == "dbaca"
    assert sorted(reports.of("finished")) == sorted(reports.of("started")) == ["a", "b", "c", "d", "e"]
    assert reports.of("found") == []
    again, reports = toys.execute(workers)
    assert again == {} and sorted(reports.of("found")) == ["a", "b", "c", "d", "e"]
    assert len(toys.ran) == 5, "a second run computes nothing"


@both
def test_a_failure_stops_only_what_depends_on_it(toys: Toys, workers: int) -> None:
    toys.order_to("fail", "b")
    failures, reports = toys.execute(workers)
    assert failures == {"b": "ValueError: told to fail"}
    assert reports.of("failed") == ["b"]
    assert sorted(toys.ran) == ["a", "b", "c", "e"], "d waits for b; c and e do not"
    toys.order_to("fail", "")
    assert toys.execute(workers)[0] == {}
    assert sorted(toys.ran) == ["a", "b", "b", "c", "d", "e"], "only what was missing"


def test_a_worker_that_is_killed_once_costs_nothing(toys: Toys) -> None:
    toys.order_to("die", "c")
    failures, _ = toys.execute(1)
    assert failures == {} and toys.text("d") == "dbaca"
    assert toys.ran.count("c") == 2


@pytest.mark.slow
def test_a_step_that_kills_its_workers_fails_after_its_attempts(toys: Toys) -> None:
    toys.order_to("die", "c " * (ATTEMPTS + 3))
    failures, _ = toys.execute(2)
    assert failures == {"c": f"its worker died {ATTEMPTS} times (exit code -9; -9: killed)"}
    assert toys.ran.count("c") == ATTEMPTS
    assert sorted(set(toys.ran)) == ["a", "b", "c", "e"]


def test_a_damaged_input_and_a_death_are_counted_apart(toys: Toys) -> None:
    """c finds a damaged input, which is made again, and then dies once: that is one death of two."""
    toys.execute(0)
    a, c = (next(step for step in toys.order if step.label == label) for label in "ac")
    shutil.rmtree(toys.store.folder("toy", c.key))
    walk = Walk(Store(toys.store.root), Reports(), toys.order, frozenset())
    assert [step.label for step in walk.ready] == ["c"]
    assert walk.take() == c
    shutil.rmtree(toys.store.folder("toy", a.key))
    walk.damaged(c, a.key)
    assert [step.label for step in walk.ready] == ["a"], "c waits for it"
    assert walk.take() == a
    toys.store.run(job_of(a), lambda out: void((out / "text").write_text("a")), {}, fresh=False)
    walk.finish(a, 0.0)
    assert walk.take() == c
    walk.died(c, -9, stopping=False)
    assert walk.failures == {} and walk.take() == c
    walk.died(c, -9, stopping=False)
    assert walk.failures == {c: f"its worker died {ATTEMPTS} times (exit code -9; -9: killed)"}


def void(_: object) -> None:
    pass


def test_an_artifact_that_is_gone_is_missed(toys: Toys, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said once where something was made from it; not in a first run, and not where it was moved aside."""
    assert toys.execute(0)[1].of("noted") == []
    a, b, c = (next(step for step in toys.order if step.label == label) for label in "abc")
    folder = toys.store.folder("toy", a.key)
    shutil.rmtree(folder)
    assert toys.execute(0)[1].of("noted") == [f"a is missing from the store ({folder}): it is made again"]
    (toys.store.folder("toy", b.key) / "text").write_text("")
    (said,) = toys.execute(0)[1].of("noted")
    assert "was damaged: it is moved to .corrupt-" in said
    monkeypatch.setattr("lab.store.manifest.HASHED_AT_ONCE", -1)  # so that it shows only when c is about to read it
    (folder / "text").write_text("x")
    shutil.rmtree(toys.store.folder("toy", c.key))
    said, missed = sorted(toys.execute(0)[1].of("noted"))
    assert said.startswith(f"{folder} was damaged: it is moved to") and missed.startswith("c is missing")


@pytest.mark.slow
def test_a_thousand_generations_that_begin_from_dropped_weights(toys: Toys, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each waits for the one before, down to the first, which is made first."""
    monkeypatch.setitem(STEPS, "toy", replace(STEPS["toy"], trains=True))
    chain: list[Step] = []
    for t in range(1000):
        chain.append(toys._step(f"gen {t}", **({"began": chain[-1]} if chain else {})))
        toys.store.run(job_of(chain[-1]), lambda out: void((out / "w").write_text("w")), {}, fresh=False)
        (toys.store.folder("toy", chain[-1].key) / PRUNED).write_text('{"files": ["w"]}')
    shutil.rmtree(toys.store.folder("toy", chain[-1].key))
    walk = Walk(Store(toys.store.root), Reports(), chain, frozenset())
    assert walk.ready == [chain[0]] and walk.again == set(chain[:-1])


@pytest.mark.slow
def test_the_worker_of_another_parent_ends_at_once(toys: Toys) -> None:
    """Its run is gone.  That its parent is process 1 does not say so: in a container the run itself may be that."""
    answers = {}
    for parent in (os.getpid(), 1):
        command = [sys.executable, "-m", "lab.run.worker", str(toys.store.root), "1", str(parent)]
        job = json.dumps(
            {"job": job_of(toys.order[0]).to_json(), "fresh": True, "again": False, "checkpoint_seconds": 0}
        )
        done = subprocess.run(command, input=job + "\n", capture_output=True, text=True, env=ENVIRONMENT, timeout=60)
        answers[parent] = (done.returncode, '"event": "done"' in done.stdout)
    assert answers == {os.getpid(): (0, True), 1: (0, False)}


@both
def test_a_removed_or_damaged_artifact_is_made_again_with_what_needs_it(toys: Toys, workers: int) -> None:
    toys.execute(0)
    b = next(step for step in toys.order if step.label == "b")
    (toys.store.folder("toy", b.key) / "text").write_text("")
    assert toys.execute(workers)[0] == {}
    assert toys.ran[5:] == ["b"], "the same bytes again, so d stands"
    assert toys.text("d") == "dbaca"


@both
def test_fresh_is_for_steps_whose_code_has_changed(toys: Toys, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    toys.execute(0)
    toys.execute(workers, frozenset({"toy"}))
    assert len(toys.ran) == 5, "the code is the same"
    monkeypatch.setattr("lab.steps.source_hash", lambda kind: "edited")
    toys.execute(workers)
    assert len(toys.ran) == 5, "without --fresh they are used as they are"
    toys.execute(workers, frozenset({"toy"}))
    assert sorted(toys.ran[5:]) == ["a", "b", "c", "d", "e"]
    toys.execute(workers, frozenset({"toy"}))
    assert len(toys.ran) == 10, "and now they are fresh"


# --- human text ----------------------------------------------------------------------------------------------------


def test_steps_before_a_bad_one_stay_whole_and_are_not_repeated(built: Callable[..., Study], tmp_path: Path) -> None:
    study, store, said = built(corpus__tokens=10_000_000), store_at(tmp_path), list[str]()
    with pytest.raises(InputError, match=r"train fold has .* 10,000,000 are wanted, for corpus.tokens, .* lower them"):
        prepare_human(store, study.human, said.append)
    *made, bad = said
    assert made and {step.label for step in study.human if Store(store.root).whole(job_of(step))} == set(made)
    assert not list(store.root.glob("*/.*")) and not store.folder("human", "").exists()
    with pytest.raises(InputError):
        prepare_human(store, study.human, said.append)
    assert said == [*made, bad, bad]


def test_a_first_step_that_fails_leaves_no_folder(built: Callable[..., Study], tmp_path: Path) -> None:
    """Not the store, and not the folders above it; but what was there before."""
    (bad,) = (replace(step, where={"path": str(tmp_path), "revision": None}) for step in built().human[:1])
    (tmp_path / "there").mkdir()
    with pytest.raises(InputError):
        prepare_human(Store(tmp_path / "there" / "a" / "b" / "store"), [bad], lambda _: None)
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]


def test_human_text_is_read_once(built: Callable[..., Study], tmp_path: Path) -> None:
    said: list[str] = []
    for _ in range(2):
        prepare_human(Store(tmp_path / "store"), built().human, said.append)
    assert sorted(said) == [
        "corpus",
        "human seed 0",
        "resample seed 0",
        "rows",
        "test rows",
        "tokenizer",
        "validation rows",
    ]
    prepare_human(Store(tmp_path / "store"), built(seeds=[0, 1]).human, said.append)
    assert sorted(said[7:]) == ["human seed 1", "resample seed 1"]
    for step in built().human:
        assert store_at(tmp_path).whole(job_of(step))


# --- a tiny real study ---------------------------------------------------------------------------------------------


def tables(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in ("results.csv", "results.parquet", "bins.csv")}


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory, corpus_file: Path) -> Mapping[str, bytes]:
    """The tables of the tiny study, run in this process into an empty store."""
    folder = tmp_path_factory.mktemp("once") / "tiny"
    run_study(build(tiny_config(corpus_file)), folder)
    return tables(folder)


@pytest.mark.slow
def test_results_are_the_same_bytes_from_an_empty_store(
    built: Callable[..., Study], tmp_path: Path, once: Mapping[str, bytes]
) -> None:
    reports = run_study(built(), tmp_path / "tiny")
    assert tables(tmp_path / "tiny") == once
    assert len(reports.of("finished")) == len(built().steps)
    before = listing(tmp_path / "store")
    reports = run_study(built(), tmp_path / "tiny")
    assert reports.of("started") == [] and len(reports.of("found")) == len(built().steps)
    assert listing(tmp_path / "store") == before


@pytest.mark.slow
def test_two_workers_give_the_bytes_of_none(built: Callable[..., Study], tmp_path: Path, finished: Finished) -> None:
    """A run of worker processes, against the finished run, which had none."""
    run_study(built(seeds=[0, 1]), tmp_path / "tiny", workers=2)
    assert tables(tmp_path / "tiny") == tables(finished.folder)


@pytest.mark.slow
def test_a_run_that_grows_keeps_what_it_had(
    built: Callable[..., Study], tmp_path: Path, once: Mapping[str, bytes]
) -> None:
    """A generation and a regime more: the old rows stand in the new table, byte for byte."""
    run_study(built(), tmp_path / "tiny")
    reports = run_study(built(generations=3, regimes=["human", "replace", "accumulate"]), tmp_path / "tiny")
    trained = [label for label in reports.of("started") if label.startswith("train")]
    assert sorted(trained) == [
        "train accumulate seed 0 gen 1",
        "train accumulate seed 0 gen 2",
        "train human seed 0 gen 2",
        "train replace seed 0 gen 2",
    ]
    old, new = (text.decode().splitlines() for text in (once["results.csv"], tables(tmp_path / "tiny")["results.csv"]))
    assert set(old) < set(new) and len(new) == 1 + 3 * 3


@pytest.mark.slow
def test_killed_inside_of_a_training_and_run_again_gives_the_same_bytes(
    built: Callable[..., Study], tmp_path: Path, corpus_file: Path, once: Mapping[str, bytes]
) -> None:
    """SIGKILL to the whole process group of a command with a worker.  At any instant: tests/promises/test_kill.py."""
    kill_run(tmp_path, write_study(tmp_path / "tiny.yaml", tiny(corpus_file)))
    reports = run_study(built(), tmp_path / "checkpoints" / "tiny")
    assert reports.of("found") and reports.of("started")
    assert tables(tmp_path / "checkpoints" / "tiny") == once
    hidden = [path.parent.name for path in (tmp_path / "checkpoints" / "store").glob("*/.*")]
    assert set(hidden) <= {".locks"}, "what the killed ones left is gone"


def kill_run(cwd: Path, study: Path) -> None:
    """Start a run, wait until a training is in hand, kill the group."""
    command = [sys.executable, "-m", "lab", "run", str(study), "--workers", "1"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, cwd=cwd, env=ENVIRONMENT, start_new_session=True, **quiet)
    trainings = cwd / "checkpoints" / "store" / "train"
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline and not list(trainings.glob(".tmp-*")):
        time.sleep(0.001)
    assert process.poll() is None, "it must still be at work when it is killed"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_gpt2_samples_in_the_dtype_that_it_was_trained_in(
    dtype: str, tmp_path: Path, corpus_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is loaded to train further or to score is told nothing of it."""
    load, told = models.load, []

    def seen(*arguments: Any, **options: Any) -> Any:
        model = load(*arguments, **options)
        told.append(model.decoding)
        return model

    monkeypatch.setattr(models, "load", seen)
    study = build(tiny_config(corpus_file, regimes=["replace"], generations=1, compute={"dtype": dtype}))
    run_study(study, tmp_path / "tiny")
    shards = sum(step.name == "sample" for step in study.steps)
    assert shards > 0 and told.count("bfloat16") == (shards if dtype == "bfloat16" else 0)
    assert told.count("float32") == len(told) - told.count("bfloat16") > 0, "scoring"


@pytest.mark.parametrize("kind", ["positions", "uniform"])
def test_counting_models_are_run_without_the_libraries_of_networks(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They take seconds to import: neither before a step nor to load a model."""
    monkeypatch.setattr(worker, "NETWORKS", ("lab.no_such_module",))
    monkeypatch.setitem(sys.modules, "lab.models.pretrained", None)  # to import it is an error
    text = {"kind": "source", "process": "categorical", "types": 4, "zipf": 1, "tokens": 80}
    metrics, model = {"tokens": 80, "test_tokens": 80}, {"kind": kind, "n_positions": 8}
    sizes = {"corpus": text, "sample": {"tokens": 80, "shard_rows": 10}, "metrics": metrics, "model": model}
    study = build(StudyConfig(name="counts", seeds=[0], generations=1, regimes=["replace"], **sizes))
    run_study(study, tmp_path / "counts")
