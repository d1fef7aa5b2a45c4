"""Image files: which a folder or a list names, which names are one file, where their labels lie, and their pixels."""

from __future__ import annotations

import errno
import io
import os
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageOps

from bench.reasons import UsageError

IMAGE_SUFFIXES = frozenset(
    ["avif", "bmp", "dng", "heic", "heif", "jp2", "jpeg", "jpg", "mpo", "png", "tif", "tiff", "webp"]
)
# Pictures that Ultralytics does not read: beside images that it does, they are told, not passed over.
OTHER_PICTURES = frozenset(
    ["apng", "arw", "cr2", "cr3", "gif", "jfif", "jpe", "jxl", "nef", "pbm", "pgm", "pnm", "ppm", "psd", "tga"]
)
MINIMUM_SIDE_PX = 10
_AVIF = (b"ftypavif", b"ftypavis")


def suffix(name: str) -> str:
    """What stands behind the last dot, in small letters."""
    return name.rpartition(".")[2].lower()


def is_image(name: str) -> bool:
    """Whether a name ends as an image's that Ultralytics reads."""
    return suffix(name) in IMAGE_SUFFIXES


def files_below(folder: Path) -> list[Path]:
    """Files in a folder and the folders below it, in order of name, real folders before those that links lead to.

    Each folder is entered once, so that a link back to where it lies ends.  Names starting with a dot (macOS leaves
    such files) are left out, as Ultralytics does.  Raises UsageError for a folder that cannot be read.
    """
    files: list[Path] = []
    entered = set()
    waiting = deque([folder])
    while waiting:
        here = waiting.popleft()
        if identity(here) in entered:
            continue
        entered.add(identity(here))
        real: list[Path] = []
        linked: list[Path] = []
        try:
            with os.scandir(here) as scan:
                entries = sorted((one for one in scan if not one.name.startswith(".")), key=lambda one: one.name)
            for entry in entries:
                into = files if not entry.is_dir() else linked if entry.is_symlink() else real
                into.append(here / entry.name)
        except OSError as error:
            raise UsageError(
                f"cannot read {error.filename or here}: {cause(error)}; make it readable, or take it out of {folder}"
            ) from error
        waiting.extendleft(reversed(real))
        waiting.extend(linked)
    return files


def listed(file: Path) -> list[Path]:
    """Images that a text file names, one path a line; relative paths are relative to the folder of the list.

    Raises UsageError naming the first line that leads to no image: an image that is passed over is missing from the
    score.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the list of images {file}: {cause(error)}; it must be UTF-8 text") from error
    rows = [(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]
    wrong = [(number, line) for number, line in rows if not is_image(line)]
    if wrong:
        number, line = wrong[0]
        raise UsageError(
            f"{file}, line {number}: {line!r} does not end as an image does ({len(wrong)} of {len(rows)} lines do "
            "not); a line is one path, without quotes, commas or other columns: correct or delete the line"
        )
    paths = [Path(os.path.normpath(file.parent / line)) for _, line in rows]
    for (number, _), path in zip(rows, paths, strict=True):
        if not exists(path):
            raise UsageError(
                f"{file}, line {number}: the image {path} does not exist; relative lines are relative to the folder of "
                "the list"
            )
    return paths


def exists(path: Path) -> bool:
    """Whether a path leads to something.  Raises UsageError where that is not for us to know."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):  # no name holds a NUL
        return False
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return False
        raise UsageError(f"cannot look at {path}: {cause(error)}; make it readable, or correct the path") from error
    return True


def identity(path: Path) -> tuple[int | str, ...]:
    """What all names of one file or folder share, whether links or not, and no other file has.

    Size and time stand beside device and inode because some network file systems give an inode's number to another
    file later; where files have no numbers it is the resolved path.  Raises UsageError where there is nothing to see.
    """
    try:
        found = path.stat()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {cause(error)}; restore it, or take it out of the split") from error
    if not found.st_ino:
        return (os.path.realpath(path),)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def each_once(paths: Iterable[Path]) -> tuple[Path, ...]:
    """Image files sorted, each under one of its names: that which has labels, else the first.

    Raises UsageError where the labels of two names differ: one image cannot have both.
    """
    names: dict[tuple[int | str, ...], list[Path]] = {}
    for path in paths:
        names.setdefault(identity(path), []).append(path)
    return tuple(sorted(group[0] if len(group) == 1 else _labelled(group) for group in names.values()))


def _labelled(names: Sequence[Path]) -> Path:
    labels = {path: text for path in names if (text := label_text(label_path(path))) is not None}
    if len(set(labels.values())) > 1:
        raise UsageError(
            f"{' and '.join(map(str, labels))} are one file, but their label files differ; make the labels agree, or "
            "take all names but one out of the split"
        )
    return next(iter(labels), names[0])


def label_path(image: Path) -> Path:
    """Label file of an image: the last /images/ becomes /labels/, the suffix .txt; without one, beside the image."""
    folder = f"{os.sep}images{os.sep}"
    head, separator, tail = str(image.with_suffix(".txt")).rpartition(folder)
    return Path(f"{head}{os.sep}labels{os.sep}{tail}") if separator else Path(tail)


def label_text(path: Path) -> str | None:
    """Content of a label file, None where there is none.

    Raises UsageError where there is one that cannot be read, or a link in its place that leads nowhere.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        if path.is_symlink():
            raise UsageError(f"the label file {path} is a link that leads nowhere; restore what it leads to") from error
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"cannot read the label file {path}: {cause(error)}; it must be readable, UTF-8 text"
        ) from error


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) in px of the pixels that `read_image` returns.

    They are decoded for it: a header says neither that its pixels can be, nor which way up they then are.
    Raises UsageError when the file is missing, no image, or has a side under 10 px (Ultralytics rejects those).
    """
    height, width = read_image(path).shape[:2]
    if min(width, height) < MINIMUM_SIDE_PX:
        raise UsageError(
            f"the image {path} is {width} x {height} px and sides under {MINIMUM_SIDE_PX} px are not supported; take "
            "it out of the split"
        )
    return width, height


def read_image(path: Path) -> NDArray[np.uint8]:
    """Pixels of an image, uint8 (H, W, 3), BGR, upright as its file says; UsageError if unreadable."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read the image {path}: {cause(error)}; restore it or correct the split") from error
    remedy = "convert it to JPEG or PNG, or take it out of the split"
    try:
        if data[4:12] in _AVIF:
            return _avif(data)
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    except cv2.error as error:
        raise UsageError(f"OpenCV cannot decode {path}: {error.err}; {remedy}") from error
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises
        raise UsageError(f"Pillow cannot decode {path}: {cause(error)}; {remedy}") from error
    if pixels is None:
        raise UsageError(f"OpenCV cannot decode {path}; {remedy}")
    if pixels.dtype != np.uint8:
        raise UsageError(f"{path} holds {pixels.dtype} values, which no brightness of 0 to 255 stands for; {remedy}")
    return np.asarray(pixels, np.uint8)


def _avif(data: bytes) -> NDArray[np.uint8]:
    """Pixels as `read_image` gives them.  OpenCV 5 passes over the properties that turn and mirror; Pillow does not."""
    with PillowImage.open(io.BytesIO(data)) as image:
        upright = ImageOps.exif_transpose(image).convert("RGB")
    return np.ascontiguousarray(np.asarray(upright, np.uint8)[..., ::-1])


def cause(error: Exception) -> str:
    """What went wrong without the path, which the message names already."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
