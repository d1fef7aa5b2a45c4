"""Checks of where an artifact goes: other runtimes, other targets, other systems."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import groupby
from typing import Any, ClassVar

import pandas as pd
from pydantic import Field, PositiveFloat, PositiveInt

from bench.decide.claims import gate
from bench.decide.claims.checks._common import Bounded, Place, finding, held, missing, select, shown, subjects
from bench.decide.claims.checks._probes import observation_name, observations, observed, unobserved
from bench.decide.claims.estimates import row_name
from bench.decide.claims.statements import Claim, Parameters
from bench.decide.claims.synthetic import attested, cell, probe, results
from bench.decide.claims.tables import Tables, day
from bench.decide.claims.verdicts import Estimate, Finding, Kind, Verdict
from bench.reasons import Reason, Status
from bench.words.text import Text

# Failures of the artifact itself on a target, not of the environment around it.
BROKEN = frozenset(
    {
        Reason.EXPORT_FAILED.value,
        Reason.LOAD_FAILED.value,
        Reason.INFERENCE_FAILED.value,
        Reason.OUTPUT_INVALID.value,
        Reason.CRASHED.value,
        Reason.ACCURACY_COLLAPSED.value,
    }
)


# Who makes the runtimes that read the file as it is.  A converter's output is another file, and two runtimes of one
# maker are one opinion.
MAKERS: Mapping[str, str] = {
    "onnxruntime": "Microsoft",
    "onnxruntime-web": "Microsoft",
    "openvino": "Intel",
    "opencv-dnn": "OpenCV",
}


class Opened(Bounded):
    """Runtimes of at least `threshold` makers read the artifact of option `subject` as it is."""

    threshold: PositiveInt | None = None
    subject: str = "onnx"


def opened_by(tables: Tables, claim: Claim, params: Opened) -> list[Finding]:
    """Runtimes of at least `threshold` makers load the very same file, unconverted, and give the same output.

    Runtimes that could not be tried may still do it, so they widen the interval.
    """
    findings = []
    rows = [row for row in observations(tables, "interchange", [params.subject]) if row.subject]
    for machine, group in groupby(rows, key=lambda row: str(row.machine)):
        seen = list(group)
        direct = [row for row in seen if row.subject in MAKERS]
        yes, unknown = ([row for row in direct if row.outcome == outcome] for outcome in ("yes", "unavailable"))
        makers = {MAKERS[row.subject] for row in yes}
        perhaps = {MAKERS[row.subject] for row in unknown} - makers
        converted = [row for row in seen if row.subject not in MAKERS and row.outcome == "yes"]
        names, others = (", ".join(row.subject for row in some) or "-" for some in (yes, converted))
        dates = [found for row in seen if (found := day(row.date))]
        evidence = tuple(observation_name(row) for row in seen)
        count = len(makers)
        estimate = Estimate(count, count, count + len(perhaps), evidence, max(dates, default=None))
        text = Text(
            en=f"Runtimes of {count} makers read the same file as it is, with the same output: {names}. "
            f"After a conversion by: {others}.",
            zh=f"{count} 家厂商的运行时直接读取同一文件且输出一致：{names}。经转换后：{others}。",
        )
        findings.append(
            finding(tables, params.subject, estimate, params.threshold, "at_least", "runtimes", text, machine=machine)
        )
    return findings or unobserved(tables, claim, "interchange", [params.subject])


class Parity(Bounded):
    """Largest difference of a box coordinate in pixels of the network's input, one in a thousand left out."""

    threshold: PositiveFloat = 1.0


def converts(tables: Tables, claim: Claim, params: Parity) -> list[Finding]:
    """The exported artifact runs, and its raw boxes agree with PyTorch FP32's within `threshold` pixels (p99.9).

    An artifact that cannot be made, loaded or run on a target that is there refutes it.
    """
    options = subjects(claim, params.scope)
    targets = tables.with_emulated(params.scope.targets)

    def differences() -> Iterator[tuple[Place, Estimate | None]]:
        for row in select(tables.cells, params.scope, options, targets):
            if pd.notna(row.parity_box_p999):
                value = float(row.parity_box_p999)
                yield Place.of(row), Estimate(value, value, value, (row_name(row),), day(row.started))

    def words(place: Place, figure: str) -> Text:
        return Text(
            en=f"{tables.name(place.option)} runs; 99.9 % of box coordinates are within {figure} px of PyTorch's.",
            zh=f"{tables.name(place.option)} 能运行；99.9% 的边界框坐标与 PyTorch 相差不超过 {figure} 像素。",
        )

    findings = held(tables, differences(), params.threshold, "at_most", "px", words)
    findings += [_broken(row) for row in select(_failed(tables), params.scope, options, targets)]
    return findings + missing(tables, claim, findings, options, params.scope.targets, each=True)


def _failed(tables: Tables) -> list[Any]:
    return [row for row in tables.rows if row.status == Status.FAILED.value and row.reason_code in BROKEN]


def _broken(row: Any) -> Finding:
    place = Place.of(row)
    said = str(row.reason).strip().splitlines()
    text = f"{row.reason_code}: {said[0] if said else ''}"
    words = Text(en=f"It failed there ({text}).", zh=f"在该处失败（{text}）。")
    return Finding(Verdict.REFUTED, words, str(place), place.machine, rows=(row_name(row),), date=day(row.started))


class Elsewhere(Parameters):
    """Nothing to set: which processor it is tried on is the runtime's own."""


REFUSAL = "cpu_refusal"
"""What an attestation calls the words with which a CPU's runtime refused the artifact; empty where it took it."""


