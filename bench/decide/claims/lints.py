"""Lints of published tables: what a careful reader of such a table stumbles over.

Each is a pure function over cells (see `published.load`) and gives the rows it is about.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, groupby, pairwise
from typing import Any

import pandas as pd

from bench.decide.claims.estimates import row_name
from bench.reasons import Reason, Status
from bench.words.text import Text

MODELS = ("yolo11n", "yolo11s", "yolo11m", "yolo11l", "yolo11x")
"""From small to large."""
RETAINED = 0.95
"""The lower class of accuracy that MLPerf Inference's YOLOv11l task admits, as a share of the reference's."""
IMAGES_MIN = 100
"""Below this many images a mAP is an anecdote; the smallest set in common use that has more is coco128."""
DIGITS_MIN = 4
"""Equal times on different hardware are a coincidence only where few digits are printed."""


@dataclass(frozen=True)
class Lint:
    """One thing to stumble over: which rule, the rows it is about, and why in words."""

    rule: str
    rows: tuple[str, ...]
    text: Text


Rule = Callable[[pd.DataFrame], Iterator[Lint]]


def duplicate_rows(cells: pd.DataFrame) -> Iterator[Lint]:
    """Two formats of one model on one device with the same time and the same accuracy."""
    for group in _groups(cells, "run_id", "model", "target"):
        for one, other in combinations(group, 2):
            same = one.latency_p50_ms == other.latency_p50_ms and one.map50_95 == other.map50_95
            if same and one.option != other.option:
                yield _lint(
                    "duplicate_rows",
                    (one, other),
                    f"{one.option} and {other.option} have the same time and mAP ({one.latency_p50_ms:g} ms, "
                    f"{one.map50_95:g}): one row may be a copy of the other.",
                    f"{one.option} 与 {other.option} 的耗时和 mAP 完全相同（{one.latency_p50_ms:g} ms，"
                    f"{one.map50_95:g}）：其中一行可能是复制的。",
                )


def larger_model_faster(cells: pd.DataFrame) -> Iterator[Lint]:
    """A larger model that takes less time than the next smaller one, all else equal."""
    known = cells[cells.model.isin(MODELS)]
    for group in _groups(known, "run_id", "option", "precision", "target"):
        for small, large in pairwise(sorted(group, key=lambda row: MODELS.index(row.model))):
            if large.latency_p50_ms < small.latency_p50_ms:
                yield _lint(
                    "larger_model_faster",
                    (small, large),
                    f"{large.model} ({large.latency_p50_ms:g} ms) is faster than the smaller {small.model} "
                    f"({small.latency_p50_ms:g} ms).",
                    f"{large.model}（{large.latency_p50_ms:g} ms）比更小的 {small.model}"
                    f"（{small.latency_p50_ms:g} ms）更快。",
                )


def accuracy_collapse(cells: pd.DataFrame) -> Iterator[Lint]:
    """A reduced precision that keeps less than 95 % of FP32's mAP and is printed as a result like any other."""
    for row, full in _reduced(cells):
        share = row.map50_95 / full.map50_95 if full.map50_95 else float("nan")
        if share < RETAINED:
            yield _lint(
                "accuracy_collapse",
                (full, row),
                f"{row.option} {row.precision} keeps {share:.0%} of FP32's mAP ({full.map50_95:g} to "
                f"{row.map50_95:g}) and is printed as a success.",
                f"{row.option} {row.precision} 只保留了 FP32 mAP 的 {share:.0%}（{full.map50_95:g} 降至 "
                f"{row.map50_95:g}），却作为成功结果列出。",
            )


def reduced_precision_slower(cells: pd.DataFrame) -> Iterator[Lint]:
    """A reduced precision that takes more time than FP32 of the same format on the same device."""
    for row, full in _reduced(cells):
        if row.latency_p50_ms > full.latency_p50_ms:
            yield _lint(
                "reduced_precision_slower",
                (full, row),
                f"{row.option} {row.precision} ({row.latency_p50_ms:g} ms) is slower than FP32 "
                f"({full.latency_p50_ms:g} ms).",
                f"{row.option} {row.precision}（{row.latency_p50_ms:g} ms）比 FP32（{full.latency_p50_ms:g} ms）更慢。",
            )


def few_images(cells: pd.DataFrame) -> Iterator[Lint]:
    """Accuracy from fewer than 100 images, told once per table."""
    known = cells[cells.map50_95.notna() & (cells.images < IMAGES_MIN)]
    for group in _groups(known, "run_id"):
        images = int(group[0].images)
        yield _lint(
            "few_images",
            tuple(group),
            f"mAP was taken on {images} images: differences between formats are smaller than its error.",
            f"mAP 只在 {images} 张图像上测得：各格式之间的差别小于其误差。",
        )


