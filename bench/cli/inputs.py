"""The command that looks at what a run is given."""

from __future__ import annotations

import json
from typing import Annotated, Literal

import typer

from bench.cli.options import USAGE, Lang, reporter, takes, words
from bench.grid.request import Request

app = typer.Typer()


@app.command("inspect")
@takes("model", "data", "images", "sweep", "options", "precisions", "targets", "imgsz", "cache", "matrices")
def inspect_command(
    request: Request,
    output: Annotated[Literal["text", "json"], typer.Option("--format", help="how to print it")] = "text",
    lang: Lang = "auto",
) -> None:
    """Look at a model and its data before a run.

    Says what the checkpoint is, which images the data file means, how their labels are read, what is left out and
    why, and lists everything that is wrong, each with its file, its line and what to do. A run begins with the same
    look, at the images that it evaluates; here it is at all of the split, unless --images says how many. Images that
    have not changed are not decoded again.

    Warnings are named and counted, and stop nothing: they tell what a reader of the score must know.

    The other options are those of a run: image sizes are held against the model's stride, and where a precision is
    calibrated (INT8), the images that would calibrate it are looked at too.

    Exit code 0 where a run can start, 2 where there is a problem.

    Examples:

      yolo11-bench inspect --model best.pt --data data.yaml

      yolo11-bench inspect --model yolo11n.pt --data coco8.yaml --imgsz 640 --precisions fp32 --format json
    """
    from rich.console import Console

    from bench.measure import inspection
    from bench.report.inspection import print_inspection

    console = Console(stderr=output == "json")
    found = inspection.of_request(request, reporter(console, lang))
    facts = inspection.facts(found)
    if output == "json":
        typer.echo(json.dumps(facts, indent=1))
    else:
        print_inspection(facts, console, words(lang))
    if found.problems:
        raise typer.Exit(USAGE)
