"""Names to functions: a dict literal, or `package.module:function` for the user's own."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Mapping
from typing import Any

from lab.errors import InputError


def suggestion(given: str, allowed: Iterable[str]) -> str:
    """' - did you mean "replace"?' or an empty string."""
    close = difflib.get_close_matches(given, list(allowed), n=1, cutoff=0.6)
    return f' - did you mean "{close[0]}"?' if close else ""


def lookup(kind: str, name: str, table: Mapping[str, Any]) -> Any:
    """The table's entry, or the function that `package.module:function` names.  InputError when there is none."""
    if name in table:
        return table[name]
    if ":" in name:
        return imported(kind, name)
    hint = suggestion(name, table) or f'; allowed: {", ".join(table)}, or "package.module:function"'
    raise InputError(f'unknown {kind} "{name}"{hint}')


def imported(kind: str, name: str) -> Any:
    module, _, function = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), function)
    except (Exception, SystemExit) as error:  # the user's module may raise anything, and may be a script
        raise InputError(f'{kind} "{name}" cannot be imported: {type(error).__name__}: {error}') from error
    if not callable(found):
        raise InputError(f'{kind} "{name}" is {type(found).__name__}, not a function')
    return found
