"""Names to functions, and seeds that are functions of what they are for."""

import hashlib
import math
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from lab.errors import InputError
from lab.lookup import lookup, reads, suggestion, users_code
from lab.seeds import derive_seed, generator, permutation
from lab.steps.kind import function_hash

TABLE = {"human": 1, "replace": 2, "accumulate": 3}


def test_a_name_in_the_table() -> None:
    assert lookup("regime", "replace", TABLE) == 2


def test_a_near_miss_is_answered_with_a_suggestion_and_others_with_the_list() -> None:
    assert suggestion("replcae", TABLE) == ' - did you mean "replace"?'
    assert suggestion("zzz", TABLE) == ""
    with pytest.raises(InputError, match='unknown regime "replcae" - did you mean "replace"'):
        lookup("regime", "replcae", TABLE)
    with pytest.raises(InputError, match=r'allowed: human, replace, accumulate, or "package\.module:function"'):
        lookup("regime", "zzz", TABLE)


def test_a_function_of_a_module() -> None:
    assert lookup("regime", "math:hypot", TABLE) is math.hypot


@pytest.mark.parametrize(
    "name", ["no_such_module:f", "math:no_such_function", "math:", ":f", ".math:f", "math:pi", "broken_module:f"]
)
def test_what_cannot_be_imported_is_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / "broken_module.py").write_text("def f(:\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(InputError, match="regime") as caught:
        lookup("regime", name, TABLE)
    assert "\n" not in str(caught.value)
    assert "broken_module" not in sys.modules


def test_a_function_of_a_file_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    (tmp_path / "of_ones_own.py").write_text("from helper_of_ones_own import K\n\n\ndef f(): return K\n")
    (tmp_path / "helper_of_ones_own.py").write_text("K = 7\n")
    assert lookup("regime", "of_ones_own:f", TABLE)() == 7
    assert sys.path[-1] == str(tmp_path), "after the libraries"


def test_a_file_with_the_name_of_a_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "colorsys.py").write_text("def mine(): ...\n")
    with pytest.raises(InputError, match=r"colorsys\.py, which has the name of your colorsys\.py: rename yours"):
        lookup("regime", "colorsys:mine", TABLE)


def test_a_known_seed() -> None:
    """The first 8 bytes of sha256("3/1/train/0"), big-endian, without the lowest bit; the number is from sha256sum."""
    by_hand = int.from_bytes(hashlib.sha256(b"3/1/train/0").digest()[:8], "big") >> 1
    assert derive_seed(3, 1, "train") == by_hand == 0xDD1BC666EF08ECB4 >> 1


def test_every_field_makes_another_seed() -> None:
    fields = list(product((0, 1, 10, 11), (0, 1, 10), ("train", "sample", "init"), (0, 1, 10)))
    seeds = {derive_seed(*each) for each in fields}
    assert len(seeds) == len(fields)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_generator_is_its_seed() -> None:
    assert generator(5).integers(100, size=6).tolist() == [20, 73, 5, 59, 96, 20]
    assert generator(6).integers(100, size=6).tolist() != generator(5).integers(100, size=6).tolist()


def test_a_permutation_is_one_and_stays_the_same() -> None:
    assert sorted(permutation(1, 0, 50)) == list(range(50))
    assert permutation(1, 0, 8).tolist() == [0, 6, 1, 5, 4, 7, 2, 3]
    assert not np.array_equal(permutation(1, 0, 50), permutation(1, 1, 50))
    assert not np.array_equal(permutation(1, 0, 50), permutation(2, 0, 50))


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A current folder with modules of the user's; they are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text + "\n")


def test_every_module_of_the_users_that_a_module_reaches(own_folder: Path) -> None:
    write(
        own_folder,
        own_main="import numpy as np\nimport own_a\nfrom lab.recipe import Part\ndef f():\n    from own_d import late",
        own_a="from own_b import K",
        own_b="import own_a\nK = 1",
        own_d="import pkg_own.inner",
        own_unused="K = 1",
        pkg_own__inner="from . import near\nfrom .other import X",
        pkg_own__near="N = 1",
        pkg_own__other="X = 1",
    )
    (own_folder / "pkg_own" / "__init__.py").write_text("")
    assert set(users_code("own_main")) == {
        *("own_main", "own_a", "own_b", "own_d", "pkg_own", "pkg_own.inner", "pkg_own.near", "pkg_own.other")
    }


def test_a_function_of_an_installed_package_is_its_module_alone() -> None:
    assert set(users_code("json.decoder")) == {"json.decoder"}
    with pytest.raises(OSError, match="math is no Python file"):
        users_code("math")


def test_modules_that_are_imported_by_a_call_and_files_in_other_encodings(own_folder: Path) -> None:
    calls = "import importlib, own_bom\na = importlib.import_module('own_a')\nb = __import__('own_b')\n"
    write(own_folder, own_main=f"{calls}def c(n): return importlib.import_module(n), importlib.import_module(3)")
    write(own_folder, own_a="A = 1", own_b="B = 1")
    (own_folder / "own_bom.py").write_bytes(b"\xef\xbb\xbfimport own_latin\n")
    (own_folder / "own_latin.py").write_bytes("# -*- coding: latin-1 -*-\nNAME = 'é'\n".encode("latin-1"))
    assert set(users_code("own_main")) == {"own_main", "own_a", "own_b", "own_bom", "own_latin"}


@pytest.mark.parametrize(("changed", "same"), [("own_k", False), ("own_far", False), ("own_unused", True)])
def test_a_changed_module_of_the_users_changes_the_key(own_folder: Path, changed: str, same: bool) -> None:
    write(own_folder, own_main="from own_k import K\ndef f(): return K", own_k="from own_far import K", own_far="K = 1")
    write(own_folder, own_unused="K = 1")
    function = lookup("regime", "own_main:f", {})
    before = function_hash("regime", "own_main:f", function, own=False)
    with (own_folder / f"{changed}.py").open("a") as file:
        file.write("J = 2\n")
    assert (function_hash("regime", "own_main:f", function, own=False) == before) == same


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("open(path)", True),
        ("Path('a.txt').open('rb')", True),
        ("open('out', 'w')", False),
        ("open('out', mode='a')", False),
        ("Path('a.txt').read_text()", True),
        ("pd.read_parquet(path)", True),
        ("np.load('a.npy')", True),
        ("importlib.import_module(path)", True),
        ("importlib.import_module('json')", False),
        ("reopen(path)", False),
        ("json.loads(path)", False),
    ],
)
def test_calls_that_read_what_no_key_holds_are_named(own_folder: Path, call: str, said: bool) -> None:
    write(own_folder, own_main="from own_a import g\ndef f(): return g()", own_a=f"def g():\n    return {call}")
    found = reads("own_main")
    assert len(found) == said and all(line.startswith("own_a.py:2 ") for line in found)


def test_code_of_the_lab_and_of_libraries_is_not_searched_for_reads() -> None:
    assert reads("lab.metrics.extra.facts") == reads("json.tool") == []
