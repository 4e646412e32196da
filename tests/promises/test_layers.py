"""The architecture, held by the source itself: imports go down, torch stays in its place, files and functions short."""

import ast
from functools import cache
from pathlib import Path

import pytest
from support.tiny import PROJECT

ROOMS = [
    {"errors", "seeds", "hashing", "environment", "former"},
    {"lookup", "machine"},
    {"config", "recipe"},
    {"regimes", "metrics", "curators", "theory"},
    {"collapse"},
    {"definitions"},
    {"store"},
    {"text"},
    {"models"},
    {"steps"},
    {"loop"},
    {"run"},
    {"checks"},
    {"report"},
    {"cli"},
    {"__init__", "__main__", "evaluate_modules"},
]
"""From the ground up: a file imports from its own room without circles, and else from rooms of lower levels only."""
LEVEL = {name: level for level, names in enumerate(ROOMS) for name in names}
PLAIN = {"numpy", "pydantic", "yaml", "scipy"}
"""Beside the standard library: what the rooms below `store` may import."""
HEAVY = {
    "torch": {"models", "steps", "run", "checks"},
    "accelerate": {"models"},
    "transformers": {"models", "text"},
    "datasets": {"text"},
    "typer": {"cli"},
    "matplotlib": {"report"},
}
"""Libraries that take seconds to import, and the only rooms that do, most of them inside of functions."""
FILES = sorted((PROJECT / "lab").rglob("*.py"))

pytestmark = pytest.mark.fast
each_file = pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(PROJECT).as_posix())


@cache
def tree(file: Path) -> ast.Module:
    """Parse a file once for all tests."""
    return ast.parse(file.read_text())


def module_of(file: Path) -> str:
    return file.relative_to(PROJECT / "lab").parts[0].removesuffix(".py")


@cache
def imports(file: Path) -> set[str]:
    """Dotted names of everything imported, at the top or inside a function."""
    found: set[str] = set()
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= whole if node.module == "lab" else {str(node.module), *whole}
    return found


def modules_of(room: str) -> dict[str, Path]:
    """Dotted name -> file of the modules in a room."""
    named = {".".join(file.relative_to(PROJECT).with_suffix("").parts): file for file in FILES}
    return {name.removesuffix(".__init__"): file for name, file in named.items() if module_of(file) == room}


@each_file
def test_imports_go_down(file: Path) -> None:
    name = module_of(file)
    for imported in imports(file):
        if imported.startswith("lab."):
            other = imported.split(".")[1]
            assert other == name or LEVEL[other] < LEVEL[name], f"{name} imports {other}, which is not below it"


@pytest.mark.parametrize("room", sorted(LEVEL))
def test_no_circles_in_a_room(room: str) -> None:
    modules = modules_of(room)
    below = {name: {i for i in lab_modules(file) if i in modules and i != name} for name, file in modules.items()}
    while free := [name for name, needed in below.items() if not needed]:
        below = {name: needed - set(free) for name, needed in below.items() if name not in free}
    assert not below, f"these files import each other: {below}"


@cache
def lab_modules(file: Path) -> set[str]:
    """Modules of the lab that a file imports when it is imported itself."""
    found: set[str] = set()
    for node in tree(file).body:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("lab"):
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


@cache
def roots_imported(file: Path) -> set[str]:
    """First names of all that a file imports, also by `import_module("name")`."""
    found = set()
    for node in ast.walk(tree(file)):
        match node:
            case ast.Import():
                found |= {alias.name for alias in node.names}
            case ast.ImportFrom():
                found.add(str(node.module))
            case ast.Call(args=[ast.Constant(name)]) if ast.unparse(node.func).endswith("import_module"):
                found.add(str(name))
    return {name.split(".")[0] for name in found}


@pytest.mark.parametrize(("here", "there"), [("tests", "scripts"), ("scripts", "tests")])
def test_tests_and_scripts_do_not_import_each_other(here: str, there: str) -> None:
    """Tests load scripts by path (support/scripts.py); scripts/checks/soak and fuzz start modules of tests/support."""
    foreign = {there} | {name for file in (PROJECT / there).rglob("*.py") for name in (file.stem, file.parent.name)}
    assert len(foreign) > 10
    for file in (PROJECT / here).rglob("*.py"):
        assert not roots_imported(file) & foreign, f"{file.relative_to(PROJECT)} imports from {there}/"


@each_file
def test_heavy_libraries_stay_in_their_place(file: Path) -> None:
    name, roots = module_of(file), {imported.split(".")[0] for imported in imports(file)}
    for library, owners in HEAVY.items():
        assert library not in roots or name in owners | {"evaluate_modules"}, f"{name} imports {library}"
    assert not roots & {"scripts", "tests", "pickle"}
    if LEVEL[name] < LEVEL["store"]:
        foreign = {root for root in roots - PLAIN if not is_standard(root)} - {"lab"}
        assert not foreign, f"{name} imports {foreign}"
    if LEVEL[name] < LEVEL["store"] and name != "machine":
        assert not roots & {"time", "logging", "datetime", "random"}, f"{name} has a clock, a log or hidden chance"


def is_standard(root: str) -> bool:
    import sys

    return root in sys.stdlib_module_names


@each_file
def test_files_and_functions_are_short(file: Path) -> None:
    text = file.read_text()
    assert text.count("\n") <= 400
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            words = ast.get_docstring(node, clean=False) or ""
            length = node.end_lineno - node.lineno + 1 - (words.count("\n") + 1 if words else 0)
            assert length <= 40, f"{file.name}: {node.name} has {length} lines beside its docstring"


@each_file
def test_every_file_says_what_it_is(file: Path) -> None:
    assert ast.get_docstring(tree(file)), file


def test_every_module_has_its_room() -> None:
    assert {module_of(file) for file in FILES} <= set(LEVEL)
