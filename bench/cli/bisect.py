"""The command that finds the update that moved a metric."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from bench.cli.options import (
    FAILED,
    INTERRUPTED,
    OF_THE_CELL,
    Lang,
    Pages,
    huge_pages,
    reporter,
    short,
    takes,
    words,
)
from bench.grid.metrics import BISECTED
from bench.grid.request import Request, listed
from bench.reasons import UsageError, did_you_mean

app = typer.Typer()

METRICS = f"{', '.join(BISECTED[:-1])} or {BISECTED[-1]}"


@app.command("bisect")
@takes(*OF_THE_CELL, "images", "cache", "matrices", "results")
def bisect_command(
    request: Request,
    good: Annotated[str, typer.Option(metavar="SIDE", help="how it was: a version with --package, else see above")],
    bad: Annotated[str, typer.Option(metavar="SIDE", help="how it is now; may be the older one")] = "current",
    package: Annotated[
        str | None, typer.Option(metavar="NAME", help="find the step between two versions of this package")
    ] = None,
    versions: Annotated[
        str | None, typer.Option(metavar="LIST", help="its versions between the two (default: ask the package index)")
    ] = None,
    metric: Annotated[str, typer.Option(metavar="NAME", help=f"what moved: {METRICS}")] = "latency",
    direction: Annotated[
        Literal["worse", "better", "either"], typer.Option(help="which way it moved; faster is better")
    ] = "either",
    minutes: Annotated[float, typer.Option(min=0.1, help="time for the pairs of one look, at most")] = 10.0,
    margin: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="what counts as moved (default: half of what lies between the two)"),
    ] = None,
    inferences: Annotated[
        int | None, typer.Option(min=4, help="inferences of each side in a pair (default: as long as its start took)")
    ] = None,
    pages: Pages = "auto",
    output: Annotated[Literal["text", "json"], typer.Option("--format", help="how to print it")] = "text",
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="write the result as JSON")] = None,
    lang: Lang = "auto",
) -> None:
    """Find the update that moved a metric of one cell.

    With --package its versions between two are bisected. Without it, --good and --bad are `current`, packages such as
    onnxruntime==1.24.4 (commas between several), a git revision, or a folder of matrices; of the packages in which
    their locks differ the smallest set is found that moves the metric by itself.

    First the two are held against each other. A state between them has moved where it lies beyond half of what they
    differ by, as pairs of fresh processes decide it; sizes, scores and status are looked at once. What stays undecided,
    or cannot be installed or run, is passed by and told. Looks are kept: the same command goes on where it was stopped.

    Exit code 0 where one step, or a smallest set, was found; 1 where nothing moved or some of it stayed open.

    Example: yolo11-bench bisect --options onnx --precisions fp32 --package onnxruntime --good 1.23.2 --bad 1.26.0
    """
    from rich.console import Console

    from bench.check import bisect
    from bench.check.looks import Direction
    from bench.report import bisect as report
    from bench.store import pairs as stored

    if metric not in BISECTED:
        hint = did_you_mean([metric], BISECTED)
        raise UsageError(f"--metric {metric}: unknown{hint}; give {METRICS}")
    if versions is not None and package is None:
        raise UsageError("--versions are those of a package; name it with --package")
    asked = bisect.Asked(metric, Direction(direction), minutes, margin, inferences, huge=huge_pages(pages))
    console, t = Console(stderr=output == "json"), words(lang)
    progress = partial(reporter, console, lang)
    try:
        if package is None:
            found = bisect.of_locks(request, asked, good, bad, progress)
        else:
            given = None if versions is None else listed(versions)
            found = bisect.of_versions(request, asked, package, good, bad, given, progress)
    except KeyboardInterrupt:
        console.print(t("bisect.stopped"))
        raise typer.Exit(INTERRUPTED) from None
    if json_file is not None:
        stored.write_facts(json_file, found.facts)
    if output == "json":
        typer.echo(json.dumps(found.facts, indent=1))
    else:
        report.print_found(found.facts, console, t)
        console.print(t("bisect.folder", path=short(found.folder)), highlight=False, markup=False, soft_wrap=True)
    if not found.answered:
        raise typer.Exit(FAILED)
