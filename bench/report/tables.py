"""The report's tables as view models: pure functions from a `Run` to text, sort keys and marks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.decide.timings import Own
from bench.reasons import Status
from bench.report.meanings import Meanings
from bench.report.retention import retention
from bench.report.views import ClassTable, Column, Group, Table, Value
from bench.store.reading import Run, StoredCell
from bench.words.locale import Locale
from bench.words.messages import messages
from bench.words.numbers import (
    MISSING,
    TIMES,
    interval,
    megabytes,
    number,
    precision_name,
    significant,
    times,
)

_COMPUTE = "Arithmetic the runtime says its convolutions ran in; declared: taken from the request or the file, not read"


def comparison(run: Run, own: Own, t: Locale, meanings: Meanings | None = None) -> Table:
    """One row per measured cell, in the order of the run; `own` holds what the times are known to.

    `meanings` explains names where they stand.  Folded is what is the same in every row, and what few decide by.
    """
    told = meanings or Meanings()
    same = {name: len({getattr(cell, name) for cell in run.measured}) < 2 for name in ("target", "imgsz", "threads")}
    varies = {len({getattr(cell, name) for cell in run.measured}) > 1: name for name in ("model",)}
    batches = has_batches(run)
    columns = [
        Column("What ran", "Option", "", "Deployment option", "text", lambda cell: _option(run, cell, t), choices=True),
        Column("What ran", "Precision", "", "Precision asked for", "text", lambda c: _precision(c, told), choices=True),
        _words("What ran", "Compute", _COMPUTE, _compute, choices=True),
        Column(
            "What ran",
            "Target",
            "",
            "Hardware the cell ran on",
            "text",
            lambda cell: Value(cell.target, cell.target, meaning=told.targets.get(cell.target, "")),
            choices=True,
            folded=same["target"],
        ),
        *([_words("What ran", "Model", "Checkpoint", lambda cell: cell.model, choices=True)] if True in varies else []),
        _folded(
            _figure("What ran", "Input", "px", "Side of the square network input", lambda cell: cell.imgsz, 0),
            when=same["imgsz"],
        ),
        *(
            [_figure("What ran", "Batch", "images", "Images per inference", lambda cell: cell.batch, 0)]
            if batches
            else []
        ),
        _folded(
            _figure("What ran", "Threads", "", "Intra-op threads; the guest is pinned to as many CPUs", _threads, 0),
            when=same["threads"],
        ),
        Column(
            "Accuracy",
            "mAP50-95",
            "0..1",
            "COCO mAP over IoU 0.50 to 0.95; below it the number of images where they are fewer than the reference's",
            "num",
            lambda cell: _map(run, cell, t),
        ),
        Column(
            "Accuracy",
            "Δ mAP50-95",
            "95 % interval",
            "Difference to PyTorch FP32 on the same images, with its 95 % paired bootstrap interval",
            "num",
            lambda cell: _delta(cell, t),
        ),
        Column(
            "Accuracy",
            "Keeps",
            "95 % interval",
            "Share of PyTorch FP32's mAP50-95 that is shown to be kept, in MLPerf's classes of 99 % and 95 %; "
            "open where the interval holds 95 %",
            "num",
            lambda cell: _kept(cell, t),
            folded=True,
        ),
        _folded(_figure("Accuracy", "mAP50", "0..1", "COCO mAP at IoU 0.50", lambda cell: cell.map50, 4)),
        Column(
            "Speed",
            "Speed ratio",
            "own 95 % interval",
            "Time of PyTorch FP32 over this cell's, per image; above 1 is faster. The interval is the cell's own, over "
            "launches; PyTorch's own error is said above. Coloured where the two, compared directly, differ at 95 %",
            "num",
            lambda cell: _ratio(cell, own, t),
        ),
        _figure("Speed", "p50", "ms per call", "Median on this machine: context, not a result", _p50, 2),
        *([_per_image("Speed")] if batches else []),
        *_timed_on(run, "Speed"),
        _figure("Footprint", "Artifact", "MB", "All files of the artifact, 10⁶ bytes", _mb("size_bytes"), 1),
        _folded(
            _figure("Footprint", "Packages", "MB", "Installed size of the run-only environment", _mb("env_bytes"), 0)
        ),
        _figure(
            "Footprint", "Peak RSS", "MB", "Peak resident memory of the guest after inference", _mb("peak_rss_bytes"), 0
        ),
        _folded(
            _figure(
                "Start-up",
                "Load",
                "ms",
                "From artifact on disk to ready session, imports done",
                lambda cell: cell.load_ms,
                0,
            )
        ),
        _folded(
            _figure(
                "Start-up",
                "First run",
                "ms",
                "The first inference after loading",
                lambda cell: cell.first_inference_ms,
                0,
            )
        ),
        Column(
            "Parity",
            "Box",
            "max px, score",
            "Largest difference of a raw box coordinate and, below it, of a raw class score from PyTorch FP32",
            "num",
            lambda cell: _parity(cell, t),
            folded=True,
        ),
    ]
    return _table(columns, run.measured, t)


def references(run: Run, own: Own) -> tuple[tuple[str, str], ...]:
    """What each reference's own time is known to, as its name and a share: (`PyTorch FP32`, `±3.5 %`)."""
    return tuple(
        (run.labels[cell.cell_id], f"±{number(100 * own.cells[cell.cell_id], 1)}\N{NO-BREAK SPACE}%")
        for cell in run.measured
        if cell.is_reference and cell.cell_id in own.cells
    )


