"""COCO's own annotations (instances JSON), where a data file names them by its key `annotations`.

The key is ours; Ultralytics passes over it.  It is the path of the file, relative to `path`, or a mapping:

    annotations:
      file: annotations/instances_val2017.json
      licenses: [4, 5]      # of its images those with these licences, by their ids in the file ...
      image_ids: some.txt   # ... or those that a text file lists, an id or a file name a line

They say of the `val` split what label files say otherwise, and what these cannot: areas of masks, crowd regions, and
the ids of images and categories.  The format is COCO's (https://cocodataset.org/#format-data); masks are passed over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from bench.reasons import Collector, Problems, Remark, UsageError
from bench.tasks.datafile import DataFile
from bench.tasks.images import cause

KEY = "annotations"
SPLIT = "val"
"""The split whose annotations they are."""

INSTANCE_DTYPE = np.dtype(
    [
        ("image_id", "i4"), ("category", "i4"), ("x", "f8"), ("y", "f8"), ("w", "f8"), ("h", "f8"), ("area", "f8"),
        ("crowd", "?"),
    ]
)  # fmt: skip
"""An annotation: ids, box in px from the upper left corner, area in px², whether it is a region with many objects."""

_Id = Annotated[int, Field(ge=0, lt=2**31)]
_Length = Annotated[FiniteFloat, Field(ge=0)]
_REMEDY = "give the file as COCO publishes it (instances_*.json), or correct it"


class Picture(BaseModel):
    """An image as the annotations have it; sizes in px."""

    id: _Id
    file_name: str
    width: int
    height: int
    license: int | None = None

    @property
    def name(self) -> str:
        """Its file's name without folders."""
        return Path(self.file_name).name


class _Category(BaseModel):
    id: _Id
    name: str


class _Annotation(BaseModel):
    image_id: _Id
    category_id: _Id
    bbox: tuple[FiniteFloat, FiniteFloat, _Length, _Length]
    area: _Length
    iscrowd: Literal[0, 1] = 0


class _File(BaseModel):
    images: list[Picture]
    annotations: list[_Annotation]
    categories: list[_Category]


class _Key(BaseModel):
    """What stands behind the key in the data file."""

    model_config = ConfigDict(extra="forbid")

    file: str
    licenses: list[int] | None = None
    image_ids: str | None = None


@dataclass(frozen=True, eq=False)
class Instances:
    """An annotation file: `images` by file name, `categories` names by id, `rows` of `INSTANCE_DTYPE` in its order."""

    path: Path
    images: Mapping[str, Picture]
    categories: Mapping[int, str]
    rows: NDArray[np.void]

    @classmethod
    def read(cls, path: Path) -> Instances:
        """Read a file.  Raises Problems, naming the file and the place in it, for what is not as COCO has it."""
        try:
            content = _File.model_validate_json(path.read_bytes())
        except OSError as error:
            raise UsageError(f"cannot read the annotations {path}: {cause(error)}; make them readable") from error
        except ValidationError as error:
            raise Problems(
                f"{path}: {_place(found['loc'])}{found['msg']}; this is not COCO's format: {_REMEDY}"
                for found in error.errors(include_url=False)
            ) from error
        _require_sound(path, content)
        return cls(
            path,
            {picture.name: picture for picture in content.images},
            {category.id: category.name for category in sorted(content.categories, key=lambda one: one.id)},
            np.array(
                [(one.image_id, one.category_id, *one.bbox, one.area, one.iscrowd) for one in content.annotations],
                INSTANCE_DTYPE,
            ),
        )


