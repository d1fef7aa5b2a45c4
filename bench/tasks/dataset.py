"""Images and labels of a data set, read from the Ultralytics data file a user already has.

The rules follow Ultralytics 8.4.190 (`check_det_dataset`, `get_img_files`, `verify_image_label`) so that the same file
means the same images and boxes, with five differences, each on the side of a reproducible result:

* Relative paths are relative to the data file (a list file's to that list file), never to the working directory or to
  a folder in the user's settings.
* A label row or an image that Ultralytics would reject, and a line of an image list that it would pass over, stops the
  run.  Ultralytics drops that image with a warning at most, and the mAP is then that of another set.
* An image that appears twice is evaluated once, whatever its names: links of both kinds are seen through.
* What is there and does not count, or not as it stands, is said (`Dataset.notes`).
* `download:` is never executed.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import yaml
from numpy.typing import NDArray

from bench.reasons import UsageError
from bench.tasks.images import (
    IMAGE_SUFFIXES,
    OTHER_PICTURES,
    cause,
    each_once,
    exists,
    files_below,
    identity,
    image_size,
    is_image,
    label_path,
    listed,
    read_image,
    suffix,
)

CHANNELS = 3
"""What `read_image` gives and networks here take: red, green and blue."""
# Decoded images wait in memory, so that the number of readers is not that of the cores.
_READERS = 4

_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class Image:
    """One evaluated image: `id` its index in the evaluated list, `width` and `height` in px of its decoded pixels."""

    id: int
    path: Path
    width: int
    height: int

    def pixels(self) -> NDArray[np.uint8]:
        """Pixels, uint8 (height, width, 3), BGR.  Raises UsageError when the file is no longer what the set was."""
        decoded = read_image(self.path)
        height, width = decoded.shape[:2]
        if (width, height) != (self.width, self.height):
            raise UsageError(
                f"the image {self.path} was {self.width} x {self.height} px when the data set was read and is now "
                f"{width} x {height}; leave the data alone while it is evaluated"
            )
        return decoded


@dataclass(frozen=True, slots=True)
class Found:
    """Images of a split: `paths` sorted, each file once; `notes` what was there and left out, a sentence each."""

    paths: tuple[Path, ...]
    notes: tuple[str, ...] = ()


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
    machine, `notes` what a reader of the score must know of the set, a sentence each.
    """

    name: str
    split: str
    names: dict[int, str]
    images: tuple[Image, ...]
    boxes: NDArray[np.void]
    sha256: str
    source: Source
    notes: tuple[str, ...] = ()

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
        return self.only([image.id for image in evenly_spaced(self.images, n)])

    def only(self, ids: Iterable[int]) -> Dataset:
        """The same set with some of its images, named by their ids, which stay, and their objects."""
        chosen = set(ids)
        kept = np.isin(self.boxes["image_id"], list(chosen))
        return replace(self, images=tuple(image for image in self.images if image.id in chosen), boxes=self.boxes[kept])

    def busiest_image(self) -> Path:
        """The image with most objects: the one the report shows every option's predictions on."""
        counts = Counter(self.boxes["image_id"].tolist())
        return max(self.images, key=lambda image: counts[image.id]).path

    def evaluated_too(self, paths: Iterable[Path]) -> int:
        """How many of `paths` are images of this dataset, under whatever name."""
        asked = {identity(path) for path in paths}
        return len(asked & {identity(image.path) for image in self.images}) if asked else 0


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
                f"cannot read the data file {path}: {cause(error)}; give the path of an Ultralytics data file (YAML)"
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
        root = Path(os.path.realpath(self.path.parent / (value or ".")))
        if not exists(root) or not root.is_dir():
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
        if isinstance(count, str) and count.strip().isdecimal():  # quoted
            count = int(count)
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
        """Images of a split, sorted, each once.  Raises UsageError as `find` does."""
        return self.find(split).paths

    def find(self, split: str) -> Found:
        """Images of a split, and what was left out.

        An entry is a folder, searched with its subfolders, or a text file with one image path per line.
        Raises UsageError naming the key and line when the split is missing or a path in it leads nowhere, and naming
        what cannot be read.
        """
        value = self.content.get(split)
        if not value:
            raise UsageError(f"{self.path} has no '{split}:' key, or an empty one; add the folder of its images")
        entries = value if isinstance(value, list) else [value]
        there: list[Path] = []
        for entry in entries:
            if not isinstance(entry, str):
                raise UsageError(f"{self.where(split)}: '{split}' must be a path or a list of paths, not {entry!r}")
            location = self._locate(split, entry)
            there += files_below(location) if location.is_dir() else listed(location)
        there = list(dict.fromkeys(there))
        found = [path for path in there if is_image(path.name)]
        if not found:
            raise UsageError(
                f"{self.where(split)}: no images in {', '.join(map(str, entries))}; "
                f"known suffixes are {', '.join(sorted(IMAGE_SUFFIXES))}"
            )
        others = Counter(suffix(path.name) for path in there)
        paths = each_once(found)
        return Found(paths, tuple(_left_out(split, len(found) - len(paths), others)))

    def require_colour(self) -> None:
        """Raise UsageError where the file says that its images have other channels than `CHANNELS`."""
        channels = self.content.get("channels", CHANNELS)
        if channels != CHANNELS:
            raise UsageError(
                f"{self.where('channels')}: 'channels: {channels}', but images are evaluated in {CHANNELS} channels "
                "(RGB) here; a model of other channels cannot be benched"
            )

    def _locate(self, split: str, entry: str) -> Path:
        # Not Path.resolve, which before Python 3.13 raises RuntimeError on a link to itself.
        wanted = Path(os.path.realpath(self.root / entry))
        location = wanted
        if not exists(location) and entry.startswith("../"):
            # Exports of Roboflow write "../train/images" for a folder beside the data file.
            location = Path(os.path.realpath(self.root / entry[3:]))
        if not exists(location):
            raise UsageError(
                f"{self.where(split)}: '{split}: {entry}' leads to {wanted}, which does not "
                f"exist; correct '{split}', or 'path' (now {self.root}){self._download_hint}"
            )
        return location


