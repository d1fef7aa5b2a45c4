"""Checks of speed against PyTorch and other options.

Only cells that were timed count: where a target is not timed, or drawn in software, `latency_ratio` is null.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd
from pydantic import PositiveFloat

from bench.decide.claims import gate
from bench.decide.claims.checks._common import Bounded, Place, baselines, held, missing, select, subjects
from bench.decide.claims.estimates import tail, time_ratio
from bench.decide.claims.statements import Claim
from bench.decide.claims.synthetic import paced, results
from bench.decide.claims.tables import Tables
from bench.decide.claims.verdicts import Estimate, Finding, Side
from bench.grid.matrix import REFERENCE_OPTION, REFERENCE_PRECISION
from bench.words.text import Text


class Compared(Bounded):
    """Times as fast as a baseline: time of the baseline over time of the option."""

    threshold: PositiveFloat | None = None
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
            other = find(row)
            if other is not None and other.cell_id != row.cell_id and _timed(row) and _timed(other):
                yield Place.of(row), time_ratio(tables, other, row)

    def words(place: Place, figure: str) -> Text:
        own, name = tables.name(place.option), tables.name(params.baseline)
        if own == name:
            own, name = f"{own} {place.precision}", f"{name} {precision}"
        return Text(en=f"{own} is {figure} times as fast as {name}.", zh=f"{own} 的速度是 {name} 的 {figure} 倍。")

    findings = held(tables, ratios(), params.threshold, side, "x", words)
    return findings + missing(tables, claim, findings, options, params.scope.targets, timed=True, each=True)


def _timed(row: Any) -> bool:
    return bool(pd.notna(row.latency_ratio))


class AtMost(Bounded):
    """90th percentile of the latency in milliseconds."""

    threshold: PositiveFloat | None = None


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
    return findings + missing(tables, claim, findings, options, params.scope.targets, timed=True, each=True)


_FIRST = paced("pytorch", 80)

gate.register(
    "faster_than",
    Compared,
    faster_than,
    threshold=1.0,
    supports=results(_FIRST, paced("onnx", 40)),
    refutes=results(_FIRST, paced("onnx", 100)),
    wide=results(_FIRST, paced("onnx", 75, jitter=0.2)),
)
gate.register(
    "not_slower_than",
    Compared,
    not_slower_than,
    threshold=0.8,
    baseline="openvino",
    supports=results(_FIRST, paced("openvino", 40), paced("onnx", 42)),
    refutes=results(_FIRST, paced("openvino", 40), paced("onnx", 66)),
    wide=results(_FIRST, paced("openvino", 40, jitter=0.2), paced("onnx", 45)),
)
gate.register(
    "latency_at_most",
    AtMost,
    latency_at_most,
    threshold=50.0,
    supports=results(_FIRST, paced("onnx", 40, tail=1.1)),
    refutes=results(_FIRST, paced("onnx", 40, tail=1.5)),
    wide=results(_FIRST, paced("onnx", 40, tail=1.2, jitter=0.3)),
)
