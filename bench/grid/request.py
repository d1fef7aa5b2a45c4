"""What a run can be asked for: its options, declared once, and a request made of their values.

pytest's options, the command line's and the parameters of `bench.run` are all made of `RunOptions`.  Light on purpose:
the command line reads it for `--help`.
"""

from __future__ import annotations

import os
import secrets
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypedDict, get_type_hints

from bench.places import DEMO_CHECKPOINT, IN_CHECKOUT, MATRICES, lacking
from bench.reasons import UsageError

if TYPE_CHECKING:
    from bench.grid.matrix import Cell, Matrix
    from bench.grid.schema import Sweep

DEFAULT_SWEEP = "smoke"
CACHE_VARIABLE = "YOLO11_BENCH_CACHE"
MACHINE_VARIABLE = "YOLO11_BENCH_MACHINE"
LONGEST_MACHINE_NAME = 60
"""In characters."""
LONGEST_RUN_ID = 200
"""In bytes: file systems take names of 255, of which a file that is being written adds some to its own."""


@dataclass(frozen=True)
class RunOption:
    """An option of a run: how its value is called, and what it means.  Every value is text; `Request` reads it."""

    metavar: str
    help: str


Name = str | None
Names = str | Sequence[str] | None
"""Several; in text a comma stands between them."""
Number = int | str | None
Numbers = int | str | Sequence[int] | None
Location = str | Path | None
Locations = str | Path | Sequence[str | Path] | None


class RunOptions(TypedDict, total=False):
    """The options of a run by their Python names, each with what a caller from Python may give."""

    sweep: Annotated[
        Name, RunOption("NAME", f"a file in matrices/sweeps without its ending (default: {DEFAULT_SWEEP})")
    ]
    model: Annotated[
        Locations,
        RunOption(
            "LIST",
            "Ultralytics detect checkpoints, or official names such as yolo11n.pt, comma separated "
            "(default: the embedded demo model)",
        ),
    ]
    data: Annotated[
        Location,
        RunOption(
            "YAML",
            "an Ultralytics data file; its train images calibrate, its val images are evaluated "
            "(default: the embedded demo set)",
        ),
    ]
    options: Annotated[Names, RunOption("LIST", "deployment options, comma separated, for example onnx,openvino")]
    precisions: Annotated[Names, RunOption("LIST", "precisions, comma separated, for example fp32,int8")]
    targets: Annotated[Names, RunOption("LIST", "hardware targets, comma separated, for example cpu,cuda")]
    emulate: Annotated[
        Names, RunOption("NAME", "check results on an emulated machine, slowly: arm64; with --targets, beside these")
    ]
    imgsz: Annotated[Numbers, RunOption("LIST", "sides of the square network input in pixels, comma separated")]
    batch: Annotated[Numbers, RunOption("LIST", "images per inference, comma separated")]
    threads: Annotated[
        Numbers, RunOption("LIST", "intra-op threads, comma separated; guests are pinned to as many CPUs")
    ]
    images: Annotated[
        Number, RunOption("N", "evaluate on N validation images, evenly spaced over the set (default: the sweep's)")
    ]
    results: Annotated[Location, RunOption("DIR", "folder for runs (default: results/runs in the current folder)")]
    cache: Annotated[
        Location,
        RunOption("DIR", f"environments, artifacts and images (default: ${CACHE_VARIABLE} or the user's cache)"),
    ]
    matrices: Annotated[
        Location, RunOption("DIR", "folder of options, targets, sweeps and locks (default: the project's)")
    ]
    machine_name: Annotated[
        Name,
        RunOption(
            "NAME",
            "what you call this machine, to tell it from others of its kind in a history "
            f"(default: ${MACHINE_VARIABLE}; else it has none)",
        ),
    ]
    run_id: Annotated[Name, RunOption("ID", "name of the run (default: date, time and sweep)")]
    resume: Annotated[
        Name, RunOption("ID", "go on with a run that was stopped or killed, whose other options these are; its name")
    ]
    cluster: Annotated[
        Name,
        RunOption(
            "ADDRESS",
            "have workers export, and infer for parity and accuracy: a scheduler's tcp://HOST:PORT, or local:N for N "
            "on this machine (default: one process; others need the extra `fleet`)",
        ),
    ]
    time_on: Annotated[
        Names,
        RunOption(
            "TAGS",
            "with --cluster, take times on a worker with one of these tags, for example machine=epyc,target=cuda; the "
            "first that has a cell's target (default: this machine)",
        ),
    ]


