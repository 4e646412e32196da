"""The `lab` command: `python -m lab`, or this file by its path, as scripts/lab runs it.

By its path no other module of the current folder or of the lab's is in the way, and the path may hold a colon.
"""

import sys
from pathlib import Path

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    import lab  # noqa: F401  (from now on `lab` is known, wherever it lies)

    del sys.path[0]

from lab.cli.app import main

main()
