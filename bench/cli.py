"""`python -m bench`: look at the grid and the machine, run a sweep, read a result.

Exit codes: 0 fine; 1 a cell failed or is invalid, or no option meets the limits given to `recommend`; 2 wrong usage,
or an environment that cannot measure; 130 Ctrl-C.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import pytest
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench import cli_guide, envs, housekeeping, launch, machine, report, store
from bench import doctor as checkup
from bench.cli_options import (
    FAILED,
    INTERRUPTED,
    USAGE,
    Batches,
    Cache,
    Data,
    Emulate,
    Images,
    ImageSizes,
    Matrices,
    Model,
    Options,
    Precisions,
    Results,
    Run,
    RunId,
    Sweep,
    Targets,
    Threads,
    find,
    short,
)
from bench.matrix import ROOT
from bench.reasons import CellProblem, Status, UsageError
from bench.report.terminal import print_run

app = typer.Typer(
    help="Measure every way to deploy a YOLO11 model. Start with `doctor`, then `run`; `show` prints a past run.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


@app.command()
def run(
    sweep: Sweep = None,
    model: Model = None,
    data: Data = None,
    options: Options = None,
    precisions: Precisions = None,
    targets: Targets = None,
    emulate: Emulate = None,
    imgsz: ImageSizes = None,
    batch: Batches = None,
    threads: Threads = None,
    images: Images = None,
    results: Results = None,
    cache: Cache = None,
    matrices: Matrices = None,
    run_id: RunId = None,
    keyword: Annotated[str | None, typer.Option("-k", metavar="EXPR", help="pytest's -k over cell ids")] = None,
) -> None:
    """Sweep, measure, store and report: makes environments and artifacts as needed, prints a table at the end.

    Examples:

      python -m bench run

      python -m bench run --options onnx,openvino --precisions fp32,int8 --threads 1,2

      python -m bench run --model best.pt --data data.yaml --imgsz 640 --images 128
    """
    given = {
        "sweep": sweep, "model": model, "data": data, "options": options, "precisions": precisions,
        "targets": targets, "emulate": emulate, "imgsz": imgsz, "batch": batch, "threads": threads, "images": images,
        "results": results, "cache": cache, "matrices": matrices, "run-id": run_id,
    }  # fmt: skip
    request = launch.Request(given)
    launch.grid(request)  # a wrong name is told before pytest starts
    given["run-id"] = request.run_id
    arguments = [str(ROOT / "bench" / "suites"), f"--rootdir={ROOT}", f"--config-file={ROOT / 'pyproject.toml'}"]
    # The progress bar has the terminal; what pytest would print there, the table at the end says better.
    arguments += ["-p", "no:cacheprovider", "-p", "no:terminal", "-p", "no:benchmark", "--capture=no"]
    arguments += [f"--{name}={value}" for name, value in given.items() if value is not None]
    if keyword is not None:
        arguments += ["-k", keyword]
    os.environ[launch.PROGRESS_VARIABLE] = "1"
    seen = _Watcher()
    code = pytest.main(arguments, plugins=[seen])
    directory = request.results / request.run_id
    if (directory / "cells.parquet").is_file():
        _conclude(directory)
    if seen.defect:
        Console(stderr=True).print(escape(seen.defect), highlight=False)
        raise UsageError("this is a defect of the bench; please report it with the lines above")
    if seen.message:
        raise UsageError(seen.message)
    if seen.interrupted:
        raise typer.Exit(INTERRUPTED)
    if code == pytest.ExitCode.NO_TESTS_COLLECTED:
        raise UsageError(f"-k {keyword}: no cell matches; `python -m bench list` shows their ids")
    if code == pytest.ExitCode.OK and not _anything_measured(directory):
        raise UsageError("nothing was measured: this machine has none of the targets asked for (reasons above)")
    raise typer.Exit({pytest.ExitCode.OK: 0, pytest.ExitCode.TESTS_FAILED: FAILED}.get(pytest.ExitCode(code), USAGE))


class _Watcher:
    """Remembers what pytest would have printed: why a run was stopped, or that the bench itself failed."""

    def __init__(self) -> None:
        """Nothing seen yet."""
        self.interrupted = False
        self.message = ""
        self.defect = ""

    def pytest_exception_interact(
        self, node: pytest.Item, call: pytest.CallInfo[Any], report: pytest.TestReport
    ) -> None:
        """Stop at what is no cell's failure but a defect of the bench itself, and keep it."""
        if call.excinfo is not None and not isinstance(call.excinfo.value, pytest.fail.Exception):
            self.defect = report.longreprtext
            node.session.shouldstop = "a defect of the bench"

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Keep whether the user stopped the run, or a `pytest.exit` did, and why."""
        if isinstance(excinfo.value, pytest.exit.Exception):
            self.message = excinfo.value.msg.removeprefix("bench: ")
        else:
            self.interrupted = True


def _conclude(directory: Path) -> None:
    console = Console()
    print_run(directory, console)
    page = directory / "report.html"
    console.print(f"\nResults  {escape(short(directory))}", highlight=False, soft_wrap=True)
    if page.is_file():
        console.print(f"Report   {escape(short(page))}", highlight=False, soft_wrap=True)


def _anything_measured(directory: Path) -> bool:
    """Whether a cell has a result, other than references that only came along with cells that were skipped."""
    cells = store.read_table(directory, "cells")
    asked = cells[cells.cell_id != cells.reference_id]
    return bool((asked if len(asked) else cells).status.isin([Status.MEASURED, Status.EXPORTED]).any())


@app.command("list")
def list_cells(
    sweep: Sweep = None,
    options: Options = None,
    precisions: Precisions = None,
    targets: Targets = None,
    emulate: Emulate = None,
    imgsz: ImageSizes = None,
    batch: Batches = None,
    threads: Threads = None,
    matrices: Matrices = None,
) -> None:
    """Show the grid of a sweep and which cells this machine can run."""
    values = {
        "sweep": sweep, "options": options, "precisions": precisions, "targets": targets, "emulate": emulate,
        "imgsz": imgsz, "batch": batch, "threads": threads, "matrices": matrices,
    }  # fmt: skip
    request = launch.Request(values)
    grid = launch.grid(request)
    found = {name: machine.detect(target) for name, target in grid.matrix.targets.items()}
    table = Table(title=f"Sweep {request.sweep_name}: {grid.sweep.description}", title_justify="left")
    table.add_column("Cell", no_wrap=True)
    table.add_column("Here")
    for cell in grid.cells:
        here = "can run" if found[cell.target].found else f"skipped: no {grid.matrix.targets[cell.target].name}"
        table.add_row(escape(cell.id), escape(here if cell.option.in_guide else f"{here}; not in the guide"))
    console = Console()
    console.print(table)
    runnable = sum(found[cell.target].found for cell in grid.cells)
    console.print(f"{len(grid.cells)} cells, {runnable} can run here. Sweeps: {', '.join(grid.matrix.sweeps)}.")
    for name, presence in found.items():
        if not presence.found and any(cell.target == name for cell in grid.cells):
            console.print(escape(presence.text), style="dim")


@app.command()
def doctor(cache: Cache = None, matrices: Matrices = None) -> None:
    """Check this machine: what is installed, what is missing, and how to get it."""
    request = launch.Request({"cache": cache, "matrices": matrices})
    if not checkup.examine(request, Console()):
        raise typer.Exit(USAGE)


@app.command()
def clean(
    cache: Cache = None,
    days: Annotated[float, typer.Option(min=1, help="what was used within as many days is kept")] = 30,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what would be deleted")] = False,
) -> None:
    """Delete environments and artifacts in the cache that no run has used for a while; they can be made again."""
    folder = launch.Request({"cache": cache}).cache
    console, freed = Console(), 0
    for entry in housekeeping.unused(folder, days):
        gone = dry_run or housekeeping.remove(entry)
        freed += entry.bytes if gone else 0
        state = f"{entry.bytes / 1e6:8.1f} MB" if gone else "in use     "
        console.print(escape(f"{state}  {entry.idle_days:4.0f} days  {entry.name}"), highlight=False, soft_wrap=True)
    verb = "would be freed" if dry_run else "freed"
    console.print(escape(f"{freed / 1e6:.1f} MB {verb} in {folder}"), highlight=False, soft_wrap=True)


@app.command()
def show(run: Run = None, results: Results = None) -> None:
    """Print a past run in the terminal."""
    _conclude(find(run, results))


@app.command("report")
def report_command(
    run: Run = None,
    results: Results = None,
    out: Annotated[Path | None, typer.Option(help="file to write (default: report.html in the run)")] = None,
    image: Annotated[
        Path | None, typer.Option(help="an evaluated image to draw on; without it boxes are drawn on a plain ground")
    ] = None,
) -> None:
    """Write the HTML report of a past run."""
    directory = find(run, results)
    page = report.build(directory, out or directory / "report.html", image=image)
    Console().print(f"Report   {escape(short(page))}", highlight=False, soft_wrap=True)


app.add_typer(cli_guide.app)


@app.command()
def schema() -> None:
    """Print the documentation of every table and column (docs/results-format.md)."""
    typer.echo(store.document(), nl=False)


@app.command()
def lock(
    families: Annotated[list[str] | None, typer.Argument(help="environment families (default: all)")] = None,
    matrices: Matrices = None,
) -> None:
    """Remake the locks in matrices/envs from their .in files with the newest versions these allow."""
    folder = launch.Request({"matrices": matrices}).matrices
    names = families or sorted(path.stem for path in (folder / "envs").glob("*.in"))
    for name in names:
        typer.echo(f"{name}: {short(envs.lock(name, folder))}")


@app.command("train-demo")
def train_demo(
    cache: Cache = None,
    epochs: Annotated[int, typer.Option(help="training epochs")] = 100,
    images: Annotated[int, typer.Option(help="training images")] = 4000,
    device: Annotated[str, typer.Option(help="cpu, or the index of a CUDA device")] = "cpu",
    out: Annotated[Path, typer.Option(help="folder for checkpoint, curve and facts")] = Path("bench/demo"),
) -> None:
    """Train the embedded demo model again from nothing: hours on two cores, minutes on a GPU."""
    from bench.demo import training  # only this command needs it

    raise typer.Exit(training.run(launch.Request({"cache": cache}).cache, epochs, images, device, out))


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line; every foreseen problem becomes one clear message and an exit code."""
    # A stop signal then ends a run like Ctrl-C does: guests are ended and what was measured is kept.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    command: Callable[..., Any] = app
    try:
        command(arguments)
    except (UsageError, store.StoreError, CellProblem) as error:
        Console(stderr=True).print(f"[bold red]bench:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(USAGE)
    sys.exit(0)
