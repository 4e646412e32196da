"""Bad and hostile model folders: one line, exit code 2, nothing written, nothing executed, nothing unpickled."""

import ast
import json
import os
import pickle
import shutil
import signal
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from support.hostile import TRAP, Payload, call, edit
from support.tiny import PROJECT, tiny, write_corpus, write_study
from transformers import GPT2Config, GPT2LMHeadModel

from lab.text.tokenizer import save_tokenizer, train_tokenizer

WEIGHTS = "model.safetensors"
Spoil = Callable[[Path], Any]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, corpus_file: Path) -> Path:
    folder = tmp_path_factory.mktemp("base")
    tokenizer = train_tokenizer([json.loads(line)["text"] for line in corpus_file.read_text().splitlines()], 300)
    shape = GPT2Config(vocab_size=tokenizer.get_vocab_size(), n_positions=16, n_embd=16, n_layer=1, n_head=2)
    shape.bos_token_id = shape.eos_token_id = 0
    GPT2LMHeadModel(shape).save_pretrained(folder)
    save_tokenizer(tokenizer, folder)
    return folder


@pytest.fixture
def desk(base: Path, tmp_path: Path, corpus_file: Path) -> Path:
    """Make a working directory with a study of the pretrained base in its folder m."""
    shutil.copytree(base, tmp_path / "m")
    study = tiny(corpus_file, regimes=["human"], generations=1, train__start="base")
    study["model"] = {"kind": "pretrained", "path": "m", "n_positions": 16}
    del study["tokenizer"]
    write_study(tmp_path / "s.yaml", study)
    return tmp_path


def bytes_of(change: Callable[[bytes], bytes]) -> Spoil:
    return lambda m: (m / WEIGHTS).write_bytes(change((m / WEIGHTS).read_bytes()))


def head(change: Callable[[dict[str, Any]], Any]) -> Spoil:
    """Change the head of the safetensors file, its length with it."""

    def rewritten(old: bytes) -> bytes:
        (length,) = struct.unpack("<Q", old[:8])
        fields = json.loads(old[8 : 8 + length])
        change(fields)
        new = json.dumps(fields).encode()
        return struct.pack("<Q", len(new)) + new + old[8 + length :]

    return bytes_of(rewritten)


def weights(change: Callable[[dict[str, torch.Tensor]], Any]) -> Spoil:
    def spoil(m: Path) -> None:
        found = load_file(m / WEIGHTS)
        change(found)
        save_file(found, m / WEIGHTS, metadata={"format": "pt"})

    return spoil