def _bound(q: int, samples: int) -> str:
    return f"At most that in {q} % of calls, with 99 % confidence (MLPerf's bound); from {samples} samples up"


def latency_detail(run: Run, t: Locale) -> Table:
    """Percentiles, sample counts and stop reason per measured cell."""
    columns = [
        _words("", "Cell", "", lambda cell: run.labels[cell.cell_id]),
        _figure("", "p50", "ms per call", "Median of one inference, which takes a whole batch", _p50, 2),
        *([_per_image("")] if has_batches(run) else []),
        _figure("", "p90", "ms per call", _bound(90, 64), lambda cell: cell.latency_p90_ms, 2),
        _figure("", "p99", "ms per call", _bound(99, 662), lambda cell: cell.latency_p99_ms, 2),
        _figure("", "Samples", "", "Timed inferences in clean rounds", lambda cell: cell.latency_samples, 0),
        _figure("", "Launches", "", "Processes behind it, new or forked", lambda cell: cell.latency_launches, 0),
        _figure("", "Rounds used", "", "Rounds the ratio uses", lambda cell: cell.latency_rounds, 0),
        _figure("", "Left out", "", "Rounds marked contaminated", lambda cell: cell.latency_rounds_contaminated, 0),
        _words(
            "",
            "Stopped by",
            "interval: narrow enough; budget: time; launches: the cap; reference: it failed; interrupted: the run was",
            lambda cell: messages(t.language)(cell.latency_stop),
        ),
        _figure("", "Import", "ms", "Importing the runtime in a fresh process", lambda cell: cell.import_ms, 0),
        *_timed_on(run, ""),
        *_told_by_hardware(run),
    ]
    return _table(columns, run.measured, t)


def _timed_on(run: Run, group: str) -> list[Column]:
    """A column with the machines' names where not every time is the run's own machine's; empty where none timed."""
    if not run.timed_elsewhere:
        return []
    return [
        _words(
            group,
            "Timed on",
            "Machine whose times these are",
            lambda cell: run.machine_name(cell) if cell.timed_on else "",
        )
    ]


def object_sizes(run: Run, t: Locale) -> Table:
    """mAP50-95 by object size per measured cell, each with its difference to the reference."""

    def column(title: str, help_text: str, name: str) -> Column:
        return Column("", title, "mAP50-95", help_text, "num", lambda cell: _sized(run, cell, name))

    columns = [
        _words("", "Cell", "", lambda cell: run.labels[cell.cell_id]),
        column("Small", f"Objects under 32{TIMES}32 px", "map_small"),
        column("Medium", f"Objects from 32{TIMES}32 to 96{TIMES}96 px", "map_medium"),
        column("Large", f"Objects over 96{TIMES}96 px", "map_large"),
    ]
    return _table(columns, run.measured, t)


def classes(run: Run) -> tuple[ClassTable, ...]:
    """A table per point that has a reference with classes; the classes that differ most come first."""
    tables = []
    for cells in run.points().values():
        reference = next((cell for cell in cells if cell.is_reference and cell.map_per_class), None)
        others = tuple(cell for cell in cells if cell is not reference and cell.map_per_class)
        if reference is None:
            continue
        rows = [
            (name, score, [cell.map_per_class.get(name) for cell in others])
            for name, score in reference.map_per_class.items()
        ]
        rows.sort(key=lambda row: (-max((abs(v - row[1]) for v in row[2] if v is not None), default=0.0), row[0]))
        view = tuple((name, number(score, 3), tuple(_shaded(v, score) for v in values)) for name, score, values in rows)
        tables.append(ClassTable(reference, others, view))
    return tuple(tables)


