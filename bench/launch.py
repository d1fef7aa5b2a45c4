"""From options on a command line to a prepared run; shared by `pytest bench` and `python -m bench run`."""

from __future__ import annotations

import os
import secrets
import shlex
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import platformdirs
from rich.console import Console

from bench import benchmark_json, dataset, demo, emulation, matrix, model, report
from bench.envs import Environments
from bench.matrix import Cell, Matrix, Sweep
from bench.progress import Reporter
from bench.reasons import UsageError
from bench.session import Session
from bench.stages import Settings

DEFAULT_SWEEP = "smoke"
CACHE_VARIABLE = "YOLO11_BENCH_CACHE"
PROGRESS_VARIABLE = "YOLO11_BENCH_PROGRESS"


@dataclass(frozen=True)
class RunOption:
    """A command-line option of a run."""

    metavar: str
    help: str


OPTIONS: dict[str, RunOption] = {
    "sweep": RunOption("NAME", f"a file in matrices/sweeps without its ending (default: {DEFAULT_SWEEP})"),
    "model": RunOption("PATH", "an Ultralytics detect checkpoint, or an official name such as yolo11n.pt "
                       "(default: the embedded demo model)"),
    "data": RunOption("YAML", "an Ultralytics data file; its train images calibrate, its val images are evaluated "
                      "(default: the embedded demo set)"),
    "options": RunOption("LIST", "deployment options, comma separated, for example onnx,openvino"),
    "precisions": RunOption("LIST", "precisions, comma separated, for example fp32,int8"),
    "targets": RunOption("LIST", "hardware targets, comma separated, for example cpu,cuda"),
    "emulate": RunOption("NAME", "check results on an emulated machine, slowly: arm64; with --targets, beside these"),
    "imgsz": RunOption("LIST", "sides of the square network input in pixels, comma separated"),
    "batch": RunOption("LIST", "images per inference, comma separated"),
    "threads": RunOption("LIST", "intra-op threads, comma separated; guests are pinned to as many CPUs"),
    "images": RunOption("N", "evaluate on N validation images, evenly spaced over the set (default: the sweep's)"),
    "results": RunOption("DIR", "folder for runs (default: results/runs in the current folder)"),
    "cache": RunOption("DIR", f"environments, artifacts and images (default: ${CACHE_VARIABLE} or the user's cache)"),
    "matrices": RunOption("DIR", "folder of options, targets, sweeps and locks (default: the project's)"),
    "run-id": RunOption("ID", "name of the run (default: date, time and sweep)"),
}  # fmt: skip


class Request:
    """What the command line asked for.  Raises UsageError for a value that cannot be meant."""

    def __init__(self, values: Mapping[str, str | None]) -> None:
        """Take option values by name; None where an option was not given."""
        self._values = values

    def text(self, name: str) -> str | None:
        """An option's value as given."""
        return self._values.get(name)

    def names(self, name: str) -> list[str] | None:
        """A comma-separated option as a list."""
        value = self.text(name)
        if value is None:
            return None
        parts = [part.strip() for part in value.split(",") if part.strip()]
        if not parts:
            raise UsageError(f"--{name} is empty; give names separated by commas, or leave it out")
        return parts

    def integers(self, name: str) -> list[int] | None:
        """A comma-separated option as integers."""
        parts = self.names(name)
        try:
            return None if parts is None else [int(part) for part in parts]
        except ValueError as error:
            raise UsageError(f"--{name} {self.text(name)}: not whole numbers separated by commas") from error

    @property
    def sweep_name(self) -> str:
        """Name of the sweep."""
        return self.text("sweep") or DEFAULT_SWEEP

    @property
    def matrices(self) -> Path:
        """The matrices folder."""
        return Path(self.text("matrices") or matrix.MATRICES)

    @property
    def cache(self) -> Path:
        """The cache folder: the option, else the environment variable, else the user's cache."""
        chosen = self.text("cache") or os.environ.get(CACHE_VARIABLE)
        return Path(chosen).expanduser().resolve() if chosen else platformdirs.user_cache_path("yolo11-bench")

    @property
    def results(self) -> Path:
        """The folder that holds runs."""
        return Path(self.text("results") or "results/runs").resolve()

    @cached_property
    def run_id(self) -> str:
        """Name of the run; the random part keeps two runs of one second apart."""
        given = self.text("run-id")
        if given is None:
            return f"{time.strftime('%Y%m%dT%H%M%S')}-{self.sweep_name}-{secrets.token_hex(2)}"
        if Path(given).name != given or given.startswith("."):
            raise UsageError(f"--run-id {given!r}: it becomes a folder's name, so it may not contain a slash")
        return given

    def again(self) -> str:
        """Options that ask for this model, data and image count again; file names only, since folders differ."""
        parts = []
        for name in ("model", "data"):
            value = self.text(name)
            if value is not None:
                parts.append(f"--{name} {shlex.quote(Path(value).name)}")
        if self.text("images") is not None:
            parts.append(f"--images {self.text('images')}")
        return " ".join(parts)


