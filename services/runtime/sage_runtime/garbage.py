"""Garbage collection that does not hold up the event loop."""

import gc


def spare_what_is_loaded() -> None:
    """Leave what is loaded by now out of every later garbage collection. Call once, when the process is ready.

    A full collection looks at every object there is, and nothing else runs meanwhile. With the modules, generated
    messages and SDKs of embed's worker that is 120,000 objects and 70 ms on a processor of its own, which no call
    can be answered in; without them it is well under a millisecond. They stay until the process ends in any case.
    """
    gc.collect()
    gc.freeze()
