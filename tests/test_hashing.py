"""Keys hear a changed constant and no prose: the hash of code over its syntax tree."""

from dataclasses import replace
from pathlib import Path

import pytest
from support.tiny import PROJECT

from lab import regimes
from lab.hashing import code_hash, reached
from lab.steps import STEPS, pool
from lab.steps.kind import source_hash

CODE = '''"""A module."""

import math
from lab.recipe import Part

LIMIT = 3  # rows
"""What LIMIT is."""


class Thing:
    """A thing."""

    size: int = 1
    """Its size."""


def double(x: float) -> float:
    """Twice x."""
    # why
    return 2 * x + math.pi
'''


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""A module."""', '"""Another sentence."""'),
        ('"""A module."""\n', ""),
        ('"""A thing."""', '"""Something else."""'),
        ('    """Its size."""\n', ""),
        ("  # rows", ""),
        ("    # why\n", "    # for another reason\n\n"),
        ('"""Twice x."""', '"""Double x."""'),
        ("from lab.recipe import Part", "from lab.types import Part"),
        ("return 2 * x + math.pi", "return (2 * x) + math.pi"),
    ],
)
def test_prose_moves_no_hash(old: str, new: str) -> None:
    assert old in CODE
    assert code_hash(CODE.replace(old, new)) == code_hash(CODE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("LIMIT = 3", "LIMIT = 4"),
        ("LIMIT = 3", 'LIMIT = "3"'),
        ("2 * x", "2 + x"),
        ("2 * x", "2.0 * x"),
        ("size: int = 1", "size: int = 2"),
        ("def double", "def triple"),
        ("x: float)", "x: float = 0)"),
    ],
)
def test_a_change_of_meaning_moves_it(old: str, new: str) -> None:
    assert old in CODE
    assert code_hash(CODE.replace(old, new)) != code_hash(CODE)


def test_imports_count_where_they_are_asked_for() -> None:
    other = CODE.replace("import math", "import cmath as math")
    assert code_hash(other) == code_hash(CODE)
    assert code_hash(other, imports=True) != code_hash(CODE, imports=True)


def test_texts_are_hashed_in_any_order_and_not_as_one() -> None:
    assert code_hash("a = 1", "b = 2") == code_hash("b = 2", "a = 1") != code_hash("a = 1\nb = 2")


def test_what_a_function_reaches() -> None:
    source = "A = 1\nB = 2\ndef g(): return A\ndef f(): return g()\ndef h(): return B\n"
    assert reached(source, "f") == "A = 1\ndef f():\n    return g()\ndef g():\n    return A"


@pytest.mark.parametrize("change", ["A += 1", "A = 2", "A.append(3)", 'A["b"] = 1', "if True:\n    A = 4"])
def test_what_changes_a_constant_is_reached(change: str) -> None:
    source = "A = 1\nB = 2\ndef f(): return A\n"
    assert reached(f"{source}{change}\n", "f") != reached(source, "f")
    assert reached(f"{source}{change.replace('A', 'B')}\n", "f") == reached(source, "f")


def test_a_regime_hears_its_own_constants_and_no_neighbour(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Path(regimes.__file__).read_text()

    def hashes(text: str) -> dict[str, str]:
        monkeypatch.setattr("inspect.getsource", lambda _: text)
        return {name: pool.regime_hash(name) for name in regimes.REGIMES}

    before = hashes(source)
    assert len(set(before.values())) == len(before)
    assert '"""Return the newest sample only' in source
    assert hashes(source.replace('"""Return the newest sample only', '"""Give the newest sample only')) == before
    looser = hashes(source.replace("DRIFT = 0.01", "DRIFT = 0.02"))
    assert {name for name in before if looser[name] != before[name]} == {"mix", "web"}


def test_a_moved_file_and_a_better_sentence_move_no_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The record step, whose version is the hash of its modules, with these modules somewhere else."""
    record = STEPS["record"]
    files = {file for pattern in record.modules for file in (PROJECT / "lab").glob(pattern)}
    for number, file in enumerate(sorted(files)):
        text = file.read_text()
        code = text[text.index("from __future__") :] if "from __future__" in text else text
        (tmp_path / f"{number}.py").write_text(f'"""Moved."""\n{code}')
    before = source_hash.__wrapped__(record)
    monkeypatch.setattr("lab.steps.kind.ROOT", tmp_path)
    moved = replace(record, modules=("*.py",))
    assert source_hash.__wrapped__(moved) == before
    (tmp_path / "0.py").write_text((tmp_path / "0.py").read_text() + "EDITED = 1\n")
    assert source_hash.__wrapped__(moved) != before
