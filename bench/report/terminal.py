"""A run on the terminal: a table that fits its width, and what has no numbers and why."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from bench.decide.timings import Own, own, timings
from bench.reasons import Status
from bench.report import outcomes, retention, tables
from bench.report.fitted import Column, print_fitted
from bench.store import reading as runs
from bench.store.reading import Run, StoredCell
from bench.words.numbers import (
    CORRECTNESS_ONLY,
    MISSING,
    OUTSIDE_GUIDE,
    TIMES,
    count,
    interval,
    megabytes,
    number,
    precision_name,
)

_MARK = "*"
_SCOPE = ("model", "target", "imgsz", "batch", "threads")


def print_run(run_dir: Path, console: Console) -> None:
    """Print the measured cells of a run as a table, then every cell that lacks numbers with its reason.

    Columns that do not fit the console are left out whole and named below the table; a number is never broken.
    Raises bench.reasons.StoreError when the run cannot be read.
    """
    run = runs.load(run_dir)
    counts = tables.overview(run)
    parts = ", ".join(f"{counts[status.value]} {status.value}" for status in Status)
    console.print(Text(f"Run {run.run_id}: {parts}"))
    errors = own(run, timings(run.samples))
    if run.measured:
        print_fitted(
            run.measured,
            _columns(run, errors),
            console,
            name=lambda cell: run.labels[cell.cell_id],
            left_out="Left out at this width: {columns}.",
            named=2,
        )
    for name, error in tables.references(run, errors):
        console.print(Text(f"{name} itself is known to {error}: {tables.SHARED}", style="dim"))
    if any(run.outside_guide(cell) for cell in run.cells):
        console.print(Text(f"{_MARK} {OUTSIDE_GUIDE}", style="dim"))
    for note in run.data_notes:
        console.print(Text(f"Data: {note}"))
    for group in outcomes.problems(run):
        console.print()
        console.print(Text(f"{group.status} · {group.code} ({count(group.count, 'cell')})", style="bold"))
        console.print(Text(group.explanation, style="dim"))
        for problem in group.problems:
            names = ", ".join(run.labels[cell.cell_id] for cell in problem.cells)
            console.print(Padding(Text(f"{names}: {problem.text}"), (0, 0, 0, 2), expand=False))


def _columns(run: Run, errors: Own) -> list[Column[StoredCell]]:
    """Columns in order; accuracy, time, ratio and size are there at any width."""
    several = {name: len({getattr(cell, name) for cell in run.cells}) > 1 for name in _SCOPE}
    batches = tables.has_batches(run)

    def left(title: str, text: Callable[[StoredCell], str], drop: int = 0) -> Column[StoredCell]:
        return Column(title, text, drop, right=False)

    columns = [
        left("option", lambda cell: cell.option_name + _MARK * run.outside_guide(cell)),
        left("precision", lambda cell: precision_name(cell.precision)),
        left("compute", lambda cell: cell.compute or MISSING, 6),
        left("target", lambda cell: cell.target, 0 if several["target"] else 5),
        Column("imgsz", lambda cell: str(cell.imgsz), 0 if several["imgsz"] else 8),
    ]
    if several["model"]:
        columns.append(left("model", lambda cell: cell.model))
    if several["batch"]:
        columns.append(Column("batch", lambda cell: str(cell.batch)))
    if several["threads"]:
        columns.append(Column("threads", lambda cell: str(cell.threads)))
    columns += [
        Column("mAP50-95", lambda cell: _map(run, cell)),
        Column("Δ mAP [95 %]", _delta, 1),
        Column("p50 ms per call" if batches else "p50 ms", lambda cell: number(cell.latency_p50_ms, 2)),
    ]
    if batches:
        columns.append(Column("per image", lambda cell: number(tables.per_image_ms(cell), 2), 7))
    return [
        *columns,
        Column(f"{TIMES} PyTorch [95 %]", lambda cell: _ratio(cell, errors)),
        Column("size MB", lambda cell: number(megabytes(cell.size_bytes), 1)),
        Column("keeps", lambda cell: "reference" if cell.is_own_reference else retention.shown(cell), 11),
        Column("env MB", lambda cell: number(megabytes(cell.env_bytes), 0), 9),
        Column("RSS MB", lambda cell: number(megabytes(cell.peak_rss_bytes), 0), 10),
    ]


def _delta(cell: StoredCell) -> str:
    if cell.is_own_reference:
        return "reference"
    bounds = interval(cell.map_delta_low, cell.map_delta_high, 4, sign=True)
    return f"{number(cell.map_delta, 4, sign=True)} {bounds}".strip()


def _map(run: Run, cell: StoredCell) -> str:
    fewer = run.fewer_images(cell)
    return number(cell.map50_95, 4) + ("" if fewer is None else f" ({count(fewer, 'image')})")


def _ratio(cell: StoredCell, errors: Own) -> str:
    if cell.correctness_only:
        return CORRECTNESS_ONLY
    bounds = interval(*errors.ends(cell), 2)
    return f"{number(cell.latency_ratio, 2)} {bounds}".strip()
