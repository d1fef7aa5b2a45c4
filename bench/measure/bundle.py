"""A run packed for a machine without internet: code, packages, model, images and artifacts, in parts of a size.

What is exported here needs no exporter there: the artifacts travel in a cache, which brings them to the run there
(bench/wall/carried.py), and so does what the checkpoint says of itself.  Packages are those of the locks, as wheels for
the Python and the platform of that machine, less what it has itself.  `bench/guest/offline.py` runs it there.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, cast

import yaml

from bench.environments import foreign
from bench.environments.foreign import Elsewhere
from bench.environments.installers import PYTHON_VERSION, for_gpu
from bench.grid.machine import PACKED_COMMIT, commit
from bench.grid.matrix import Cell
from bench.grid.request import Grid, Request, expand
from bench.guest.offline import MANIFEST, PROGRAM
from bench.measure import exporting
from bench.measure.outfit import Ingredients
from bench.measure.prepare import ingredients
from bench.places import DEMO_CHECKPOINT, GUEST, IN_CHECKOUT, PACKAGE, REPORTS
from bench.progress import Reporter
from bench.reasons import CellProblem, UsageError
from bench.tasks.datafile import DataFile
from bench.tasks.dataset import Dataset
from bench.tasks.images import identity, label_path
from bench.tasks.instances import KEY
from bench.wall import carried, checkpoint
from bench.wall.artifacts import Artifacts
from bench.wall.carried import Carried

NAME = "bundle"
WHEELS, GPU_WHEELS = "wheels", "wheels-gpu"
"""Apart, since a build of torch for CPUs and one for CUDA have one version."""
_CARRIED_ON = ("sweep", "options", "precisions", "targets", "imgsz", "batch", "threads", "images")
"""Options of the run that mean the same on the other machine."""
_OF_SPLITS = {"path", "train", "val", "validation", "test", "download"}
"""Keys of a data file that say where images are."""
_LISTED = "evaluated.txt"


class Parts:
    """A file to write that is split: `<path>.000`, `<path>.001` ..., each of at most `size` bytes.

    Use as a context manager; `told` then has name, bytes and SHA-256 of each.
    """

    def __init__(self, path: Path, size: int) -> None:
        """Nothing is written yet."""
        self._path, self._size = path, size
        self._file: BinaryIO | None = None
        self._digest = hashlib.sha256()
        self.told: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        """A file to write to."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the last part."""
        self._close()

    def write(self, data: bytes) -> int:
        """Write all of `data`, into as many parts as it takes."""
        rest = memoryview(data)
        while rest:
            if self._file is None or self._file.tell() == self._size:
                self._close()
                path = self._path.with_name(f"{self._path.name}.{len(self.told):03d}")
                self._file = path.open("wb")
            fits = rest[: self._size - self._file.tell()]
            self._file.write(fits)
            self._digest.update(fits)
            rest = rest[len(fits) :]
        return len(data)

    def _close(self) -> None:
        if self._file is not None:
            name, size = Path(self._file.name).name, self._file.tell()
            self._file.close()
            self.told.append({"name": name, "bytes": size, "sha256": self._digest.hexdigest()})
            self._file, self._digest = None, hashlib.sha256()


