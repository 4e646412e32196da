"""The architecture, held by the source itself: imports go down, torch stays in its place, files and functions short."""

import ast
from pathlib import Path

import pytest
from support.tiny import PROJECT

LAYERS = [
    {"__init__", "types", "sections", "config", "studies", "sweep", "seeds", "lookup", "machine"}
    | {"fields", "strictyaml", "escape", "faults", "disk", "code_hash"},
    {"regimes", "metrics", "stats", "theory"},
    {
        *("corpus", "cutting", "rows", "sources", "tokenizer", "counting", "decoding", "store", "manifests", "space"),
        *("models", "blocks", "caches", "graphs", "causal", "beams", "leftovers", "folds", "kernels", "folders"),
    },
    {"train", "sample", "probes", "records", "checkpoints"},
    {"runners", "human", "steps", "study", "worker", "execute", "plan", "timings", "weights", "preflight"},
    {"results", "progress", "report", "exact", "compare", "figure", "describe", "retention", "verify", "doctor"},
    {"cli", "terminal", "reading", "keeping", "signals", "__main__", "evaluate_modules"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
PLAIN = {"numpy", "pydantic", "yaml", "scipy"}
"""Beside the standard library: what L0 and L1 may import."""
HEAVY = {
    "torch": {"models", "blocks", "caches", "graphs", "causal", "beams", "decoding", "train", "sample"}
    | {"probes", "worker", "doctor", "checkpoints", "kernels"},
    "accelerate": {"train"},
}
HEAVY |= {
    "transformers": {"models", "blocks", "caches", "graphs", "tokenizer", "causal", "beams"},
    "datasets": {"corpus"},
    "typer": {"cli", "terminal", "reading", "keeping"},
    "matplotlib": {"figure"},
}
TYPES_ONLY = {("__init__", "results")}
"""Annotations and lazy functions of the package's front door."""
FILES = sorted((PROJECT / "lab").rglob("*.py"))

each_file = pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(PROJECT).as_posix())


def module_of(file: Path) -> str:
    return file.relative_to(PROJECT / "lab").parts[0].removesuffix(".py")


def imports(file: Path) -> set[str]:
    """Dotted names of everything imported, at the top or inside a function."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= whole if node.module == "lab" else {str(node.module)}
    return found


@each_file
def test_imports_go_down(file: Path) -> None:
    name = module_of(file)
    for imported in imports(file):
        if imported.startswith("lab."):
            other = imported.split(".")[1]
            assert LEVEL[other] <= LEVEL[name] or (name, other) in TYPES_ONLY, f"{name} imports {other}, above it"


@each_file
def test_heavy_libraries_stay_in_their_place(file: Path) -> None:
    name, roots = module_of(file), {imported.split(".")[0] for imported in imports(file)}
    for library, owners in HEAVY.items():
        assert library not in roots or name in owners | {"evaluate_modules"}, f"{name} imports {library}"
    assert not roots & {"scripts", "tests", "pickle"}
    if LEVEL[name] <= 1:
        foreign = {root for root in roots - PLAIN if not is_standard(root)} - {"lab"}
        assert foreign <= ({"pandas"} if name == "__init__" else set()), f"{name} imports {foreign}"
    if LEVEL[name] <= 1 and name != "machine":
        assert not roots & {"time", "logging", "datetime", "random"}, f"{name} has a clock, a log or hidden chance"


def is_standard(root: str) -> bool:
    import sys

    return root in sys.stdlib_module_names


@each_file
def test_files_and_functions_are_short(file: Path) -> None:
    text = file.read_text()
    assert text.count("\n") <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            words = ast.get_docstring(node, clean=False) or ""
            length = node.end_lineno - node.lineno + 1 - (words.count("\n") + 1 if words else 0)
            assert length <= 40, f"{file.name}: {node.name} has {length} lines beside its docstring"


@each_file
def test_every_file_says_what_it_is(file: Path) -> None:
    assert ast.get_docstring(ast.parse(file.read_text())), file


def test_every_module_has_its_layer() -> None:
    assert {module_of(file) for file in FILES} <= set(LEVEL)
