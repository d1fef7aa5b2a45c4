"""What the process that measures does about its own memory."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import numpy as np
import pytest

from bench.measure.upkeep import little_upkeep


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


def test_what_is_large_is_still_to_be_had() -> None:
    with little_upkeep():
        held = [np.ones(1 << 23, np.uint8) for _ in range(32)]
        assert sum(int(one[0]) for one in held) == 32