def pack(
    request: Request, machine: Elsewhere, left: Sequence[str], out: Path, size: int, progress: Reporter
) -> list[Path]:
    """Pack a run into a new folder `out`; returns what it holds: parts of at most `size` bytes, manifest, program.

    `left` are patterns of packages that the other machine has itself.  Raises UsageError as a run does before its first
    cell, for several models, for a folder that is there, and for packages that cannot be had for that machine.
    """
    grid = expand(request)
    _require_ours(grid)
    if len(grid.models) > 1:
        raise UsageError("a bundle is of one model: give one --model, and pack each other one by itself")
    try:
        out.mkdir(parents=True)
    except OSError as error:
        raise UsageError(f"--out {out}: cannot make this folder: {error.strerror}; choose another") from error
    try:
        given = ingredients(request, grid, progress)
        (model,) = given.checkpoints.values()
        with tempfile.TemporaryDirectory(dir=out) as folder:
            work = Path(folder)
            manifest: dict[str, Any] = {
                "python": machine.python,
                "platform": machine.platform,
                "locked": machine.python == PYTHON_VERSION,
                "families": _packages(given, grid, machine, left, work, progress),
                "options": [
                    word for name in _CARRIED_ON if (value := request.text(name)) for word in (f"--{name}", value)
                ],
                "places": {"data": _images(given, grid, work).relative_to(work).as_posix()},
            }
            if model.path != DEMO_CHECKPOINT:
                copy = shutil.copyfile(model.path, _made(work / "model") / model.path.name)
                manifest["places"]["model"] = copy.relative_to(work).as_posix()
            _artifacts(given, grid, work / "cache", progress)
            (_made(work / "project") / PACKED_COMMIT).write_text(commit(), encoding="ascii")
            with (
                progress.timed("", "packing"),
                Parts(out / NAME, size) as parts,
                tarfile.open(fileobj=cast("BinaryIO", parts), mode="w|") as archive,
            ):
                for path, name in [*((path, path.name) for path in sorted(work.iterdir())), *_project(request)]:
                    archive.add(path, name, filter=_plain)
        (out / MANIFEST).write_text(json.dumps({**manifest, "parts": parts.told}, indent=1) + "\n", encoding="utf-8")
        shutil.copyfile(GUEST / "offline.py", out / PROGRAM)
    except BaseException:  # Ctrl-C too: half a bundle is none
        shutil.rmtree(out)
        raise
    return [*(out / part["name"] for part in parts.told), out / MANIFEST, out / PROGRAM]


def _require_ours(grid: Grid) -> None:
    """Raise UsageError for options of packages from outside, which are not packed."""
    foreign_ones = sorted({cell.option.id for cell in grid.cells if cell.option.id in grid.matrix.homes})
    if foreign_ones:
        raise UsageError(
            f"{', '.join(foreign_ones)}: formats of packages from outside are not packed; name others with --options"
        )


def _project(request: Request) -> Iterator[tuple[Path, str]]:
    """What the bench itself is, laid out as in a checkout, with the matrices that the run was asked for with."""
    for path in sorted(PACKAGE.iterdir()):
        if IN_CHECKOUT or path.name != "data":
            yield path, f"project/{PACKAGE.name}/{path.name}"
    yield request.matrices.resolve(), "project/matrices"
    for name in ("templates", "locale", "vendor"):
        yield REPORTS / name, f"project/reports/{name}"


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Leave byte code out, and whose files they were."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return None if "__pycache__" in Path(member.name).parts else member


def _packages(
    given: Ingredients, grid: Grid, machine: Elsewhere, left: Sequence[str], work: Path, progress: Reporter
) -> dict[str, dict[str, Any]]:
    """Fetch the wheels of the core and of each family of the cells; what of each was left out, and where the rest is.

    What the core needs is always carried.
    """
    told: dict[str, dict[str, Any]] = {}
    for family in ("core", *sorted({cell.environment for cell in grid.cells if _carried(cell, grid, progress)})):
        lock = given.environments.lock_text(family)
        wanted = foreign.divided(lock, machine, () if family == "core" else left)
        folder = (GPU_WHEELS if for_gpu(lock) else WHEELS) if wanted.carry else ""
        if folder:
            with progress.timed("", f"packages of {family}"):
                foreign.fetch(family, lock, wanted, machine, work / folder)
            pins = "".join(f"{pin}\n" for pin in wanted.carry)
            (_made(work / "locks") / f"{family}.txt").write_text(pins, encoding="utf-8")
        told[family] = {"left": wanted.left, "wheels": folder}
    del told["core"]
    return told


