"""The allocator's settings."""

import platform
import subprocess
import sys

import pytest

_WORK = """
import resource
from sage_runtime.malloc import keep_freed_memory
if {on}: assert keep_freed_memory()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for i in range(20):
    parts = [bytearray((1 + (i + j) % 12) << 20) for j in range(4)]
    parts = None
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _page_faults(*, on):
    run = subprocess.run([sys.executable, "-c", _WORK.format(on=on)], capture_output=True, check=True, text=True)
    return int(run.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator alone has these settings")
def test_freed_parts_are_used_again():
    """With the settings, freeing and taking megabytes does not go through the kernel each time."""
    assert _page_faults(on=True) < _page_faults(on=False) / 3
