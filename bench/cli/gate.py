"""The commands that say whether something has become worse."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from bench.cli.options import FAILED, short, takes
from bench.grid.request import Request
from bench.reasons import UsageError

if TYPE_CHECKING:
    from bench.measure.contest import Contest
    from bench.progress import Reporter

app = typer.Typer()

Pages = Annotated[
    Literal["auto", "huge", "ordinary"], typer.Option(help="memory of both sides; auto: huge where the kernel can")
]
OF_THE_CELL = ("sweep", "model", "data", "options", "precisions", "targets", "imgsz", "batch", "threads")


@app.command("ab")
@takes(*OF_THE_CELL, "cache", "matrices", "results")
def ab_command(
    request: Request,
    candidate: Annotated[str, typer.Option(metavar="SIDE", help="what may have become slower; see above")],
    base: Annotated[str, typer.Option(metavar="SIDE", help="what it is held against")] = "current",
    minutes: Annotated[float, typer.Option(min=0.1, help="time for all pairs together")] = 5.0,
    pairs: Annotated[
        int | None, typer.Option(min=3, help="pairs of each stage, instead of what the noise asks")
    ] = None,
    inferences: Annotated[
        int | None, typer.Option(min=4, help="inferences of each side in a pair (default: as long as its start took)")
    ] = None,
    margin: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="slowdown allowed (default: matrices/tolerances.toml)")
    ] = None,
    pages: Pages = "auto",
    output: Annotated[Literal["text", "json"], typer.Option("--format", help="how to print it")] = "text",
) -> None:
    """Time two sides of one cell against each other.

    Fresh guests of both sides alternate inference by inference, pair after pair, and a change is confirmed by pairs of
    its own. A side is `current`, packages such as onnxruntime==1.24.4 (commas between several), a checkpoint (.pt), the
    folder of an artifact, precision=NAME, or a git revision: its locks, options, exporters and runtimes. Everything
    else is the same.

    Exit code 1 only where the candidate is slower by more than the margin, seen and confirmed; 0 otherwise.

    Example: yolo11-bench ab --options onnx --precisions fp32 --base onnxruntime==1.25.1 --candidate onnxruntime==1.24.4
    """
    from rich.console import Console

    from bench.measure import pairs as pairing
    from bench.measure.contest import Contests
    from bench.measure.contestants import Contestants, contest
    from bench.measure.facts import summary
    from bench.progress import Reporter
    from bench.report import change
    from bench.stats.change import Change
    from bench.store import pairs as stored

    huge = _pages(pages)
    margins = _margins(request.matrices, margin)
    console = Console(stderr=output == "json")
    with Reporter(console) as progress:
        contestants = Contestants(request, progress, huge=huge)
        cell = contestants.cell
        sides = contestants.side(base), contestants.side(candidate)
        directory = stored.new_folder(request.results.parent / "ab", cell.id)
        one = contest(cell.id, contestants.outfit, cell, sides, margins, directory / "guests.log", inferences)
        Contests([one], 60 * minutes, _shown(progress)).run(pairs)
    if one.problem is not None:
        raise one.problem
    facts = summary(cell, dict(zip(pairing.SIDES, sides, strict=True)), one, huge=huge)
    stored.write(directory, {cell.id: {"screen": one.screened, "confirm": one.confirming}}, facts)
    if output == "json":
        typer.echo(json.dumps(facts, indent=1))
    else:
        change.print_outcome(facts, console)
        console.print(f"Pairs    {short(directory)}", highlight=False, soft_wrap=True)
    if one.change() is Change.REGRESSED:
        raise typer.Exit(FAILED)


def _pages(wanted: str) -> bool:
    """Whether huge pages are asked for.  Raises UsageError where they are and cannot be had."""
    from bench.measure.pairs import huge_pages_possible

    if wanted == "huge" and not huge_pages_possible():
        raise UsageError("--pages huge: this kernel gives no transparent huge pages; use --pages ordinary")
    return wanted == "huge" or (wanted == "auto" and huge_pages_possible())


def _margins(matrices: Path, latency: float | None) -> dict[str, float]:
    """Margins of what pairs say, that of latency as given.  Raises UsageError for a file that is wrong."""
    from bench.grid import tolerances

    found = tolerances.load(matrices)
    margins = {name: found[name].margin for name in tolerances.TIMED}
    return margins if latency is None else margins | {"latency": latency}


def _shown(progress: Reporter) -> Callable[[Contest, str, int], None]:
    return lambda one, stage, taken: progress.phase(one.name, f"{stage}: pair {taken + 1}")
