"""The commands that say whether something has become worse."""

from __future__ import annotations

import json
from typing import Annotated, Literal

import typer

from bench.cli.options import FAILED, short, takes
from bench.grid.request import Request
from bench.reasons import UsageError

app = typer.Typer()

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
    inferences: Annotated[int, typer.Option(min=4, help="inferences of each side in a pair")] = 24,
    margin: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="slowdown allowed (default: matrices/tolerances.toml)")
    ] = None,
    pages: Annotated[
        Literal["auto", "huge", "ordinary"], typer.Option(help="memory of both sides; auto: huge where the kernel can")
    ] = "auto",
    output: Annotated[Literal["text", "json"], typer.Option("--format", help="how to print it")] = "text",
) -> None:
    """Time two sides of one cell against each other.

    Fresh guests of both sides alternate inference by inference, pair after pair, and a change is confirmed by pairs of
    its own. A side is `current`, packages such as onnxruntime==1.24.4 (commas between several), a checkpoint (.pt), the
    folder of an artifact, precision=NAME, or a git revision, whose locks are then used. Everything else is the same.

    Exit code 1 only where the candidate is slower by more than the margin, seen and confirmed; 0 otherwise.

    Example: yolo11-bench ab --options onnx --precisions fp32 --base onnxruntime==1.25.1 --candidate onnxruntime==1.24.4
    """
    from rich.console import Console

    from bench.grid import tolerances
    from bench.measure import pairs as pairing
    from bench.measure.comparison import Comparison, Plan
    from bench.measure.contestants import Contestants
    from bench.measure.facts import summary
    from bench.progress import Reporter
    from bench.report import change
    from bench.stats.change import Change
    from bench.store import pairs as stored

    huge = pages == "huge" or (pages == "auto" and pairing.huge_pages_possible())
    if pages == "huge" and not pairing.huge_pages_possible():
        raise UsageError("--pages huge: this kernel gives no transparent huge pages; use --pages ordinary")
    allowed = tolerances.load(request.matrices)["latency"].margin if margin is None else margin
    console = Console(stderr=output == "json")
    with Reporter(console) as progress:
        contestants = Contestants(request, progress, huge=huge)
        cell = contestants.cell
        sides = {pairing.BASE: contestants.side(base), pairing.CANDIDATE: contestants.side(candidate)}
        directory = stored.new_folder(request.results.parent / "ab", cell.id)
        comparison = Comparison(
            sides,
            contestants.input(),
            Plan(60 * minutes, allowed, inferences, pairs),
            cpus=contestants.cpus,
            threads=cell.threads,
            deadlines=contestants.grid.sweep.deadlines,
            log=directory / "guests.log",
            on_pair=lambda stage, number, of: progress.phase(cell.id, f"{stage}: pair {number} of {of}"),
        )
        outcome = comparison.run()
    facts = summary(cell, sides, outcome, huge=huge)
    stored.write(directory, {"screen": outcome.screened, "confirm": outcome.confirming}, facts)
    if output == "json":
        typer.echo(json.dumps(facts, indent=1))
    else:
        change.print_outcome(facts, console)
        console.print(f"Pairs    {short(directory)}", highlight=False, soft_wrap=True)
    if outcome.change is Change.REGRESSED:
        raise typer.Exit(FAILED)
