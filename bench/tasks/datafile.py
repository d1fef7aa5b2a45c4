"""The Ultralytics data file that a user already has: which images its splits name, and which classes there are.

The rules follow Ultralytics 8.4.190 (`check_det_dataset`, `get_img_files`) so that the same file means the same images,
with these differences, each on the side of a reproducible result:

* Relative paths are relative to the data file first, and a list file's to that list file.  Where `path` names no folder
  there, those that Ultralytics would take are tried, the current folder and the one of its settings, and that is said.
* A line of an image list that Ultralytics would pass over is a problem.
* An image that appears twice counts once, whatever its names: links of both kinds are seen through.
* What is there and does not count is said (`Found.remarks`).
* `download:` is never executed, and nothing is fetched, unpacked or converted.
"""

from __future__ import annotations

import json
import os
import reprlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import platformdirs
import yaml

from bench.files import exists, expanded
from bench.reasons import Collector, Remark, UsageError
from bench.tasks.images import (
    IMAGE_SUFFIXES,
    OTHER_PICTURES,
    cause,
    each_once,
    files_below,
    is_image,
    listed,
    suffix,
)

CHANNELS = 3
"""What images are read in and networks here take: red, green and blue."""
_NOT_YAML = (yaml.YAMLError, ValueError, KeyError, AttributeError, OverflowError, RecursionError)
"""What PyYAML raises: its own errors, and those of a number, date or truth value that is none."""
_BRIEF = reprlib.Repr()
_BRIEF.maxlevel, _BRIEF.maxstring = 2, 300
_brief = _BRIEF.repr  # a few anchors can stand for more text than there is memory
_MOST_CLASSES = 32_767
"""What the tables of predictions have room for."""
# Ultralytics fetches, unpacks or converts these; what to do instead, by suffix.
_UNPACK = "unpack it, and give the path of the data file (YAML) in it"
_FIRST = {
    **dict.fromkeys(["zip", "tar", "gz", "tgz", "xz", "txz", "bz2", "tbz2"], _UNPACK),
    "ndjson": (
        "it names images by their addresses; convert it with `convert_ndjson_to_yolo` of ultralytics, which fetches "
        "them, and give the path of the data file (YAML) that it writes"
    ),
}


def locate(given: str) -> Path:
    """The data file that `--data` names: a file, there or not, or the one in a folder, as Ultralytics finds it.

    Raises UsageError for what would have to be fetched, unpacked or converted first, and for a folder that does not
    hold exactly one.
    """
    if "://" in given:
        raise UsageError(f"--data {given}: no data is fetched here; download it, and give the path of its data file")
    path = expanded("--data", given)
    if exists(path) and path.is_dir():
        return _in_folder(path)
    if remedy := _FIRST.get(suffix(path.name)):
        raise UsageError(f"--data {given}: {remedy}")
    return path


def _in_folder(folder: Path) -> Path:
    """Files in .yaml go before those in .yml, those in the folder itself before deeper ones; then its name decides."""
    found: list[Path] = []
    for pattern in ("*.yaml", "*.yml"):
        found = found or sorted(folder.glob(pattern)) or sorted(folder.rglob(pattern))
    chosen = found if len(found) == 1 else [path for path in found if path.stem == folder.resolve().stem]
    if len(chosen) != 1:
        names = ", ".join(path.relative_to(folder).as_posix() for path in found[:4]) + ", ..." * (len(found) > 4)
        held = f"{len(found)} data files ({names})" if found else "no data file (YAML)"
        raise UsageError(f"--data {folder}: the folder holds {held}; give the path of the one that is meant")
    return chosen[0]


