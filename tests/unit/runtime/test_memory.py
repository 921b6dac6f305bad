"""Memory settings of a server process."""

import gc
import platform
import subprocess
import sys

import pytest
from sage_runtime.process.memory import freeze_loaded_objects

_WORK = """
import resource
from sage_runtime.process.memory import keep_freed_memory
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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator has these settings")
def test_freed_megabytes_are_reused_without_page_faults():
    assert _page_faults(on=True) < _page_faults(on=False) / 3


def test_collections_skip_objects_loaded_before_the_freeze():
    before = [object(), []]
    try:
        freeze_loaded_objects()
        later: list[list[int]] = [[1]]
        tracked = {id(one) for one in gc.get_objects()}
        assert id(before) not in tracked
        assert id(later) in tracked
    finally:
        gc.unfreeze()
