"""The memory of a device and of this process, as libraries and the allocator have it."""

import ctypes

import torch

_SHORT = ("out of memory", "alloc_failed", "not enough memory", "can't allocate memory")


def short_of_memory(error: Exception) -> bool:
    """Not every library of CUDA's, nor the host's allocator, has an exception of its own for it."""
    short = isinstance(error, (torch.OutOfMemoryError, MemoryError))
    return short or (isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _SHORT))


def keep_freed_memory() -> None:
    """Have glibc keep the memory of one pass for the next, instead of returning it and faulting it in again.

    A third of the time on a CPU (docs/benchmarks.md). The numbers are glibc's M_MMAP_THRESHOLD, M_TRIM_THRESHOLD and
    M_ARENA_MAX (mallopt(3)); other C libraries lack the call.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter, value in ((-3, 1 << 30), (-1, (1 << 31) - 1), (-8, 1)):
            mallopt(parameter, value)
