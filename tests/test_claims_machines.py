"""Statements that name a maker's processor are decided by the recorded run on one, and by no other beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.decide.claims import judge as judgements
from bench.decide.claims.evaluate import Judged
from bench.decide.claims.verdicts import Finding, Verdict
from bench.places import MATRICES, ROOT

RECORDED = ROOT / "results" / "reference"
AMD, INTEL = RECORDED / "coco128-640-cpu", RECORDED / "coco128-640-intel"
NAMES_INTEL = "general.openvino_faster"
"""Says that OpenVINO is faster than PyTorch on Intel's processors, of FP32 on each."""


def judged(*runs: Path) -> dict[str, Judged]:
    """The statements by their ids, judged by some runs."""
    return {one.claim.id: one for one in judgements.judge(runs, MATRICES).judged}


def measured(one: Judged) -> list[Finding]:
    """What the checks of a statement found in a figure."""
    return [found for _, found in one.findings if found.value is not None]


@pytest.fixture(scope="module")
def both() -> dict[str, Judged]:
    return judged(AMD, INTEL)


def test_intels_processor_decides_what_names_it_and_the_other_does_not(both: dict[str, Judged]) -> None:
    """1.81 [1.62, 2.02] there, as the run's own table has it; AMD's is not asked."""
    assert judged(AMD)[NAMES_INTEL].verdict.verdict is Verdict.UNTESTED_HERE
    (found,) = measured(both[NAMES_INTEL])
    assert both[NAMES_INTEL].verdict.verdict is found.verdict is Verdict.SUPPORTED
    assert found.machine.startswith("Intel(R) Xeon(R)")
    assert found.value == pytest.approx(1.81, abs=0.01)
    assert [row.partition("/")[0] for row in found.rows] == [INTEL.name] * len(found.rows)


def test_of_a_statement_in_parts_one_machine_decides_its_own(both: dict[str, Judged]) -> None:
    """A quarter faster on Intel's CPU is measured; its GPU and NPU are not here, so it is supported in part."""
    one = both["openvino.performance"]
    assert one.verdict.verdict is Verdict.PARTLY_SUPPORTED
    assert [part.verdict for part in one.parts] == [Verdict.SUPPORTED, Verdict.UNTESTED_HERE, Verdict.UNTESTED_HERE]


def test_a_processor_without_the_instructions_says_nothing_of_them(both: dict[str, Judged]) -> None:
    """AMX is what only others of Intel's have: nothing is refuted by a Xeon without it."""
    instructions, features = both["openvino.hardware"].parts
    assert instructions.verdict is Verdict.INCONCLUSIVE
    assert {found.reason.en for found in instructions.findings} == {
        "What the runtime attests names none of amx; the processor has none of it."
    }
    assert features.verdict is Verdict.UNTESTED_HERE


def test_what_names_no_maker_is_judged_over_both_machines(both: dict[str, Judged]) -> None:
    machines = {found.machine.partition(",")[0] for found in measured(both["pytorch.performance"])}
    assert machines == {"AMD EPYC", "Intel(R) Xeon(R) Processor @ 2.50GHz"}
