"""Functions by name: an entry of a table, or `package.module:function` for a function of the user's own."""

from __future__ import annotations

import ast
import difflib
import importlib.util
import inspect
import itertools
import re
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lab.errors import InputError

READS = re.compile(
    r"(^|\.)(open|read_[a-z]+|(np|numpy|torch|joblib)\.load|loadtxt|genfromtxt|fromfile|memmap|load_dataset)$"
)
"""Names of functions that read files, as code calls them."""


def suggestion(given: str, allowed: Iterable[str]) -> str:
    """Return ' - did you mean "replace"?' for a name close to an allowed one, else an empty string."""
    close = difflib.get_close_matches(given, list(allowed), n=1, cutoff=0.6)
    return f' - did you mean "{close[0]}"?' if close else ""


def lookup(kind: str, name: str, table: Mapping[str, Any]) -> Any:
    """Return the table's entry of this name, or the function that `package.module:function` names.

    `kind` is what the function is, for messages: "regime".  InputError: there is no such entry or function.
    """
    if name in table:
        return table[name]
    if ":" in name:
        return imported(kind, name)
    hint = suggestion(name, table) or f'; allowed: {", ".join(table)}, or "package.module:function"'
    raise InputError(f'unknown {kind} "{name}"{hint}')


def imported(kind: str, name: str) -> Any:
    """Return the function that `package.module:function` names: of the current folder, or installed.

    The current folder comes last, so that a file of the user's named random.py stands in no library's way.

    Raises:
        InputError: it cannot be imported, or is no function.
    """
    module, _, function = name.partition(":")
    here = Path.cwd()
    if str(here) not in sys.path:
        sys.path.append(str(here))
    try:
        value = getattr(importlib.import_module(module), function)
    except (Exception, SystemExit) as error:  # the user's module may raise anything, and may be a script
        taken = getattr(sys.modules.get(module), "__file__", None)
        own = here / f"{module}.py"
        other = taken and own.is_file() and Path(taken) != own
        hint = f"; {module} is {taken}, which has the name of your {own.name}: rename yours" if other else ""
        raise InputError(f'{kind} "{name}" cannot be imported: {type(error).__name__}: {error}{hint}') from error
    if not callable(value):
        raise InputError(f'{kind} "{name}" is {type(value).__name__}, not a function')
    return value


def users_code(module: str) -> dict[str, str]:
    """Return name -> source of a user's module and of every module of the user's that it reaches by import statements.

    The standard library, installed packages and the lab itself are left out.  Imports inside functions count, and so
    does import_module("name").  What is imported by a computed name, and data that the code reads, cannot be seen here.

    Raises:
        OSError: the module itself has no Python source.
    """
    found: dict[str, str] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        file = _file_of(name) if name not in found else None
        if file is None or (found and not _is_users(file)):
            continue
        found[name] = importlib.util.decode_source(file.read_bytes())
        waiting += _imports(found[name], name if file.name == "__init__.py" else name.rpartition(".")[0])
    if not found:
        raise OSError(f"{module} is no Python file")
    return found


def reads(module: str) -> list[str]:
    """Return the calls in a user's code that read a file or import a computed name, as "mine.py:7 open(path)".

    No key holds what they read. They are told by the names of the functions, so that some may be missed.
    """
    found = []
    for name, source in users_code(module).items():
        file = _file_of(name)
        if file is not None and _is_users(file):
            calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call) and _reads(node)]
            found += [f"{file.name}:{node.lineno} {ast.unparse(node):.40}" for node in calls]
    return found


def _reads(call: ast.Call) -> bool:
    name = ast.unparse(call.func)
    if name.endswith(("import_module", "__import__")):
        return not all(isinstance(given, ast.Constant) for given in call.args[:1])
    modes = [*call.args[name == "open" :], *(key.value for key in call.keywords if key.arg == "mode")]
    writes = any(isinstance(mode, ast.Constant) and str(mode.value)[:1] in ("w", "a", "x") for mode in modes[:1])
    return bool(READS.search(name)) and not (name.rpartition(".")[2] == "open" and writes)


def _imports(source: str, package: str) -> Iterator[str]:
    """Yield the name of every module that a text of this package may import, also "a.b" for `from a import b`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            values = [given.value for given in node.args[:1] if isinstance(given, ast.Constant)]
            names = [value for value in values if isinstance(value, str)]
        else:
            continue
        for name in names:
            yield from itertools.accumulate(name.split("."), lambda parent, child: f"{parent}.{child}")


def _file_of(module: str) -> Path | None:
    """Return the .py file of a module, or None for one that is built in, compiled or not there."""
    try:
        loaded = sys.modules.get(module)
        spec = loaded.__spec__ if loaded is not None else importlib.util.find_spec(module)
    except (Exception, SystemExit):  # a name that is no module, or a parent that fails
        return None
    path = getattr(spec, "origin", None) or getattr(loaded, "__file__", None)
    return Path(path) if path and path.endswith(".py") and Path(path).is_file() else None


def _is_users(file: Path) -> bool:
    """Return whether a module's file is neither the lab's, nor of the standard library, nor of an installed package."""
    paths = sysconfig.get_paths()
    others = {Path(__file__).parent, *(Path(paths[name]) for name in ("stdlib", "platstdlib", "purelib", "platlib"))}
    return not others & set(file.parents) and not {"site-packages", "dist-packages"} & set(file.parts)


def check_options(
    kind: str, name: str, function: Callable[..., Any], options: Mapping[str, Any], *, leading: str
) -> None:
    """Check the options of a function that a study names: its keyword-only arguments, except `rng`.

    It is called as function(leading, rng=rng, **options), where `leading` is the name of its first argument.

    Raises:
        InputError: an option is unknown, one that is needed is missing, or the function cannot be called so.
    """
    try:
        signature = inspect.signature(function)
    except ValueError:
        raise InputError(f'{kind} "{name}" is no Python function') from None
    parameters = signature.parameters.values()
    known = {p.name: p for p in parameters if p.kind is p.KEYWORD_ONLY and p.name != "rng"}
    anything = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    for option in options:
        if option not in known and not anything:
            hint = suggestion(option, known) or (f"; it has {', '.join(known)}" if known else "; it takes none")
            raise InputError(f'{kind} {name} has no option "{option}"{hint}')
    missing = [option for option, p in known.items() if p.default is p.empty and option not in options]
    if missing:
        raise InputError(f"{kind} {name} needs {', '.join(missing)}: write {{{name}: {{{missing[0]}: ...}}}}")
    try:
        signature.bind(None, rng=None, **options)
    except TypeError as error:
        raise InputError(f'{kind} "{name}" cannot be called as {name}({leading}, rng=rng, ...): {error}') from None