@dataclass(frozen=True)
class Grid:
    """What would be measured."""

    matrix: Matrix
    sweep: Sweep
    cells: list[Cell]


def grid(request: Request) -> Grid:
    """Read the matrix and expand the request's cells.  Raises UsageError.  Reads small files only."""
    read = matrix.load(request.matrices)
    counts = request.integers("images")
    sweep = matrix.override(
        read.sweep(request.sweep_name),
        "command line",
        options=request.names("options"),
        precisions=request.names("precisions"),
        targets=_targets(request, read),
        imgsz=request.integers("imgsz"),
        batch=request.integers("batch"),
        threads=request.integers("threads"),
        images=counts[0] if counts else None,
        # A precision asked for by name is meant, whatever the sweep leaves out for its own purpose.
        exclude=[] if request.text("precisions") else None,
    )
    name = Path(request.text("model") or demo.CHECKPOINT).stem
    return Grid(read, sweep, read.cells(name, sweep))


def _targets(request: Request, read: Matrix) -> list[str] | None:
    """The targets asked for, with those of `--emulate`; None where the sweep's stand."""
    emulators, named = request.names("emulate"), request.names("targets")
    return named if emulators is None else [*(named or []), *emulation.targets(read.targets, emulators)]


def progress_wanted() -> bool:
    """Whether this process is `python -m bench run`, which shows progress and results itself."""
    return os.environ.get(PROGRESS_VARIABLE) == "1"


def reporter() -> Reporter:
    """Progress on the terminal for `python -m bench run`, which has turned pytest's own lines off; else silence."""
    return Reporter(Console(), enabled=progress_wanted())


def prepare(request: Request, wanted: Grid, progress: Reporter) -> Session:
    """Everything a run needs before its first cell: checkpoint, images, environments folder, store.

    Raises UsageError for a checkpoint or data file that cannot be used, CellProblem when the environment that reads
    checkpoints cannot be built, store.StoreError when the results folder cannot be written.
    """
    directory = request.results / request.run_id
    if directory.exists():
        raise UsageError(f"{directory} exists already; runs are never overwritten: choose another --run-id")
    environments = Environments(request.matrices, request.cache)
    data = _data_file(request, progress)
    validation = dataset.load(data, limit=wanted.sweep.images)
    with progress.timed("", "reading the checkpoint", "data"):
        checkpoint = model.resolve(request.text("model") or str(demo.CHECKPOINT), environments, request.cache)
    checkpoint.require_classes(validation.names, data)
    settings = Settings(
        sweep_name=request.sweep_name,
        sweep=wanted.sweep,
        results=request.results,
        cache=request.cache,
        run_id=request.run_id,
        reproduce=request.again(),
    )
    return Session(settings, wanted.matrix, wanted.cells, checkpoint, validation, environments, progress)


def finish(session: Session) -> None:
    """Close a run: last rows, the pytest-benchmark file and the report.

    Raises store.StoreError, or UsageError where the report's place cannot be written.
    """
    session.finish()
    benchmark_json.write(session.directory)
    with session.progress.timed("", "report"):
        report.build(session.directory, session.directory / "report.html", image=_busiest_image(session.dataset))


def _busiest_image(data: dataset.Dataset) -> Path:
    """The image with most objects: the one the report shows every option's detections on."""
    counts = Counter(data.boxes["image_id"].tolist())
    return max(data.images, key=lambda image: counts[image.id]).path


def _data_file(request: Request, progress: Reporter) -> Path:
    given = request.text("data")
    if given is not None:
        return Path(given)
    if request.text("model") is not None:
        raise UsageError("--model needs --data: a model can only be judged on images of the classes it knows")
    show: Callable[[int, int], None] = lambda done, total: progress.phase("", f"rendering images {done}/{total}")  # noqa: E731
    with progress.timed("", "rendering the demo images", "data"):
        return demo.prepare(request.cache / "demo", on_progress=show)
