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
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator
from matplotlib.transforms import Bbox
from numpy.typing import NDArray
from scipy.stats import gaussian_kde

from bench.decide.timings import Own
from bench.report import svg
from bench.report.highlights import TOLERANCE, pareto
from bench.store.reading import StoredCell
from bench.words.locale import Locale
from bench.words.numbers import MINUS, TIMES, interval, number, shortened, size, times

_Point = tuple[float, float] | NDArray[np.float64]
_MARKERS = {"fp32": "o", "fp16": "s", "int8": "^", "bf16": "D"}
_NEAR = 3.0  # points between a mark and a label that needs no line to it
_OTHER_MARKERS = ("P", "v", "p", "X")
_TICKS = (
    (0.01, 0.1, 1, 10, 100, 1000),
    (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100),
    (0.125, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64),
    (0.25, 0.33, 0.5, 0.67, 1, 1.5, 2, 3, 4, 6, 8, 12, 16),
    (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3),
    (0.9, 0.92, 0.94, 0.96, 0.98, 1, 1.02, 1.04, 1.06, 1.08, 1.1),
)


@dataclass(frozen=True)
class Drawing:
    """One figure in both layouts; the page shows the one that fits."""

    wide: str
    narrow: str


@dataclass(frozen=True)
class Styles:
    """Colour per option and marker per precision, the same in every figure of a report."""

    colours: Mapping[str, int]
    markers: Mapping[str, str]


def styles(cells: Sequence[StoredCell]) -> Styles:
    """Give each option the next colour of the palette and each precision its marker, in the order of the run.

    Colour 0 is the neutral one and belongs to PyTorch, the reference.
    """
    options = [option for option in dict.fromkeys(cell.option for cell in cells) if option != "pytorch"]
    colours = {"pytorch": 0} | {option: 1 + index % (svg.PALETTE_SIZE - 1) for index, option in enumerate(options)}
    others = [p for p in dict.fromkeys(cell.precision for cell in cells) if p not in _MARKERS]
    markers = _MARKERS | {p: _OTHER_MARKERS[index % len(_OTHER_MARKERS)] for index, p in enumerate(others)}
    return Styles(colours, markers)


def scatter(
    cells: Sequence[StoredCell], labels: Mapping[str, str], look: Styles, name: str, own: Own, t: Locale | None
) -> Drawing | None:
    """mAP50-95 against speed relative to PyTorch FP32; the area of a mark is the size of the artifact.

    Bars are each cell's own error, a band around 1 is PyTorch's: `own` holds both.  Named are the cells on the front
    and the reference, the others where a pointer rests on them.  Without words (`t`) nothing of it is in one language.
    None when fewer than two cells have both numbers: one point is no comparison.
    """
    drawn = [cell for cell in cells if cell.map50_95 is not None and cell.latency_ratio is not None]
    if len(drawn) < 2:
        return None
    titles = {f"cell:{cell.cell_id}": _tooltip(cell, labels[cell.cell_id], own) for cell in drawn}
    description = "; ".join(_on_a_line(titles))
    if t is not None:
        description = t.sentences((t("tradeoff.figure"), description))

    def draw(width: float, height: float, font: float, variant: str) -> str:
        with svg.settings():
            figure, axes = _canvas(width, height, font)
            _draw_scatter(axes, drawn, labels, look, font, own, t)
            return svg.render(figure, f"{name}-{variant}", description, titles)

    return Drawing(draw(9.2, 4.9, 8.0, "wide"), draw(4.6, 4.8, 9.0, "narrow"))


def distributions(
    relative: Mapping[str, NDArray[np.float64]],
    cells: Sequence[StoredCell],
    labels: Mapping[str, str],
    look: Styles,
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

    return Drawing(draw(9.2, 0.34, 8.0, "wide"), draw(4.6, 0.55, 9.0, "narrow"))


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
    look: Styles,
    font: float,
    own: Own,
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
        axes.set_xlabel(t("tradeoff.speed"), color=svg.MUTED, fontsize=font)
        axes.set_ylabel(t("tradeoff.map"), color=svg.MUTED, fontsize=font)
    axes.axvline(1.0, color=svg.MUTED, linewidth=0.8)
    error = max((own.cells[name] for name in {cell.reference_id for cell in cells} & own.cells.keys()), default=0.0)
    if error:
        axes.axvspan(1 / (1 + error), 1 + error, facecolor=(*matplotlib.colors.to_rgb(svg.MUTED), 0.12), linewidth=0)
    reference = next((cell for cell in cells if cell.is_reference), None)
    if reference is not None and reference.map50_95 is not None:
        floor = reference.map50_95 - TOLERANCE
        if axes.get_ylim()[0] < floor < axes.get_ylim()[1]:
            axes.axhline(floor, color=svg.MUTED, linewidth=0.8, linestyle=(0, (3, 3)))
            axes.annotate(
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
    front = pareto(list(zip(x, y, strict=True)))
    order = sorted(front, key=lambda index: x[index])
    corners = np.column_stack([np.repeat(x[order], 2)[:-1], np.repeat(y[order], 2)[1:]])
    axes.plot(*corners.T, color=svg.MUTED, linewidth=1.0, zorder=1.5)
    largest = max((cell.size_bytes or 0 for cell in cells), default=0) or 1
    areas = [30 + 190 * (cell.size_bytes or 0) / largest for cell in cells]
    for index, cell in enumerate(cells):
        colour = svg.colour(look.colours[cell.option])
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
            marker=look.markers[cell.precision],
            facecolors=(*matplotlib.colors.to_rgb(colour), 0.75 if index in front else 0.15),
            edgecolors=colour,
            linewidths=1.2,
            gid=f"cell:{cell.cell_id}",
            zorder=3,
        )
    bars = [((x[i], y_low[i]), (x[i], y_high[i])) for i in range(len(cells))]
    lines = [*pairwise(corners), *bars, ((1.0, axes.get_ylim()[0]), (1.0, axes.get_ylim()[1]))]
    _place_labels(
        axes,
        [
            (x[i], y[i], math.sqrt(areas[i]) / 2, shortened(labels[c.cell_id]) if i in front or c.is_reference else "")
            for i, c in enumerate(cells)
        ],
        lines,
        font,
    )


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
    chosen = max((ticks for ticks in inside if len(ticks) <= 8), key=len)
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(FixedLocator(chosen))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: text(value)))


