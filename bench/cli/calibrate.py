"""The command that holds the harness against the vendors' own tools."""

from __future__ import annotations

from typing import Annotated

import typer

from bench.cli.options import FAILED, OF_THE_CELL, Lang, Pages, huge_pages, reporter, short, takes, words
from bench.grid.request import Request

app = typer.Typer()


@app.command("calibrate")
@takes(*OF_THE_CELL, "cache", "matrices", "results")
def calibrate(
    request: Request,
    minutes: Annotated[
        float, typer.Option(min=0.1, help="time for all rounds together, of which there are at least 3")
    ] = 30.0,
    rounds: Annotated[int | None, typer.Option(min=1, help="this many rounds, whatever time they take")] = None,
    pages: Pages = "auto",
    lang: Lang = "auto",
) -> None:
    """Hold the harness's guests against the vendors' own tools.

    Guest, vendor's tool and bare loop time the same artifact in fresh processes, in random order, round after round, on
    the same CPUs. What comes out is how many times longer the guest takes than each of them. The table replaces this
    machine's earlier one.

    Exit code 1 where a cell failed.

    Example: yolo11-bench calibrate --options onnx,openvino --minutes 20
    """
    from rich.console import Console

    from bench.grid.machine import machine_id
    from bench.measure.calibration import Calibration
    from bench.report import calibration as report
    from bench.store import calibration as stored

    console, t = Console(), words(lang)
    with reporter(console, lang) as progress:
        calibration = Calibration(request, progress, huge=huge_pages(pages))
        calibration.run(60 * minutes, rounds)
    if calibration.turns:
        path = request.results.parent / "calibration" / f"{machine_id()}.parquet"
        stored.write(path, calibration.turns, calibration.facts())
        report.print_rows(report.rows(calibration.turns), console, t)
        console.print(t("calibrate.turns", path=short(path)), highlight=False, markup=False, soft_wrap=True)
    if calibration.problems:
        raise typer.Exit(FAILED)
