"""Checks of speed against PyTorch and other options.

Only cells that were timed count: where a target is not timed, or drawn in software, `latency_ratio` is null.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import PositiveFloat

from bench.decide.claims import gate
from bench.decide.claims.checks._common import Bounded, Place, baselines, held, missing, select, subjects
from bench.decide.claims.estimates import latency_ratio, quotient, tail
from bench.decide.claims.registry import Claim
from bench.decide.claims.synthetic import cell, reference, results, timed
from bench.decide.claims.tables import Tables
from bench.decide.claims.verdicts import Estimate, Finding, Side
from bench.grid.matrix import REFERENCE_OPTION, REFERENCE_PRECISION
from bench.words.text import Text


class Compared(Bounded):
    """Times as fast as a baseline: time of the baseline over time of the option."""

    threshold: PositiveFloat
    baseline: str = REFERENCE_OPTION
    baseline_precision: str = ""
    """Precision of the baseline; empty: FP32 of PyTorch, of another option the same precision."""


def faster_than(tables: Tables, claim: Claim, params: Compared) -> list[Finding]:
    """The option's speed is above `threshold` times the baseline's."""
    return _compared(tables, claim, params, "above")


def not_slower_than(tables: Tables, claim: Claim, params: Compared) -> list[Finding]:
    """The option's speed is at least `threshold` (below 1: how much slower is still meant) times the baseline's."""
    return _compared(tables, claim, params, "at_least")


def _compared(tables: Tables, claim: Claim, params: Compared, side: Side) -> list[Finding]:
    options = subjects(claim, params.scope)
    precision = params.baseline_precision or (REFERENCE_PRECISION if params.baseline == REFERENCE_OPTION else "")
    find = baselines(tables, params.baseline, precision)

    def ratios() -> Iterator[tuple[Place, Estimate | None]]:
        for row in select(tables.cells, params.scope, options):
            own, other = latency_ratio(tables, row), find(row)
            if own is None or other is None or other.cell_id == row.cell_id:
                continue
            base = latency_ratio(tables, other)
            # Against its own reference a cell's ratio is the measured one, interval included.
            itself = other.cell_id == row.reference_id
            yield Place.of(row), own if itself else quotient(own, base) if base is not None else None

    name = tables.name(params.baseline)

    def words(place: Place, figure: str) -> Text:
        return Text(
            en=f"{tables.name(place.option)} is {figure} times as fast as {name}.",
            zh=f"{tables.name(place.option)} 的速度是 {name} 的 {figure} 倍。",
        )

    findings = held(tables, ratios(), params.threshold, side, "x", words)
    return findings + missing(tables, claim, findings, options, params.scope.targets, timed=True)


class AtMost(Bounded):
    """90th percentile of the latency in milliseconds."""

    threshold: PositiveFloat


def latency_at_most(tables: Tables, claim: Claim, params: AtMost) -> list[Finding]:
    """Nine inferences in ten take at most `threshold` ms.  An absolute time: it says something of this machine only."""
    options = subjects(claim, params.scope)
    rows = select(tables.cells, params.scope, options)

    def words(place: Place, figure: str) -> Text:
        option = tables.name(place.option)
        return Text(
            en=f"The 90th percentile of {option}'s times there is {figure} ms.",
            zh=f"{option} 在该处耗时的第 90 百分位数为 {figure} ms。",
        )

    pairs = ((Place.of(row), tail(tables, row)) for row in rows)
    findings = held(tables, pairs, params.threshold, "at_most", "ms", words)
    return findings + missing(tables, claim, findings, options, params.scope.targets, timed=True)


_ONNX = cell("onnx", ratio=(2.0, 1.9, 2.1))

gate.register(
    "faster_than",
    Compared,
    faster_than,
    threshold=1.0,
    supports=results(reference(), cell("onnx", ratio=(2.0, 1.9, 2.1))),
    refutes=results(reference(), cell("onnx", ratio=(0.8, 0.7, 0.9))),
    wide=results(reference(), cell("onnx", ratio=(1.1, 0.9, 1.3))),
)
gate.register(
    "not_slower_than",
    Compared,
    not_slower_than,
    threshold=0.8,
    baseline="openvino",
    supports=results(reference(), cell("openvino", ratio=(2.0, 1.9, 2.1)), cell("onnx", ratio=(1.9, 1.8, 2.0))),
    refutes=results(reference(), cell("openvino", ratio=(2.0, 1.9, 2.1)), cell("onnx", ratio=(1.2, 1.1, 1.3))),
    wide=results(reference(), cell("openvino", ratio=(2.0, 1.2, 3.0)), cell("onnx", ratio=(1.8, 1.1, 2.8))),
)
gate.register(
    "latency_at_most",
    AtMost,
    latency_at_most,
    threshold=50.0,
    supports=results(reference(), timed(_ONNX, 40, tail=1.1)),
    refutes=results(reference(), timed(_ONNX, 40, tail=1.5)),
    wide=results(reference(), timed(_ONNX, 40, tail=1.2, jitter=0.3)),
)
