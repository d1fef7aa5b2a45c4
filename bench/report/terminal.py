"""A run on the terminal: a table that fits its width, and what has no numbers and why."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from bench.decide.timings import Own, own, timings
from bench.reasons import Status
from bench.report import outcomes, retention, tables
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

# Title, right-aligned, how soon the column is dropped when the terminal is narrow (0: never), and its text.
_Column = tuple[str, bool, int, Callable[[StoredCell], str]]

_MARK = "*"
_SCOPE = ("model", "target", "imgsz", "batch", "threads")


def print_run(run_dir: Path, console: Console) -> None:
    """Print the cells of a run as a table, then every cell that lacks numbers with its reason.

    Columns that do not fit the console are left out whole and named below the table; a number is never broken.
    Raises bench.reasons.StoreError when the run cannot be read.
    """
    run = runs.load(run_dir)
    counts = tables.overview(run)
    parts = ", ".join(f"{counts[status.value]} {status.value}" for status in Status)
    console.print(Text(f"Run {run.run_id}: {parts}"))
    errors = own(run, timings(run.samples))
    if run.cells:
        _print_table(run, errors, console)
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


def _print_table(run: Run, errors: Own, console: Console) -> None:
    columns = list(_columns(run, errors))
    dropped: list[str] = []
    table = _table(run, columns)
    while Measurement.get(console, console.options.update(max_width=10_000), table).minimum > console.width:
        candidates = [column for column in columns if column[2]]
        if not candidates:
            _print_blocks(run, errors, console)
            return
        last = max(candidates, key=lambda column: column[2])
        columns.remove(last)
        dropped.append(last[0])
        table = _table(run, columns)
    console.print(table)
    if dropped:
        console.print(Text(f"Left out at this width: {', '.join(dropped)}.", style="dim"))


def _columns(run: Run, errors: Own) -> tuple[_Column, ...]:
    several = {name: len({getattr(cell, name) for cell in run.cells}) > 1 for name in _SCOPE}
    scope: list[_Column] = []
    batches = tables.has_batches(run)
    if several["model"]:
        scope.append(("model", False, 0, lambda cell: cell.model))
    if several["batch"]:
        scope.append(("batch", True, 0, lambda cell: str(cell.batch)))
    if several["threads"]:
        scope.append(("threads", True, 0, lambda cell: str(cell.threads)))
    return (
        ("option", False, 0, lambda cell: cell.option_name + _MARK * run.outside_guide(cell)),
        ("precision", False, 0, lambda cell: precision_name(cell.precision)),
        ("compute", False, 5, lambda cell: cell.compute or MISSING),
        ("target", False, 0 if several["target"] else 3, lambda cell: cell.target),
        ("imgsz", True, 0 if several["imgsz"] else 6, lambda cell: str(cell.imgsz)),
        *scope,
        ("mAP50-95", True, 2, _measured(lambda cell: _map(run, cell))),
        ("Δ mAP [95 %]", True, 1, _measured(_delta)),
        (f"{TIMES} PyTorch [95 %]", True, 0, _measured(lambda cell: _ratio(cell, errors))),
        ("keeps", True, 11, _measured(lambda cell: "reference" if cell.is_own_reference else retention.shown(cell))),
        ("p50 ms per call" if batches else "p50 ms", True, 7, _measured(lambda cell: number(cell.latency_p50_ms, 2))),
        *([("per image", True, 7, _measured(lambda cell: number(tables.per_image_ms(cell), 2)))] if batches else []),
        ("size MB", True, 8, _measured(lambda cell: number(megabytes(cell.size_bytes), 1))),
        ("env MB", True, 9, _measured(lambda cell: number(megabytes(cell.env_bytes), 0))),
        ("RSS MB", True, 10, _measured(lambda cell: number(megabytes(cell.peak_rss_bytes), 0))),
        ("status", False, 4, lambda cell: cell.status),
    )


def _table(run: Run, columns: list[_Column]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1))
    for title, right, _, text in columns:
        # Without a least width rich would shorten a figure with an ellipsis to make the table fit.
        width = max(Text(line).cell_len for line in (title, *(_fixed(text(cell)).plain for cell in run.cells)))
        table.add_column(Text(title), justify="right" if right else "left", no_wrap=True, min_width=width)
    for cell in run.cells:
        style = "" if cell.measured else "red" if cell.status != Status.SKIPPED else "dim"
        # Lines of a name would become lines of the table.
        table.add_row(*(_fixed(text(cell)) for _, _, _, text in columns), style=style)
    return table


def _print_blocks(run: Run, errors: Own, console: Console) -> None:
    """One block per cell, for a terminal in which not even the narrowest table fits.

    A figure that does not fit beside its name stands below it, and sticks out rather than break.
    """
    columns = _columns(run, errors)[2:]
    for cell in run.cells:
        console.print(Text(run.labels[cell.cell_id], style="bold"))
        for title, _, _, text in columns:
            value = _fixed(text(cell)).plain
            if value == MISSING:
                continue
            lines = [f"  {title}: {value}"]
            if Text(lines[0]).cell_len > console.width:
                lines = [f"  {title}:", f"    {value}"]
            for line in lines:
                console.print(Text(line), no_wrap=True, overflow="ignore", crop=False)


def _fixed(text: str) -> Text:
    return Text(" ".join(text.split("\n")))


def _measured(text: Callable[[StoredCell], str]) -> Callable[[StoredCell], str]:
    """`text` for measured cells only: an invalid or interrupted cell may hold numbers, and none of them is a result."""
    return lambda cell: text(cell) if cell.measured else MISSING


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
