"""The command line: look at the grid and the machine, run a sweep, read a result.

Exit codes: 0 fine; 1 a cell failed or is invalid, or no option meets the limits given to `recommend`; 2 wrong usage,
or an environment that cannot measure; 130 Ctrl-C.  Whatever takes long to import is imported by the command that uses
it, so that `--help` answers at once.
"""

from __future__ import annotations

import atexit
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from bench import __version__
from bench.cli import (
    bisect,
    bundle,
    calibrate,
    complaints,
    export,
    fleet,
    gate,
    guide,
    history,
    inputs,
    output,
    selfcheck,
)
from bench.cli.habits import translated
from bench.cli.options import (
    FAILED,
    INTERRUPTED,
    USAGE,
    Lang,
    Run,
    find,
    language,
    reporter,
    short,
    takes,
    told_of,
    words,
)
from bench.grid.request import OF_THE_GRID, OPTIONS, Request, expand
from bench.reasons import CellProblem, Reason, Status, StoreError, UsageError

if TYPE_CHECKING:
    from bench.words.locale import Locale

NAME = "yolo11-bench"

app = typer.Typer(
    name=NAME,
    help="Measure every way to deploy a YOLO11 model. Start with `doctor`, then `inspect` your model and data, then "
    "`run`; `show` prints a past run.",
    no_args_is_help=True,
    rich_markup_mode=None,  # rich takes longer to import than `--help` may take
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"{NAME} {__version__}")
        raise typer.Exit


@app.callback()
def main_options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="print the version and leave")
    ] = False,
) -> None:
    """Options that stand before a command."""


@app.command()
@takes(*OPTIONS)
def run(
    request: Request,
    keyword: Annotated[str | None, typer.Option("-k", metavar="EXPR", help="pytest's -k over cell ids")] = None,
    markdown: Annotated[
        Path | None, typer.Option(metavar="FILE", help="append the comparison as Markdown, as for a step summary")
    ] = None,
    lang: Lang = "auto",
) -> None:
    """Sweep, measure, store and report.

    Makes environments and artifacts as needed, shows progress, and prints a table at the end.

    Examples:

      yolo11-bench run

      yolo11-bench run --options onnx,openvino --precisions fp32,int8 --threads 1,2

      yolo11-bench run --model best.pt --data data.yaml --imgsz 640 --images 128

      yolo11-bench run --model yolo11n.pt,yolo11s.pt --data coco128.yaml --imgsz 320,640 --options openvino

      yolo11-bench run model=best.pt data=data.yaml imgsz=640 device=0 half=True

      yolo11-bench run --sweep coco --model yolo11n.pt --data coco-val2017 --resume 20260101T120000-coco-1a2b
    """
    from bench import engine

    directory = request.results / request.run_id
    before = _written(directory)
    try:
        swept = engine.sweep(request, reporter(Console(), lang), keyword, language(lang))
    except engine.BenchDefect as defect:
        Console(stderr=True).print(escape(defect.trace), highlight=False)
        raise
    finally:
        if _written(directory) not in (before, None):
            _conclude(directory, words(lang))
            if markdown is not None:
                _append(directory, markdown, language(lang))
    if swept.interrupted:
        if _written(directory) is not None:
            again = request.command("run", **{"run-id": None, "resume": request.run_id})
            again += "" if keyword is None else f" -k {shlex.quote(keyword)}"
            Console().print(escape(words(lang)("resume", command=again)), highlight=False, soft_wrap=True)
        raise typer.Exit(INTERRUPTED)
    if not swept.failed and not _anything_measured(swept.directory):
        raise UsageError("nothing was measured: no cell that was asked for can run on this machine (reasons above)")
    raise typer.Exit(FAILED if swept.failed else 0)


def _written(directory: Path) -> tuple[int, int] | None:
    """Which file holds the cells of a run, and since when, in ns; None where there is none."""
    try:
        table = (directory / "cells.parquet").stat()
    except OSError:
        return None
    return table.st_ino, table.st_mtime_ns


def _conclude(directory: Path, t: Locale) -> None:
    from bench.report.terminal import print_run

    console = Console()
    print_run(directory, console, t)
    page = directory / "report.html"
    console.print(escape(f"\n{t('results', path=short(directory))}"), highlight=False, soft_wrap=True)
    if page.is_file():
        console.print(escape(t("report", path=short(page))), highlight=False, soft_wrap=True)


