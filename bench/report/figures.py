"""The report's drawings: accuracy against speed, and the spread of latencies; each for a wide and a narrow page."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator
from numpy.typing import NDArray

from bench.decide.timings import Own
from bench.report import svg
from bench.report.highlights import TOLERANCE, pareto
from bench.report.labels import Named, place
from bench.report.marks import SHAPES, Mark
from bench.store.reading import StoredCell
from bench.words.locale import Locale
from bench.words.numbers import MINUS, TIMES, interval, number, shortened, size, times

USUAL = "PyTorch FP32"
"""What speeds are relative to, where there is one model of one size."""
_Look = Mapping[str, Mark]
_TICKS = (
    (0.01, 0.1, 1, 10, 100, 1000),
    (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100),
    (0.125, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64),
    (0.25, 0.33, 0.5, 0.67, 1, 1.5, 2, 3, 4, 6, 8, 12, 16),
    (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3),
    (0.9, 0.92, 0.94, 0.96, 0.98, 1, 1.02, 1.04, 1.06, 1.08, 1.1),
)

_APART = 0.13
"""Of the length of an axis, from one tick to the next at least: the words of a phone's figure need as much."""


@dataclass(frozen=True)
class Drawing:
    """One figure in both layouts; the page shows the one that fits."""

    wide: str
    narrow: str


@dataclass(frozen=True)
class _Layout:
    """Size of a figure in inches at 72 dots, and of its words in points."""

    width: float
    height: float
    font: float


_WIDE, _NARROW = _Layout(9.2, 4.9, 9.0), _Layout(4.6, 4.8, 10.0)


def scatter(
    cells: Sequence[StoredCell],
    labels: Mapping[str, str],
    look: _Look,
    name: str,
    own: Own,
    t: Locale,
    *,
    front: Sequence[str] | None = None,
) -> Drawing | None:
    """mAP50-95 against speed relative to PyTorch FP32; the area of a mark is the size of the artifact.

    Bars are each cell's own error, a band around 1 is PyTorch's: `own` holds both.  Named are the cells on the front
    and the reference, the others where a pointer rests on them; `look` holds the mark of each option.  `front` are ids
    of the cells on it, where it is not that of the estimates: of several models or sizes.
    None when fewer than two cells have both numbers: one point is no comparison.
    """
    drawn = _comparable(cells)
    if len(drawn) < 2:
        return None
    wide, narrow = (
        _scatter(drawn, labels, look, f"{name}-{variant}", own, layout, front, t)
        for variant, layout in (("wide", _WIDE), ("narrow", _NARROW))
    )
    return Drawing(wide, narrow)


def untitled(
    cells: Sequence[StoredCell],
    labels: Mapping[str, str],
    look: _Look,
    name: str,
    own: Own,
    *,
    front: Sequence[str] | None = None,
) -> str | None:
    """The same for a column of a page that names the axes itself: nothing of it is in one language."""
    drawn = _comparable(cells)
    return None if len(drawn) < 2 else _scatter(drawn, labels, look, name, own, _NARROW, front, None)


def distributions(
    relative: Mapping[str, NDArray[np.float64]],
    cells: Sequence[StoredCell],
    labels: Mapping[str, str],
    look: _Look,
    name: str,
    t: Locale,
) -> Drawing | None:
    """Spread of single latencies relative to the reference's median in the same round, one row per cell.

    `relative` holds those quotients by cell id; None when there is none.
    """
    drawn = [cell for cell in cells if relative.get(cell.cell_id, np.empty(0)).size]
    if not drawn:
        return None
    drawn.sort(key=lambda cell: (float(np.median(relative[cell.cell_id])), cell.cell_id))
    titles = {
        f"cell:{cell.cell_id}": "\n".join(
            (
                labels[cell.cell_id],
                t("latency.median", median=number(float(np.median(values)), 3)),
                t(
                    "latency.samples",
                    n=values.size,
                    low=number(float(values.min()), 3),
                    high=number(float(values.max()), 3),
                ),
            )
        )
        for cell in drawn
        for values in (relative[cell.cell_id],)
    }
    description = t.sentences((t("latency.figure"), "; ".join(_on_a_line(titles))))

    def draw(width: float, row: float, font: float, variant: str) -> str:
        with svg.settings():
            figure, axes = _canvas(width, 0.75 + row * len(drawn), font)
            _draw_distributions(axes, drawn, relative, labels, look, font, t, beside=variant == "wide")
            return svg.render(figure, f"{name}-{variant}", description, titles)

    return Drawing(draw(_WIDE.width, 0.34, _WIDE.font, "wide"), draw(_NARROW.width, 0.55, _NARROW.font, "narrow"))


