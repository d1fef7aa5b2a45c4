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
from typing import Annotated, Any, Literal, NoReturn

import pytest
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench import doctor as checkup
from bench import envs, launch, machine, report, store
from bench.matrix import ROOT
from bench.reasons import CellProblem, Status, UsageError
from bench.report.terminal import print_run

FAILED, USAGE, INTERRUPTED = 1, 2, 130

app = typer.Typer(
    help="Measure every way to deploy a YOLO11 model. Start with `doctor`, then `run`; `show` prints a past run.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


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
    console.print(f"\nResults  {escape(_short(directory))}", highlight=False, soft_wrap=True)
    if page.is_file():
        console.print(f"Report   {escape(_short(page))}", highlight=False, soft_wrap=True)


def _anything_measured(directory: Path) -> bool:
    """Whether a cell has a result, other than references that only came along with cells that were skipped."""
    cells = store.read_table(directory, "cells")
    asked = cells[cells.cell_id != cells.reference_id]
    return bool((asked if len(asked) else cells).status.isin([Status.MEASURED, Status.EXPORTED]).any())


def _short(path: Path) -> str:
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


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


Run = Annotated[
    str | None, typer.Argument(metavar="[RUN]", help="a run's folder or its name (default: the newest run)")
]


@app.command()
def show(run: Run = None, results: Results = None) -> None:
    """Print a past run in the terminal."""
    _conclude(_find(run, results))


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
    directory = _find(run, results)
    page = report.build(directory, out or directory / "report.html", image=image)
    Console().print(f"Report   {escape(_short(page))}", highlight=False, soft_wrap=True)


@app.command("claims")
def claims_command(
    runs: Annotated[list[str] | None, typer.Argument(metavar="[RUN]...", help="folders or names of runs")] = None,
    results: Results = None,
    matrices: Matrices = None,
    document: Annotated[
        Path | None, typer.Option(help="the guide, to see whether it still says what is judged")
    ] = None,
    lang: Annotated[Literal["en", "zh"], typer.Option(help="language of the table")] = "en",
) -> None:
    """Judge every statement of the guide by one or several runs; the verdicts are stored in the last one."""
    from bench.claims import judge, terminal  # only this command needs them

    directories = [_find(run, results) for run in runs] if runs else [_find(None, results)]
    folder = launch.Request({"matrices": matrices}).matrices
    judged = judge.judge(directories, folder, document)
    console = Console()
    terminal.print_verdicts(judged, lang, console)
    terminal.print_lints(judge.lints(folder), lang, console)
    console.print(f"Verdicts {escape(_short(directories[-1] / 'claims.parquet'))}", highlight=False, soft_wrap=True)


def _limit(help_text: str) -> Any:
    return typer.Option(metavar="NUMBER", help=help_text)


@app.command("recommend")
def recommend_command(
    run: Run = None,
    target: Annotated[str, typer.Option(metavar="NAME", help="hardware target to deploy to")] = "cpu",
    max_latency_ratio: Annotated[
        float | None,
        _limit(
            "time per image over that of PyTorch FP32, at most: 0.5 asks for twice as fast, 1 for no slower "
            "(the inverse of the column latency_ratio)"
        ),
    ] = None,
    min_map: Annotated[float | None, _limit("mAP50-95 on the run's images, at least; 0 to 1")] = None,
    max_map_loss: Annotated[
        float | None, _limit("loss of mAP50-95 against PyTorch FP32, at most; 0.01 is one point")
    ] = None,
    max_size: Annotated[float | None, _limit("artifact, at most MB of 10^6 bytes")] = None,
    max_rss: Annotated[float | None, _limit("peak memory of the running process, at most MB")] = None,
    max_env: Annotated[float | None, _limit("installed packages, at most MB")] = None,
    model: Annotated[str | None, typer.Option(metavar="NAME", help="file stem of the checkpoint, if several")] = None,
    imgsz: Annotated[int | None, typer.Option(metavar="N", help="side of the network input, if several")] = None,
    batch: Annotated[int | None, typer.Option(metavar="N", help="images per inference, if several")] = None,
    threads: Annotated[int | None, typer.Option(metavar="N", help="threads, if several")] = None,
    in_guide: Annotated[
        bool, typer.Option("--in-guide/--all", help="only options that the guide names, or every measured one")
    ] = False,
    output: Annotated[Literal["table", "json"], typer.Option("--format", help="how to print it")] = "table",
    lang: Annotated[Literal["en", "zh"], typer.Option(help="language of the words")] = "en",
    results: Results = None,
) -> None:
    """Say which measured option to deploy under your limits, and why not each other one.

    A limit is met when the worse end of the 95 % interval meets it. Exit code 0: at least one option surely meets
    every limit; 1: none does, and the text says which limit leaves out most; 2: nothing was timed at that scope.

    Example: python -m bench recommend --max-latency-ratio 0.6 --max-map-loss 0.01 --max-size 8
    """
    from bench import candidates, recommend  # only this command needs them
    from bench.report import run as runs
    from bench.site import recommendation

    wanted = recommend.limits(
        time=max_latency_ratio, map=min_map, loss=max_map_loss, size=max_size, memory=max_rss, packages=max_env
    )
    data = runs.load(_find(run, results))
    field = candidates.select(data, model=model, imgsz=imgsz, batch=batch, target=target, threads=threads)
    field = candidates.only_in_guide(field) if in_guide else field
    found = recommend.recommend(field.candidates, wanted)
    locale = recommendation.words(lang)
    if output == "json":
        typer.echo(recommendation.as_json(data.run_id, field, found, locale), nl=False)
    else:
        recommendation.print_recommendation(field, found, locale, Console())
    if not found.of(recommend.Standing.MEETS):
        raise typer.Exit(FAILED)


@app.command("annotate")
def annotate_command(
    document: Annotated[Path, typer.Option(help="the guide, on whose lines the verdicts are put")],
    run: Run = None,
    results: Results = None,
    matrices: Matrices = None,
    output: Annotated[
        Literal["sarif", "markdown"], typer.Option("--format", help="for editors and forges, or for readers")
    ] = "sarif",
    out: Annotated[Path | None, typer.Option(help="file to write (default: standard output)")] = None,
    lang: Annotated[Literal["en", "zh"], typer.Option(help="language of the notes")] = "zh",
) -> None:
    """Put the verdicts stored with a run (`python -m bench claims`) on the guide's own lines.

    A statement whose words have changed is said to be stale, whatever was judged.
    """
    from bench.claims import annotations, marked, sarif  # only this command needs them

    folder = launch.Request({"matrices": matrices}).matrices
    annotated = annotations.annotate(_find(run, results), document, folder, lang)
    text = sarif.render(annotated) if output == "sarif" else marked.render(annotated)
    if out is None:
        sys.stdout.buffer.write(text.encode("utf-8"))
        return
    annotations.write(out, text)
    Console().print(f"Notes    {escape(_short(out))}", highlight=False, soft_wrap=True)


@app.command("site")
def site_command(
    runs: Annotated[list[str] | None, typer.Argument(metavar="[RUN]...", help="folders or names of runs")] = None,
    results: Results = None,
    matrices: Matrices = None,
    document: Annotated[
        Path | None, typer.Option(help="the guide, to see whether it still says what is judged")
    ] = None,
    out: Annotated[Path, typer.Option(help="folder of the site; a site that is there is replaced")] = ROOT
    / "reports"
    / "site",
) -> None:
    """Write the guide's table with a verdict and its evidence in every cell, as static pages in Chinese and English."""
    from bench import site  # only this command needs it

    directories = [_find(run, results) for run in runs] if runs else [_find(None, results)]
    folder = launch.Request({"matrices": matrices}).matrices
    page = site.build(directories, out, guide=document, matrices=folder)
    Console().print(f"Site     {escape(_short(page))}", highlight=False, soft_wrap=True)


@app.command("probe")
def probe_command(
    run: Run = None,
    only: Annotated[str | None, typer.Option(metavar="LIST", help="probes, comma separated (default: all)")] = None,
    data: Data = None,
    results: Results = None,
    cache: Cache = None,
    matrices: Matrices = None,
    refresh_packages: Annotated[
        bool, typer.Option(help="first ask the package indexes again and replace the committed snapshot")
    ] = False,
) -> None:
    """Observe what no benchmark cell shows: devices, formats, network, Python; stored with a run."""
    from bench.probes import command as probes  # only this command needs it

    request = launch.Request({"only": only, "data": data, "results": results, "cache": cache, "matrices": matrices})
    console = Console()
    if refresh_packages:
        for name, files in probes.refresh(request).items():
            console.print(f"{escape(name)}: {files} files", highlight=False)
    directory = _find(run, results)
    complete = probes.run(request, directory, console)
    console.print(f"Results  {escape(_short(directory))}", highlight=False, soft_wrap=True)
    if not complete:
        raise typer.Exit(FAILED)


def _find(run: str | None, results: str | None) -> Path:
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
        typer.echo(f"{name}: {_short(envs.lock(name, folder))}")


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