def _append(directory: Path, markdown: Path, spoken: Literal["en", "zh"]) -> None:
    from bench.report import exports
    from bench.store import reading

    text = exports.export(reading.load(directory), "markdown", spoken)
    with told_of(markdown), markdown.open("a", encoding="utf-8") as sink:
        sink.write(text)


def _anything_measured(directory: Path) -> bool:
    """Whether a cell has a result, other than references that only came along with cells that were skipped."""
    from bench import store

    cells = store.read_table(directory, "cells")
    asked = cells[(cells.cell_id != cells.reference_id) & (cells.reason_code != Reason.NOT_SELECTED)]
    return bool((asked if len(asked) else cells).status.isin([Status.MEASURED, Status.EXPORTED]).any())


@app.command("list")
@takes(*OF_THE_GRID)
def list_cells(request: Request, lang: Lang = "auto") -> None:
    """Show a sweep's cells and which can run here."""
    from bench.grid import machine
    from bench.grid.matrix import Cell, not_benched
    from bench.words.fitted import MARK, Column, print_fitted, print_folded
    from bench.words.messages import messages

    grid, t = expand(request), words(lang)
    say = messages(t.language)
    found = {name: machine.detect(target) for name, target in grid.matrix.targets.items()}

    def here(cell: Cell) -> str:
        if cell.option.lacks:
            return t("list.lacking")
        return t("list.can") if found[cell.target].found else t("list.skipped", target=cell.target)

    console = Console()
    about = (t.language == "zh" and grid.sweep.description_zh) or grid.sweep.description
    print_folded(t("list.title", sweep=request.sweep_name, description=about), console, style="italic")
    columns = [
        Column[Cell](t("list.cell"), lambda cell: cell.id, right=False),
        Column[Cell](
            t("list.option"), lambda cell: cell.option.name + MARK * (not cell.option.in_guide), 1, right=False
        ),
        Column[Cell](t("list.here"), here, right=False),
    ]
    print_fitted(
        grid.cells,
        columns,
        console,
        name=lambda cell: cell.id,
        left_out=lambda titles: t("left_out", columns=t("separator").join(titles)),
        colon=t("colon"),
    )
    if not all(cell.option.in_guide for cell in grid.cells):
        console.print(Text(f"{MARK} {t('outside')}", style="dim"))
    made = [cell for cell in grid.cells if not cell.option.lacks]
    runnable = sum(found[cell.target].found for cell in made)
    sweeps = t("separator").join(grid.matrix.sweeps)
    print_folded(t("list.counts", n=len(grid.cells), runnable=runnable, sweeps=sweeps), console)
    absent = [found[name].text for name in found if any(cell.target == name for cell in made) and not found[name].found]
    lacking = dict.fromkeys(not_benched(cell.option) for cell in grid.cells if cell.option.lacks)
    for text in (*absent, *lacking):
        print_folded(say(text), console, style="dim")


@app.command()
@takes("cache", "matrices")
def doctor(request: Request, lang: Lang = "auto") -> None:
    """Check this machine.

    What is installed, what is missing, and how to get it; which targets were found; which environments are built.
    """
    from bench.cli.doctor import examine

    if not examine(request, Console(), words(lang)):
        raise typer.Exit(USAGE)


@app.command()
@takes("cache")
def clean(
    request: Request,
    days: Annotated[float, typer.Option(min=1, help="what was used within as many days is kept")] = 30,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what would be deleted")] = False,
    lang: Lang = "auto",
) -> None:
    """Delete what the cache has not used lately.

    Environments and artifacts that no run has used for a while go; they can be made again.
    """
    from bench.environments import unused

    console, freed, t = Console(), 0, words(lang)
    for entry in unused.unused(request.cache, days):
        gone = dry_run or unused.remove(entry)
        freed += entry.bytes if gone else 0
        state = f"{entry.bytes / 1e6:8.1f} MB" if gone else t("clean.used")
        line = t("clean.entry", state=state, days=f"{entry.idle_days:4.0f}", name=entry.name)
        console.print(escape(line), highlight=False, soft_wrap=True)
    told = t("clean.would" if dry_run else "clean.freed", size=f"{freed / 1e6:.1f}", folder=request.cache)
    console.print(escape(told), highlight=False, soft_wrap=True)


