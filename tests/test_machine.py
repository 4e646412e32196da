"""Memory that is kept: pages counted by the kernel, in processes of their own."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

CHURN = """
import resource, sys
import numpy as np
from lab import machine
if sys.argv[1] == "kept":
    machine.keep_memory()
def churn():
    for _ in range(3):
        np.ones(2**22), np.ones(2**23)
churn()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
churn()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    """Pages that three rounds of the same arrays asked the system for, after one such time."""
    done = subprocess.run([sys.executable, "-c", CHURN, how], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc's settings are glibc's")
def test_kept_memory_is_not_asked_for_again() -> None:
    """As it comes, glibc returns each array, and the kernel clears its pages anew the next time: 192 MB in all."""
    assert 10 * faults("kept") < faults("as it comes") > 50  # of 2 MB at most