def _place_labels(
    axes: Axes,
    points: Sequence[tuple[float, float, float, str]],
    lines: Sequence[tuple[_Point, _Point]],
    font: float,
) -> None:
    """Put each label beside its mark at the first place that covers no mark, no other label and none of the `lines`.

    Tries eight directions at growing distance; a label that ends up far away gets a line to its mark.
    """
    figure = axes.figure
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]  # the Agg canvas has one
    centres = [axes.transData.transform((x, y)) for x, y, _, _ in points]
    taken = [
        Bbox.from_extents(cx - r, cy - r, cx + r, cy + r)
        for (cx, cy), (_, _, r, _) in zip(centres, points, strict=True)
    ]
    taken += [Bbox(np.sort(axes.transData.transform(np.asarray(line)), axis=0)).padded(1.5) for line in lines]
    frame = axes.get_window_extent(renderer)
    for (cx, cy), (x, y, radius, name) in zip(centres, points, strict=True):
        if not name:
            continue  # its mark is in the way of other names all the same
        text = axes.annotate(
            name,
            (x, y),
            xytext=(0, 0),
            textcoords="offset points",
            fontsize=font,
            color=svg.INK,
            ha="center",
            va="center",
            arrowprops={"arrowstyle": "-", "color": svg.MUTED, "linewidth": 0.6, "shrinkA": 2, "shrinkB": radius},
        )
        extent = text.get_window_extent(renderer)
        # Helvetica-like page fonts are a little narrower than DejaVu: what fits here fits there.
        half_w, half_h = extent.width / 2 + 1, extent.height / 2 + 0.5
        best: tuple[float, float, float, float, Bbox] | None = None
        for gap in (_NEAR, 10, 18, 28, 40):
            for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1)):
                reach = radius + gap
                ox, oy = dx * (reach + half_w) * (0.8 if dy else 1), dy * (reach + half_h)
                box = Bbox.from_extents(cx + ox - half_w, cy + oy - half_h, cx + ox + half_w, cy + oy + half_h)
                cost = sum(_overlap(box, other) for other in taken) + 4 * (
                    box.width * box.height - _overlap(box, frame)
                )
                if best is None or cost < best[0] - 1e-6:
                    best = (cost, ox, oy, gap, box)
            if best is not None and best[0] < 1e-6:
                break
        if best is None:
            continue
        _, ox, oy, distance, box = best
        text.set_position((ox, oy))
        if distance <= _NEAR and text.arrow_patch is not None:
            text.arrow_patch.set_visible(False)
        taken.append(box)


def _overlap(a: Bbox, b: Bbox) -> float:
    width = min(a.x1, b.x1) - max(a.x0, b.x0)
    height = min(a.y1, b.y1) - max(a.y0, b.y0)
    return float(max(width, 0) * max(height, 0))


def _draw_distributions(
    axes: Axes,
    cells: Sequence[StoredCell],
    relative: Mapping[str, NDArray[np.float64]],
    labels: Mapping[str, str],
    look: Styles,
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
        colour = svg.colour(look.colours[cell.option])
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
    estimate = gaussian_kde(logs)
    reach = 2.5 * float(np.sqrt(estimate.covariance[0, 0]))
    grid = np.linspace(logs.min() - reach, logs.max() + reach, 96)
    density = estimate(grid)
    return np.exp(grid), density / density.max()


def _on_a_line(titles: Mapping[str, str]) -> list[str]:
    return [title.replace("\n", ", ") for title in titles.values()]


def _tooltip(cell: StoredCell, label: str, own: Own) -> str:
    ratio = f"{times(cell.latency_ratio)} {interval(*own.ends(cell), 2)}".strip()
    delta = f"{number(cell.map_delta, 4, sign=True)} {interval(cell.map_delta_low, cell.map_delta_high, 4, sign=True)}"
    accuracy = f"mAP50-95 {number(cell.map50_95, 4)}, Δ {delta.strip()}"
    return f"{label}\n{ratio}\n{accuracy}\n{size(cell.size_bytes)}"
