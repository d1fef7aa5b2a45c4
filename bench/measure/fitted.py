"""Images as the network takes them: read and fitted once in a process, however many cells of one size infer them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.tasks.dataset import Image
from bench.tasks.letterbox import tensor
from bench.tasks.task import AnyTask, Tensor

KEPT_BYTES = 2**28
"""Pixels that are remembered: 218 images of 640 px, so that a subset of COCO is prepared once and not once a cell."""

Prepared = tuple[Tensor, Any]
"""The network's input of one image, and how the image was fitted into it."""
Fitted = tuple[NDArray[np.uint8], Any]
"""The same as pixels, which take a quarter of the memory."""


class Memory:
    """Fitted images, those that were asked for last, in at most `most` bytes of pixels.  Several threads may use it."""

    def __init__(self, most: int) -> None:
        """Nothing is remembered yet."""
        self._most = most
        self._bytes = 0
        self._kept: OrderedDict[tuple[str, str, int], Fitted] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple[str, str, int], make: Callable[[], Fitted]) -> Fitted:
        """What is remembered under a key, or made now."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        made = make()
        with self._lock:
            if key not in self._kept:  # by another thread meanwhile
                self._kept[key] = made
                self._bytes += made[0].nbytes
            while self._bytes > self._most:
                _, (pixels, _) = self._kept.popitem(last=False)
                self._bytes -= pixels.nbytes
        return made


_MEMORY = Memory(KEPT_BYTES)


def prepared(task: AnyTask, image: Image, imgsz: int) -> Prepared:
    """An image as the network takes it.  Raises UsageError where it is no longer what the set was."""

    def fit() -> Fitted:
        pixels, geometry = task.prepare(image.pixels(), imgsz)
        return pixels, geometry

    # What has no hash cannot be told from what lay under its path before.
    pixels, geometry = _MEMORY.get((task.name, image.content, imgsz), fit) if image.content else fit()
    return tensor(pixels), geometry