def relative_latency(run: Run) -> dict[str, NDArray[np.float64]]:
    """Latency per image of each clean sample over the reference's median in the same round, by cell id.

    A round without a clean turn of the reference, or in which the cell's own turn was disturbed, contributes nothing.
    """
    samples = run.samples[~run.samples["contaminated"].fillna(True).astype(bool)]
    turns = {
        str(identity): frame[["window", "round", "latency_ms"]]
        for identity, frame in samples.groupby("cell_id", observed=True)
    }
    result: dict[str, NDArray[np.float64]] = {}
    for cell in run.measured:
        reference = run.reference_for(cell)
        if reference is None or reference.cell_id not in turns or cell.cell_id not in turns:
            continue
        medians = turns[reference.cell_id].groupby(["window", "round"])["latency_ms"].median().rename("reference_ms")
        joined = turns[cell.cell_id].merge(medians.reset_index(), on=["window", "round"])
        quotient = (joined["latency_ms"] / max(cell.batch, 1)) / (joined["reference_ms"] / max(reference.batch, 1))
        values = quotient.to_numpy(dtype=float)
        result[cell.cell_id] = values[np.isfinite(values) & (values > 0)]
    return result


def overview(run: Run) -> pd.Series:
    """Number of cells by status, every status present."""
    counts = pd.Series([cell.status for cell in run.cells], dtype="object").value_counts()
    return counts.reindex([status.value for status in Status], fill_value=0)


def _table(columns: Sequence[Column], cells: Sequence[StoredCell], t: Locale) -> Table:
    """The table of these columns, whose words are said in the language of `t`."""
    say = messages(t.language)
    columns = [
        replace(one, group=say(one.group), title=say(one.title), unit=say(one.unit), help=say(one.help))
        for one in columns
    ]
    groups: list[Group] = []
    folds = 0
    for title in dict.fromkeys(column.group for column in columns):
        for folded in (False, True):
            members = tuple(column for column in columns if (column.group, column.folded) == (title, folded))
            folds += bool(folded and members)
            names = t("separator").join(column.title for column in members)
            groups += [Group(title, members, names, folds if folded else 0)] if members else []
    ordered = [column for group in groups for column in group.columns]
    return Table(tuple(groups), tuple((cell, tuple(column.value(cell) for column in ordered)) for cell in cells))


def _folded(column: Column, *, when: bool = True) -> Column:
    return replace(column, folded=when)


def _words(
    group: str, title: str, help_text: str, text: Callable[[StoredCell], str], *, choices: bool = False
) -> Column:
    def value(cell: StoredCell) -> Value:
        return Value(text(cell), text(cell))

    return Column(group, title, "", help_text, "text", value, choices)


def _figure(
    group: str, title: str, unit: str, help_text: str, read: Callable[[StoredCell], float | None], digits: int
) -> Column:
    def value(cell: StoredCell) -> Value:
        return Value(number(read(cell), digits), _order(read(cell)))

    return Column(group, title, unit, help_text, "num", value)


def _order(value: float | None) -> str:
    return "" if value is None else repr(float(value))


def _mb(name: str) -> Callable[[StoredCell], float | None]:
    return lambda cell: megabytes(getattr(cell, name))


def _precision(cell: StoredCell, told: Meanings) -> Value:
    name = precision_name(cell.precision)
    return Value(name, name, meaning=told.precisions.get((cell.option, cell.precision), ""))


def _compute(cell: StoredCell) -> str:
    return cell.computed_in or MISSING


def _threads(cell: StoredCell) -> float:
    return cell.threads


def _p50(cell: StoredCell) -> float | None:
    return cell.latency_p50_ms


def has_batches(run: Run) -> bool:
    """True when a call of some measured cell takes more than one image."""
    return any(cell.batch > 1 for cell in run.measured)


def per_image_ms(cell: StoredCell) -> float | None:
    """Median latency of one inference over the images that it takes."""
    return None if cell.latency_p50_ms is None else cell.latency_p50_ms / cell.batch


def _per_image(group: str) -> Column:
    return _figure(group, "p50", "ms per image", "The same over the images of a call", per_image_ms, 2)


