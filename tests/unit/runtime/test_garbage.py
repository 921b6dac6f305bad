"""Garbage collection."""

import gc

from sage_runtime.garbage import spare_what_is_loaded


def test_what_is_loaded_is_collected_no_more():
    """What was there before is no longer among the objects that a collection looks at; what comes later is."""
    before = [object(), []]
    try:
        spare_what_is_loaded()
        later: list[list[int]] = [[1]]
        tracked = {id(one) for one in gc.get_objects()}
        assert id(before) not in tracked
        assert id(later) in tracked
    finally:
        gc.unfreeze()
