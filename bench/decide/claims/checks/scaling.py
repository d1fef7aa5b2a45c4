"""Checks of how speed behaves: how steady it is, how it scales, and what a device adds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import pandas as pd
from pydantic import Field, PositiveFloat, PositiveInt

from bench.decide.claims import gate
from bench.decide.claims.checks._common import Bounded, Place, baselines, held, missing, same_point, select, subjects
from bench.decide.claims.estimates import row_name, spread_ratio, time_ratio
from bench.decide.claims.statements import Claim
from bench.decide.claims.synthetic import paced, results
from bench.decide.claims.tables import Tables
from bench.decide.claims.verdicts import Estimate, Finding, Kind, Verdict
from bench.grid.matrix import REFERENCE_OPTION, REFERENCE_PRECISION
from bench.words.text import Text


class Steady(Bounded):
    """p90 / p50 at most `threshold` times the baseline's.

    What a baseline is itself no measure of is not decided by it: it indicates.
    """

    strongest: ClassVar[Kind] = Kind.PROXY

    threshold: PositiveFloat | None = None
    baseline: str = REFERENCE_OPTION
    baseline_precision: str = REFERENCE_PRECISION


def steady(tables: Tables, claim: Claim, params: Steady) -> list[Finding]:
    """The 90th percentile of the option's times over their median is at most `threshold` times the baseline's."""
    options = subjects(claim, params.scope)
    find = baselines(tables, params.baseline, params.baseline_precision)

    def spreads() -> Iterator[tuple[Place, Estimate | None]]:
        for row in select(tables.cells, params.scope, options):
            other = find(row)
            if other is not None and other.cell_id != row.cell_id and pd.notna(row.latency_ratio):
                yield Place.of(row), spread_ratio(tables, row, other)

    name = tables.name(params.baseline)

    def words(place: Place, figure: str) -> Text:
        return Text(
            en=f"p90/p50 of {tables.name(place.option)}'s times is {figure} times that of {name}'s.",
            zh=f"{tables.name(place.option)} 耗时的 p90/p50 是 {name} 的 {figure} 倍。",
        )

    findings = held(tables, spreads(), params.threshold, "at_most", "x", words)
    return findings + missing(tables, claim, findings, options, params.scope.targets, timed=True, each=True)


class Scales(Bounded):
    """Throughput grows along an axis.

    A second thread of a small machine says nothing of a server under load: it is told.
    """

    strongest: ClassVar[Kind] = Kind.FACT

    threshold: PositiveFloat | None = None
    axis: Literal["threads", "batch"]
    start: PositiveInt = Field(default=1, description="threads or images per inference to begin with")
    end: PositiveInt | None = Field(default=None, description="... and to end with; absent: 2 threads, batch 4")


def scales(tables: Tables, claim: Claim, params: Scales) -> list[Finding]:
    """Images per second with more threads (or a larger batch) are at least `threshold` times those with fewer."""
    options = subjects(claim, params.scope)
    end = params.end or {"threads": 2, "batch": 4}[params.axis]

    def gains() -> Iterator[tuple[Place, Estimate | None]]:
        rows = [row for row in select(tables.cells, params.scope, options) if pd.notna(row.latency_ratio)]
        key = {(*_along(row, params.axis), getattr(row, params.axis)): row for row in rows}
        for row in rows:
            more = key.get((*_along(row, params.axis), end))
            if getattr(row, params.axis) == params.start and more is not None:
                ratio = time_ratio(tables, row, more)
                yield Place.of(row), None if ratio is None else _times(ratio, more.batch / row.batch)

    axis = {"threads": "线程数", "batch": "批量"}[params.axis]

    def words(place: Place, figure: str) -> Text:
        option = tables.name(place.option)
        return Text(
            en=f"{option}: {figure} times the images per second from {params.start} to {end} {params.axis}.",
            zh=f"{axis}从 {params.start} 增至 {end} 时，{option} 每秒处理的图像是原来的 {figure} 倍。",
        )

    findings = held(tables, gains(), params.threshold, "at_least", "x", words)
    return findings + missing(tables, claim, findings, options, params.scope.targets, timed=True, each=True)


def _along(row: Any, axis: str) -> tuple[Any, ...]:
    return (*same_point(row, but=(axis,)), row.option, row.precision)


def _times(estimate: Estimate, factor: float) -> Estimate:
    low, high = (None if end is None else end * factor for end in (estimate.low, estimate.high))
    return replace(estimate, value=estimate.value * factor, low=low, high=high)


class OnTarget(Bounded):
    """The same artifact is more than `threshold` times as fast on one target as on another."""

    threshold: PositiveFloat = 1.0
    target: str
    baseline_target: str = "cpu"


def speedup_on_target(tables: Tables, claim: Claim, params: OnTarget) -> list[Finding]:
    """Time on the baseline target over time on the target, same option and precision, in one run."""
    options = subjects(claim, params.scope)

    def gains() -> Iterator[tuple[Place, Estimate | None]]:
        slow = select(tables.cells, params.scope, options, [params.baseline_target])
        key = {(*same_point(row, but=("target",)), row.option, row.precision): row for row in slow}
        for row in select(tables.cells, params.scope, options, [params.target]):
            other = key.get((*same_point(row, but=("target",)), row.option, row.precision))
            if other is not None and pd.notna(row.latency_ratio) and pd.notna(other.latency_ratio):
                yield Place.of(row), time_ratio(tables, other, row)

    where = tables.target_name(params.target), tables.target_name(params.baseline_target)

    def words(place: Place, figure: str) -> Text:
        return Text(
            en=f"{tables.name(place.option)} is {figure} times as fast on {where[0].en} as on {where[1].en}.",
            zh=f"{tables.name(place.option)} 在 {where[0].zh} 上的速度是在 {where[1].zh} 上的 {figure} 倍。",
        )

    findings = held(tables, gains(), params.threshold, "above", "x", words)
    findings += _alone(tables, params, findings, options)
    return findings + missing(
        tables, claim, findings, options, [params.target], timed=True, each=True, beside=params.baseline_target
    )


def _alone(tables: Tables, params: OnTarget, answered: Sequence[Finding], options: Sequence[str]) -> Iterator[Finding]:
    """A finding per option that was timed on the target and nowhere beside the other one: nothing says what it gains.

    Times of two machines are no ratio of two targets.
    """
    if answered or tables.origin == "published":
        return
    beside = {
        (*same_point(row, but=("target",)), row.option)
        for row in select(tables.cells, params.scope, options, [params.baseline_target])
    }
    timed = [
        row
        for row in select(tables.cells, params.scope, options, [params.target])
        if pd.notna(row.latency_ratio) and (*same_point(row, but=("target",)), row.option) not in beside
    ]
    where = tables.target_name(params.target), tables.target_name(params.baseline_target)
    for option in sorted({row.option for row in timed}):
        own = [row for row in timed if row.option == option]
        name = tables.name(option)
        command = f"`yolo11-bench run --options {option} --targets {params.baseline_target},{params.target}`"
        text = Text(
            en=f"{name} was timed on {where[0].en} without {where[1].en} beside it, and times of two machines are no "
            f"ratio of two targets: {command} times both.",
            zh=f"{name} 在 {where[0].zh} 上计时时没有同时测量同机的 {where[1].zh}，而两台机器的耗时不能相比："
            f"可执行 {command} 同时测量两者。",
        )
        machines = "; ".join(sorted({row.machine for row in own}))
        evidence = tuple(row_name(row) for row in own)
        yield Finding(Verdict.UNTESTED_HERE, text, f"{option} · {params.target}", machines, rows=evidence)


_FIRST, _TWO = paced("pytorch", 80, tail=1.2), paced("pytorch", 45, threads=2)
_ONNX = paced("onnx", 40)
_GPU = "browser-webgpu"

gate.register(
    "steady",
    Steady,
    steady,
    threshold=1.1,
    supports=results(_FIRST, paced("onnx", 40, tail=1.2)),
    refutes=results(_FIRST, paced("onnx", 40, tail=1.8)),
    wide=results(_FIRST, paced("onnx", 40, tail=1.35, jitter=0.3)),
)
gate.register(
    "scales",
    Scales,
    scales,
    threshold=1.3,
    axis="threads",
    supports=results(_FIRST, _ONNX, _TWO, paced("onnx", 22, threads=2)),
    refutes=results(_FIRST, _ONNX, _TWO, paced("onnx", 39, threads=2)),
    wide=results(_FIRST, _ONNX, _TWO, paced("onnx", 31, threads=2, jitter=0.3)),
)
gate.register(
    "speedup_on_target",
    OnTarget,
    speedup_on_target,
    target=_GPU,
    supports=results(_FIRST, _ONNX, paced("onnx", 13, target=_GPU)),
    refutes=results(_FIRST, _ONNX, paced("onnx", 80, target=_GPU)),
    wide=results(_FIRST, _ONNX, paced("onnx", 38, target=_GPU, jitter=0.3)),
)
