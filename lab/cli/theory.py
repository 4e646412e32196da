"""`lab theory`: print the closed forms that runs are verified against, or evaluate one of them."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from lab.cli.terminal import AsJson, print_json, print_table, say

EXAMPLES = """\b
Examples:
  lab theory                                      every closed form, at an example
  lab theory retained regime=replace n=100 t=5    one of them"""


def print_theory(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="A closed form; without it: all.")] = None,
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="ARGUMENT=VALUE", help="Its arguments: n=100 p=0.5,0.5.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the closed forms that runs are checked against.

    With a name and its arguments, evaluate one of them.
    """
    from lab.theory.table import closed_forms, evaluate

    forms = closed_forms() if name is None else [evaluate(name, arguments or [])]
    if as_json:  # JSON has no number for infinity: it becomes the string "Infinity"
        shown = json.loads(json.dumps([asdict(form) for form in forms]), parse_constant=str)
        print_json(shown if name is None else shown[0])
    elif name is None:
        cells = [[form.call, form.result, form.gives, form.source] for form in forms]
        print_table(("closed form, at an example", "value", "what it gives", "source"), cells)
    else:
        say(f"{forms[0].call} = {forms[0].result}")
        say(f"{forms[0].gives}. Source: {forms[0].source}.", "dim")