def same_for_different_models(cells: pd.DataFrame) -> Iterator[Lint]:
    """Different models with one and the same mAP in one format on one device."""
    known = cells[cells.map50_95.notna()]
    for group in _groups(known, "run_id", "option", "precision", "target", "map50_95"):
        if len({row.model for row in group}) > 1:
            models = ", ".join(row.model for row in group)
            yield _lint(
                "same_for_different_models",
                tuple(group),
                f"{models} have the same mAP, {group[0].map50_95:g}.",
                f"{models} 的 mAP 完全相同：{group[0].map50_95:g}。",
            )


def same_on_different_hardware(cells: pd.DataFrame) -> Iterator[Lint]:
    """One model in one format that takes the very same time on different hardware."""
    known = cells[cells.latency_p50_ms.map(lambda ms: len(f"{ms:g}".replace(".", "")) >= DIGITS_MIN).astype(bool)]
    for group in _groups(known, "model", "option", "precision", "latency_p50_ms"):
        machines = sorted({row.machine for row in group})
        if len(machines) > 1:
            names = ", ".join(machines)
            yield _lint(
                "same_on_different_hardware",
                tuple(group),
                f"{group[0].model} with {group[0].option} takes {group[0].latency_p50_ms:g} ms on each of {names}.",
                f"{group[0].model} 使用 {group[0].option} 时，在 {names} 上的耗时都是 {group[0].latency_p50_ms:g} ms。",
            )


RULES: dict[str, Rule] = {
    rule.__name__: rule
    for rule in (
        duplicate_rows,
        larger_model_faster,
        accuracy_collapse,
        reduced_precision_slower,
        few_images,
        same_for_different_models,
        same_on_different_hardware,
    )
}


def lint(cells: pd.DataFrame) -> list[Lint]:
    """Everything that any rule finds, in the order of the rules and of the rows."""
    return [found for rule in RULES.values() for found in rule(cells)]


COPIED = frozenset({duplicate_rows.__name__, same_for_different_models.__name__, same_on_different_hardware.__name__})
"""Rules that find rows of which one may be a copy; which one, the table does not say."""


def credible(cells: pd.DataFrame, lints: Sequence[Lint]) -> pd.DataFrame:
    """Cells as verdicts may use them, by the rules that our own cells are held to.

    Rows that may be copies are left out; a collapsed accuracy is a failed cell; accuracy from few images is no figure.
    """
    flagged: dict[str, set[str]] = {rule: set() for rule in RULES}
    for one in lints:
        # The first row of a collapse is FP32, which it is compared with.
        flagged[one.rule].update(one.rows[1:] if one.rule == accuracy_collapse.__name__ else one.rows)
    names = cells.apply(row_name, axis=1) if len(cells) else pd.Series(dtype=str)
    copied = names.isin(set().union(*(flagged[rule] for rule in COPIED)))
    collapsed = names.isin(flagged[accuracy_collapse.__name__])
    few = names.isin(flagged[few_images.__name__])
    kept = cells.assign(
        status=cells.status.mask(collapsed, Status.FAILED.value),
        reason_code=cells.reason_code.mask(collapsed, Reason.ACCURACY_COLLAPSED.value),
        map50_95=cells.map50_95.mask(few),
        map_delta=cells.map_delta.mask(few),
    )
    return kept[~copied]


def _groups(cells: pd.DataFrame, *columns: str) -> Iterator[list[Any]]:
    def key(row: Any) -> tuple[Any, ...]:
        return tuple(getattr(row, column) for column in columns)

    for _, group in groupby(sorted(cells.itertuples(index=False), key=key), key=key):
        yield list(group)


def _reduced(cells: pd.DataFrame) -> Iterator[tuple[Any, Any]]:
    """Rows of a reduced precision, each with FP32 of the same model and format on the same device."""
    for group in _groups(cells, "run_id", "model", "option", "target"):
        full = next((row for row in group if row.precision == "fp32"), None)
        if full is not None:
            yield from ((row, full) for row in group if row.precision not in ("fp32", "unstated"))


def _lint(rule: str, rows: tuple[Any, ...], english: str, chinese: str) -> Lint:
    where = f"{rows[0].machine}, {rows[0].model}, {rows[0].target}"
    return Lint(rule, tuple(row_name(row) for row in rows), Text(en=f"{where}: {english}", zh=f"{where}：{chinese}"))
