"""The closed forms of lab.theory as a table: what each one gives, its source, and a worked value."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lab import theory
from lab.errors import InputError, brief
from lab.lookup import suggestion

EXAMPLES = """\
heterozygosity p=0.5,0.3,0.15,0.05
retained regime=accumulate n=2 t=2
retained_by_voices written=14,2,2,2 t=1
expected_chi_square p=0.5,0.5 regime=replace n=7 t=1
given_corpus counts=3,1,1
mix_distance p=0.5,0.3,0.15,0.05 n=10 share=0.5 t=inf
mix_distance_exact p=0.5,0.3,0.15,0.05 n=10 human=5 t=inf
web_distance p=0.5,0.3,0.15,0.05 first=10 n=10 human=5,5
best_real_weight k=1
count_law p=0.5,0.5 n=2 t=1
expected_types p=0.5,0.5 n=2 t=1
extinction count=1 n=20 t=1
extinction_limit count=1 t=2
fixation_probability p=0.5,0.3,0.15,0.05
time_to_one_survivor p=0.1 n=2
time_to_one_survivor_diffusion p=0.5 n=10
expected_entropy p=0.5,0.5 n=2 t=1
expected_risk p=0.5,0.5 n=1 t=3 smoothing=1
temperature_chain p=0.8,0.2 temperature=0.5 t=1
top_p p=0.5,0.3,0.15,0.05 mass=0.8
top_p_uniform_support types=1000 mass=0.9 t=5
mean_variance regime=accumulate n=9 t=3
least_squares_excess regime=accumulate rows=30 features=9 t=2 fresh=true
missing_mass p=0.5,0.5 n=1
zipf_missing_mass b=2 n=100
zipf_tail b=2 rank=1
"""
WORKED = {line.split()[0]: line.split()[1:] for line in EXAMPLES.splitlines()}
"""Name of each closed form -> the arguments of its worked value, in the order of the table."""
MOST_STEPS = 1_000
"""Largest number of resamplings t: a study has at most so many generations.  The slowest form takes seconds for it."""


@dataclass(frozen=True)
class ClosedForm:
    """One closed form, evaluated at some arguments."""

    call: str
    value: Any
    """A number, or nested lists of numbers."""
    gives: str
    source: str

    @property
    def result(self) -> str:
        """The value with six significant digits."""
        return re.sub(r"[^\[\], ]+", lambda number: f"{float(number[0]):.6g}", str(self.value))


def closed_forms() -> list[ClosedForm]:
    """Return every closed form at its worked arguments."""
    return [evaluate(name, assignments) for name, assignments in WORKED.items()]


def evaluate(name: str, assignments: Sequence[str]) -> ClosedForm:
    """Return one closed form at arguments such as "n=100", "p=0.5,0.5" or "regime=replace".

    Raises:
        InputError: the name or an argument is unknown, missing, malformed or outside of the form's conditions.
    """
    if name not in WORKED:
        raise InputError(f'unknown closed form "{name}"{suggestion(name, WORKED)}; allowed: {", ".join(WORKED)}')
    function = getattr(theory, name)
    wanted = inspect.signature(function).parameters
    texts = dict(text.partition("=")[::2] for text in assignments)
    for given in texts:
        if given not in wanted:
            raise InputError(f'{name} has no argument "{given}"{suggestion(given, wanted)}; it has {", ".join(wanted)}')
    if missing := [argument for argument in wanted if argument not in texts]:
        example = " ".join([name, *WORKED[name]])
        raise InputError(f"{name} needs {', '.join(missing)} too, as in: lab theory {example}")
    arguments = {argument: _parsed(argument, text, wanted[argument].annotation) for argument, text in texts.items()}
    if not 0 <= arguments.get("t", 0) <= MOST_STEPS and arguments["t"] != math.inf:
        allowed = f"a whole number from 0 to {MOST_STEPS:,}, or inf where the form has a limit"
        raise InputError(f"{name}: t is {texts['t']:.40}; it is {allowed}")
    try:
        value = function(**arguments)
    except (ValueError, ArithmeticError, MemoryError) as error:
        raise InputError(f"{name}: {brief(error)}") from error
    gives, _, details = str(inspect.getdoc(function)).partition("\n")
    source = re.search(r"Source: (.+?)(?<!et al)[.:](\s|$)", " ".join(details.split()))
    assert source, f"the docstring of {name} names no source"
    numbers = value.tolist() if hasattr(value, "tolist") else value
    return ClosedForm(" ".join([name, *assignments]), numbers, gives.removeprefix("Return ").rstrip("."), source[1])


def _parsed(argument: str, text: str, annotation: str) -> Any:
    """Return the value that a text means, for a parameter of theory.py with this annotation."""
    parse, expected = PARSERS[annotation]
    try:
        return [parse(item) for item in text.strip("[]").split(",")] if "commas" in expected else parse(text)
    except (ValueError, KeyError):
        raise InputError(f'{argument}="{text}": expected {expected}') from None


def _number(text: str) -> float:
    return int(text) if text.isdecimal() else float(text)


PARSERS: dict[str, tuple[Callable[[str], Any], str]] = {
    "int": (int, "a whole number"),
    "float": (_number, "a number"),
    "bool": ({"true": True, "false": False}.__getitem__, "true or false"),
    "Pool": (str, "a regime"),
    "Distribution": (_number, "numbers with commas, such as 0.5,0.3,0.2"),
    "Sequence[int]": (int, "whole numbers with commas, such as 3,1,1"),
}
"""Annotation of a parameter -> how to parse one item, and what to expect in words."""