def _comparable(cells: Sequence[StoredCell]) -> list[StoredCell]:
    return [cell for cell in cells if cell.map50_95 is not None and cell.latency_ratio is not None]


def _scatter(
    drawn: Sequence[StoredCell],
    labels: Mapping[str, str],
    look: _Look,
    name: str,
    own: Own,
    layout: _Layout,
    front: Sequence[str] | None,
    t: Locale | None,
) -> str:
    """One layout of the figure; without words (`t`) nothing of it is in one language."""
    titles = {f"cell:{cell.cell_id}": _tooltip(cell, labels[cell.cell_id], own) for cell in drawn}
    description = "; ".join(_on_a_line(titles))
    if t is not None:
        description = t.sentences((t("tradeoff.figure"), description))
    with svg.settings():
        figure, axes = _canvas(layout.width, layout.height, layout.font)
        _draw_scatter(axes, drawn, labels, look, layout.font, own, front, t)
        return svg.render(figure, name, description, titles)


def _canvas(width: float, height: float, font: float) -> tuple[Figure, Axes]:
    # 72 dots per inch is what the SVG backend uses: text measured by Agg at that resolution fits.
    figure = Figure(figsize=(width, height), dpi=72, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    figure.patch.set_visible(False)
    axes.patch.set_visible(False)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(svg.GRID)
    axes.tick_params(colors=svg.MUTED, labelsize=font, length=0, pad=5)
    axes.grid(color=svg.GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def _draw_scatter(
    axes: Axes,
    cells: Sequence[StoredCell],
    labels: Mapping[str, str],
    look: _Look,
    font: float,
    own: Own,
    steps: Sequence[str] | None,
    t: Locale | None,
) -> None:
    x = np.array([cell.latency_ratio for cell in cells], dtype=float)
    y = np.array([cell.map50_95 for cell in cells], dtype=float)
    x_low, x_high, y_low, y_high = _error_bars(cells, x, y, own)
    _ratio_axis(
        axes, float(x_low.min()), float(x_high.max()), lambda value: number(value, 2).rstrip("0").rstrip(".") + TIMES
    )
    span = max(float(y_high.max() - y_low.min()), 0.01)
    axes.set_ylim(float(y_low.min()) - 0.14 * span, float(y_high.max()) + 0.16 * span)
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value, 3)))
    if t is not None:
        yardstick = labels.get(cells[0].reference_id, USUAL) if steps is not None else USUAL
        axes.set_xlabel(t("tradeoff.speed", yardstick=yardstick), color=svg.MUTED, fontsize=font)
        axes.set_ylabel(t("tradeoff.map"), color=svg.MUTED, fontsize=font)
    axes.axvline(1.0, color=svg.MUTED, linewidth=0.8)
    error = max((own.cells[name] for name in {cell.reference_id for cell in cells} & own.cells.keys()), default=0.0)
    if error:
        axes.axvspan(1 / (1 + error), 1 + error, facecolor=(*matplotlib.colors.to_rgb(svg.MUTED), 0.12), linewidth=0)
    reference = next((cell for cell in cells if cell.is_reference), None)
    edge, words = axes.get_xlim(), list[Annotation]()
    lines = [np.array([(1.0, axes.get_ylim()[0]), (1.0, axes.get_ylim()[1])])]
    if steps is None and reference is not None and reference.map50_95 is not None:
        floor = reference.map50_95 - TOLERANCE
        if axes.get_ylim()[0] < floor < axes.get_ylim()[1]:
            axes.axhline(floor, color=svg.MUTED, linewidth=0.8, linestyle=(0, (3, 3)))
            lines.append(np.array([(edge[0], floor), (edge[1], floor)]))
            said = axes.annotate(
                t("tradeoff.below") if t else f"{MINUS}0.01",
                (1, floor),
                xycoords=("axes fraction", "data"),
                xytext=(-2, -3),
                textcoords="offset points",
                ha="right",
                va="top",
                fontsize=font - 1,
                color=svg.MUTED,
            )
            words.append(said)
    front = (
        pareto(list(zip(x, y, strict=True)))
        if steps is None
        else frozenset(index for index, cell in enumerate(cells) if cell.cell_id in steps)
    )
    order = sorted(front, key=lambda index: x[index])
    corners = np.column_stack([np.repeat(x[order], 2)[:-1], np.repeat(y[order], 2)[1:]])
    axes.plot(*corners.T, color=svg.MUTED, linewidth=1.0, zorder=1.5)
    largest = max((cell.size_bytes or 0 for cell in cells), default=0) or 1
    areas = [30 + 190 * (cell.size_bytes or 0) / largest for cell in cells]
    for index, cell in enumerate(cells):
        colour = svg.colour(look[cell.option].colour)
        axes.errorbar(
            x[index],
            y[index],
            xerr=[[x[index] - x_low[index]], [x_high[index] - x[index]]],
            yerr=[[y[index] - y_low[index]], [y_high[index] - y[index]]],
            ecolor=colour,
            elinewidth=1.1,
            fmt="none",
            zorder=2,
        )
        axes.scatter(
            x[index],
            y[index],
            s=areas[index],
            marker=SHAPES[look[cell.option].shape],
            facecolors=(*matplotlib.colors.to_rgb(colour), 0.75 if index in front else 0.15),
            edgecolors=colour,
            linewidths=1.2,
            gid=f"cell:{cell.cell_id}",
            zorder=3,
        )
    lines.append(corners)
    lines += [np.array([(x[i], y_low[i]), (x[i], y_high[i])]) for i in range(len(cells))]
    lines += [np.array([(x_low[i], y[i]), (x_high[i], y[i])]) for i in range(len(cells))]
    named = [
        shortened(labels[cell.cell_id]) if index in front or _is_yardstick(cell, steps) else ""
        for index, cell in enumerate(cells)
    ]
    points = [Named(x[i], y[i], math.sqrt(areas[i]) / 2, name) for i, name in enumerate(named)]
    place(axes, points, lines, font, words=words)