def index(weight_map: Any) -> Spoil:
    def spoil(m: Path) -> None:
        shutil.copy(m / WEIGHTS, m.parent / "x.safetensors")
        (m / WEIGHTS).rename(m / "model-1.safetensors")
        (m / f"{WEIGHTS}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))

    return spoil


def instead(name: str, content: bytes) -> Spoil:
    return lambda m: (m / name).write_bytes(content)


def pickled(name: str) -> Spoil:
    return lambda m: ((m / WEIGHTS).unlink(), (m / name).write_bytes(pickle.dumps(Payload())))


def own_code(file: str, **entries: Any) -> Spoil:
    def spoil(m: Path) -> None:
        (m / "own.py").write_text(f"open({TRAP!r}, 'w')\nclass M: pass\n")
        edit(m / file, **entries)

    return spoil


def config(**entries: Any) -> Spoil:
    return lambda m: edit(m / "config.json", **entries)


def tokenizer(**entries: Any) -> Spoil:
    return lambda m: edit(m / "tokenizer.json", **entries)


NORM, EMBEDDING = "transformer.ln_f.weight", "transformer.wte.weight"
MAPS = {"AutoConfig": "own.M", "AutoModelForCausalLM": "own.M", "AutoTokenizer": ["own.M", "own.M"]}
REFUSED: dict[str, tuple[Spoil, str]] = {
    "truncated": (bytes_of(lambda old: old[:-100]), "SafetensorError"),
    "nothing": (bytes_of(lambda old: b""), "SafetensorError"),
    "longer": (bytes_of(lambda old: old + b"x"), "SafetensorError"),
    "head of 2^62 bytes": (bytes_of(lambda old: struct.pack("<Q", 2**62) + old[8:]), "header too large"),
    "head beyond the file": (bytes_of(lambda old: struct.pack("<Q", 90_000_000) + old[8:]), "SafetensorError"),
    "offsets": (head(lambda fields: fields[NORM].update(data_offsets=[0, 2**60])), "SafetensorError"),
    "shape": (head(lambda fields: fields[NORM].update(shape=[2**40, 2**40])), "SafetensorError"),
    "negative shape": (head(lambda fields: fields[NORM].update(shape=[-1])), "SafetensorError"),
    "type": (head(lambda fields: fields[NORM].update(dtype="F99")), "SafetensorError"),
    "pickle for safetensors": (pickled(WEIGHTS), "SafetensorError"),
    "pickle alone": (pickled("pytorch_model.bin"), "holds no config.json with *.safetensors"),
    "NaN": (weights(lambda found: found[EMBEDDING].view(-1)[7:8].fill_(float("nan"))), "NaN, infinite"),
    "infinite": (weights(lambda found: found[NORM].fill_(float("inf"))), "NaN, infinite"),
    "overflow": (weights(lambda found: found[EMBEDDING].mul_(1e38)), "NaN, infinite or so large"),
    "other shape": (weights(lambda found: found.update({EMBEDDING: torch.ones(3, 16)})), f"such as {EMBEDDING}"),
    "one too few": (weights(lambda found: found.pop(NORM)), f"1 missing keys, such as {NORM}"),
    "one too many": (weights(lambda found: found.update(x=torch.ones(3))), "1 unexpected keys, such as x"),
    "missing shard": (index({NORM: "model-2.safetensors"}), "lacks model-2.safetensors"),
    "shard outside": (index({NORM: "../x.safetensors"}), "a shard is a safetensors file of that folder"),
    "shard far outside": (index({NORM: "../../x.safetensors"}), "a shard is a safetensors file of that folder"),
    "shard anywhere": (index({NORM: "/etc/x.safetensors"}), "a shard is a safetensors file of that folder"),
    "pickled shard": (index({NORM: "pytorch_model.bin"}), "a shard is a safetensors file of that folder"),
    "no shards": (index({}), "names no weights"),
    "list of shards": (index([]), "is no index of weights"),
    "link to nothing": (lambda m: ((m / WEIGHTS).unlink(), (m / WEIGHTS).symlink_to("x")), "only safetensors are read"),
    "a folder": (lambda m: ((m / WEIGHTS).unlink(), (m / WEIGHTS).mkdir()), "only safetensors are read"),
    "code of its own": (own_code("config.json", auto_map=MAPS), "which the lab never runs"),
    "type of its own": (own_code("config.json", auto_map=MAPS, model_type="own"), "which the lab never runs"),
    "tokenizer's code": (own_code("tokenizer_config.json", auto_map=MAPS), "which the lab never runs"),
    "kernel": (config(attn_implementation="evil/kernel"), "cannot be loaded"),
    "layers: many": (config(n_layer=10**12), "n_layer is 1000000000000; expected a whole number"),
    "layers: none": (config(n_layer=0), "n_layer is 0"),
    "layers: negative": (config(n_layer=-1), "n_layer is -1"),
    "layers: text": (config(n_layer="x"), "n_layer is 'x'"),
    "layers: true": (config(n_layer=True), "n_layer is True"),
    "width: huge": (config(n_embd=10**6), "describes a model of 12,000,331,000,000 parameters"),
    "width: overflow": (config(n_embd=10**12), "cannot be loaded"),
    "width: negative": (config(n_embd=-1), "cannot be loaded"),
    "width: text": (config(n_embd="x"), "cannot be loaded"),
    "heads: none": (config(n_head=0), "cannot be loaded"),
    "heads: negative": (config(n_head=-1), "cannot be"),
    "vocabulary: huge": (config(vocab_size=10**12), "describes a model of"),
    "vocabulary: none": (config(vocab_size=0), "mismatched keys"),
    "positions: huge": (config(n_positions=10**12), "describes a model of"),
    "activation": (config(activation_function="os.system"), "cannot be loaded"),
    "other type": (config(model_type="evil"), "of type"),
    "no type": (config(model_type=None), "of type"),
    "type is a list": (config(model_type=[]), "m"),
    "config broken": (instead("config.json", b"{"), "no readable JSON"),
    "config a list": (instead("config.json", b"[]"), "holds a list"),
    "config deep": (instead("config.json", b"[" * 100_000), "no readable JSON"),
    "config binary": (instead("config.json", b"\xff\xfe"), "no readable JSON"),
    "tokenizer broken": (instead("tokenizer.json", b"{"), "no readable JSON"),
    "tokenizer empty": (instead("tokenizer.json", b"{}"), "cannot be loaded"),
    "tokenizer without model": (tokenizer(model=None), "cannot be loaded"),
    "tokenizer with gaps": (tokenizer(model={"type": "BPE", "vocab": {"a": 2**31}, "merges": []}), "numbers up to"),
    "tokenizer absent": (lambda m: [path.unlink() for path in m.glob("tok*")], "holds no tokenizer files"),
    "generation a list": (instead("generation_config.json", b"[]"), "cannot be loaded"),
}


@pytest.mark.fast
@pytest.mark.parametrize("what", REFUSED)
def test_refused_in_one_line_and_nothing_is_run(desk: Path, what: str) -> None:
    spoil, said = REFUSED[what]
    spoil(desk / "m")
    end = call("run", "s.yaml", "--workers", "0", cwd=desk)
    assert not end.fault() and said in end.err, end


@pytest.mark.parametrize("command", ["plan", "run"])
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", WEIGHTS, "generation_config.json", "merges.txt"])
def test_a_named_pipe_is_refused_and_not_waited_for(desk: Path, in_time: None, command: str, name: str) -> None:
    (desk / "m" / name).unlink(missing_ok=True)
    os.mkfifo(desk / "m" / name)
    end = call(command, "s.yaml", cwd=desk)
    assert not end.fault() and f"m/{name} is no plain file but a pipe" in end.err, end


@pytest.mark.parametrize("place", ["model", "words"])
def test_a_device_is_refused(desk: Path, in_time: None, place: str) -> None:
    """Also behind a link; and where the folder gives a tokenizer alone.  /dev/zero would be read without end."""
    (desk / "m" / "config.json").unlink()
    (desk / "m" / "config.json").symlink_to("/dev/null")
    if place == "words":
        (desk / "s.yaml").write_text(yaml.safe_dump(tiny(desk / "c.jsonl", tokenizer={"pretrained": "m"})))
        write_corpus(desk / "c.jsonl")
    end = call("plan", "s.yaml", cwd=desk)
    assert not end.fault() and "m/config.json is no plain file" in end.err, end


@pytest.mark.parametrize("place", ["c.jsonl", "c/c.jsonl", "study.yaml"])
def test_a_named_pipe_as_a_corpus_or_a_study(desk: Path, in_time: None, place: str) -> None:
    (desk / "c").mkdir()
    os.mkfifo(desk / place)
    study = place if place == "study.yaml" else "s.yaml"
    for command in ("plan", "run"):
        end = call(command, study, "--set", f"corpus={Path(place).parts[0]}", cwd=desk)
        assert not end.fault() and place in end.err, end


@pytest.fixture
def in_time() -> Iterator[None]:
    """Who waits for a pipe is woken, to fail."""

    def wake(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, wake)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def test_the_plan_refuses_what_needs_no_model_to_be_seen(desk: Path) -> None:
    own_code("tokenizer_config.json", auto_map=MAPS)(desk / "m")
    assert "which the lab never runs" in call("plan", "s.yaml", cwd=desk).err
    edit(desk / "m" / "tokenizer_config.json", auto_map=None)
    bytes_of(lambda old: old[:-100])(desk / "m")
    end = call("plan", "s.yaml", cwd=desk)
    assert not end.fault(), end


def test_a_good_base_with_hostile_files_beside_it_runs_and_they_are_left_alone(desk: Path) -> None:
    (desk / "m" / "pytorch_model.bin").write_bytes(pickle.dumps(Payload()))
    (desk / "m" / "modeling_own.py").write_text(f"open({TRAP!r}, 'w')")
    (desk / "m" / "custom_generate").mkdir()
    (desk / "m" / "custom_generate" / "generate.py").write_text(f"open({TRAP!r}, 'w')")
    (desk / "m" / "chat_template.jinja").write_text("{{ ().__class__.__base__.__subclasses__() }}")
    end = call("run", "s.yaml", "--workers", "0", cwd=desk)
    assert not end.fault((0,)) and (desk / "checkpoints" / "tiny" / "results.csv").exists(), end


def test_the_payload_would_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the tests above would prove nothing."""
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(Payload())).close()
    assert (tmp_path / TRAP).exists()


@pytest.mark.parametrize("file", sorted((PROJECT / "lab").rglob("*.py")), ids=lambda file: file.stem)
def test_the_lab_never_unpickles_and_never_trusts_code(file: Path) -> None:
    """No torch.load, no allow_pickle, no unsafe yaml, no eval; trust_remote_code is only ever False."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import | ast.ImportFrom):
            imported = {alias.name for alias in node.names} | {getattr(node, "module", None)}
            assert not imported & {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}, file
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            assert name not in ("torch.load", "eval", "exec", "yaml.load", "yaml.unsafe_load", "os.system"), name
            for keyword in node.keywords:
                if keyword.arg in ("trust_remote_code", "allow_pickle", "shell"):
                    assert isinstance(keyword.value, ast.Constant) and keyword.value.value is False, f"{file}: {name}"
            if name.endswith("from_pretrained") and "peft" not in name:
                assert any(keyword.arg == "trust_remote_code" for keyword in node.keywords), f"{file}: {name}"