def _declared() -> dict[str, RunOption]:
    hints = get_type_hints(RunOptions, include_extras=True)
    return {name.replace("_", "-"): hint.__metadata__[0] for name, hint in hints.items()}


OPTIONS: Mapping[str, RunOption] = _declared()
"""The same by the names that a command line knows."""

OF_THE_GRID = ("sweep", "options", "precisions", "targets", "emulate", "imgsz", "batch", "threads", "matrices")
"""Those that say which cells there are; the rest says on what, and where results go."""

_FOLDERS = ("results", "cache", "matrices")


def parameter(name: str) -> str:
    """An option's name as a Python identifier: `run-id` is `run_id`."""
    return name.replace("-", "_")


def listed(text: str) -> list[str]:
    """What a text with commas lists; empty parts count for nothing."""
    return [part.strip() for part in text.split(",") if part.strip()]


class Request:
    """What was asked for.  Raises UsageError for a value that cannot be meant."""

    def __init__(self, values: Mapping[str, str | None]) -> None:
        """Take option values by name; None where an option was not given.

        Raises UsageError where the bench itself is not whole, and for a folder that there cannot be.
        """
        if absent := lacking():
            raise UsageError(
                f"this installation of the bench lacks {', '.join(map(str, absent))}; install yolo11-deployment-bench "
                "again, or run it in a whole checkout"
            )
        self._values = values
        for name in _FOLDERS:
            if given := values.get(name):
                _place(f"--{name}", given)  # before the first minute is spent

    def given(self) -> dict[str, str]:
        """The options that were given, by name."""
        return {name: value for name, value in self._values.items() if value is not None}

    def text(self, name: str) -> str | None:
        """An option's value as given."""
        return self._values.get(name)

    def names(self, name: str) -> list[str] | None:
        """A comma-separated option as a list."""
        value = self.text(name)
        if value is None:
            return None
        parts = listed(value)
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
    def models(self) -> list[str]:
        """The checkpoints asked for, as given; none where the embedded one is meant."""
        text = self.text("model")
        if text is None:
            return []
        from bench.files import expanded  # filelock behind it is not for `--help`

        one = os.path.isfile(expanded("--model", text))  # noqa: PTH113 - Path.is_file raises for a long list
        return [text] if one else self.names("model") or []  # a comma may be part of a name

    @property
    def sweep_name(self) -> str:
        """Name of the sweep."""
        return self.text("sweep") or DEFAULT_SWEEP

    @property
    def matrices(self) -> Path:
        """The matrices folder."""
        given = self.text("matrices")
        return _place("--matrices", given) if given else MATRICES

    @property
    def own_matrices(self) -> Path:
        """The matrices folder, to write in.  Raises UsageError where that would be inside an installed package."""
        if self.text("matrices") is None and not IN_CHECKOUT:
            raise UsageError(
                f"the matrices of an installed bench are part of it and are not changed: copy {MATRICES}, or make a "
                "folder of your own, and name it with --matrices"
            )
        return self.matrices

    @property
    def cache(self) -> Path:
        """The cache folder: the option, else the environment variable, else the user's cache."""
        if given := self.text("cache"):
            return _place("--cache", given)
        if chosen := os.environ.get(CACHE_VARIABLE):
            return _place(CACHE_VARIABLE, chosen)
        import platformdirs  # for the few who ask

        return platformdirs.user_cache_path("yolo11-bench")

    @property
    def machine_name(self) -> str:
        """What the user calls this machine: the option, else the environment variable; empty where there is neither.

        Raises UsageError for a name that cannot stand in a table.
        """
        given, source = self.text("machine-name"), "--machine-name"
        if given is None:
            given, source = os.environ.get(MACHINE_VARIABLE, ""), MACHINE_VARIABLE
            if not given.strip():
                return ""
        name = " ".join(given.split())
        if not name or not name.isprintable() or len(name) > LONGEST_MACHINE_NAME:
            raise UsageError(
                f"{source} {given[:LONGEST_MACHINE_NAME]!r}: give 1 to {LONGEST_MACHINE_NAME} characters that can be "
                "printed, such as rack-3; it is written into every run and shown on every page about it"
            )
        return name

    @property
    def results(self) -> Path:
        """The folder that holds runs."""
        return _place("--results", self.text("results") or "results/runs")

    @cached_property
    def run_id(self) -> str:
        """Name of the run; the random part keeps two runs of one second apart.

        Raises UsageError for what cannot be a folder's name, and where two names are given.
        """
        given, resumed = self.text("run-id"), self.text("resume")
        if resumed is not None and given not in (None, resumed):
            raise UsageError(f"--resume {resumed} goes on with that run, so that --run-id {given} cannot be its name")
        option, given = ("--run-id", given) if resumed is None else ("--resume", resumed)
        if given is None:
            return f"{time.strftime('%Y%m%dT%H%M%S')}-{self.sweep_name}-{secrets.token_hex(2)}"
        if not given.isprintable() or not given or Path(given).name != given or given.startswith("."):
            raise UsageError(
                f"{option} {given!r}: it becomes a folder's name, so it may not be empty, begin with a dot or contain "
                "a slash or a control character"
            )
        size = len(os.fsencode(given))
        if size > LONGEST_RUN_ID:
            raise UsageError(
                f"{option} {given[:20]}...: it becomes a folder's name, so it may have {LONGEST_RUN_ID} bytes at most, "
                f"not {size}"
            )
        return given

    def command(self, verb: str, **own: object) -> str:
        """A command line of these very options, places included, and of the command's `own`.

        An own option of True is given without a value; one of None or False is not given.
        """
        words = ["python", "-m", "bench"] if IN_CHECKOUT else ["yolo11-bench"]
        words.append(verb)
        for name, value in {**self.given(), **own}.items():
            if value is True:
                words.append(f"--{name}")
            elif value is not None and value is not False:
                words += [f"--{name}", str(value)]
        return shlex.join(words)

    def again(self) -> str:
        """Options that ask for this data and image count again; a file name only, since folders differ."""
        parts = []
        data = self.text("data")
        if data is not None:
            parts.append(f"--data {shlex.quote(Path(data).name)}")
        if self.text("images") is not None:
            parts.append(f"--images {self.text('images')}")
        return " ".join(parts)


