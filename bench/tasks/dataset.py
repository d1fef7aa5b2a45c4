"""Images and labels of a data set, read through the Ultralytics data file of `bench.tasks.datafile`.

The rules for images and labels are those of Ultralytics 8.4.190 (`verify_image_label`), with two differences, each on
the side of a reproducible result:

* A label row or an image that Ultralytics would reject is a problem, and problems stop the run.  Ultralytics drops that
  image with a warning at most, and the mAP is then that of another set.
* What is there and does not count, or not as it stands, is said (`Dataset.remarks`).

Where the data file names COCO's own annotations, they count and label files do not (`bench.tasks.instances`).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from bench.reasons import Collector, Remark, UsageError
from bench.tasks.datafile import DataFile
from bench.tasks.images import identity, label_path, read_image
from bench.tasks.instances import KEY, SPLIT, Official
from bench.tasks.sizes import Sizes

_NO_ROWS = np.empty(0, [("image_id", "i4"), ("category", "i4")])

_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class Image:
    """One evaluated image.

    Attributes: `id` its index in the evaluated list or, of official annotations, its id there; `width` and `height` in
    px of its decoded pixels, `content` the SHA-256 of its file.
    """

    id: int
    path: Path
    width: int
    height: int
    content: str = ""

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


class Source(Protocol):
    """What a data set was read from: a data file, or whatever else a task's labels are kept in."""

    def image_paths(self, split: str) -> tuple[Path, ...]:
        """Images of a split, sorted, each once.  Raises UsageError when it has none."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What of a split was found, in numbers.

    Attributes: `images` in the split, each file once, of which those that were read are in the set; `kinds` how many
    label files hold rows of which kind, by the task's word for it; `empty` label files without a row.
    """

    images: int = 0
    kinds: Mapping[str, int] = field(default_factory=dict)
    empty: int = 0


_NOTHING = Counts()


@dataclass(frozen=True, eq=False)
class Dataset:
    """One split of a data set.

    Attributes: `name` stem of the data file, `split` the key it was read from, `names` class names by index (unique),
    `images` in order of path, `boxes` a structured array of the task's annotations (`image_id`, `category`, and what
    else its labels hold, in px of the image), `sha256` over class names and what image and label files hold, image by
    image in their order: the same on any machine and under any file name; `remarks` what a reader of the score must
    know of the set, `counts` what was found of it; `categories` the ids of the classes by index and `annotations` the
    file, where they are official ones.
    """

    name: str
    split: str
    names: dict[int, str]
    images: tuple[Image, ...]
    boxes: NDArray[np.void]
    sha256: str
    source: Source
    remarks: tuple[Remark, ...] = ()
    counts: Counts = _NOTHING
    categories: tuple[int, ...] = ()
    annotations: Path | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """The remarks' sentences."""
        return tuple(remark.text for remark in self.remarks)

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


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """Annotations of one image.

    `rows` a structured array in px of the image, `raw` the bytes that identify them, `found` whether there is a label
    file at all, `kind` what its rows are in the task's words, `remark` what was made of them where they are something
    else than the task takes, as words after "3 label files", `repeated` how many rows were dropped because they repeat
    another.
    """

    rows: NDArray[np.void]
    raw: bytes
    found: bool = True
    kind: str = ""
    remark: str = ""
    repeated: int = 0


Reader = Callable[[Path, int, Image], Labels]
"""Reads the label file at a path, of a set with that many classes, as annotations of an image."""
FromInstances = Callable[[NDArray[np.void]], Labels]
"""Makes annotations of an image out of its rows of `bench.tasks.instances.INSTANCE_DTYPE`."""


def load(
    path: Path,
    reader: Callable[[DataFile], Reader],
    split: str = "val",
    limit: int | None = None,
    official: FromInstances | None = None,
) -> Dataset:
    """Read one split of a data file, as `read` does.

    Raises Problems, naming file, line and remedy, for everything that would make the set other than what the user
    thinks it is: see the module's docstring and that of `bench.tasks.datafile`.
    """
    problems = Collector()
    found = read(path, reader, problems, split=split, limit=limit, official=official)
    problems.require_none()
    assert found is not None
    return found


