"""The commands about many runs: merged into a history, listed, and written out."""

from __future__ import annotations

import sys
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.markup import escape

from bench.cli.options import FAILED, Lang, short, words
from bench.grid.request import listed
from bench.reasons import UsageError

if TYPE_CHECKING:
    from bench.history.reading import Filters

HISTORY = Path("results", "history")

app = typer.Typer(no_args_is_help=True, help="Many runs of many machines: merge them, list them, write them out.")

Root = Annotated[Path, typer.Option("--history", metavar="DIR", help="folder of the history")]
Table = Literal["runs", "cells", "metrics", "samples", "launches", "environment"]
Names = Annotated[str, typer.Option(metavar="LIST", help="several, comma separated; empty: all")]


def _filter(help_text: str) -> Any:
    return typer.Option(metavar="TEXT", help=help_text)


Machine = Annotated[str, _filter("a part of the machine's key or name")]
Sweep = Annotated[str, _filter("name of the sweep")]
Model = Annotated[str, _filter("name of the checkpoint, as the run has it")]
OneRun = Annotated[str, typer.Option("--run", metavar="ID", help="name of one run")]
Cell = Annotated[str, _filter("a part of the cell's id")]
Since = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="first day, UTC")]
Until = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="last day, UTC")]


@app.command("add")
def add_command(
    folders: Annotated[
        list[Path], typer.Argument(metavar="FOLDER...", help="runs, or folders that hold runs, however deep")
    ],
    history: Root = HISTORY,
    link: Annotated[
        str, typer.Option(metavar="URL", help="where these runs are kept, such as the address of a workflow's run")
    ] = "",
    lang: Lang = "auto",
) -> None:
    """Merge runs into the history.

    Folders of runs, and unpacked artifacts of CI. A run is known by its name: added twice it is there once, whatever
    the order. Of a run that went on after it was added the fuller state stays. Two different runs of one name are an
    error, and nothing is added then. Runs of older benches are brought to the present schema.

    A run that is damaged is named and left out, the others are added, and the exit code is 1.

    Predictions are not taken along: they are most of a run's bytes, and stay where the run is.

    Example: yolo11-bench history add results/runs
    """
    from bench.history import merging
    from bench.words.messages import messages

    done, t = merging.add(history.resolve(), folders, link), words(lang)
    for run_id in done.added:
        _say(t("history.added", run=run_id))
    for run_id in done.replaced:
        _say(t("history.replaced", run=run_id))
    counts = {"added": len(done.added), "replaced": len(done.replaced), "known": len(done.known)}
    _say(t("history.counts", **counts, folder=short(history)))
    for folder, why in done.refused.items():
        text = t("history.refused", folder=short(folder), why=messages(t.language)(why))
        Console(stderr=True).print(escape(text), style="red", highlight=False, soft_wrap=True)
    if done.refused:
        raise typer.Exit(FAILED)


@app.command("compact")
def compact_command(history: Root = HISTORY, lang: Lang = "auto") -> None:
    """Merge the months of past years.

    A folder per machine and year instead of one per month, but for the newest year; and what an older bench wrote is
    brought to the present schema. No row is lost or changed otherwise.
    """
    from bench.history import merging

    done = merging.compact(history.resolve())
    _say(words(lang)("history.compacted", before=done.before, after=done.after, folder=short(history)))


@app.command("show")
def show_command(
    history: Root = HISTORY,
    table: Annotated[Literal["runs", "cells", "metrics"], typer.Option(help="what to list")] = "runs",
    machine: Machine = "",
    sweep: Sweep = "",
    model: Model = "",
    run: OneRun = "",
    cell: Cell = "",
    options: Names = "",
    precisions: Names = "",
    metrics: Names = "",
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(min=0, help="most rows, newest first; 0: all")] = 40,
    lang: Lang = "auto",
) -> None:
    """List runs, cells or figures of the history.

    Example: yolo11-bench history show --table metrics --metrics latency_ratio --options onnx --since 2026-11-01
    """
    from bench.history import reading
    from bench.report import history as report

    wanted = _filters(machine, sweep, model, run, cell, options, precisions, metrics, since, until)
    with reading.opened(history.resolve()) as base:
        rows = [row for batch in reading.rows(base, table, wanted, limit) for row in batch.to_pylist()]
    console, t = Console(), words(lang)
    report.print_rows(table, rows, console, t)
    if limit and len(rows) == limit:
        console.print(t("history.newest", n=limit), style="dim", highlight=False)


@app.command("export")
def export_command(
    history: Root = HISTORY,
    table: Annotated[Table, typer.Option(help="which table")] = "metrics",
    form: Annotated[
        Literal["csv", "json", "markdown", "parquet"], typer.Option("--format", help="how to write it")
    ] = "csv",
    out: Annotated[Path | None, typer.Option(help="file to write (default: standard output)")] = None,
    machine: Machine = "",
    sweep: Sweep = "",
    model: Model = "",
    run: OneRun = "",
    cell: Cell = "",
    options: Names = "",
    precisions: Names = "",
    metrics: Names = "",
    since: Since = None,
    until: Until = None,
    lang: Lang = "auto",
) -> None:
    """Write rows of the history for other programs.

    Example: yolo11-bench history export --table cells --format parquet --out cells.parquet
    """
    from bench.history import reading
    from bench.report import history as report

    if form == "parquet" and out is None:
        raise UsageError("--format parquet: name a file with --out; a terminal cannot show it")
    wanted = _filters(machine, sweep, model, run, cell, options, precisions, metrics, since, until)
    with reading.opened(history.resolve()) as base:
        rows, columns = reading.rows(base, table, wanted), reading.columns(table)
        if out is not None:
            report.write(rows, columns, form, out)
            _say(words(lang)("history.rows", path=short(out)))
        elif form != "parquet":
            for piece in report.text(rows, columns, form):
                sys.stdout.write(piece)


def _filters(
    machine: str,
    sweep: str,
    model: str,
    run: str,
    cell: str,
    options: str,
    precisions: str,
    metrics: str,
    since: datetime | None,
    until: datetime | None,
) -> Filters:
    from bench.history.reading import Filters

    return Filters(
        machine=machine,
        sweep=sweep,
        model=model,
        run=run,
        cell=cell,
        options=listed(options),
        precisions=listed(precisions),
        metrics=listed(metrics),
        since=_day(since),
        until=_day(until),
    )


def _day(given: datetime | None) -> date | None:
    return None if given is None else given.date()


def _say(text: str) -> None:
    Console().print(escape(text), highlight=False, soft_wrap=True)
