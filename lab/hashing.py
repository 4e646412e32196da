"""Hashes of values and of code, for the keys of artifacts.

The hash of code is taken over the syntax tree without docstrings, comments, line breaks, imports and file names.  So a
better sentence or a moved file gives the same hash, and a changed constant gives another one.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import json
from typing import Any


def canonical(value: Any) -> str:
    """Return the one JSON text of a value, from which keys are hashed: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: Any) -> str:
    """Return the SHA-256 of a value's canonical JSON, as 64 hexadecimal digits."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def code_hash(*sources: str, imports: bool = False) -> str:
    """Return one hash of Python sources, in any order, as 64 hexadecimal digits.

    Import statements count only with `imports`: a moved file changes those of the lab's own modules, whereas in a
    user's file they may decide what the code does.
    """
    trees = sorted(_tree(source, imports) for source in sources)
    return hashlib.sha256("\0".join(trees).encode()).hexdigest()


@functools.cache
def _tree(source: str, imports: bool) -> str:
    """Return the syntax tree of a source as text.  Cached: most modules stand behind several kinds of steps."""
    return json.dumps(_plain(ast.parse(source), imports))


@functools.cache
def reached(source: str, name: str) -> str:
    """Return the definitions of a module that `name` reaches: functions, classes and constants, itself included.

    reached("a = 1\\nb = 2\\ndef f(): return a", "f") -> "a = 1\\ndef f():\\n    return a"
    """
    statements: dict[str, list[ast.stmt]] = {}
    for node in ast.parse(source).body:
        for changed in _changes(node):
            statements.setdefault(changed, []).append(node)
    names, wanted = [name], set[str]()
    while names:
        used = names.pop()
        if used in statements and used not in wanted:
            wanted.add(used)
            names += [node.id for each in statements[used] for node in ast.walk(each) if isinstance(node, ast.Name)]
    return "\n".join(ast.unparse(each) for used in sorted(wanted) for each in statements[used])


def _changes(node: ast.stmt) -> set[str]:
    """Return the names that a statement of a module defines or changes: K = 1, K += 1, D["a"] = 1, L.append(1)."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        return _roots(node.value.func)
    stored = [part for part in ast.walk(node) if isinstance(getattr(part, "ctx", None), ast.Store)]
    return {name for part in stored for name in _roots(part)}


def _roots(node: ast.AST) -> set[str]:
    """Return the name at the root of an expression such as a.b["c"]."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return {node.id} if isinstance(node, ast.Name) else set()


def _plain(node: Any, imports: bool) -> Any:
    """Return the tree as lists, without positions, empty fields and docstrings, and without imports unless wanted."""
    if isinstance(node, list):
        return [_plain(each, imports) for each in node if not _says_nothing(each, imports)]
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = [(name, value) for name, value in ast.iter_fields(node) if value not in (None, [])]
    return [type(node).__name__, *([name, _plain(value, imports)] for name, value in fields)]


def _says_nothing(node: Any, imports: bool) -> bool:
    """Return whether a statement is a docstring (of a module, class, function or field) or an unwanted import."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return not imports
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
