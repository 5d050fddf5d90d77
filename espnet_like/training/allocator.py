"""The C library's allocator, as training on a CPU wants it."""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h
KEPT = 1 << 30  # bytes free at the heap's end before the rest goes back to the system


def keep_freed_memory() -> bool:
    """Let this process reuse the memory that it frees, instead of handing it back at once.

    glibc maps every large tensor anew and unmaps it when freed; at each step the kernel then clears
    and maps the same hundreds of megabytes again, a good part of a step on a CPU. Results do not
    change; a process holds more memory, as what it has freed stays with it.

    Returns:
        whether that was possible: not with another C library.
    """
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):
        return False
    return bool(libc.mallopt(M_MMAP_MAX, 0) and libc.mallopt(M_TRIM_THRESHOLD, KEPT))