def refused_elsewhere(tables: Tables, claim: Claim, params: Elsewhere) -> list[Finding]:
    """The artifact that ran on its device is refused by the same runtime on a CPU: taken there refutes."""
    options = subjects(claim, params.scope)
    findings = []
    for row in select(tables.cells, params.scope, options):
        refusal = json.loads(row.attested or "{}").get(REFUSAL)
        if refusal is None:
            verdict = Verdict.INCONCLUSIVE
            words = Text(en="It was not tried on a CPU there.", zh="没有在该处的 CPU 上试过。")
        elif refusal:
            verdict = Verdict.SUPPORTED
            words = Text(en=f"On a CPU it is refused ({refusal}).", zh=f"在 CPU 上被拒绝（{refusal}）。")
        else:
            verdict = Verdict.REFUTED
            words = Text(en="A CPU runs it too.", zh="在 CPU 上也能运行。")
        place = Place.of(row)
        findings.append(
            Finding(verdict, words, str(place), place.machine, rows=(row_name(row),), date=day(row.started))
        )
    return findings or missing(tables, claim, [], options, needed=claim.needs is not None)


class RunsOn(Parameters):
    """Targets on each of which the option must have a measured cell."""

    targets: tuple[str, ...] = Field(min_length=1)


def runs_on(tables: Tables, claim: Claim, params: RunsOn) -> list[Finding]:
    """The option has a measured cell on each target; where that was an emulated processor, the words say so.

    Each target is needed: without one of them the statement holds in part.
    """
    options = subjects(claim, params.scope)
    findings = []
    for target in params.targets:
        imitations = [name for name in tables.with_emulated([target]) if name != target]
        good = select(tables.cells, params.scope, options, [target])
        emulated = not good
        good = good or (select(tables.cells, params.scope, options, imitations) if imitations else [])
        bad = select(_failed(tables), params.scope, options, tables.with_emulated([target]))
        if good:
            words = Text(
                en=f"{len(good)} cell(s) measured there{', on an emulated processor' if emulated else ''}.",
                zh=f"该处测量了 {len(good)} 个单元{'（模拟的处理器）' if emulated else ''}。",
            )
            machines = "; ".join(sorted({row.machine for row in good}))
            dates = [found for row in good if (found := day(row.started))]
            evidence = tuple(row_name(row) for row in good)
            findings.append(
                Finding(Verdict.SUPPORTED, words, target, machines, rows=evidence, date=max(dates, default=None))
            )
        else:
            findings += [_broken(row) for row in bad] or missing(tables, claim, [], options, [target])
    return [replace(one, needed=True) for one in findings]


class Covered(Bounded):
    """Share of the operators that the device's compiler supports, 0 to 1.

    Its published list is not the compiler: it is told.
    """

    strongest: ClassVar[Kind] = Kind.FACT

    threshold: float | None = Field(default=None, ge=0, le=1)


def operators_covered(tables: Tables, claim: Claim, params: Covered) -> list[Finding]:
    """At least `threshold` of the artifact's operators are ones that the device's compiler takes."""
    options = subjects(claim, params.scope)
    findings = []
    rows = [row for row in observations(tables, "operators", options) if row.subject in ("all", "")]
    for row in rows:
        if pd.isna(row.value):
            findings.append(observed(row, Text(en="No share is known.", zh="占比未知。")))
            continue
        value, machine = float(row.value), str(row.machine)
        estimate = Estimate(value, value, value, (observation_name(row),), day(row.date))
        figure = shown(estimate, "share")
        text = Text(
            en=f"Share of operators covered: {figure}. {row.text}", zh=f"受支持的算子占比：{figure}。{row.text}"
        )
        where = f"{row.option} · {row.subject}"
        findings.append(finding(tables, where, estimate, params.threshold, "at_least", "share", text, machine=machine))
    return findings or unobserved(tables, claim, "operators", options)


_TPU = "edgetpu"

gate.register(
    "opened_by",
    Opened,
    opened_by,
    threshold=2,
    supports=results(*(probe("interchange", "onnx", name, "yes") for name in ("onnxruntime", "openvino"))),
    refutes=results(probe("interchange", "onnx", "onnxruntime", "yes"), probe("interchange", "onnx", "openvino", "no")),
    wide=results(
        probe("interchange", "onnx", "onnxruntime", "yes"), probe("interchange", "onnx", "openvino", "unavailable")
    ),
)
gate.register(
    "converts",
    Parity,
    converts,
    supports=results(cell("onnx", parity_box_p999=0.001)),
    refutes=results(cell("onnx", parity_box_p999=22.7)),
    wide=results(cell("onnx")),  # not compared
)
gate.register(
    "refused_elsewhere",
    Elsewhere,
    refused_elsewhere,
    option=_TPU,
    supports=results(attested(cell(_TPU), **{REFUSAL: "Encountered unresolved custom op"})),
    refutes=results(attested(cell(_TPU), **{REFUSAL: ""})),
    wide=results(attested(cell(_TPU))),
)
gate.register(
    "runs_on",
    RunsOn,
    runs_on,
    targets=["arm-cpu"],
    supports=results(cell("onnx", target="arm-cpu")),
    refutes=results(cell("onnx", target="arm-cpu", status="failed", reason_code="crashed")),
    # It was tried there, and neither ran nor broke.
    wide=results(cell("onnx", target="arm-cpu", status="failed", reason_code="timed_out"), cell("onnx")),
)
gate.register(
    "operators_covered",
    Covered,
    operators_covered,
    option=_TPU,
    threshold=1.0,
    supports=results(probe("operators", _TPU, "all", "yes", 1.0, "0..1")),
    refutes=results(probe("operators", _TPU, "all", "no", 0.97, "0..1")),
    wide=results(probe("operators", _TPU, "", "unavailable")),
)
