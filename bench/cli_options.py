"""What several commands of `python -m bench` share: their options, the run they mean, their exit codes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from bench import launch, store
from bench.matrix import ROOT
from bench.reasons import UsageError

FAILED, USAGE, INTERRUPTED = 1, 2, 130


def _option(name: str) -> Any:
    return typer.Option(f"--{name}", metavar=launch.OPTIONS[name].metavar, help=launch.OPTIONS[name].help)


Sweep = Annotated[str | None, _option("sweep")]
Model = Annotated[str | None, _option("model")]
Data = Annotated[str | None, _option("data")]
Options = Annotated[str | None, _option("options")]
Precisions = Annotated[str | None, _option("precisions")]
Targets = Annotated[str | None, _option("targets")]
Emulate = Annotated[str | None, _option("emulate")]
ImageSizes = Annotated[str | None, _option("imgsz")]
Batches = Annotated[str | None, _option("batch")]
Threads = Annotated[str | None, _option("threads")]
Images = Annotated[str | None, _option("images")]
Results = Annotated[str | None, _option("results")]
Cache = Annotated[str | None, _option("cache")]
Matrices = Annotated[str | None, _option("matrices")]
RunId = Annotated[str | None, _option("run-id")]
Run = Annotated[
    str | None, typer.Argument(metavar="[RUN]", help="a run's folder or its name (default: the newest run)")
]
Runs = Annotated[list[str] | None, typer.Argument(metavar="[RUN]...", help="folders or names of runs")]


def find_all(runs: list[str] | None, results: str | None) -> list[Path]:
    """Folders of the runs meant, of the newest where none is named.  Raises UsageError as `find` does."""
    return [find(run, results) for run in runs] if runs else [find(None, results)]


def find(run: str | None, results: str | None) -> Path:
    """Folder of the run meant: a folder, a name in `results` or among the recorded runs, or the newest (None).

    Raises UsageError when there is none.
    """
    folder = launch.Request({"results": results}).results
    if run is None:
        runs = sorted((path.parent for path in folder.glob("*/cells.parquet")), key=lambda path: path.stat().st_mtime)
        if not runs:
            raise UsageError(f"no run in {folder}; make one with `python -m bench run`, or name a folder")
        return runs[-1]
    recorded = ROOT / "results" / "reference"
    for candidate in (Path(run), folder / run, recorded / run):
        if (candidate / "cells.parquet").is_file():
            return candidate.resolve()
    for path in sorted(recorded.glob("*/cells.parquet")):  # a recorded run's folder has a name of its own
        if run in set(store.read_table(path.parent, "cells").run_id):
            return path.parent
    raise UsageError(f"no run {run!r}: neither a folder with a cells.parquet nor the name of a run in {folder}")


def short(path: Path) -> str:
    """A path as a person in the current folder would write it."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
