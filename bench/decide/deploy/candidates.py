"""What of a run may be ranked: its measured and timed cells as candidates of `recommend.py`, scope by scope."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bench.decide.deploy.recommend import QUANTITIES, Candidate, Figure
from bench.decide.deploy.yardstick import held_against, yardstick
from bench.decide.timings import Own, Timings, own, timings
from bench.reasons import UsageError
from bench.stats.contrast import LAUNCHES_MIN, Contrasts, contrasts
from bench.store.reading import Point, Run, StoredCell, label
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
    """All that was asked of one scope of one run: what can be ranked, and what could not be considered.

    A scope is a point, or all points of a run that differ in the model and its size alone.  `cells` are those of the
    candidates, as they stand against what they are compared with.  Where there are several points that is the
    `yardstick`, the most accurate PyTorch FP32 of them, by name; else it is PyTorch FP32 at that point.  `pairs`
    compares the times of any two candidates.  `reference_error` is how well the time of that PyTorch FP32 is known, a
    share; None where that cannot be said.
    """

    points: tuple[Point, ...]
    machine: str
    images: int
    cells: tuple[StoredCell, ...]
    candidates: tuple[Candidate, ...]
    passed: tuple[Passed, ...]
    pairs: Contrasts
    reference_error: float | None
    yardstick: str = ""

    @property
    def point(self) -> Point:
        """The point, or the first of several."""
        return self.points[0]

    @property
    def several(self) -> bool:
        """Whether models or sizes are to choose from, beside options and precisions."""
        return len(self.points) > 1

    @property
    def models(self) -> tuple[str, ...]:
        """The model by name, or all of them."""
        return tuple(dict.fromkeys(point[0] for point in self.points))

    @property
    def sizes(self) -> tuple[int, ...]:
        """The side of the network input in px, or all of them."""
        return tuple(dict.fromkeys(point[1] for point in self.points))


def fields(run: Run) -> tuple[Field, ...]:
    """Every point of a run at which there is something to choose from, in the order of the run.

    That is two timed cells at least: where PyTorch FP32 alone was timed, it is no answer.
    """
    return _Source.of(run).fields()


def joint(run: Run) -> tuple[Field, ...]:
    """Every place of a run at which several models or sizes can be chosen from, as one field each."""
    source = _Source.of(run)
    known = source.fields()
    places = dict.fromkeys(field.point[2:] for field in known)
    groups = [[field for field in known if field.point[2:] == place] for place in places]
    return tuple(found for parts in groups if len(parts) > 1 and (found := source.joined(parts)) is not None)


def select(run: Run, **wanted: str | int | None) -> Field:
    """The one scope of a run in which model, imgsz, batch, target and threads are as given (None: whatever it is).

    Several models and sizes are one scope, the rest is one each.  Raises UsageError, listing the points that were
    timed, when none or several remain.
    """
    keys = ("model", "imgsz", "batch", "target", "threads")
    source = _Source.of(run)
    known = source.fields()
    left = [
        field
        for field in known
        if all(wanted.get(key) in (None, value) for key, value in zip(keys, field.point, strict=True))
    ]
    if len(left) == 1:
        return left[0]
    if len({field.point[2:] for field in left}) == 1 and (found := source.joined(left)) is not None:
        return found
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


@dataclass(frozen=True)
class _Source:
    """A run with what its times amount to."""

    run: Run
    turns: Timings
    errors: Own

    @classmethod
    def of(cls, run: Run) -> _Source:
        turns = timings(run.samples)
        return cls(run, turns, own(run, turns))

    def fields(self) -> tuple[Field, ...]:
        every = (self._field(point) for point in dict.fromkeys(cell.point for cell in self.run.cells))
        return tuple(field for field in every if len(field.candidates) > 1)

    def joined(self, parts: Sequence[Field]) -> Field | None:
        """Points that differ in model and size alone as one field; None where they have no yardstick in common."""
        cells = [cell for part in parts for cell in part.cells]
        base = yardstick(self.run, cells, self.turns)
        if base is None:
            return None
        seen = held_against(self.run, cells, base, self.turns)
        points = tuple(part.point for part in parts)
        names = label([cell for cell in self.run.cells if cell.point in points])
        apart = [cell for cell in cells if cell.cell_id not in seen]
        return Field(
            points=points,
            machine=parts[0].machine,
            images=max(part.images for part in parts),
            cells=tuple(seen.values()),
            candidates=tuple(
                _against(one, seen[one.cell_id], names[one.cell_id])
                for part in parts
                for one in part.candidates
                if one.cell_id in seen
            ),
            passed=(
                *(replace(one, name=names[one.cell_id]) for part in parts for one in part.passed),
                *(Passed(cell.cell_id, names[cell.cell_id], cell.status, _APART) for cell in apart),
            ),
            pairs=self._pairs(list(seen.values())),
            reference_error=self.errors.cells.get(base.cell_id),
            yardstick=names.get(base.cell_id, base.name),
        )

    def _field(self, point: Point) -> Field:
        run, errors = self.run, self.errors
        cells = [cell for cell in run.cells if cell.point == point]
        timed = [cell for cell in cells if cell.measured and cell.latency_ratio]
        references = {cell.reference_id for cell in timed}
        return Field(
            points=(point,),
            machine=run.machine_name((timed or cells)[0]),
            images=int(max((cell.images or 0 for cell in timed), default=0)),
            cells=tuple(timed),
            candidates=tuple(_candidate(run, cell, errors) for cell in timed),
            passed=tuple(
                Passed(cell.cell_id, cell.name, cell.status, cell.reason or cell.latency_stop)
                for cell in cells
                if cell not in timed
            ),
            pairs=self._pairs(timed),
            reference_error=max((errors.cells[name] for name in references if name in errors.cells), default=None),
        )

    def _pairs(self, timed: Sequence[StoredCell]) -> Contrasts:
        return contrasts({cell.cell_id: self.turns[cell.cell_id] for cell in timed if cell.cell_id in self.turns})


_APART = "It was not timed in the same rounds as what the others are compared with, or not compared in accuracy."


def _against(one: Candidate, cell: StoredCell, name: str) -> Candidate:
    """A candidate of one model and size among those of several: its time is over that of the yardstick."""
    time, behind = _rounded(_time(cell), QUANTITIES["time"].digits), _rounded(_loss(cell), QUANTITIES["loss"].digits)
    return replace(one, name=name, figures={**one.figures, "time": time}, behind_best=behind)


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
