"""Confined processes: a child that reads one untrusted file, whose bytes its parent reads for it.

A decoder is a large parser of untrusted files. It runs in a process that has no credentials, opens no files and
no connections, has bounded memory and CPU time, and ends with its parent. It writes requests for bytes to its standard
output and reads them from its standard input. This module is the child's side, and what both sides need to know. It
imports little, because a child is started for each file.
"""

import contextlib
import ctypes
import io
import os
import platform
import resource
import signal
import struct
from collections import OrderedDict
from pathlib import Path
from typing import BinaryIO

# The first byte from a child, once it is confined.
READY = b"H"
# A request for bytes, followed by their offset and number. The response is a LENGTH and the bytes.
READ = b"R"
READ_ARGUMENTS = struct.Struct("!QI")
LENGTH = struct.Struct("!I")
# The largest number of bytes that a child may request at once.
MAX_READ_BYTES = 1024 * 1024

# The variables that a child receives: where its code is. No credentials.
_PASSED_ON = ("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LANG")
# Every arena of glibc's allocator and every thread of OpenBLAS reserves address space, which is what is limited.
_THRIFTY = {"MALLOC_ARENA_MAX": "2", "OPENBLAS_NUM_THREADS": "1"}

_BLOCK_BYTES = 16 * 1024
_CACHED_BLOCKS = 1024
# Blocks that are read at once if the file is read from front to back.
_MAX_RUN = MAX_READ_BYTES // _BLOCK_BYTES


class BudgetExceededError(OSError):
    """More of the file would have to be read than is allowed."""


def child_environment() -> dict[str, str]:
    """Return the environment of a child."""
    return {**{name: os.environ[name] for name in _PASSED_ON if name in os.environ}, **_THRIFTY}


def confine(*, memory_bytes: int, cpu_s: int) -> None:
    """Bound what this process may use, and end it when its parent ends. No privileges are required.

    Args:
        memory_bytes: Size of its address space.
        cpu_s: Seconds of CPU time.
    """
    for limit, value in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 32),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (value, value))
    # SIGXCPU a second before SIGKILL, so that the parent can tell why it ended.
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))
    # If memory runs out, the kernel is to end this process, not its parent.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    _end_with_parent()


_PR_SET_PDEATHSIG = 1


def _end_with_parent() -> None:
    """Have the kernel kill this process when the thread that started it ends."""
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


