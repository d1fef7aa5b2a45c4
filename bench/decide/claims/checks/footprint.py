"""Checks of size, memory, start-up and accuracy kept."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import groupby
from typing import Any, Literal

import pandas as pd
from pydantic import Field, PositiveFloat, PositiveInt

from bench.decide.claims import gate
from bench.decide.claims.checks._common import (
    Bounded,
    Place,
    baselines,
    by_place,
    finding,
    held,
    missing,
    near,
    select,
    shown,
    subjects,
)
from bench.decide.claims.estimates import quantity, quotient, row_name
from bench.decide.claims.statements import Claim, Parameters
from bench.decide.claims.synthetic import cell, reference, results
from bench.decide.claims.tables import Tables, day
from bench.decide.claims.verdicts import Estimate, Finding, Verdict, chance, judge, simultaneous
from bench.grid.matrix import REFERENCE_OPTION, REFERENCE_PRECISION
from bench.words.text import Text

Quantity = Literal[
    "size_bytes", "env_bytes", "peak_rss_bytes", "import_ms", "load_ms", "first_inference_ms", "energy_image_j"
]

QUANTITIES: dict[str, Text] = {
    "size_bytes": Text(en="Artifact size", zh="模型文件大小"),
    "env_bytes": Text(en="Installed size", zh="安装大小"),
    "peak_rss_bytes": Text(en="Peak memory", zh="内存峰值"),
    "import_ms": Text(en="Import time", zh="导入时间"),
    "load_ms": Text(en="Loading time", zh="加载时间"),
    "first_inference_ms": Text(en="Time of the first inference", zh="首次推理时间"),
    "energy_image_j": Text(en="Energy per image", zh="每幅图像的能耗"),
}


class Smaller(Bounded):
    """A quantity is at most `threshold` times the baseline's; it is refuted only from `refuted_from` times on.

    How much smaller is small is a choice, so what is smaller by less than that leaves the statement open.
    """

    threshold: PositiveFloat | None = None
    refuted_from: PositiveFloat | None = Field(default=None, description="absent: the threshold")
    quantity: Quantity
    baseline: str = REFERENCE_OPTION
    baseline_precision: str = Field(default=REFERENCE_PRECISION, description="empty: that of the row compared")


def smaller_than(tables: Tables, claim: Claim, params: Smaller) -> list[Finding]:
    """The option's size, memory or start-up time over the baseline's is at most `threshold`.

    Between that and `refuted_from` nothing is decided.
    """
    options = subjects(claim, params.scope)
    find = baselines(tables, params.baseline, params.baseline_precision)

    def shares() -> Iterator[tuple[Place, Estimate | None]]:
        for row in select(tables.cells, params.scope, options):
            other = find(row)
            if other is None or other.cell_id == row.cell_id:
                continue
            own, base = (quantity(tables, one, params.quantity) for one in (row, other))
            if own is not None and base is not None:
                yield Place.of(row), quotient(own, base)

    what, name = QUANTITIES[params.quantity], tables.name(params.baseline)

    def words(place: Place, figure: str) -> Text:
        return Text(
            en=f"{what.en} of {tables.name(place.option)} is {figure} times that of {name}.",
            zh=f"{tables.name(place.option)} 的{what.zh}是 {name} 的 {figure} 倍。",
        )

    findings = []
    for place, estimate in by_place(shares()):
        verdict, text = None, words(place, shown(estimate, "x"))
        if params.threshold is not None and params.refuted_from is not None:
            verdict = _between(estimate, params.threshold, params.refuted_from)
            if verdict[0] is not judge(near(estimate, "x"), params.threshold, "at_most"):
                text = _undecided(text, params.threshold, params.refuted_from)
        findings.append(finding(tables, place, estimate, params.threshold, "at_most", "x", text, verdict))
    return findings + missing(tables, claim, findings, options, params.scope.targets, each=True)


def _between(estimate: Estimate, supported_to: float, refuted_from: float) -> tuple[Verdict, float | None]:
    """Verdict and chance of a figure of which the statement allows so much, and which refutes it only from there on."""
    if judge(near(estimate, "x"), refuted_from, "at_least") is Verdict.SUPPORTED:
        return Verdict.REFUTED, chance(estimate, refuted_from)
    found = judge(near(estimate, "x"), supported_to, "at_most")
    return Verdict.INCONCLUSIVE if found is Verdict.REFUTED else found, chance(estimate, supported_to)


def _undecided(text: Text, supported_to: float, refuted_from: float) -> Text:
    return Text(
        en=f"{text.en} Above {supported_to:g} and not surely from {refuted_from:g} on: it decides nothing.",
        zh=f"{text.zh}（高于 {supported_to:g}，但不能确定达到 {refuted_from:g}：不作判定。）",
    )


class Smallest(Parameters):
    """Among the `top` smallest of the options compared."""

    top: PositiveInt = 3
    quantity: Quantity


def ranks_smallest(tables: Tables, claim: Claim, params: Smallest) -> list[Finding]:
    """The option is among the `top` smallest of `scope.options` (empty: all); of each its smallest artifact counts.

    The figure is its rank; its interval runs over the ranks it can have within the intervals of all.
    """
    option = claim.option
    others = (option, *params.scope.options) if params.scope.options else ()

    def ranks() -> Iterator[tuple[Place, Estimate | None]]:
        rows = sorted(select(tables.cells, params.scope, others), key=_model)
        for _, group in groupby(rows, key=_model):
            least: dict[str, tuple[Any, Estimate]] = {}
            for row in group:
                found = quantity(tables, row, params.quantity)
                if found is not None and (row.option not in least or found.value < least[row.option][1].value):
                    least[row.option] = row, found
            if option in least and len(least) > params.top:
                yield Place.of(least[option][0]), _rank(option, {name: one for name, (_, one) in least.items()})

    what = QUANTITIES[params.quantity]

    def words(_place: Place, figure: str) -> Text:
        return Text(
            en=f"{what.en} of {tables.name(option)} has rank {figure} among the options measured, smallest first.",
            zh=f"在测量过的选项中，{tables.name(option)} 的{what.zh}由小到大排第 {figure}。",
        )

    findings = held(tables, ranks(), params.top, "at_most", "rank", words)
    return findings + missing(tables, claim, findings, [option], params.scope.targets)


def _model(row: Any) -> tuple[Any, ...]:
    return row.run_id, row.model, row.imgsz, row.batch, row.threads


def _rank(option: str, known: dict[str, Estimate]) -> Estimate:
    """Its rank, and the ranks it can have where all intervals hold at once."""
    values = {name: simultaneous(one, len(known)) for name, one in known.items()}
    own = values.pop(option)
    surely = sum(_ends(other)[1] < _ends(own)[0] for other in values.values())
    perhaps = sum(_ends(other)[0] < _ends(own)[1] for other in values.values())
    rank = 1 + sum(other.value < own.value for other in values.values())
    rows = tuple(row for estimate in (own, *values.values()) for row in estimate.rows)
    return Estimate(rank, 1 + surely, 1 + perhaps, rows, own.date)


def _ends(estimate: Estimate) -> tuple[float, float]:
    value = estimate.value
    return (value if estimate.low is None else estimate.low), (value if estimate.high is None else estimate.high)


class Kept(Bounded):
    """The largest loss of mAP50-95 that still counts as keeping it, as a share of 1 (0.01: one point)."""

    threshold: float = Field(ge=0, le=1)


def accuracy_kept(tables: Tables, claim: Claim, params: Kept) -> list[Finding]:
    """mAP50-95 falls by at most `threshold` against PyTorch FP32 on the same images, by the paired interval."""
    options = subjects(claim, params.scope)

    def losses() -> Iterator[tuple[Place, Estimate | None]]:
        for row in select(tables.cells, params.scope, options):
            if pd.notna(row.map_delta) and row.cell_id != row.reference_id:
                ends = (None if pd.isna(end) else float(end) for end in (row.map_delta_low, row.map_delta_high))
                value, (low, high) = float(row.map_delta), ends
                if tables.origin == "published" and low is None:
                    low = high = value
                freedom = None if low == high else math.inf  # of a bootstrap
                yield Place.of(row), Estimate(value, low, high, (row_name(row),), day(row.started), freedom)

    def words(place: Place, figure: str) -> Text:
        return Text(
            en=f"{tables.name(place.option)} {place.precision}: mAP50-95 differs by {figure} from PyTorch FP32's.",
            zh=f"{tables.name(place.option)} {place.precision} 的 mAP50-95 与 PyTorch FP32 相差 {figure}。",
        )

    findings = held(tables, losses(), -params.threshold, "at_least", "mAP", words)
    return findings + missing(tables, claim, findings, options, params.scope.targets, each=True)


gate.register(
    "smaller_than",
    Smaller,
    smaller_than,
    threshold=0.5,
    quantity="import_ms",
    supports=results(reference(import_ms=1500.0), cell("onnx", import_ms=80.0)),
    refutes=results(reference(import_ms=200.0), cell("onnx", import_ms=1500.0)),
    wide=results(reference(import_ms=200.0), cell("onnx", import_ms=80.0)),
)
gate.register(
    "ranks_smallest",
    Smallest,
    ranks_smallest,
    top=1,
    quantity="import_ms",
    supports=results(reference(import_ms=1500.0), cell("onnx", import_ms=80.0), cell("mnn", import_ms=400.0)),
    refutes=results(reference(import_ms=1500.0), cell("onnx", import_ms=400.0), cell("mnn", import_ms=80.0)),
    wide=results(reference(import_ms=1500.0), cell("onnx", import_ms=80.0), cell("mnn", import_ms=90.0)),
)
gate.register(
    "accuracy_kept",
    Kept,
    accuracy_kept,
    threshold=0.01,
    supports=results(reference(), cell("onnx", map_delta=-0.002, map_delta_low=-0.004, map_delta_high=0.0)),
    refutes=results(reference(), cell("onnx", map_delta=-0.05, map_delta_low=-0.07, map_delta_high=-0.03)),
    wide=results(reference(), cell("onnx", map_delta=-0.01, map_delta_low=-0.03, map_delta_high=0.01)),
)