def _is_yardstick(cell: StoredCell, steps: Sequence[str] | None) -> bool:
    """Whether a cell is what the others are held against."""
    return cell.is_reference if steps is None else cell.cell_id == cell.reference_id


def _error_bars(
    cells: Sequence[StoredCell], x: NDArray[np.float64], y: NDArray[np.float64], own: Own
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Ends of both intervals; a missing one has no length.  mAP takes the interval of its difference to PyTorch."""

    def ends(value: float | None, estimate: float) -> float:
        return estimate if value is None else value

    x_low = np.array([min(ends(own.ends(c)[0], v), v) for c, v in zip(cells, x, strict=True)])
    x_high = np.array([max(ends(own.ends(c)[1], v), v) for c, v in zip(cells, x, strict=True)])
    below = [max((c.map_delta or 0) - ends(c.map_delta_low, c.map_delta or 0), 0) for c in cells]
    above = [max(ends(c.map_delta_high, c.map_delta or 0) - (c.map_delta or 0), 0) for c in cells]
    return x_low, x_high, y - np.array(below), y + np.array(above)


def _ratio_axis(axes: Axes, low: float, high: float, text: Callable[[float], str]) -> None:
    low, high = min(low, 1.0), max(high, 1.0)
    margin = max((high / low) ** 0.07, 1.02)
    low, high = low / margin, high * margin
    inside = [[tick for tick in ticks if low <= tick <= high] for ticks in _TICKS]
    apart = _APART * math.log(high / low)
    chosen = max((ticks for ticks in inside if all(math.log(b / a) > apart for a, b in pairwise(ticks))), key=len)
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(FixedLocator(chosen))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: text(value)))


def _draw_distributions(
    axes: Axes,
    cells: Sequence[StoredCell],
    relative: Mapping[str, NDArray[np.float64]],
    labels: Mapping[str, str],
    look: _Look,
    font: float,
    t: Locale,
    *,
    beside: bool,
) -> None:
    everything = np.concatenate([relative[cell.cell_id] for cell in cells])
    # One stalled inference must not flatten every other shape; the tooltip gives the true range.
    high = max(float(np.quantile(relative[cell.cell_id], 0.995)) for cell in cells)
    _ratio_axis(axes, float(everything.min()), high, lambda value: f"{number(100 * value, 0)} %")
    axes.set_xlabel(t("latency.axis" if beside else "latency.axis_narrow"), color=svg.MUTED, fontsize=font)
    axes.axvline(1.0, color=svg.MUTED, linewidth=0.8)
    axes.grid(visible=False, axis="y")
    # A narrow page has its labels above the rows, so the shapes stay below them.
    peak = 0.72 if beside else 0.5
    for row, cell in enumerate(reversed(cells)):
        values = relative[cell.cell_id]
        colour = svg.colour(look[cell.option].colour)
        grid, density = _density(values)
        fill = (*matplotlib.colors.to_rgb(colour), 0.3)
        axes.fill_between(
            grid, row, row + peak * density, facecolor=fill, edgecolor=colour, linewidth=1, gid=f"cell:{cell.cell_id}"
        )
        median = float(np.median(values))
        axes.plot([median, median], [row - 0.1, row + peak], color=colour, linewidth=2.2, solid_capstyle="butt")
        if cell.latency_p90_ms is not None:
            p90 = float(np.quantile(values, 0.9))
            axes.plot([p90, p90], [row - 0.1, row + 0.25], color=colour, linewidth=1.2)
        if not beside:
            axes.annotate(
                shortened(labels[cell.cell_id]),
                (0, row + 0.68),
                xycoords=("axes fraction", "data"),
                fontsize=font,
                color=svg.INK,
                va="center",
            )
    axes.set_ylim(-0.3, len(cells) - (0.1 if beside else 0.0))
    names = [shortened(labels[cell.cell_id]) for cell in reversed(cells)]
    axes.set_yticks([row + 0.25 for row in range(len(cells))], labels=names if beside else [""] * len(names))
    for tick in axes.get_yticklabels():
        tick.set_color(svg.INK)


def _density(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Kernel density of log-latency over the sampled range, scaled to a peak of 1 (Scott's bandwidth).

    Samples without spread have no density; they become a spike at their value.
    """
    logs = np.log(values)
    if values.size < 2 or float(np.ptp(logs)) < 1e-9:
        return np.array([values[0]] * 2), np.array([0.0, 1.0])
    bandwidth = float(logs.std(ddof=1)) * values.size**-0.2
    grid = np.linspace(logs.min() - 2.5 * bandwidth, logs.max() + 2.5 * bandwidth, 96)
    density = np.exp(-0.5 * ((grid[:, None] - logs) / bandwidth) ** 2).sum(axis=1)
    return np.exp(grid), density / density.max()


def _on_a_line(titles: Mapping[str, str]) -> list[str]:
    return [title.replace("\n", ", ") for title in titles.values()]


def _tooltip(cell: StoredCell, label: str, own: Own) -> str:
    ratio = f"{times(cell.latency_ratio)} {interval(*own.ends(cell), 2)}".strip()
    delta = f"{number(cell.map_delta, 4, sign=True)} {interval(cell.map_delta_low, cell.map_delta_high, 4, sign=True)}"
    accuracy = f"mAP50-95 {number(cell.map50_95, 4)}, Δ {delta.strip()}"
    return f"{label}\n{ratio}\n{accuracy}\n{size(cell.size_bytes)}"
