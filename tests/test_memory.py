"""Freed memory stays with the process."""

import subprocess
import sys

import pytest

STEPS = """
import resource, sys
import numpy as np
from gammer_lightning.machine import keep_freed_memory

if sys.argv[1] == "kept":
    keep_freed_memory()
np.ones(2**26, np.uint8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    np.ones(2**26, np.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc")
def test_a_step_is_not_given_its_pages_anew():
    faults = {
        how: int(subprocess.run([sys.executable, "-c", STEPS, how], capture_output=True, check=True).stdout)
        for how in ("returned", "kept")
    }
    assert faults["kept"] < 100 < faults["returned"]
