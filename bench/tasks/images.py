"""Image files: which a folder or a list names, which names are one file, where their labels lie, and their pixels."""

from __future__ import annotations

import io
import os
import struct
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, ImageOps
from PIL import Image as PillowImage

from bench.files import exists
from bench.reasons import Collector, UsageError

IMAGE_SUFFIXES = frozenset(
    ["avif", "bmp", "dng", "heic", "heif", "jp2", "jpeg", "jpg", "mpo", "png", "tif", "tiff", "webp"]
)
# Pictures that Ultralytics does not read: beside images that it does, they are told, not passed over.
OTHER_PICTURES = frozenset(
    ["apng", "arw", "cr2", "cr3", "gif", "jfif", "jpe", "jxl", "nef", "pbm", "pgm", "pnm", "ppm", "psd", "tga"]
)
MINIMUM_SIDE_PX = 10
_AVIF = (b"avif", b"avis")
_QUARTER_TURNS = (5, 6, 7, 8)
"""EXIF's orientations with a quarter turn (EXIF 2.32, tag 274)."""
_REMEDY = "convert it to JPEG or PNG, or take it out of the split"
# What Pillow raises for a damaged file, by what is damaged: the container, a field of it, its EXIF data.
_PILLOW = (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, RuntimeError, struct.error,
           PillowImage.DecompressionBombError)  # fmt: skip


def suffix(name: str) -> str:
    """What stands behind the last dot, in small letters."""
    return name.rpartition(".")[2].lower()


def is_image(name: str) -> bool:
    """Whether a name ends as an image's that Ultralytics reads."""
    return suffix(name) in IMAGE_SUFFIXES


def files_below(folder: Path, problems: Collector) -> list[Path]:
    """Files in a folder and the folders below it, in order of name, real folders before those that links lead to.

    Each folder is entered once, so that a link back to where it lies ends.  Names starting with a dot (macOS leaves
    such files) are left out, as Ultralytics does.  A folder that cannot be read is one of the `problems`.
    """
    files: list[Path] = []
    entered = set()
    waiting = deque([folder])
    while waiting:
        here = waiting.popleft()
        file = problems.of(identity, here)
        if file is None or file in entered:
            continue
        entered.add(file)
        found = problems.of(_entries, here, folder)
        if found is not None:
            own, real, linked = found
            files += own
            waiting.extendleft(reversed(real))
            waiting.extend(linked)
    return files


def _entries(here: Path, folder: Path) -> tuple[list[Path], list[Path], list[Path]]:
    """Files of a folder on the way through `folder`, its real folders, and links to folders.  Raises UsageError."""
    files: list[Path] = []
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
    return files, real, linked


