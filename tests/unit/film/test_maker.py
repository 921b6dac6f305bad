"""Making films leaves the process as it was."""

import os

import pytest
from corpus.maker import Track, make_film


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="the system has no such scheduling")
def test_no_encoder_leaves_this_thread_with_real_time_priority() -> None:
    before = os.sched_getscheduler(0)
    make_film("mp4", Track("libsvtav1"))
    assert os.sched_getscheduler(0) == before
