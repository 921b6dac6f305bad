"""Memory settings of a server process: glibc's allocator and Python's garbage collector."""

import ctypes
import gc

# From glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8

_MMAP_THRESHOLD_BYTES = 32 * 1024 * 1024
_TRIM_THRESHOLD_BYTES = 64 * 1024 * 1024
_ARENAS = 2


def keep_freed_memory() -> bool:
    """Make glibc reuse freed blocks of up to 32 MiB instead of returning them to the kernel each time.

    Otherwise gRPC messages of 1 MiB and parts of 10 MiB are mapped, faulted in and unmapped one by one; reusing them
    gave 1.3 to 6 times the upload throughput at half the CPU. This has the effect of MALLOC_MMAP_THRESHOLD_ and
    MALLOC_TRIM_THRESHOLD_ in the environment, but for a running process: four parts of up to 12 MiB at a time cost
    10,751 page faults either way, and 1,236,715 without. Both settings are needed, or freed memory at the top of the
    heap is trimmed.

    All threads share two heaps. By default nearly every thread of gRPC and of a pool has its own and keeps megabytes
    in it that no other thread can use: 22 MB in total during four concurrent uploads.

    Returns:
        Whether the allocator accepted the settings. It does not if it is not glibc's.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    mallopt.argtypes = (ctypes.c_int, ctypes.c_int)
    mallopt.restype = ctypes.c_int
    return bool(
        mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD_BYTES)
        and mallopt(_M_TRIM_THRESHOLD, _TRIM_THRESHOLD_BYTES)
        and mallopt(_M_ARENA_MAX, _ARENAS)
    )


def freeze_loaded_objects() -> None:
    """Exclude everything loaded so far from later garbage collections. Call it once, when the process is ready.

    A full collection visits every object and blocks the event loop meanwhile. The modules, generated messages
    and SDKs of embed's worker are 120,000 objects, which takes 70 ms on an otherwise idle processor; without them it
    takes well under a millisecond. They live until the process ends anyway.
    """
    gc.collect()
    gc.freeze()
