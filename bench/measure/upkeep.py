"""What the process that measures does about its own memory: as little as it can while a run goes on.

A raw output is some megabytes.  By default the C library gives so much back to the system when it is freed, and each
page of the next one is then faulted in anew, which takes longer than to copy it.  And Python looks for garbage each
time it has made some hundred objects more: of the tables and matches of an evaluation all stay, and it finds none.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_OBJECTS = 20_000
"""Objects made before Python looks for garbage among them; it then holds some megabytes more at most."""
_KEPT_BYTES = 1 << 27
"""Outputs and prepared images of a turn fit in."""
_LARGEST_BYTES = 1 << 25
"""What is larger is not taken from the heap: the most that the C library allows (mallopt(3))."""
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h


@contextmanager
def little_upkeep() -> Iterator[None]:
    """Have Python look for garbage less often meanwhile, and the C library keep what is freed, from now on."""
    _keep_freed()
    before = gc.get_threshold()
    gc.set_threshold(max(_OBJECTS, before[0]) if before[0] else 0, *before[1:])  # 0: whoever called has it off
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _keep_freed() -> None:
    """Nothing happens where the C library is another than glibc."""
    if sys.platform != "linux":
        return
    choose = getattr(ctypes.CDLL(None), "mallopt", None)
    if choose is not None:
        choose(_TRIM_THRESHOLD, _KEPT_BYTES)
        choose(_MMAP_THRESHOLD, _LARGEST_BYTES)
