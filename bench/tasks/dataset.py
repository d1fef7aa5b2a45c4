"""Images and labels of a data set, read from the Ultralytics data file a user already has.

The rules follow Ultralytics 8.4.190 (`check_det_dataset`, `get_img_files`, `verify_image_label`) so that the same file
means the same images and boxes, with four differences, each on the side of a reproducible result:

* Relative paths are relative to the data file (a list file's to that list file), never to the working directory or to
  a folder in the user's settings.
* A label row that Ultralytics would reject stops the run.  Ultralytics drops that image with a warning, and the mAP is
  then that of another set.
* An image that appears twice is evaluated once.
* `download:` is never executed.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeVar

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import UnidentifiedImageError

from bench.reasons import UsageError

IMAGE_SUFFIXES = frozenset(
    ["avif", "bmp", "dng", "heic", "heif", "jp2", "jpeg", "jpg", "mpo", "png", "tif", "tiff", "webp"]
)
MINIMUM_SIDE_PX = 10
_EXIF_ORIENTATION = 274
_QUARTER_TURNS = frozenset([5, 6, 7, 8])
# cv2.imread and Pillow agree on the orientation of these; of other formats it depends on the versions of both.
_ROTATED_BY_OPENCV = frozenset(["JPEG", "MPO", "PNG", "AVIF"])

_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class Image:
    """One evaluated image: `id` its index in the evaluated list, `width` and `height` in px after EXIF rotation."""

    id: int
    path: Path
    width: int
    height: int


class Source(Protocol):
    """What a data set was read from: a data file, or whatever else a task's labels are kept in."""

    def image_paths(self, split: str) -> tuple[Path, ...]:
        """Images of a split, sorted, each once.  Raises UsageError when it has none."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """One split of a data set.

    Attributes: `name` stem of the data file, `split` the key it was read from, `names` class names by index (unique),
    `images` in order of path, `boxes` a structured array of the task's annotations (`image_id`, `category`, and what
    else its labels hold, in px of the image), `sha256` over image list, sizes, labels and class names, the same on any
    machine.
    """

    name: str
    split: str
    names: dict[int, str]
    images: tuple[Image, ...]
    boxes: NDArray[np.void]
    sha256: str
    source: Source

    @cached_property
    def train_images(self) -> tuple[Path, ...]:
        """Images of the `train` split in order of path; UsageError when the data file has none."""
        return self.source.image_paths("train")

    def calibration_images(self, n: int) -> tuple[Path, ...]:
        """`n` images for INT8 calibration, evenly spaced over the sorted train split; all when it has fewer.

        Some may be evaluated here too where the data file gives both splits the same images (as the one of COCO128
        does): ask `evaluated_too` and say so beside the result.  Raises UsageError without a train split or for n < 1.
        """
        if n < 1:
            raise UsageError(f"calibration needs at least 1 image, not {n}")
        return evenly_spaced(self.train_images, n)

    def subset(self, n: int) -> Dataset:
        """The same set with `n` of its images, evenly spaced, and their objects; ids stay; all when there are fewer."""
        images = evenly_spaced(self.images, n)
        kept = np.isin(self.boxes["image_id"], [image.id for image in images])
        return replace(self, images=images, boxes=self.boxes[kept])

    def busiest_image(self) -> Path:
        """The image with most objects: the one the report shows every option's predictions on."""
        counts = Counter(self.boxes["image_id"].tolist())
        return max(self.images, key=lambda image: counts[image.id]).path

    def evaluated_too(self, paths: Iterable[Path]) -> int:
        """How many of `paths` are images of this dataset."""
        return len({image.path for image in self.images} & set(paths))


