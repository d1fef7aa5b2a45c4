"""Checks of what a runtime says of the hardware: the devices its package is built for, and the kernels it ran."""

from __future__ import annotations

import json
import re
from itertools import groupby
from typing import Any, ClassVar

from pydantic import Field

from bench.decide.claims import gate
from bench.decide.claims.checks._common import missing, select, subjects
from bench.decide.claims.checks._probes import observations, observed, unobserved
from bench.decide.claims.estimates import row_name
from bench.decide.claims.statements import Claim, Parameters
from bench.decide.claims.synthetic import attested, cell, fact, probe, results
from bench.decide.claims.tables import Tables, day
from bench.decide.claims.verdicts import Finding, Kind, Verdict
from bench.words.text import Text

# What a processor must list for the absence of a name among the kernels to mean anything.
FEATURES: dict[str, tuple[str, ...]] = {
    "avx2": ("avx2",),
    "avx512": ("avx512f",),
    "amx": ("amx_tile",),
    "vnni": ("avx512_vnni", "avx_vnni"),
    "bf16": ("avx512_bf16", "amx_bf16", "bf16"),
    "f16": ("asimdhp", "fphp", "avx512_fp16"),
    "neon": ("asimd", "neon"),
}


class Listed(Parameters):
    """Devices that the runtime's package must list as built in, by the names of the `devices` probe.

    That code is there says nothing of a device that was never there: it is told.
    """

    strongest: ClassVar[Kind] = Kind.FACT

    devices: tuple[str, ...] = Field(min_length=1)


def enumerates(tables: Tables, claim: Claim, params: Listed) -> list[Finding]:
    """The runtime's own interface lists each device as built in; a finding per device."""
    options = subjects(claim, params.scope)
    rows = observations(tables, "devices", options)
    said = {
        "yes": Text(en="The runtime's package has it built in.", zh="运行时的软件包内置了它。"),
        "no": Text(en="The runtime's package does not have it built in.", zh="运行时的软件包没有内置它。"),
    }
    findings = [observed(row, said.get(row.outcome, said["no"])) for row in rows if row.subject in params.devices]
    listed = sorted({row.subject for row in rows if row.outcome != "unavailable"})
    for device in params.devices:
        if rows and not any(row.subject == device for row in rows):
            why = "; ".join(sorted({str(row.text) for row in rows if row.outcome == "unavailable"}))
            known = f"{', '.join(listed) or '-'}. {why}".strip()
            text = Text(
                en=f"The probe says nothing of {device}; it knows of {known}",
                zh=f"探测结果没有提到 {device}；已知的有：{known}",
            )
            findings.append(Finding(Verdict.INCONCLUSIVE, text, scope=device))
    return findings or unobserved(tables, claim, "devices", options)


class Instructions(Parameters):
    """Names of which at least one must stand among the kernels or arithmetic attested.

    A name is found as a whole word, in any case of letters; an underscore parts words: "f16" is not in "bf16", but in
    "conv_f16".
    """

    names: tuple[str, ...] = Field(min_length=1)


def uses_instructions(tables: Tables, claim: Claim, params: Instructions) -> list[Finding]:
    """What the runtime attests of its kernels and arithmetic names at least one of `names`; per machine and target.

    It is refuted only where the processor has what the name stands for; on another it is left open.
    """
    options = subjects(claim, params.scope)
    rows = sorted(select(tables.cells, params.scope, options), key=_where)
    findings = []
    for (machine, option, target), group in groupby(rows, key=_where):
        cells = [row for row in group if row.attested]
        if not cells:
            continue
        said = " ".join(_texts(json.loads(row.attested)) for row in cells).lower()
        found = [name for name in params.names if re.search(_word(name), said)]
        able = [name for name in params.names if _has(tables, machine, name)]
        verdict = Verdict.SUPPORTED if found else Verdict.REFUTED if able else Verdict.INCONCLUSIVE
        names = ", ".join(found or params.names)
        open_en, open_zh = ("; the processor has none of it", "；该处理器不具备") if not (found or able) else ("", "")
        text = (
            Text(en=f"What the runtime attests names {names}.", zh=f"运行时的证明中出现了 {names}。")
            if found
            else Text(
                en=f"What the runtime attests names none of {names}{open_en}.",
                zh=f"运行时的证明中没有出现 {names}{open_zh}。",
            )
        )
        dates = [found_day for row in cells if (found_day := day(row.started))]
        scope = f"{option} · {target}"
        evidence = tuple(row_name(row) for row in cells)
        findings.append(Finding(verdict, text, scope, machine, rows=evidence, date=max(dates, default=None)))
    return findings + missing(tables, claim, findings, options, params.scope.targets)


def _word(name: str) -> str:
    return rf"(?<![a-z0-9]){re.escape(name.lower())}(?![a-z0-9])"


def _where(row: Any) -> tuple[str, str, str]:
    return row.machine, row.option, row.target


def _texts(value: Any) -> str:
    """All names and texts of an attestation."""
    if isinstance(value, dict):
        return " ".join(f"{key} {_texts(item)}" for key, item in value.items())
    if isinstance(value, list):
        return " ".join(_texts(item) for item in value)
    return value if isinstance(value, str) else ""


def _has(tables: Tables, machine: str, name: str) -> bool:
    """Whether a machine's processor lists what a name stands for; names that stand for no feature need none."""
    features = FEATURES.get(name.lower())
    rows = tables.environment[(tables.environment.machine == machine) & (tables.environment.key == "cpu_flags")]
    return features is None or any(set(features) & set(flags.split()) for flags in rows.value)


_FLAGS = fact("machine", "cpu_flags", "avx2 avx512f")
_CELL = cell("onnx")

gate.register(
    "enumerates",
    Listed,
    enumerates,
    devices=["cuda"],
    supports=results(probe("devices", "onnx", "cuda", "yes", 0.0, "devices here")),
    refutes=results(probe("devices", "onnx", "cuda", "no", 0.0, "devices here")),
    wide=results(probe("devices", "onnx", "", "unavailable")),
)
gate.register(
    "uses_instructions",
    Instructions,
    uses_instructions,
    names=["avx512"],
    supports=results(_FLAGS, attested(_CELL, convolutions={"brgconv_avx512_f32": 88})),
    refutes=results(_FLAGS, attested(_CELL, convolutions={"jit_sse41_f32": 88, "noavx512": 1})),
    wide=results(fact("machine", "cpu_flags", "avx2"), attested(_CELL, convolutions={"jit_avx2_f32": 88})),
)
