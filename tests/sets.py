"""Small data sets of our own making, for the tests of what is read from one."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

from bench.reasons import Collector
from bench.tasks.dataset import Dataset
from bench.tasks.detect.task import DETECT, load

SIZE = (40, 20)
BOX = "1 0.5 0.5 0.25 0.5"
# Columns 2 to 5 of a row, times 40 x 20 px: 10 x 10 px around (20, 10); its area, and that it is no crowd.
IN_PX = (0, 1, 15.0, 5.0, 10.0, 10.0, 100.0, False)
NAMES = "names: [cat, dog]\n"


def picture(path: Path) -> Path:
    """An image of a grey of its own, so that two of different names are not copies of each other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    grey = zlib.crc32(path.name.encode()) % 256
    PillowImage.fromarray(np.full((SIZE[1], SIZE[0], 3), grey, np.uint8)).save(path)
    return path


def label(root: Path, name: str, rows: str) -> Path:
    path = root / f"labels/val/{name}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(rows)
    return path


def fill(root: Path) -> Path:
    """Images a and b, each with one labelled object."""
    for name in "ab":
        picture(root / f"images/val/{name}.png")
        label(root, name, BOX)
    return root


def data_file(root: Path, text: str = "val: images/val\n") -> Path:
    path = root / "set.yaml"
    path.write_text(text + NAMES)
    return path


def load_set(root: Path, text: str = "val: images/val\n") -> Dataset:
    return load(data_file(root, text))


def problems_of(path: Path) -> tuple[str, ...]:
    """All that is wrong with a set."""
    problems = Collector()
    DETECT.read(path, problems)
    return problems.found