def datasets_folder() -> Path | None:
    """The folder that the user's own Ultralytics keeps its data sets in; None where there are no settings of it."""
    given = os.environ.get("YOLO_CONFIG_DIR")
    own = "Ultralytics"
    folder = Path(given) / own if given else platformdirs.user_config_path(own, appauthor=False, roaming=True)
    try:
        return Path(json.loads((folder / "settings.json").read_text(encoding="utf-8"))["datasets_dir"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


@dataclass(frozen=True, slots=True)
class Found:
    """Images of a split: `paths` sorted, each file once; `remarks` on what was there and left out."""

    paths: tuple[Path, ...] = ()
    remarks: tuple[Remark, ...] = ()


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
        except UnicodeDecodeError as error:
            raise UsageError(f"cannot read the data file {path}: {error}; save it as UTF-8 text") from error
        except OSError as error:
            raise UsageError(
                f"cannot read the data file {path}: {cause(error)}; give the path of an Ultralytics data file (YAML)"
            ) from error
        content, node = _parsed(path, text)
        if not isinstance(content, dict) or not isinstance(node, yaml.MappingNode):
            raise UsageError(f"{path} does not hold keys such as path, train, val and names; is it a data file?")
        _require_text(path, node)
        lines = {str(key.value): key.start_mark.line + 1 for key, _ in node.value}
        # Python's word for nothing is what some scripts write.
        keys = {str(key): None if value == "None" else value for key, value in content.items()}
        if "val" not in keys and "validation" in keys:
            keys["val"], lines["val"] = keys["validation"], lines["validation"]
        return cls(path.resolve(), keys, lines)

    def where(self, key: str) -> str:
        """File and line of a key, for messages."""
        return f"{self.path}, line {self.lines[key]}" if key in self.lines else str(self.path)

    @property
    def root(self) -> Path:
        """Folder that the splits are relative to; see `_placed`.  Raises UsageError where there is none."""
        return self._placed[0]

    @cached_property
    def _placed(self) -> tuple[Path, str]:
        """The folder that `path` names and, where it is not relative to the data file, what it is relative to.

        Without `path` it is the data file's own folder.
        """
        value = self.content.get("path")
        if value is not None and not isinstance(value, str):
            raise UsageError(f"{self.where('path')}: 'path' must be a folder name, not {_brief(value)}")
        looked = []
        for base, name in self._bases():
            # Not Path.resolve, which before Python 3.13 raises RuntimeError on a link to itself.
            root = Path(os.path.realpath(base / (value or ".")))
            if exists(root) and root.is_dir():
                return root, name
            looked.append(root)
        others = "".join(f", nor does {root}" for root in dict.fromkeys(looked[1:]) if root != looked[0])
        raise UsageError(
            f"{self.where('path')}: 'path: {value}' names the folder {looked[0]}, which does not exist{others}; write "
            f"the folder of the data set, absolute or relative to this file{self._download_hint}"
        )

    def _bases(self) -> Iterator[tuple[Path, str]]:
        yield self.path.parent, ""
        yield Path.cwd(), "the current folder"
        folder = datasets_folder()
        if folder is not None:
            yield folder, "the folder of data sets in Ultralytics' settings"

    @property
    def _download_hint(self) -> str:
        return " ('download:' is never executed: fetch the data yourself)" if "download" in self.content else ""

    def class_names(self) -> dict[int, str]:
        """Class names by index; class_0, class_1 ... where only `nc` is given.

        Two classes of one name get their index appended, so that results per class stay apart.
        Raises UsageError when neither `names` nor `nc` is there or they contradict each other.
        """
        names, given = self.content.get("names"), self.content.get("nc")
        count = None if given is None else _whole(given)
        if given is not None and (count is None or not 1 <= count <= _MOST_CLASSES):
            raise UsageError(
                f"{self.where('nc')}: 'nc' must be a whole number of classes, {_MOST_CLASSES} at most, "
                f"not {_brief(given)}"
            )
        if names is None and count is None:
            raise UsageError(f"{self.path} has neither 'names' nor 'nc'; add 'names:' with one entry per class")
        if names is None:
            names = [f"class_{index}" for index in range(count or 0)]
        if not isinstance(names, list | dict) or not names:
            raise UsageError(
                f"{self.where('names')}: 'names' must be a list, or index: name pairs, not {_brief(names)}"
            )
        try:
            pairs = enumerate(names) if isinstance(names, list) else names.items()
            table = {int(key): _name(name) for key, name in pairs}
        except (TypeError, ValueError, OverflowError) as error:
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
        """Images of a split, sorted, each once.  Raises Problems with all that `find` meets."""
        problems = Collector()
        found = self.find(split, problems)
        problems.require_none()
        return found.paths

    def find(self, split: str, problems: Collector) -> Found:
        """Images of a split, and what was left out.

        An entry is a folder, searched with its subfolders, or a text file with one image path per line.  Problems name
        the key and line when the split is missing or a path in it leads nowhere, and what cannot be read.
        """
        value = self.content.get(split)
        if not value:
            problems.add(f"{self.path} has no '{split}:' key, or an empty one; add the folder of its images")
            return Found()
        placed = problems.of(lambda: self._placed)
        if placed is None:
            return Found()
        entries = value if isinstance(value, list) else [value]
        before = len(problems.found)
        there: list[Path] = []
        for entry in entries:
            location = problems.of(self._locate, split, entry)
            if location is not None:
                search = files_below if location.is_dir() else listed
                there += problems.of(search, location, problems) or ()
        there = list(dict.fromkeys(there))
        images = [path for path in there if is_image(path.name)]
        if not images and len(problems.found) == before:
            problems.add(
                f"{self.where(split)}: no images in {', '.join(map(str, entries))}; "
                f"known suffixes are {', '.join(sorted(IMAGE_SUFFIXES))}"
            )
        paths = each_once(images, problems)
        links = len(images) - len(paths) if len(problems.found) == before else 0
        others = Counter(suffix(path.name) for path in there)
        return Found(paths, (*self._elsewhere(), *_left_out(split, links, others)))

    def file(self, key: str, given: str) -> Path:
        """The file that a key names, relative to the root as splits are.  Raises UsageError where there is none."""
        path = self._locate(key, given)
        if not path.is_file():
            raise UsageError(f"{self.where(key)}: '{key}' leads to {path}, which is no file; correct '{key}'")
        return path

    def require_colour(self) -> None:
        """Raise UsageError where the file says that its images have other channels than `CHANNELS`."""
        channels = self.content.get("channels", CHANNELS)
        if channels != CHANNELS:
            raise UsageError(
                f"{self.where('channels')}: 'channels: {channels}', but images are evaluated in {CHANNELS} channels "
                "(RGB) here; a model of other channels cannot be benched"
            )

    def _locate(self, split: str, entry: object) -> Path:
        if not isinstance(entry, str):
            raise UsageError(f"{self.where(split)}: '{split}' must be a path or a list of paths, not {_brief(entry)}")
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

    def _elsewhere(self) -> Iterator[Remark]:
        """That the images are not where the data file is, as far as it says."""
        root, base = self._placed
        if base:
            given = self.content.get("path")
            text = f"'path: {given}' of {self.path.name} was found from {base}: the images are those in {root}."
            yield Remark("path_elsewhere", 1, text)


def _parsed(path: Path, text: str) -> tuple[Any, yaml.Node | None]:
    """What YAML says, as Python's objects and as nodes with their lines.  Raises UsageError."""
    try:
        return yaml.safe_load(text), yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UsageError(f"{path}{line} is not valid YAML: {error.problem or error.context}; correct it") from error
    except _NOT_YAML as error:
        raise UsageError(f"{path} is not valid YAML: {error}; correct it") from error


def _require_text(path: Path, document: yaml.Node) -> None:
    """Raise UsageError for the first text that cannot be part of a file's name or be written down."""
    waiting, seen = [document], set[int]()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:  # an anchor may lead back to what holds it
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            waiting += [one for pair in node.value for one in pair]
        elif isinstance(node, yaml.SequenceNode):
            waiting += node.value
        elif not _writable(str(node.value)):
            raise UsageError(
                f"{path}, line {node.start_mark.line + 1}: {ascii(node.value)[:300]} holds a NUL or half a character; "
                "correct the text"
            )


def _writable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def _name(value: object) -> str:
    """A class name.  Raises TypeError for what is no text or number."""
    if isinstance(value, list | dict):
        raise TypeError(f"the name {_brief(value)} is no text")
    return str(value)


def _whole(value: object) -> int | None:
    """A whole number however it is written (80, 80.0, '80'); None where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return int(number) if number.is_integer() else None


def _left_out(split: str, names: int, suffixes: Counter[str]) -> Iterator[Remark]:
    """On further names of one file, and on pictures whose suffix is none of `IMAGE_SUFFIXES`."""
    if names:
        text = f"Further names (links) in {split} of images that are counted already: {names}."
        yield Remark("further_names", names, text)
    pictures = {kind: count for kind, count in sorted(suffixes.items()) if kind in OTHER_PICTURES}
    if pictures:
        told = ", ".join(f"{count} .{kind}" for kind, count in pictures.items())
        text = f"Pictures in {split} of kinds that Ultralytics does not read are left out: {told}."
        yield Remark("other_pictures", sum(pictures.values()), text)