def listed(file: Path, problems: Collector) -> list[Path]:
    """Images that a text file names, one path a line; relative paths are relative to the folder of the list.

    A line that leads to no image is one of the `problems`: an image that is passed over is missing from the score.
    Raises UsageError for a file that is no text.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the list of images {file}: {cause(error)}; it must be UTF-8 text") from error
    rows = [(f"{file}, line {number}", line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]
    found = [problems.of(_of_line, where, line, file.parent) for where, line in rows]
    return [path for path in found if path is not None]


def _of_line(where: str, line: str, folder: Path) -> Path:
    if not is_image(line):
        raise UsageError(
            f"{where}: {line!r} does not end as an image does; a line is one path, without quotes, commas or other "
            "columns: correct or delete the line"
        )
    path = Path(os.path.normpath(folder / line))
    if exists(path):
        return path
    if "\\" in line and exists(folder / line.replace("\\", "/")):
        raise UsageError(f"{where}: {line!r} is written as Windows writes paths; write / for \\ in the list")
    raise UsageError(f"{where}: the image {path} does not exist; relative lines are relative to the folder of the list")


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


def each_once(paths: Iterable[Path], problems: Collector) -> tuple[Path, ...]:
    """Image files sorted, each under one of its names: that which has labels, else the first.

    One whose names have labels that differ is one of the `problems`: an image cannot have both.
    """
    names: dict[tuple[int | str, ...], list[Path]] = {}
    for path in paths:
        file = problems.of(identity, path)
        if file is not None:
            names.setdefault(file, []).append(path)
    chosen = (group[0] if len(group) == 1 else problems.of(_labelled, group) for group in names.values())
    return tuple(sorted(path for path in chosen if path is not None))


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
    """(width, height) in px of the pixels that `read_image` returns.  Raises UsageError as `upright_size` does."""
    return upright_size(path, file_content(path))


def upright_size(path: Path, data: bytes) -> tuple[int, int]:
    """(width, height) in px of an image file's pixels, upright, of its content `data`.

    They are decoded for it: a header says neither that its pixels can be, nor which way up they then are.
    Raises UsageError when it is no image, when its header has it another way up than the decoder, or when it has a side
    under 10 px (Ultralytics rejects those).
    """
    height, width = _decoded(path, data).shape[:2]
    told = header_size(data)
    if told is not None and told != (width, height):
        raise UsageError(
            f"the image {path} is {told[0]} x {told[1]} px upright by its header and {width} x {height} px decoded: "
            "programs differ in which way up it is, and its labels fit one of them; save its pixels the way that they "
            "are labelled, without an orientation, or take it out of the split"
        )
    if min(width, height) < MINIMUM_SIDE_PX:
        raise UsageError(
            f"the image {path} is {width} x {height} px and sides under {MINIMUM_SIDE_PX} px are not supported; take "
            "it out of the split"
        )
    return width, height


def header_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) in px that an image's header and orientation say, as Ultralytics reads them; None for no answer.

    Pillow's own reading, which is another than that of OpenCV, whose pixels are evaluated.
    """
    try:
        with PillowImage.open(io.BytesIO(data)) as image:
            width, height = image.size
            turned = image.format != "TIFF" and image.getexif().get(ExifTags.Base.Orientation) in _QUARTER_TURNS
    except _PILLOW:
        return None
    return (height, width) if turned else (width, height)  # of a TIFF Pillow gives the upright size


def read_image(path: Path) -> NDArray[np.uint8]:
    """Pixels of an image, uint8 (H, W, 3), BGR, upright as its file says; UsageError if unreadable."""
    return _decoded(path, file_content(path))


def file_content(path: Path) -> bytes:
    """The bytes of an image file; UsageError if unreadable."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read the image {path}: {cause(error)}; restore it or correct the split") from error


def _decoded(path: Path, data: bytes) -> NDArray[np.uint8]:
    try:
        if _is_avif(data):
            return _avif(data)
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    except cv2.error as error:
        raise UsageError(f"OpenCV cannot decode {path}: {error.err}; {_REMEDY}") from error
    except _PILLOW as error:
        raise UsageError(f"Pillow cannot decode {path}: {cause(error)}; {_REMEDY}") from error
    if pixels is None:
        raise UsageError(f"OpenCV cannot decode {path}; {_REMEDY}")
    if pixels.dtype != np.uint8:
        raise UsageError(f"{path} holds {pixels.dtype} values, which no brightness of 0 to 255 stands for; {_REMEDY}")
    return np.asarray(pixels, np.uint8)


def _is_avif(data: bytes) -> bool:
    """Whether the file's first box has AVIF among its brands; the major one may be another (ISO/IEC 14496-12, 4.3)."""
    end = min(int.from_bytes(data[:4], "big"), len(data))
    return data[4:8] == b"ftyp" and any(data[place : place + 4] in _AVIF for place in (8, *range(16, end, 4)))


def _avif(data: bytes) -> NDArray[np.uint8]:
    """Pixels as `read_image` gives them.  OpenCV 5 passes over the properties that turn and mirror; Pillow does not."""
    with PillowImage.open(io.BytesIO(data)) as image:
        upright = ImageOps.exif_transpose(image).convert("RGB")
    return np.ascontiguousarray(np.asarray(upright, np.uint8)[..., ::-1])


def cause(error: Exception) -> str:
    """What went wrong without the path, which the message names already."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
