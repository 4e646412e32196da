"""Keys of the steps of shipped studies: a committed list, so that nothing that a study does not ask for moves them.

A change of code that is meant to change a step renews the list: PYTHONPATH=. python tests/promises/test_keys.py
"""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from lab.config.files import load_study
from lab.hashing import digest
from lab.loop import build
from lab.steps.place import Machine
from lab.store.step import Step

LIST = Path(__file__).with_name("keys.json")
MACHINE = Machine("cpu", "float32", 1, "any")
"""One for all: the machine is a part of keys too."""
STUDIES = ("quick", "smoke")

pytestmark = pytest.mark.fast


def kinds(study: str) -> dict[str, dict[str, str]]:
    """Return the version of each kind of step of a study, and a hash of all that else makes the keys of its steps."""
    steps: dict[str, list[Step]] = defaultdict(list)
    for step in build(load_study(study), on=MACHINE).steps:
        steps[step.name].append(step)
    return {
        name: {"version": some[0].version, "asked": digest(sorted(map(asked, some)))[:16]}
        for name, some in steps.items()
    }


def asked(step: Step) -> str:
    """Return a hash of the parameters of a step and of the steps that it reads, without the versions of code."""
    inputs: dict[str, Any] = {role: [each.name, each.params] for role, each in step.inputs.items()}
    return digest([step.params, inputs])


@pytest.mark.parametrize("study", STUDIES)
def test_keys_are_those_of_the_list(study: str) -> None:
    known, now = json.loads(LIST.read_text(encoding="utf-8"))[study], kinds(study)
    changed = {name: (known.get(name), now.get(name)) for name in {*known, *now} if known.get(name) != now.get(name)}
    assert not changed, f"finished runs of {study} will do these steps again (listed, now): {changed}"


if __name__ == "__main__":
    LIST.write_text(
        json.dumps({study: kinds(study) for study in STUDIES}, indent=1, sort_keys=True) + "\n", encoding="utf-8"
    )