@dataclass(frozen=True, eq=False)
class Official:
    """What annotates the images of a data file's `val` split.

    Attributes: `images` those that are to be evaluated, by file name; `names` of classes by index, `categories` their
    ids in the file; `remarks` what a reader of the score must know.
    """

    source: DataFile
    instances: Instances
    images: Mapping[str, Picture]
    names: dict[int, str]
    categories: tuple[int, ...]
    remarks: tuple[Remark, ...]

    @classmethod
    def of(cls, source: DataFile) -> Official | None:
        """What the key of a data file means; None where it has no such key.

        Raises Problems for a key or a file that cannot be meant, and for `names` that are not those of the categories.
        """
        given = source.content.get(KEY)
        if given is None:
            return None
        try:
            key = _Key.model_validate({"file": given} if isinstance(given, str) else given)
        except ValidationError as error:
            raise Problems(
                f"{source.where(KEY)}: '{KEY}' must be the path of a file, or a mapping with 'file', 'licenses' and "
                f"'image_ids': {_place(found['loc'])}{found['msg']}"
                for found in error.errors(include_url=False)
            ) from error
        instances = Instances.read(source.file(KEY, key.file))
        problems = Collector()
        classes = problems.of(_classes, source, instances)
        images = problems.of(_wanted, source, key, instances)
        problems.require_none()
        assert classes is not None
        assert images is not None
        names = {index: instances.categories[category] for index, category in enumerate(classes)}
        return cls(source, instances, images, names, classes, tuple(_part(key, instances, images)))

    def evaluated(self, paths: Sequence[Path], problems: Collector) -> tuple[Path, ...]:
        """Those of a split's images that are to be evaluated, in their order.

        An image that the file does not know, and one that is to be evaluated and is not there, are `problems`.
        """
        file, known = self.instances.path, self.instances.images
        extra = [path for path in paths if path.name not in known]
        if extra:
            problems.add(
                f"{self.source.where(SPLIT)}: {len(extra)} of {len(paths)} images of '{SPLIT}' are not in {file} (the "
                f"first is {extra[0]}); take them out of the split, or name the annotations that go with it"
            )
        twice = [name for name, times in Counter(path.name for path in paths).items() if times > 1]
        if twice:
            problems.add(
                f"{self.source.where(SPLIT)}: {len(twice)} file names are there more than once in '{SPLIT}' (the first "
                f"is {twice[0]}), and {file} tells images by their names; take all but one out of the split"
            )
        missing = sorted(self.images.keys() - {path.name for path in paths})
        if missing:
            problems.add(
                f"{self.source.where(KEY)}: {len(missing)} of the {len(self.images)} images to be evaluated are not in "
                f"'{SPLIT}' (the first is {missing[0]}); fetch them, or list those that are meant in a file and name "
                f"it by 'image_ids' beside 'file'"
            )
        return tuple(path for path in paths if path.name in self.images)

    def picture(self, path: Path) -> Picture:
        """What the file says of an image that is evaluated."""
        return self.images[path.name]

    def require_size(self, path: Path, width: int, height: int) -> None:
        """Raise UsageError where an image of this size in px is not the one that was annotated."""
        told = self.picture(path)
        if (told.width, told.height) != (width, height):
            raise UsageError(
                f"{path} is {width} x {height} px and {told.width} x {told.height} px in {self.instances.path}: its "
                "boxes are of another picture; restore the image, or name the annotations that go with it"
            )

    def rows(self, image_id: int) -> NDArray[np.void]:
        """Annotations of an image in the order of the file, with class indices for category ids."""
        ids = self._by_image["image_id"]
        found: NDArray[np.void] = self._by_image[
            np.searchsorted(ids, image_id) : np.searchsorted(ids, image_id, side="right")
        ]
        return found

    @cached_property
    def _by_image(self) -> NDArray[np.void]:
        rows = self.instances.rows[np.argsort(self.instances.rows["image_id"], kind="stable")]
        order = np.argsort(self.categories)
        rows["category"] = order[np.searchsorted(np.array(self.categories)[order], rows["category"])]
        return rows


def _require_sound(path: Path, content: _File) -> None:
    """Raise Problems where ids or names are there twice, or an annotation names what is not there."""
    problems = Collector()
    listed: dict[str, Sequence[int | str]] = {
        "the image id": [picture.id for picture in content.images],
        "the image file": [picture.name for picture in content.images],
        "the category id": [category.id for category in content.categories],
        "the category": [category.name for category in content.categories],
    }
    for what, keys in listed.items():
        twice = [key for key, times in Counter(keys).items() if times > 1]
        if twice:
            problems.add(f"{path}: {what} {twice[0]} is there more than once; {_REMEDY}")
    for what, named, known in (
        ("image_id", [one.image_id for one in content.annotations], {picture.id for picture in content.images}),
        ("category_id", [one.category_id for one in content.annotations], {one.id for one in content.categories}),
    ):
        lost = [(place, key) for place, key in enumerate(named) if key not in known]
        if lost:
            problems.add(
                f"{path}: annotations[{lost[0][0]}] has the {what} {lost[0][1]}, which the file does not list, and so "
                f"have {len(lost) - 1} others; {_REMEDY}"
            )
    if not content.images or not content.categories:
        problems.add(f"{path}: it has no images or no categories; {_REMEDY}")
    problems.require_none()


