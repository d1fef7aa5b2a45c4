"""Images that are remembered as the network takes them: the very input, once a size, in bounded memory."""

from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from bench.guest.letterbox import Letterbox, fit
from bench.measure.fitted import Fitted, Memory, prepared
from bench.tasks.dataset import Image
from bench.tasks.detect.task import DETECT
from bench.tasks.images import read_image
from bench.tasks.letterbox import letterbox


@pytest.fixture
def image(tmp_path: Path) -> Image:
    path = tmp_path / "a.png"
    pixels = np.random.default_rng(14).integers(0, 256, (37, 53, 3), np.uint8)
    assert cv2.imwrite(str(path), pixels)
    return Image(0, path, 53, 37, hashlib.sha256(path.read_bytes()).hexdigest())


def test_what_is_remembered_is_the_input_to_the_last_bit(image: Image) -> None:
    """float32 of the pixels over 255, as `letterbox` has it of the file; the second time without the file."""
    expected, box = letterbox(read_image(image.path), 64)
    canvas, _ = fit(read_image(image.path), 64)
    by_hand = (canvas.astype(np.float32) / np.float32(255.0)).transpose(2, 0, 1)[np.newaxis]
    first, geometry = prepared(DETECT, image, 64)
    image.path.unlink()
    again, same = prepared(DETECT, image, 64)
    for found in (first, again):
        assert found.dtype == np.float32
        assert found.flags.c_contiguous
        assert found.tobytes() == expected.tobytes() == np.ascontiguousarray(by_hand).tobytes()
    assert geometry == same == box


def test_another_size_is_another_input(image: Image) -> None:
    assert prepared(DETECT, image, 96)[0].shape == (1, 3, 96, 96)
    assert prepared(DETECT, image, 32)[0].shape == (1, 3, 32, 32)


def test_an_image_without_a_hash_is_read_each_time(image: Image) -> None:
    bare = Image(0, image.path, 53, 37)
    before, _ = prepared(DETECT, bare, 48)
    assert cv2.imwrite(str(image.path), np.zeros((37, 53, 3), np.uint8))
    after, _ = prepared(DETECT, bare, 48)
    assert not np.array_equal(before, after)


def test_memory_is_bounded_and_keeps_what_was_asked_for_last() -> None:
    made: list[int] = []
    memory = Memory(most=3 * 100)

    def get(number: int) -> int:
        def make() -> Fitted:
            made.append(number)
            return np.full(100, number, np.uint8), Letterbox(1.0, 0, 0, 10, 10)

        return int(memory.get(("detect", str(number), 10), make)[0][0])

    assert [get(number) for number in (0, 1, 2, 0, 3, 0, 1)] == [0, 1, 2, 0, 3, 0, 1]
    assert made == [0, 1, 2, 3, 1], "1 made room for 3, since 0 was asked for after it"
    assert sum(pixels.nbytes for pixels, _ in memory._kept.values()) == memory._bytes == 300
    memory.get(("detect", "large", 10), lambda: (np.zeros(301, np.uint8), None))
    assert (len(memory._kept), memory._bytes) == (0, 0), "what is larger than all of it is not kept"
