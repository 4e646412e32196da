"""Reading the YAML of study files and `--set` values: plain data only, of a bounded size, no key twice.

The limits are far above any study: the longest shipped one has 300 values, 5 levels deep.  They are far below what does
harm: reading MOST_VALUES takes some 5 seconds, and a few lines of aliases that stand for billions of values are refused
at once.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NoReturn

import yaml
from yaml.composer import ComposerError
from yaml.events import AliasEvent
from yaml.nodes import MappingNode, Node, ScalarNode

MOST_BYTES = 1 << 20
"""Bytes of a file: ten times as many as 10,000 seeds take, one per line."""
MOST_VALUES = 100_000
"""Keys and values of a file.  Those that an alias stands for count each time the alias is used."""
MOST_DEEP = 32
"""Levels of nesting; a study has up to 6."""
LARGEST = 10**100
"""Bound of whole numbers.  Python refuses to print thousands of digits, also within its own error messages."""
INT, FLOAT, NULL = (f"tag:yaml.org,2002:{name}" for name in ("int", "float", "null"))
ERRORS = (yaml.YAMLError, ValueError, OverflowError)
"""Errors that reading raises: ValueError for a date such as 2024-13-45 or a number of more than 4,300 digits."""


class Strict(yaml.SafeLoader):
    """A safe loader that refuses what no study needs: tags, aliases within themselves, a key twice, endless data."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.depth = self.values = 0
        self.sizes: dict[int, int] = {}
        """Number of values in each complete node, by its id, with those that aliases stand for."""

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        """Compose a node, and count its depth and values against the limits."""
        parser: Any = self  # PyYAML's stubs leave the parser untyped
        event = parser.peek_event()
        if getattr(event, "tag", None) is not None:
            self.refuse(f"a study is plain data, without tags such as {event.tag}", event)
        getattr(event, "value", "").encode()  # a lone surrogate, "\\ud800", could be neither printed nor written
        self.depth += 1
        if self.depth > MOST_DEEP:
            self.refuse(f"more than {MOST_DEEP} levels of nesting", event)
        before = self.values
        node = super().compose_node(parent, index)
        if isinstance(event, AliasEvent) and id(node) not in self.sizes:
            self.refuse(f"*{event.anchor} stands inside of what it names", event)
        self.values += self.sizes[id(node)] if isinstance(event, AliasEvent) else 1
        if self.values > MOST_VALUES:
            self.refuse(f"more than {MOST_VALUES:,} values", event)
        self.sizes[id(node)] = self.values - before
        self.depth -= 1
        return node

    def compose_mapping_node(self, anchor: Any) -> MappingNode:
        """Compose a mapping, and refuse a key that it holds twice, and {tokens: 51,200}, which is two entries."""
        node: MappingNode = super().compose_mapping_node(anchor)
        seen = set()
        for key, value in node.value:
            if node.flow_style and key.tag == INT and value.tag == NULL and not value.value:
                self.refuse(f"a comma parts the entries of {{...}}: write 51_200, not 51,200 (here ,{key.value})", key)
            if isinstance(key, ScalarNode) and (key.tag, key.value) in seen:
                self.refuse(f'the key "{key.value:.80}" stands there twice', key)
            seen.add((key.tag, key.value) if isinstance(key, ScalarNode) else key)
        return node

    def construct_yaml_int(self, node: ScalarNode) -> int:
        """Construct a whole number, and refuse one beyond LARGEST, and what YAML reads in base 8 or 60: 010, 1:30."""
        if re.fullmatch(r"[-+]?0[0-7_]+|.*:.*", node.value):
            self.refuse(f"{node.value:.80} is no decimal number in YAML: leave out the first 0, or quote it", node)
        value: int = super().construct_yaml_int(node)
        if abs(value) >= LARGEST:
            self.refuse("a whole number beyond all bounds", node)
        return value

    def construct_yaml_float(self, node: ScalarNode) -> int | float:
        """Construct a number; one with an exponent that is whole is a whole number: 5e4, but not 50.000."""
        value: float = super().construct_yaml_float(node)
        whole = "e" in node.value.lower() and value.is_integer() and abs(value) < LARGEST
        return int(value) if whole else value

    def refuse(self, reason: str, at: Any) -> NoReturn:
        """Raise an error that names the line and column of a node or event."""
        raise ComposerError(None, None, reason, at.start_mark)


# YAML 1.1 takes 3e-3 and 5e4, without a point, for text.
Strict.add_implicit_resolver(FLOAT, re.compile(r"[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+$"), list("-+0123456789"))
Strict.add_constructor(INT, Strict.construct_yaml_int)
Strict.add_constructor(FLOAT, Strict.construct_yaml_float)


def read(text: str) -> Any:
    """Return the data in a YAML text.  Raise one of ERRORS for a text that is no such data."""
    loader = Strict(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def read_file(path: Path) -> Any:
    """Return the data in a YAML file.  Raise one of ERRORS, or OSError where the file cannot be read."""
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ValueError(f"it is larger than {MOST_BYTES:,} bytes, and no study is")
    return read(content.decode("utf-8"))