def _classes(source: DataFile, instances: Instances) -> tuple[int, ...]:
    """Category ids by class index: in the order of the data file's names, else in that of the ids.

    Raises UsageError where the names are not those of the categories.
    """
    if source.content.get("names") is None:
        count = len(source.class_names()) if source.content.get("nc") is not None else len(instances.categories)
        if count != len(instances.categories):
            raise UsageError(
                f"{source.where('nc')}: 'nc' is {count}, and {instances.path} has {len(instances.categories)} "
                "categories; take 'nc' out, and its categories count"
            )
        return tuple(instances.categories)
    names = list(source.class_names().values())
    ids = {name: category for category, name in instances.categories.items()}
    own, theirs = [name for name in names if name not in ids], [name for name in ids if name not in names]
    if own or theirs:
        differ = [f"only 'names' has {_some(own)}"] if own else []
        differ += [f"only the categories have {_some(theirs)}"] if theirs else []
        raise UsageError(
            f"{source.where('names')}: 'names' and the categories of {instances.path} differ: {'; '.join(differ)}. "
            "Take 'names' out, and the categories count in the order of their ids, or name the annotations that go "
            "with it"
        )
    return tuple(ids[name] for name in names)


def _wanted(source: DataFile, key: _Key, instances: Instances) -> dict[str, Picture]:
    """The images that the key asks for, by name.  Raises Problems where a list names others, UsageError for none."""
    images = dict(instances.images)
    if key.licenses is not None:
        images = {name: picture for name, picture in images.items() if picture.license in key.licenses}
        if not images:
            raise UsageError(
                f"{source.where(KEY)}: no image of {instances.path} has one of the licences "
                f"{', '.join(map(str, key.licenses))}; its own are "
                f"{', '.join(sorted({str(picture.license) for picture in instances.images.values()}))}"
            )
    if key.image_ids is not None:
        listed = _listed(source.file(KEY, key.image_ids), instances)
        images = {name: picture for name, picture in images.items() if name in listed}
        if not images:
            raise UsageError(
                f"{source.where(KEY)}: {key.image_ids} leaves no image; list the ids of some of {instances.path}"
            )
    return images


def _listed(file: Path, instances: Instances) -> Collection[str]:
    """Names of the images that a text file lists by id or file name.  Raises Problems."""
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the list of images {file}: {cause(error)}; it must be UTF-8 text") from error
    names = {str(picture.id): name for name, picture in instances.images.items()}
    problems, found = Collector(), set()
    for number, line in enumerate((line.strip() for line in lines), start=1):
        name = names.get(line.lstrip("0"), Path(line).name)
        if name in instances.images:
            found.add(name)
        elif line:
            problems.add(
                f"{file}, line {number}: {line!r} is neither the id nor the file name of an image in {instances.path}; "
                "correct or delete the line"
            )
    problems.require_none()
    return found


def _part(key: _Key, instances: Instances, images: Mapping[str, Picture]) -> Iterator[Remark]:
    """That a part of the annotated images is evaluated."""
    if len(images) < len(instances.images):
        rules = [] if key.licenses is None else [f"a licence of {', '.join(map(str, key.licenses))}"]
        rules += [] if key.image_ids is None else [f"listed in {Path(key.image_ids).name}"]
        text = (
            f"{len(images)} of the {len(instances.images)} images of {instances.path.name} are evaluated "
            f"({'; '.join(rules)}): the score is not one of the whole set."
        )
        yield Remark("part_of_annotations", len(images), text)


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:4])) + ", ..." * (len(names) > 4)


def _place(location: Sequence[Any]) -> str:
    """Where in a document something is: annotations[3].bbox."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")
    return f"{text}: " if text else ""