def _left_out(split: str, names: int, suffixes: Counter[str]) -> Iterator[str]:
    """Sentences on further names of one file, and on pictures whose suffix is none of `IMAGE_SUFFIXES`."""
    if names:
        yield f"Further names (links) in {split} of images that are counted already: {names}."
    pictures = {kind: count for kind, count in sorted(suffixes.items()) if kind in OTHER_PICTURES}
    if pictures:
        told = ", ".join(f"{count} .{kind}" for kind, count in pictures.items())
        yield f"Pictures in {split} of kinds that Ultralytics does not read are left out: {told}."


Reader = Callable[[Path, int, Image], "Labels"]
"""Reads the label file at a path, of a set with that many classes, as annotations of an image."""


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """Annotations of one image.

    `rows` a structured array in px of the image, `raw` the bytes that identify them, `found` whether there is a label
    file at all, `remark` what was made of its rows where they are no plain boxes, as words after "3 label files".
    """

    rows: NDArray[np.void]
    raw: bytes
    found: bool = True
    remark: str = ""


def load(path: Path, reader: Callable[[DataFile], Reader], split: str = "val", limit: int | None = None) -> Dataset:
    """Read one split of a data file; `reader` gives what reads a task's labels, as the data file describes them.

    `limit` takes that many images at equal steps over the sorted list (see `evenly_spaced`), always the same ones.
    Labels lie where Ultralytics looks: the last /images/ of the path replaced by /labels/, suffix .txt.  A missing or
    empty label file means an image without objects.  Every image is decoded once, so that one which cannot be is told
    here and its size is that of its pixels.

    Raises UsageError, naming file, line and remedy, for anything that would make the set other than what the user
    thinks it is: see the module's docstring.
    """
    source = DataFile.read(path)
    read = reader(source)
    if limit is not None and limit < 1:
        raise UsageError(f"the number of images must be at least 1, not {limit}")
    source.require_colour()
    names = source.class_names()
    found = source.find(split)
    paths = found.paths if limit is None else evenly_spaced(found.paths, limit)
    with ThreadPoolExecutor(_READERS) as pool:
        sizes = list(pool.map(image_size, paths))
    images = tuple(Image(index, path, *size) for index, (path, size) in enumerate(zip(paths, sizes, strict=True)))
    labels = [read(label_path(image.path), len(names), image) for image in images]
    digest = hashlib.sha256()
    digest.update(_framed(names.values()))
    for image, own in zip(images, labels, strict=True):
        fields = (_portable(image.path, source.root), str(image.width), str(image.height), own.raw.hex())
        digest.update(_framed(fields))
    return Dataset(
        name=source.path.stem,
        split=split,
        names=names,
        images=images,
        boxes=np.concatenate([own.rows for own in labels]),
        sha256=digest.hexdigest(),
        source=source,
        notes=(*found.notes, *_label_notes(images, labels, source.root)),
    )


def _label_notes(images: Sequence[Image], labels: Sequence[Labels], root: Path) -> Iterator[str]:
    """Sentences on images without a label file and on label files whose rows are no plain boxes."""
    bare = [image.path for image, own in zip(images, labels, strict=True) if not own.found]
    if bare:
        yield (
            f"{len(bare)} of {len(images)} images have no label file and count as images without objects (the first "
            f"would be {_portable(label_path(bare[0]), root)})."
        )
    for remark, count in Counter(own.remark for own in labels if own.remark).items():
        yield f"{count} of {len(images) - len(bare)} label files {remark}."


def _portable(path: Path, root: Path) -> str:
    """Path below the root of the set, so that the hash does not depend on where the set lies."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name


def _framed(fields: Iterable[str]) -> bytes:
    """Bytes of fields for a digest, each after its length: no two different lists give the same bytes."""
    return b"".join(len(data).to_bytes(8, "little") + data for data in map(_encoded, fields))


def _encoded(field: str) -> bytes:
    """UTF-8; bytes of a file name that are none stay as they are."""
    return field.encode("utf-8", "surrogateescape")