class RemoteFile:
    """A file whose bytes the parent reads, in blocks; the most recently used ones are cached.

    Args:
        requests: Requests to the parent.
        responses: The parent's responses.
        size_bytes: Size of the file.
        max_bytes: Total number of bytes that may be read.

    Raises:
        BudgetExceededError: Of every method that reads: more would have to be read.
    """

    def __init__(self, requests: BinaryIO, responses: BinaryIO, *, size_bytes: int, max_bytes: int) -> None:
        self._requests = requests
        self._responses = responses
        self._size_bytes = size_bytes
        self._left_bytes = max_bytes
        self._position = 0
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        # Where the last request ended, and how many blocks it had.
        self._run_end, self._run = 0, 1

    def read(self, size: int = -1, /) -> bytes:
        """Return up to `size` bytes: fewer at the end of a block, none at the end of the file."""
        index, start = divmod(self._position, _BLOCK_BYTES)
        if size == 0 or self._position >= self._size_bytes:
            return b""
        block = self._block(index)
        data = block[start:] if size < 0 else block[start : start + size]
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move to an offset."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size_bytes}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        """Return the offset."""
        return self._position

    def _block(self, index: int) -> bytes:
        if index not in self._blocks:
            self._request(index)
        self._blocks.move_to_end(index)
        return self._blocks[index]

    def _request(self, first: int) -> None:
        self._run = min(2 * self._run, _MAX_RUN) if first == self._run_end else 1
        # Not too much of what may be read is spent on bytes that may not be needed.
        while self._run > 1 and self._run * _BLOCK_BYTES > self._left_bytes // 8:
            self._run //= 2
        self._run_end = first + self._run
        start = first * _BLOCK_BYTES
        length = min(self._run * _BLOCK_BYTES, self._size_bytes - start)
        self._left_bytes -= length
        if self._left_bytes < 0:
            raise BudgetExceededError
        self._requests.write(READ + READ_ARGUMENTS.pack(start, length))
        self._requests.flush()
        data = read_exactly(self._responses, LENGTH.unpack(read_exactly(self._responses, LENGTH.size))[0])
        for offset in range(0, max(1, len(data)), _BLOCK_BYTES):
            self._blocks[first + offset // _BLOCK_BYTES] = data[offset : offset + _BLOCK_BYTES]
        while len(self._blocks) > _CACHED_BLOCKS:
            self._blocks.popitem(last=False)


def read_exactly(stream: BinaryIO, size: int) -> bytes:
    """Return the next `size` bytes; end the process if the parent is gone."""
    data = stream.read(size)
    if len(data) < size:
        raise SystemExit(1)
    return data


# System calls after `forbid_system_calls`: memory, threads, time, and reading and writing what is already open.
_ALLOWED = {
    "x86_64": {
        "read": 0, "write": 1, "close": 3, "fstat": 5, "poll": 7, "lseek": 8, "mmap": 9, "mprotect": 10, "munmap": 11,
        "brk": 12, "rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15, "pread64": 17, "writev": 20,
        "sched_yield": 24, "mremap": 25, "madvise": 28, "nanosleep": 35, "getpid": 39, "clone": 56, "exit": 60,
        "gettimeofday": 96, "getrusage": 98, "sigaltstack": 131, "gettid": 186, "time": 201, "futex": 202,
        "sched_getaffinity": 204, "set_tid_address": 218, "clock_gettime": 228, "clock_nanosleep": 230,
        "exit_group": 231, "set_robust_list": 273, "getrandom": 318, "membarrier": 324, "rseq": 334, "clone3": 435,
    },
    "aarch64": {
        "read": 63, "write": 64, "close": 57, "fstat": 80, "ppoll": 73, "lseek": 62, "mmap": 222, "mprotect": 226,
        "munmap": 215, "brk": 214, "rt_sigaction": 134, "rt_sigprocmask": 135, "rt_sigreturn": 139, "pread64": 67,
        "writev": 66, "sched_yield": 124, "mremap": 216, "madvise": 233, "nanosleep": 101, "getpid": 172,
        "clone": 220, "exit": 93, "gettimeofday": 169, "getrusage": 165, "sigaltstack": 132, "gettid": 178,
        "futex": 98, "sched_getaffinity": 123, "set_tid_address": 96, "clock_gettime": 113, "clock_nanosleep": 115,
        "exit_group": 94, "set_robust_list": 99, "getrandom": 278, "membarrier": 283, "rseq": 293, "clone3": 435,
    },
}  # fmt: skip
# Allowed only for the calling process: it lowers and raises its own limits.
_PRLIMIT = {"x86_64": 302, "aarch64": 261}
_ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_SECCOMP = {"x86_64": 317, "aarch64": 277}

_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_SET_MODE_FILTER = 1
# All threads; and without the mitigation against speculative stores, which would slow down the decoder.
_SECCOMP_FLAGS = 1 | 4
# Instructions of the filter, from linux/bpf_common.h, and its results, from linux/seccomp.h.
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _FAIL_WITH = 0x7FFF0000, 0x00050000
# The call's number, its architecture and the low half of its first argument, in struct seccomp_data.
_NUMBER, _ARCH, _ARGUMENT = 0, 4, 16
# What a kernel without the call returns, which the C library is prepared for.
_ENOSYS = 38


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]


def forbid_system_calls() -> bool:
    """Forbid this process to open files or connections, to start programs, and to signal or inspect other processes.

    It can still read and write what is open, allocate memory and start threads. Everything that it needs must have been
    imported. Requires no privileges, and works inside containers.

    Returns:
        Whether it succeeded: it does not on kernels without seccomp and on other processors than x86-64 and ARM64.
    """
    machine = platform.machine()
    if machine not in _ALLOWED:
        return False
    allowed = sorted(_ALLOWED[machine].values())
    program = [
        (_LOAD, 0, 0, _ARCH),
        (_JUMP_IF_EQUAL, 1, 0, _ARCHITECTURE[machine]),
        (_RETURN, 0, 0, _FAIL_WITH | _ENOSYS),
    ]
    program += [(_LOAD, 0, 0, _NUMBER)]
    # Each jump leads to the last instruction, which allows the call.
    for index, number in enumerate(allowed):
        program.append((_JUMP_IF_EQUAL, len(allowed) - index + 3, 0, number))
    program += [
        (_JUMP_IF_EQUAL, 0, 2, _PRLIMIT[machine]),
        (_LOAD, 0, 0, _ARGUMENT),
        (_JUMP_IF_EQUAL, 1, 0, 0),
        (_RETURN, 0, 0, _FAIL_WITH | _ENOSYS),
        (_RETURN, 0, 0, _ALLOW),
    ]
    instructions = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        return False
    filter_ = _Program(len(program), instructions)
    return not libc.syscall(_SECCOMP[machine], _SECCOMP_SET_MODE_FILTER, _SECCOMP_FLAGS, ctypes.byref(filter_))