def read(
    path: Path,
    reader: Callable[[DataFile], Reader],
    problems: Collector,
    *,
    split: str = "val",
    limit: int | None = None,
    kept: Path | None = None,
    official: FromInstances | None = None,
) -> Dataset | None:
    """Read one split of a data file; `reader` gives what reads a task's labels, as the data file describes them.

    `official` makes them of official annotations, for a task that can take these; label files are then not looked at.

    `limit` takes that many images at equal steps over the sorted list (see `evenly_spaced`), always the same ones.
    Labels lie where Ultralytics looks: the last /images/ of the path replaced by /labels/, suffix .txt.  A missing or
    empty label file means an image without objects.  Every image is decoded once, so that one which cannot be is told
    here and its size is that of its pixels; `kept` is the file that remembers sizes from one time to the next.

    Where there are problems, what is returned lacks the images that have them, for people to look at and not to be
    evaluated; None where no image could be read.
    """
    if limit is not None and limit < 1:
        problems.add(f"the number of images must be at least 1, not {limit}")
        return None
    source = problems.of(DataFile.read, path)
    if source is None:
        return None
    problems.of(source.require_colour)
    if KEY in source.content and split == SPLIT and official is not None:
        return _annotated(source, official, problems, limit, kept)
    names = problems.of(source.class_names)
    interpret = problems.of(reader, source)
    found = source.find(split, problems)
    paths = found.paths if limit is None else evenly_spaced(found.paths, limit)
    images = tuple(
        Image(index, path, size.width, size.height, size.content)
        for index, (path, size) in enumerate(zip(paths, Sizes(kept).of(paths, problems), strict=True))
        if size is not None
    )
    if not images:
        return None
    labels: list[Labels] = []
    if names is not None and interpret is not None:
        own = [problems.of(interpret, label_path(image.path), len(names), image) for image in images]
        labels = [one for one in own if one is not None]
    return Dataset(
        name=source.path.stem,
        split=split,
        names=names or {},
        images=images,
        boxes=np.concatenate([own.rows for own in labels]) if labels else _NO_ROWS,
        sha256=_identity(names or {}, images, labels),
        source=source,
        remarks=(*found.remarks, *_remarks(images, labels, source.root)),
        counts=_counts(len(found.paths), labels),
    )


def _annotated(
    source: DataFile, official: FromInstances, problems: Collector, limit: int | None, kept: Path | None
) -> Dataset | None:
    """The same of a set with official annotations, whose ids its images have."""
    found = source.find(SPLIT, problems)
    told = problems.of(Official.of, source)
    if told is None:
        return None
    paths = told.evaluated(found.paths, problems)
    chosen = paths if limit is None else evenly_spaced(paths, limit)
    sizes = zip(chosen, Sizes(kept).of(chosen, problems), strict=True)
    images = tuple(
        Image(told.picture(path).id, path, size.width, size.height, size.content) for path, size in sizes if size
    )
    for image in images:
        problems.of(told.require_size, image.path, image.width, image.height)
    if not images:
        return None
    labels = [official(told.rows(image.id)) for image in images]
    return Dataset(
        name=source.path.stem,
        split=SPLIT,
        names=told.names,
        images=images,
        boxes=np.concatenate([own.rows for own in labels]),
        sha256=_identity(told.names, images, labels),
        source=source,
        remarks=(*found.remarks, *told.remarks, *_remarks(images, labels, source.root)),
        counts=_counts(len(found.paths), labels),
        categories=told.categories,
        annotations=told.instances.path,
    )


def _identity(names: dict[int, str], images: Sequence[Image], labels: Sequence[Labels]) -> str:
    """SHA-256 over class names and what image and label files hold; empty where some labels could not be read."""
    if len(images) != len(labels):
        return ""
    digest = hashlib.sha256()
    digest.update(_framed(names.values()))
    for image, own in zip(images, labels, strict=True):
        digest.update(_framed((image.content, own.raw.hex())))
    return digest.hexdigest()


def _counts(images: int, labels: Sequence[Labels]) -> Counts:
    filled = [own for own in labels if own.found and len(own.rows)]
    empty = sum(own.found for own in labels) - len(filled)
    return Counts(images, dict(Counter(own.kind for own in filled)), empty)


def _remarks(images: Sequence[Image], labels: Sequence[Labels], root: Path) -> Iterator[Remark]:
    """On equal images, on those without a label file, and on label files that are not taken as they stand."""
    copies = len(images) - len({image.content for image in images})
    if copies:
        text = f"{copies} of {len(images)} images are copies of others in the split, and each counts."
        yield Remark("copies", copies, text)
    if len(images) != len(labels):
        return
    bare = [image.path for image, own in zip(images, labels, strict=True) if not own.found]
    if bare:
        yield Remark(
            "no_label_file",
            len(bare),
            f"{len(bare)} of {len(images)} images have no label file and count as images without objects (the first "
            f"would be {_portable(label_path(bare[0]), root)}).",
        )
    if not any(len(own.rows) for own in labels):
        text = f"None of the {len(images)} images has an object, so there is no mAP to compute."
        yield Remark("no_objects", len(images), text)
    for remark, count in Counter(own.remark for own in labels if own.remark).items():
        yield Remark("other_labels", count, f"{count} of {len(images) - len(bare)} label files {remark}.")
    repeated = sum(own.repeated for own in labels)
    if repeated:
        text = f"Label rows that repeat another of their file are dropped: {repeated}."
        yield Remark("repeated_rows", repeated, text)


def _portable(path: Path, root: Path) -> str:
    """Path below the root of the set, as it is shown."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name


def _framed(fields: Iterable[str]) -> bytes:
    """Bytes of fields for a digest, each after its length: no two different lists give the same bytes."""
    return b"".join(len(data).to_bytes(8, "little") + data for data in map(_encoded, fields))


def _encoded(field: str) -> bytes:
    """UTF-8, also of half a surrogate pair, which YAML can write into a name."""
    return field.encode("utf-8", "surrogatepass")