def _carried(cell: Cell, grid: Grid, progress: Reporter) -> bool:
    """Whether a cell's environment is carried: not of one that is never run, or needs a browser or an emulator too."""
    if cell.option.lacks:  # its row says the same there
        return False
    whole = cell.option.javascript is None and not grid.matrix.targets[cell.target].emulator
    if not whole:
        progress.message(f"{cell.id} needs a browser or an emulator, which are not packed: it will fail there.")
    return whole


def _artifacts(given: Ingredients, grid: Grid, cache: Path, progress: Reporter) -> None:
    """Export every cell here, and put what that made, stage by stage, into the cache of the run there.

    Where an exporter refuses, the reason is carried.
    """
    store = Artifacts(given.cache, given.environments)
    addresses: dict[str, str] = {}
    problems: dict[str, tuple[str, str, str]] = {}
    for model in given.checkpoints.values():
        checkpoint.carry(model.sha256, given.environments, given.cache, cache)
    for cell in (one for one in grid.cells if not one.option.lacks):
        made = None
        images = exporting.calibration(cell, given.dataset, grid.sweep)
        for first in exporting.stages(cell, grid.matrix, given.checkpoints[cell.model].path, images):
            stage = replace(first, source=made)
            asked = store.asked(stage)
            try:
                with progress.timed(cell.id, "export"):
                    made = store.ensure(stage, timeout=grid.sweep.deadlines.export)
            except CellProblem as problem:
                progress.message(f"{cell.id} has no artifact to carry, and will have none there: {problem.text}")
                problems[asked] = (problem.reason.value, problem.text, problem.status.value)
                break
            addresses[asked] = made.key
            if not (place := cache / "artifacts" / made.key).exists():
                shutil.copytree(made.directory, place)
    carried.write(cache, Carried(addresses, problems))


def _images(given: Ingredients, grid: Grid, work: Path) -> Path:
    """Copy what is evaluated, and what calibrates, with a data file for them; returns that.

    Names begin with the place in the split, so that the order stays, but where official annotations go by names: these
    come with it, and a list of the images.  What two splits share is one file there too.
    """
    dataset, source = given.dataset, given.dataset.source
    assert isinstance(source, DataFile), "a run reads its images from one"
    splits = {dataset.split: [image.path for image in dataset.images]}
    if any(exporting.calibrated(cell) for cell in grid.cells):
        splits["train"] = list(dataset.calibration_images(grid.sweep.calibration_images))
    content = {key: value for key, value in source.content.items() if key not in _OF_SPLITS}
    folder, known = _made(work / "data"), dict[tuple[int | str, ...], Path]()
    for split, images in splits.items():
        places = _made(folder / "images" / split)
        for number, image in enumerate(images):
            named = dataset.annotations is not None and split == dataset.split
            place = places / (image.name if named else f"{number:05d}-{image.name}")
            first = known.setdefault(identity(image), place)
            if first == place:
                shutil.copyfile(image, place)
            else:
                os.link(first, place)
            if (labels := label_path(image)).is_file():
                target = label_path(place)
                shutil.copyfile(labels, _made(target.parent) / target.name)
        content[split] = f"images/{split}"
    if dataset.annotations is not None:
        content[KEY] = _annotations(dataset, dataset.annotations, folder)
    file = folder / source.path.name
    file.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return file


def _annotations(dataset: Dataset, file: Path, folder: Path) -> dict[str, str]:
    """Copy official annotations, with a list of the images that are evaluated; returns what the data file is to say."""
    own = _made(folder / "annotations")
    shutil.copyfile(file, own / file.name)
    (own / _LISTED).write_text("".join(f"{image.id}\n" for image in dataset.images), encoding="utf-8")
    return {"file": f"{own.name}/{file.name}", "image_ids": f"{own.name}/{_LISTED}"}


def _made(folder: Path) -> Path:
    """A folder, made if it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder
