"""The scripts of the project as modules for the tests, loaded by path because scripts/ is no package."""

import importlib
import sys
from types import ModuleType

from support.tiny import PROJECT

SCRIPTS = PROJECT / "scripts"


def load(path: str) -> ModuleType:
    """Load a script once and return its module: load("bench/bench_sample.py").

    The script's folder stays on sys.path, as it is when the script is run: scripts import files that stand beside them,
    and processes that a script starts do so again.
    """
    file = SCRIPTS / path
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))
    module = importlib.import_module(file.stem)
    if module.__file__ != str(file):
        raise ImportError(f"{file.stem} is {module.__file__}, not {file}")
    return module