def _place(option: str, given: str) -> Path:
    """As `bench.files.place`."""
    from bench.files import place  # filelock behind it is not for `--help`

    return place(option, given)


@dataclass(frozen=True)
class Grid:
    """What would be measured; `models` are the checkpoints, as given, by the names that cells have."""

    matrix: Matrix
    sweep: Sweep
    cells: list[Cell]
    models: dict[str, str]


def expand(request: Request) -> Grid:
    """Read the matrix and expand the request's cells.  Raises UsageError.

    Reads small files only, and those checkpoints that share a name.
    """
    from bench.grid import matrix  # pydantic behind it takes longer to import than `--help` may take
    from bench.grid.models import named  # as above

    read = matrix.load(request.matrices)
    counts, asked = request.integers("images"), request.names("options")
    options = None if asked is None else read.named(asked)
    swept = read.sweep(request.sweep_name)
    sweep = matrix.override(
        swept,
        "command line",
        options=options,
        precisions=request.names("precisions"),
        targets=_targets(request, read),
        imgsz=request.integers("imgsz"),
        batch=request.integers("batch"),
        threads=request.integers("threads"),
        images=counts[0] if counts else None,
        # A precision or an option asked for by name is meant, whatever the sweep leaves out for its own purpose.
        exclude=[] if request.text("precisions") else read.left_out(swept, options or []),
    )
    models = named(request.models or [str(DEMO_CHECKPOINT)])
    every = [cell for name in models for cell in read.cells(name, sweep)]
    # Models beside each other: each of the time windows that memory asks for then has cells of all of them.
    cells = [replace(cell, of_several=len(models) > 1) for cell in sorted(every, key=matrix.in_tables)]
    return Grid(read, sweep, cells, models)


def _targets(request: Request, read: Matrix) -> list[str] | None:
    """The targets asked for, with those of `--emulate`; None where the sweep's stand."""
    emulators, named = request.names("emulate"), request.names("targets")
    return named if emulators is None else [*(named or []), *read.emulated(emulators)]
