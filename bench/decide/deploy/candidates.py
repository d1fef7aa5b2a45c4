"""What of a run may be ranked: its measured and timed cells as candidates of `recommend.py`, scope by scope."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bench.decide.deploy.recommend import QUANTITIES, Candidate, Figure
from bench.decide.timings import Own, Timings, own, timings
from bench.grid import machine
from bench.reasons import UsageError
from bench.stats.contrast import LAUNCHES_MIN, Contrasts, contrasts
from bench.store.reading import Point, Run, StoredCell
from bench.words.numbers import megabytes


@dataclass(frozen=True)
class Passed:
    """A cell of the scope that could not be considered: not measured, or measured without a time."""

    cell_id: str
    name: str
    status: str
    reason: str


@dataclass(frozen=True)
class Field:
    """All that was asked of one point of one run: what can be ranked, and what could not be considered.

    `pairs` compares the times of any two candidates.  `reference_error` is how well PyTorch FP32's own time is known,
    a share; None where that cannot be said.
    """

    point: Point
    machine: str
    images: int
    candidates: tuple[Candidate, ...]
    passed: tuple[Passed, ...]
    pairs: Contrasts
    reference_error: float | None


def fields(run: Run) -> tuple[Field, ...]:
    """Every point of a run at which there is something to choose from, in the order of the run.

    That is two timed cells at least: where PyTorch FP32 alone was timed, it is no answer.
    """
    turns = timings(run.samples)
    errors = own(run, turns)
    points = dict.fromkeys(cell.point for cell in run.cells)
    every = (_field(run, point, turns, errors) for point in points)
    return tuple(field for field in every if len(field.candidates) > 1)


def select(run: Run, **wanted: str | int | None) -> Field:
    """The one point of a run in which model, imgsz, batch, target and threads are as given (None: whatever it is).

    Raises UsageError, listing the points that were timed, when none or several remain.
    """
    keys = ("model", "imgsz", "batch", "target", "threads")
    known = fields(run)
    left = [
        field
        for field in known
        if all(wanted.get(key) in (None, value) for key, value in zip(keys, field.point, strict=True))
    ]
    if len(left) == 1:
        return left[0]
    asked = " ".join(f"--{key} {value}" for key, value in wanted.items() if value is not None) or "the whole run"
    shown = [
        " ".join(f"--{key} {value}" for key, value in zip(keys, field.point, strict=True)) for field in left or known
    ]
    if not known:
        raise UsageError(
            f"run {run.run_id!r} has not two timed cells of one scope, so there is nothing to choose from; "
            "`yolo11-bench show` prints what it has"
        )
    problem = "more than one scope was timed; choose one" if left else "nothing was timed there; timed were"
    raise UsageError(f"{asked}: {problem}:\n  " + "\n  ".join(shown))


def only_in_guide(field: Field) -> Field:
    """The same without candidates that the guide does not name."""
    return replace(field, candidates=tuple(one for one in field.candidates if one.in_guide))


def _field(run: Run, point: Point, turns: Timings, errors: Own) -> Field:
    cells = [cell for cell in run.cells if cell.point == point]
    timed = [cell for cell in cells if cell.measured and cell.latency_ratio]
    references = {cell.reference_id for cell in timed}
    return Field(
        point=point,
        machine=machine.short_name({name: run.fact(name, scope="machine") for name in machine.NAMING}),
        images=int(max((cell.images or 0 for cell in timed), default=0)),
        candidates=tuple(_candidate(run, cell, errors) for cell in timed),
        passed=tuple(
            Passed(cell.cell_id, cell.name, cell.status, cell.reason or cell.latency_stop)
            for cell in cells
            if cell not in timed
        ),
        pairs=contrasts({cell.cell_id: turns[cell.cell_id] for cell in timed if cell.cell_id in turns}),
        reference_error=max((errors.cells[name] for name in references if name in errors.cells), default=None),
    )


def _candidate(run: Run, cell: StoredCell, errors: Own) -> Candidate:
    comparable = run.fewer_images(cell) is None
    latency = _latency(cell, errors)
    figures = {
        "time": _time(cell),
        "latency": latency,
        "throughput": None if latency is None else _per_second(latency),
        "map": _map(cell) if comparable else None,
        "loss": _loss(cell),
        "size": _exact(megabytes(cell.size_bytes)),
        "memory": _memory(cell),
        "packages": _exact(megabytes(cell.env_bytes)),
    }
    rounded = {name: _rounded(figure, QUANTITIES[name].digits) for name, figure in figures.items()}
    return Candidate(
        cell.cell_id,
        cell.name,
        cell.option,
        cell.precision,
        not run.outside_guide(cell),
        rounded,
        cell.reproduce,
    )


def _time(cell: StoredCell) -> Figure:
    if cell.is_own_reference:
        return Figure(1.0, 1.0, 1.0)
    ratio, low, high = cell.latency_ratio, cell.latency_ratio_low, cell.latency_ratio_high
    assert ratio, "only timed cells are candidates"
    repeated = (cell.latency_launches or 0) >= LAUNCHES_MIN
    if not repeated or not low or not high:
        return Figure(1 / ratio, None, None)
    return Figure(1 / ratio, 1 / high, 1 / low)


def _latency(cell: StoredCell, errors: Own) -> Figure | None:
    """Milliseconds per image, with the interval of the cell's own error, or of its ratio where that is not known."""
    if not cell.latency_p50_ms or not cell.batch:  # of a damaged table it is 0
        return None
    value, time = cell.latency_p50_ms / cell.batch, _time(cell)
    error = errors.cells.get(cell.cell_id)
    if error is not None:
        return Figure(value, value / (1 + error), value * (1 + error))
    if time.low is None or time.high is None or cell.is_own_reference:
        return Figure(value, None, None)
    return Figure(value, value * time.low / time.value, value * time.high / time.value)


def _per_second(latency: Figure) -> Figure:
    low, high = (None if end is None else 1000 / end for end in (latency.high, latency.low))
    return Figure(1000 / latency.value, low, high)


def _map(cell: StoredCell) -> Figure | None:
    """mAP50-95; its interval is that of the difference from PyTorch FP32, moved by PyTorch's own mAP."""
    value, loss = cell.map50_95, _loss(cell)
    if value is None:
        return None
    if loss is None or loss.low is None or loss.high is None:
        return Figure(value, None, None)
    own = value + loss.value
    return Figure(value, own - loss.high, own - loss.low)


def _loss(cell: StoredCell) -> Figure | None:
    if cell.is_own_reference:
        return Figure(0.0, 0.0, 0.0)
    if cell.map_delta is None:
        return None
    if cell.map_delta_low is None or cell.map_delta_high is None:
        return Figure(-cell.map_delta, None, None)
    return Figure(-cell.map_delta, -cell.map_delta_high, -cell.map_delta_low)


def _memory(cell: StoredCell) -> Figure | None:
    """Peak memory; exact where it was read once, since there is nothing to tell its interval by."""
    value = megabytes(cell.peak_rss_bytes)
    low, high = megabytes(cell.peak_rss_bytes_low), megabytes(cell.peak_rss_bytes_high)
    return _exact(value) if value is None or low is None or high is None else Figure(value, low, high)


def _exact(value: float | None) -> Figure | None:
    return None if value is None else Figure(value, value, value)


def _rounded(figure: Figure | None, digits: int) -> Figure | None:
    if figure is None:
        return None
    value, low, high = (
        None if end is None else round(end, digits) + 0.0 for end in (figure.value, figure.low, figure.high)
    )  # adding zero turns -0.0 into 0.0
    assert value is not None
    return Figure(value, low, high)