@app.command()
@takes("results")
def show(
    request: Request,
    run: Run = None,
    output: Annotated[
        Literal["table", "markdown", "csv", "json"],
        typer.Option("--format", help="a table that fits the terminal, or the comparison for a summary or a program"),
    ] = "table",
    lang: Lang = "auto",
) -> None:
    """Print a past run in the terminal, or its comparison for other programs.

    Example: yolo11-bench show --format markdown >> "$GITHUB_STEP_SUMMARY"
    """
    directory = find(run, request)
    if output == "table":
        _conclude(directory, words(lang))
        return
    from bench.report import exports
    from bench.store import reading

    typer.echo(exports.export(reading.load(directory), output, language(lang)), nl=False)


@app.command("report")
@takes("results")
def report_command(
    request: Request,
    run: Run = None,
    out: Annotated[Path | None, typer.Option(help="file to write (default: report.html in the run)")] = None,
    image: Annotated[
        Path | None, typer.Option(help="an evaluated image to draw on; without it boxes are drawn on a plain ground")
    ] = None,
    lang: Lang = "auto",
) -> None:
    """Write the HTML report of a past run."""
    from bench import report

    directory = find(run, request)
    page = report.build(directory, out or directory / "report.html", image=image, language=language(lang))
    Console().print(escape(words(lang)("report", path=short(page))), highlight=False, soft_wrap=True)


app.add_typer(inputs.app)
app.add_typer(bundle.app)
app.add_typer(gate.app)
app.add_typer(bisect.app)
app.add_typer(calibrate.app)
app.add_typer(selfcheck.app)
app.add_typer(history.app, name="history")
app.add_typer(guide.app)
app.add_typer(export.app)
app.add_typer(fleet.app)


@app.command()
def schema() -> None:
    """Print what tables and columns hold.

    As Markdown: the page docs/results-format.md.
    """
    from bench import store

    typer.echo(store.document(), nl=False)


@app.command()
@takes("matrices")
def lock(
    request: Request,
    families: Annotated[list[str] | None, typer.Argument(help="environment families (default: all of Python)")] = None,
    lang: Lang = "auto",
) -> None:
    """Remake the locks of environments.

    From the .in files in matrices/envs, or package.json, with the newest versions that these allow.
    """
    from bench.environments import javascript, locks
    from bench.files import exists

    folder, t = request.own_matrices, words(lang)
    # `core` first: `dev` is resolved against its lock.
    every = sorted((path.stem for path in (folder / "envs").glob("*.in")), key=lambda name: (name != "core", name))
    for name in families or every:
        remake = javascript.lock if exists(folder / "envs" / name / "package.json") else locks.lock
        typer.echo(f"{name}{t('colon')}{short(remake(name, folder))}")


@app.command("train-demo")
@takes("cache")
def train_demo(
    request: Request,
    epochs: Annotated[int, typer.Option(help="training epochs")] = 100,
    images: Annotated[int, typer.Option(help="training images")] = 4000,
    device: Annotated[str, typer.Option(help="cpu, or the index of a CUDA device")] = "cpu",
    out: Annotated[
        Path | None,
        typer.Option(help="folder for checkpoint, curve and facts (default: the project's in a checkout, else ./demo)"),
    ] = None,
) -> None:
    """Train the embedded demo model again.

    From nothing: hours on two cores, minutes on a GPU.
    """
    from bench.demo import training

    raise typer.Exit(training.run(request.cache, epochs, images, device, out))


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line; every foreseen problem becomes one clear message and an exit code."""
    output.prepare()
    # A stop signal then ends a run like Ctrl-C does: guests are ended and what was measured is kept.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Whatever is ending is not interrupted again: guests are ended there, and their files removed.
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
    atexit.register(signal.signal, signal.SIGTERM, signal.SIG_IGN)
    command: Callable[..., Any] = app
    given = sys.argv[1:] if arguments is None else arguments
    code: Any = 0
    try:
        code = command(translated(given), standalone_mode=False)
    except SystemExit as ended:
        code = ended.code
    except typer.TyperException as error:  # a command line that cannot be read
        complaints.show_unread(error, given)
        code = error.exit_code
    except (UsageError, StoreError, CellProblem) as error:
        complaints.show(error, given)
        code = USAGE
    if why := output.lost():
        complaints.show(UsageError(why), given)
        code = USAGE
    sys.exit(code or 0)