def evenly_spaced(items: Sequence[_Item], n: int) -> tuple[_Item, ...]:
    """`n` of `items` at equal steps from the first on, in order; all of them when there are no more than `n`.

    Spaced rather than the first n, because file names often follow the time or place of recording.
    """
    if n >= len(items):
        return tuple(items)
    return tuple(items[index * len(items) // n] for index in range(n))


@dataclass(frozen=True, eq=False)
class DataFile:
    """A parsed Ultralytics data file: `path` of the file, `content` its keys, `lines` the line of each key."""

    path: Path
    content: dict[str, Any]
    lines: dict[str, int]

    @classmethod
    def read(cls, path: Path) -> DataFile:
        """Parse a data file; UsageError when it is missing, not UTF-8, not YAML, or not a mapping."""
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(
                f"cannot read the data file {path}: {_cause(error)}; give the path of an Ultralytics data file (YAML)"
            ) from error
        try:
            content = yaml.safe_load(text)
            node = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.YAMLError as error:
            raise UsageError(f"{path} is not valid YAML: {error}") from error
        if not isinstance(content, dict) or not isinstance(node, yaml.MappingNode):
            raise UsageError(f"{path} does not hold keys such as path, train, val and names; is it a data file?")
        lines = {str(key.value): key.start_mark.line + 1 for key, _ in node.value}
        keys = {str(key): value for key, value in content.items()}
        if "val" not in keys and "validation" in keys:
            keys["val"], lines["val"] = keys["validation"], lines["validation"]
        return cls(path.resolve(), keys, lines)

    def where(self, key: str) -> str:
        """File and line of a key, for messages."""
        return f"{self.path}, line {self.lines[key]}" if key in self.lines else str(self.path)

    @cached_property
    def root(self) -> Path:
        """Folder the splits are relative to: `path` (relative to the data file), or the data file's own folder."""
        value = self.content.get("path")
        if value is not None and not isinstance(value, str):
            raise UsageError(f"{self.where('path')}: 'path' must be a folder name, not {value!r}")
        root = (self.path.parent / (value or ".")).resolve()
        if not root.is_dir():
            raise UsageError(
                f"{self.where('path')}: 'path: {value}' names the folder {root}, which does not exist; write the "
                f"folder of the data set, absolute or relative to this file{self._download_hint}"
            )
        return root

    @property
    def _download_hint(self) -> str:
        return " ('download:' is never executed: fetch the data yourself)" if "download" in self.content else ""

    def class_names(self) -> dict[int, str]:
        """Class names by index; class_0, class_1 ... where only `nc` is given.

        Two classes of one name get their index appended, so that results per class stay apart.
        Raises UsageError when neither `names` nor `nc` is there or they contradict each other.
        """
        names, count = self.content.get("names"), self.content.get("nc")
        if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
            raise UsageError(f"{self.where('nc')}: 'nc' must be a whole number of classes, not {count!r}")
        if names is None and count is None:
            raise UsageError(f"{self.path} has neither 'names' nor 'nc'; add 'names:' with one entry per class")
        if names is None:
            names = [f"class_{index}" for index in range(count or 0)]
        if not isinstance(names, list | dict) or not names:
            raise UsageError(f"{self.where('names')}: 'names' must be a list, or index: name pairs, not {names!r}")
        try:
            pairs = enumerate(names) if isinstance(names, list) else names.items()
            table = {int(key): str(name) for key, name in pairs}
        except (TypeError, ValueError) as error:
            raise UsageError(f"{self.where('names')}: the keys of 'names' must be class indices: {error}") from error
        if sorted(table) != list(range(len(names))):
            raise UsageError(
                f"{self.where('names')}: {len(names)} classes need the indices 0 to {len(names) - 1}, "
                f"not {', '.join(str(index) for index in sorted(table))}"
            )
        if count is not None and count != len(table):
            raise UsageError(f"{self.where('nc')}: 'nc: {count}' but 'names' has {len(table)} entries; make them agree")
        repeated = {name for name, times in Counter(table.values()).items() if times > 1}
        return {index: f"{name} ({index})" if name in repeated else name for index, name in sorted(table.items())}

    def image_paths(self, split: str) -> tuple[Path, ...]:
        """Images of a split, sorted, each once.

        An entry is a folder, searched with its subfolders, or a text file with one image path per line.
        Raises UsageError naming the key and line when the split is missing or a path in it leads nowhere.
        """
        value = self.content.get(split)
        if not value:
            raise UsageError(f"{self.path} has no '{split}:' key, or an empty one; add the folder of its images")
        entries = value if isinstance(value, list) else [value]
        found: set[Path] = set()
        for entry in entries:
            if not isinstance(entry, str):
                raise UsageError(f"{self.where(split)}: '{split}' must be a path or a list of paths, not {entry!r}")
            location = self._locate(split, entry)
            found.update(_images_in_folder(location) if location.is_dir() else _images_in_list(location))
        if not found:
            raise UsageError(
                f"{self.where(split)}: no images in {', '.join(map(str, entries))}; "
                f"known suffixes are {', '.join(sorted(IMAGE_SUFFIXES))}"
            )
        return tuple(sorted(found))

    def _locate(self, split: str, entry: str) -> Path:
        location = (self.root / entry).resolve()
        if not location.exists() and entry.startswith("../"):
            # Exports of Roboflow write "../train/images" for a folder beside the data file.
            location = (self.root / entry[3:]).resolve()
        if not location.exists():
            raise UsageError(
                f"{self.where(split)}: '{split}: {entry}' leads to {(self.root / entry).resolve()}, which does not "
                f"exist; correct '{split}', or 'path' (now {self.root}){self._download_hint}"
            )
        return location


Reader = Callable[[Path, int, Image], "Labels"]
"""Reads the label file at a path, of a set with that many classes, as annotations of an image."""


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """Annotations of one image: `rows` a structured array in px of the image, `raw` the bytes that identify them."""

    rows: NDArray[np.void]
    raw: bytes


def load(path: Path, reader: Callable[[DataFile], Reader], split: str = "val", limit: int | None = None) -> Dataset:
    """Read one split of a data file; `reader` gives what reads a task's labels, as the data file describes them.

    `limit` takes that many images at equal steps over the sorted list (see `evenly_spaced`), always the same ones.
    Labels lie where Ultralytics looks: the last /images/ of the path replaced by /labels/, suffix .txt.  A missing or
    empty label file means an image without objects.  Sizes come from image headers; pixels are not decoded.

    Raises UsageError, naming file, line and remedy, for anything that would make the set other than what the user
    thinks it is: see the module's docstring.
    """
    source = DataFile.read(path)
    read = reader(source)
    if limit is not None and limit < 1:
        raise UsageError(f"the number of images must be at least 1, not {limit}")
    names = source.class_names()
    paths = source.image_paths(split)
    paths = paths if limit is None else evenly_spaced(paths, limit)
    digest = hashlib.sha256()
    digest.update(_framed(names.values()))
    images, tables = [], []
    for index, image_path in enumerate(paths):
        width, height = image_size(image_path)
        images.append(Image(index, image_path, width, height))
        labels = read(label_path(image_path), len(names), images[-1])
        tables.append(labels.rows)
        fields = (_portable(image_path, source.root), str(width), str(height), labels.raw.hex())
        digest.update(_framed(fields))
    return Dataset(
        name=source.path.stem,
        split=split,
        names=names,
        images=tuple(images),
        boxes=np.concatenate(tables),
        sha256=digest.hexdigest(),
        source=source,
    )


def label_path(image: Path) -> Path:
    """Label file of an image: the last /images/ becomes /labels/, the suffix .txt; without one, beside the image."""
    folder = f"{os.sep}images{os.sep}"
    head, separator, tail = str(image.with_suffix(".txt")).rpartition(folder)
    return Path(f"{head}{os.sep}labels{os.sep}{tail}") if separator else Path(tail)


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) in px as `read_image` will return it, from the header alone where that is certain.

    Raises UsageError when the file is missing, no image, or has a side under 10 px (Ultralytics rejects those).
    """
    try:
        with PillowImage.open(path) as image:
            width, height = image.size
            turned = image.getexif().get(_EXIF_ORIENTATION) in _QUARTER_TURNS
            certain = image.format in _ROTATED_BY_OPENCV
    except (OSError, UnidentifiedImageError, PillowImage.DecompressionBombError, SyntaxError) as error:
        raise UsageError(
            f"cannot read the image {path}: {_cause(error)}; replace it or take it out of the split"
        ) from error
    if turned and certain:
        width, height = height, width
    elif turned:
        height, width = read_image(path).shape[:2]
    if min(width, height) < MINIMUM_SIDE_PX:
        raise UsageError(
            f"the image {path} is {width} x {height} px and sides under {MINIMUM_SIDE_PX} px are not supported; take "
            "it out of the split"
        )
    return width, height


def read_image(path: Path) -> NDArray[np.uint8]:
    """Pixels of an image, uint8 (H, W, 3), BGR, turned upright by its EXIF orientation; UsageError if unreadable."""
    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise UsageError(f"cannot read the image {path}: {_cause(error)}; restore it or correct the split") from error
    pixels = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if pixels is None:
        raise UsageError(f"OpenCV cannot decode {path}; convert it to JPEG or PNG, or take it out of the split")
    return np.asarray(pixels, np.uint8)


def _images_in_folder(folder: Path) -> Iterable[Path]:
    """Images below a folder, links followed; names starting with a dot (macOS leaves such files) are left out."""
    for parent, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(parent, name) for name in files if not name.startswith(".") and _is_image(name))


def _images_in_list(file: Path) -> Iterable[Path]:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the list of images {file}: {_cause(error)}; it must be UTF-8 text") from error
    for number, line in enumerate((line.strip() for line in lines), start=1):
        if not line or not _is_image(line):
            continue
        path = Path(os.path.normpath(file.parent / line))
        if not path.is_file():
            raise UsageError(
                f"{file}, line {number}: the image {path} does not exist; relative lines are relative to the folder of "
                "the list"
            )
        yield path


def _is_image(name: str) -> bool:
    return name.rpartition(".")[2].lower() in IMAGE_SUFFIXES


def _portable(path: Path, root: Path) -> str:
    """Path below the root of the set, so that the hash does not depend on where the set lies."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name


def _framed(fields: Iterable[str]) -> bytes:
    """Bytes of fields for a digest, each after its length: no two different lists give the same bytes."""
    return b"".join(len(data).to_bytes(8, "little") + data for data in (field.encode() for field in fields))


def _cause(error: Exception) -> str:
    """What went wrong without the path, which the message names already."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
