"""What the process that measures does about its own memory."""

from __future__ import annotations

import gc
import os
import platform
import subprocess
import sys
from collections.abc import Iterator

import pytest

from bench.measure.upkeep import little_upkeep

OUTPUTS = """
import resource
from contextlib import nullcontext
import numpy as np
from bench.measure.upkeep import little_upkeep
{}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(100):
        held = [np.ones(3_000_000, np.uint8) for _ in range(3)]
        del held
    print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // 3)
"""


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


@pytest.mark.parametrize(("before", "meanwhile"), [(700, 20_000), (50_000, 50_000), (0, 0)])
def test_garbage_is_looked_for_less_often_and_then_as_before(before: int, meanwhile: int) -> None:
    gc.set_threshold(before, 11, 12)
    with little_upkeep():
        assert gc.get_threshold() == (meanwhile, 11, 12)
    assert gc.get_threshold() == (before, 11, 12)


def faults(words: str) -> int:
    """Pages that a process faults in for a hundred outputs of 3 MB, one after another."""
    done = subprocess.run([sys.executable, "-c", OUTPUTS.format(words)], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="says how glibc keeps what is freed")
def test_what_is_freed_is_there_for_the_next_output() -> None:
    pages = 100 * 3_000_000 // os.sysconf("SC_PAGE_SIZE")
    assert faults("with nullcontext():") > pages / 2
    assert faults("with little_upkeep():") < pages / 10