_ENERGY = "Energy of the whole GPU board, on a processor of its packages"
_DEVICE = "One inference on the GPU alone, input and output there; it decides nothing"
_GRAPH = "The same as a captured CUDA graph; it decides nothing"


def _told_by_hardware(run: Run) -> list[Column]:
    """What GPU or processor tell themselves of the cells of a run; nothing that neither told of any."""
    gpu = _figure("", "GPU memory", "MB", "Memory of the GPU that the guest held", _mb("gpu_bytes"), 0)
    energy = _figure("", "Energy", "J per image", _ENERGY, lambda cell: cell.energy_image_j, 3)
    device = _figure("", "GPU alone", "ms per call", _DEVICE, lambda cell: cell.device_ms, 2)
    graph = _figure("", "CUDA graph", "ms per call", _GRAPH, lambda cell: cell.device_graph_ms, 2)
    told = [
        (device, any(cell.device_ms is not None for cell in run.measured)),
        (graph, any(cell.device_graph_ms is not None for cell in run.measured)),
        (gpu, any(cell.gpu_bytes is not None for cell in run.measured)),
        (energy, any(cell.energy_image_j is not None for cell in run.measured)),
    ]
    return [column for column, there in told if there]


def _delta(cell: StoredCell, t: Locale) -> Value:
    if cell.is_own_reference:
        return Value(t("reference"), "0", mark="reference")
    mark = ""
    if cell.map_delta_high is not None and cell.map_delta_high < 0:
        mark = "worse"
    elif cell.map_delta_low is not None and cell.map_delta_low > 0:
        mark = "better"
    note = interval(cell.map_delta_low, cell.map_delta_high, 4, sign=True)
    return Value(number(cell.map_delta, 4, sign=True), _order(cell.map_delta), note, mark)


def _option(run: Run, cell: StoredCell, t: Locale) -> Value:
    name = cell.option_name
    return Value(name, name, t("outside") if run.outside_guide(cell) else "")


def _map(run: Run, cell: StoredCell, t: Locale) -> Value:
    fewer = run.fewer_images(cell)
    images = "" if fewer is None else t.count("count.image", fewer)
    return Value(number(cell.map50_95, 4), _order(cell.map50_95), images)


def _kept(cell: StoredCell, t: Locale) -> Value:
    kept = retention(cell)
    if kept is None:
        return Value(t("reference"), "1", mark="reference") if cell.is_own_reference else Value(MISSING)
    reached = messages(t.language)(kept.reached)
    return Value(reached or kept.text, _order(kept.share), kept.text if reached else "")


def _ratio(cell: StoredCell, own: Own, t: Locale) -> Value:
    if cell.correctness_only:
        return Value(t("correctness_only"))  # why, the table of latencies says
    mark = ""
    if cell.latency_ratio_low is not None and cell.latency_ratio_low > 1:
        mark = "better"
    elif cell.latency_ratio_high is not None and cell.latency_ratio_high < 1:
        mark = "worse"
    note = interval(*own.ends(cell), 2)
    if cell.is_own_reference and cell.latency_ratio is not None:
        return Value(t("reference"), "1", mark="reference")
    return Value(times(cell.latency_ratio), _order(cell.latency_ratio), note, mark)


def _parity(cell: StoredCell, t: Locale) -> Value:
    if cell.is_own_reference:
        return Value(t("reference"), "0", mark="reference")
    score = significant(cell.parity_score_max, 2)
    return Value(significant(cell.parity_box_max, 2), _order(cell.parity_box_max), score if cell.parity_box_max else "")


def _sized(run: Run, cell: StoredCell, name: str) -> Value:
    value: float | None = getattr(cell, name)
    reference = run.reference_for(cell)
    base: float | None = getattr(reference, name) if reference else None
    if cell.is_own_reference or value is None or base is None:
        return Value(number(value, 4), _order(value))
    return Value(number(value, 4), _order(value), number(value - base, 4, sign=True), "")


def _shaded(value: float | None, reference: float) -> Value:
    if value is None:
        return Value(MISSING)
    difference = value - reference
    # Steps of the shade: 0.005, 0.02 and 0.05 of mAP.
    level = sum(abs(difference) >= step for step in (0.005, 0.02, 0.05))
    mark = "" if level == 0 else f"{'down' if difference < 0 else 'up'}{level}"
    return Value(number(difference, 3, sign=True), _order(difference), mark=mark)
