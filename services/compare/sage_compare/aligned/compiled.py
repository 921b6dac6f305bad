"""The decorator of the functions that numba compiles."""

from collections.abc import Callable
from typing import TypeVar, cast

from numba import njit

_Kernel = TypeVar("_Kernel", bound=Callable[..., object])


def kernel(function: _Kernel) -> _Kernel:
    """Compile a function when it is called first, and keep the code on disk.

    Kernels are single-threaded and sum in one fixed order, so a result is the same to the bit on every call and on
    every processor. Sums of many cells are sums of integers, which the compiler may reorder. They release the GIL.
    """
    return cast("_Kernel", njit(cache=True, nogil=True)(function))
