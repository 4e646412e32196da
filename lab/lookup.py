"""Functions by name: an entry of a table, or `package.module:function` for a function of the user's own."""

from __future__ import annotations

import difflib
import importlib
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from lab.errors import InputError


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
