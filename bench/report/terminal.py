"""A run on the terminal: a table that fits its width, and what has no numbers and why."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.text import Text

from bench.decide.timings import Own, own, timings
from bench.reasons import Status
from bench.report import outcomes, retention, tables
from bench.store import reading as runs
from bench.store.reading import Run, StoredCell
from bench.words.fitted import MARK, Column, print_fitted, print_folded
from bench.words.locale import Locale
from bench.words.messages import messages
from bench.words.numbers import MISSING, interval, megabytes, number, precision_name

_SCOPE = ("model", "target", "imgsz", "batch", "threads")


def print_run(run_dir: Path, console: Console, locale: Locale | None = None) -> None:
    """Print the measured cells of a run as a table, then every cell that lacks numbers with its reason.

    Columns that do not fit the console are left out whole and named below the table; a number is never broken.  In
    English where no `locale` is given.  Raises bench.reasons.StoreError when the run cannot be read.
    """
    t = locale or outcomes.words("en")
    say = messages(t.language)
    run = runs.load(run_dir)
    counts = tables.overview(run)
    parts = t("separator").join(f"{counts[status.value]} {t(f'status.{status}')}" for status in Status)
    print_folded(t("run", run=run.run_id, counts=parts), console)
    if run.named("model"):
        model, data = (t("separator").join(run.named(what)) or MISSING for what in ("model", "data"))
        print_folded(t("of", model=model, data=data), console, style="dim")
    errors = own(run, timings(run.samples))
    if run.measured:
        print_fitted(
            run.measured,
            _columns(run, errors, t),
            console,
            name=lambda cell: run.labels[cell.cell_id],
            left_out=lambda columns: t("left_out", columns=t("separator").join(columns)),
            colon=t("colon"),
            named=2,
        )
    for machine, timed in _timed_by(run).items():
        print_folded(t("timed_on", machine=machine, cells=t("separator").join(timed)), console, style="dim")
    for name, error in tables.references(run, errors):
        print_folded(t("known", name=name, error=error), console, style="dim")
    if any(run.outside_guide(cell) for cell in run.cells):
        console.print(Text(f"{MARK} {t('outside')}", style="dim"))
    for note in run.data_notes:
        print_folded(t("data", note=say(note)), console)
    for group in outcomes.problems(run, t):
        console.print()
        cells = t("one_cell") if group.count == 1 else t("cells", n=group.count)
        console.print(Text(f"{t(f'status.{group.status}')} · {group.code} ({cells})", style="bold"))
        print_folded(group.explanation, console, style="dim")
        for problem in group.problems:
            names = t("separator").join(run.labels[cell.cell_id] for cell in problem.cells)
            for line in f"{names}{t('colon')}{say(problem.text)}".splitlines():
                print_folded(f"  {line}", console)


def _columns(run: Run, errors: Own, t: Locale) -> list[Column[StoredCell]]:
    """Columns in order; accuracy, time, ratio and size are there at any width."""
    several = {name: len({getattr(cell, name) for cell in run.cells}) > 1 for name in _SCOPE}
    batches = tables.has_batches(run)

    def left(title: str, text: Callable[[StoredCell], str], drop: int = 0) -> Column[StoredCell]:
        return Column(title, text, drop, right=False)

    columns = [
        left(t("column.option"), lambda cell: cell.option_name + MARK * run.outside_guide(cell)),
        left(t("column.precision"), lambda cell: precision_name(cell.precision)),
        left(t("column.compute"), lambda cell: cell.computed_in or MISSING, 6),
        left(t("column.target"), lambda cell: cell.target, 0 if several["target"] else 5),
        Column(t("column.imgsz"), lambda cell: str(cell.imgsz), 0 if several["imgsz"] else 8),
    ]
    if several["model"]:
        columns.append(left(t("column.model"), lambda cell: cell.model))
    if several["batch"]:
        columns.append(Column(t("column.batch"), lambda cell: str(cell.batch)))
    if several["threads"]:
        columns.append(Column(t("column.threads"), lambda cell: str(cell.threads)))
    columns += [
        Column(t("column.map"), lambda cell: _map(run, cell, t)),
        Column(t("column.delta"), lambda cell: _delta(cell, t), 1),
        Column(t("column.p50_call" if batches else "column.p50"), lambda cell: number(cell.latency_p50_ms, 2)),
    ]
    if batches:
        columns.append(Column(t("column.per_image"), lambda cell: number(tables.per_image_ms(cell), 2), 7))
    return [
        *columns,
        Column(t("column.ratio"), lambda cell: _ratio(cell, errors, t)),
        Column(t("column.size"), lambda cell: number(megabytes(cell.size_bytes), 1)),
        Column(t("column.keeps"), lambda cell: _keeps(cell, t), 11),
        Column(t("column.env"), lambda cell: number(megabytes(cell.env_bytes), 0), 9),
        Column(t("column.rss"), lambda cell: number(megabytes(cell.peak_rss_bytes), 0), 10),
    ]


def _timed_by(run: Run) -> dict[str, list[str]]:
    """Names of the cells that each machine timed; none where all of them are of the run's own."""
    found: dict[str, list[str]] = {}
    for cell in run.measured:
        if cell.timed_on and run.timed_elsewhere:
            found.setdefault(run.machine_name(cell), []).append(run.labels[cell.cell_id])
    return found


def _delta(cell: StoredCell, t: Locale) -> str:
    if cell.is_own_reference:
        return t("reference")
    bounds = interval(cell.map_delta_low, cell.map_delta_high, 4, sign=True)
    return f"{number(cell.map_delta, 4, sign=True)} {bounds}".strip()


def _keeps(cell: StoredCell, t: Locale) -> str:
    return t("reference") if cell.is_own_reference else messages(t.language)(retention.shown(cell))


def _map(run: Run, cell: StoredCell, t: Locale) -> str:
    fewer = run.fewer_images(cell)
    images = "" if fewer is None else t("one_image") if fewer == 1 else t("images", n=fewer)
    return number(cell.map50_95, 4) + (f" ({images})" if images else "")


def _ratio(cell: StoredCell, errors: Own, t: Locale) -> str:
    if cell.correctness_only:
        return t("correctness_only")
    bounds = interval(*errors.ends(cell), 2)
    return f"{number(cell.latency_ratio, 2)} {bounds}".strip()
