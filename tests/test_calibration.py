"""Guests held against the vendors' own tools: what those print is read, and real ones of both kinds are timed."""

from __future__ import annotations

import io
import math
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from running import bench

from bench.environments.locked import Env
from bench.grid import matrix
from bench.grid.matrix import Cell
from bench.measure import tools
from bench.measure.pairs import condition
from bench.measure.tools import Job, read_benchmark_app, read_json, read_litert_benchmark
from bench.reasons import CellProblem, Reason, Status, StoreError
from bench.report import calibration as report
from bench.store import calibration as stored
from bench.store.calibration import GUEST, Turn
from bench.wall import program
from bench.words.locale import texts

SAID = Path(__file__).parent / "said"
REAL = pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="environments need Python 3.11")
HERE = Env("family", Path(sys.executable), Path(sys.prefix), "0" * 64, 0)


def job(option: str, precision: str = "fp32", threads: int = 1) -> Job:
    cell = Cell("demo", matrix.load().options[option], precision, "cpu", 320, 1, threads)
    return Job(cell, Path("model"), Path("input.npy"), 30)


def turn(tool: str, number: int, median_ms: float, inner_ms: float | None = None) -> Turn:
    return Turn("onnx-fp32-cpu-320", tool, number, 0, median_ms, inner_ms, 30)


# -- what tools print --------------------------------------------------------------------------------------------------


def test_the_median_of_benchmark_app_is_read() -> None:
    said = (SAID / "benchmark_app.txt").read_text(encoding="utf-8")
    (line,) = [line for line in said.splitlines() if "Median" in line]
    found = read_benchmark_app(job("openvino"), said)
    assert f"{found.median_ms:.2f} ms" in line
    assert found.runs == 30
    assert found.inner_ms is None
    # Below a millisecond it prints microseconds.
    fast = said.replace(line, "[ INFO ]    Median:        151.60 us")
    assert read_benchmark_app(job("openvino"), fast).median_ms == pytest.approx(0.1516)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("INFERENCE_NUM_THREADS: 1", "INFERENCE_NUM_THREADS: 2"),
        ("NUM_STREAMS: 1", "NUM_STREAMS: 2"),
        ("<Type: 'float32'>", "<Type: 'bfloat16'>"),
    ],
)
def test_a_tool_that_ran_something_else_is_no_yardstick(old: str, new: str) -> None:
    said = (SAID / "benchmark_app.txt").read_text(encoding="utf-8")
    assert old in said
    with pytest.raises(CellProblem, match="asked was") as problem:
        read_benchmark_app(job("openvino"), said.replace(old, new))
    assert (problem.value.reason, problem.value.status) == (Reason.ATTESTATION_MISMATCH, Status.INVALID)


def test_the_arithmetic_is_asked_of_benchmark_app_as_of_the_guest() -> None:
    (app, _) = tools.of(job("openvino", "bf16").cell)
    words = app.arguments(job("openvino", "bf16", threads=2))
    assert words[words.index("-infer_precision") + 1] == "bf16"
    assert words[words.index("-nthreads") + 1] == "2"
    assert words[words.index("-ip") + 1] == "f32"


def test_the_median_of_litert_benchmark_is_read() -> None:
    said = (SAID / "litert-benchmark.txt").read_text(encoding="utf-8")
    (line,) = [line for line in said.splitlines() if "median" in line]
    found = read_litert_benchmark(job("tflite"), said)
    assert f"{found.median_ms:.2f} ms" in line
    assert found.runs == 30


@pytest.mark.parametrize(
    "said", ["", "usage: tool", '{"median_ms": 1.0}', "[1]", '{"median_ms": 1.0, "inner_ms": null, "runs": 1e999}']
)
def test_output_without_a_result_is_told(said: str) -> None:
    for read in (read_benchmark_app, read_litert_benchmark, read_json):
        with pytest.raises(CellProblem, match="no result that can be read") as problem:
            read(job("openvino"), said)
        assert problem.value.reason is Reason.PROTOCOL


def test_what_a_library_prints_before_the_answer_is_passed_over() -> None:
    said = 'Creating new settings\n{"median_ms": 15.5, "inner_ms": 15.0, "runs": 20}\n'
    assert read_json(job("openvino"), said) == tools.Reading(15.5, 20, 15.0)


def test_tools_are_those_of_the_cells_runtime_and_precision() -> None:
    assert [tool.name for tool in tools.of(job("onnx", "int8").cell)] == ["bare loop"]
    assert [tool.name for tool in tools.of(job("openvino").cell)] == ["benchmark_app", "bare loop"]
    assert [tool.name for tool in tools.of(job("pytorch").cell)] == ["torch.utils.benchmark"]
    # The program around PyTorch's timer computes in float32.
    assert not tools.of(job("pytorch", "fp16").cell)
    assert not tools.of(job("mnn").cell)


# -- what is made of it ------------------------------------------------------------------------------------------------


def test_the_ratio_is_that_of_turns_of_one_round_whatever_the_machine_does() -> None:
    # The machine becomes three times slower; in each round the guest takes 1.02 times as long.
    turns = [turn("bare loop", number, 10.0 * (1 + number)) for number in range(3)]
    turns += [turn(GUEST, number, 10.2 * (1 + number)) for number in range(3)]
    turns.append(turn("bare loop", 3, 1000.0))  # a round that the guest did not have
    (row,) = report.rows(turns)
    assert (row.cell, row.tool, row.rounds) == ("onnx-fp32-cpu-320", "bare loop", 3)
    assert row.ratio.value == pytest.approx(1.02)
    assert row.ratio.low == pytest.approx(1.02)
    assert row.ratio.high == pytest.approx(1.02)
    assert row.guest_ms == pytest.approx(20.4)
    assert (row.tool_ms, row.copies) == (20.0, None)


def test_the_interval_is_students_over_rounds() -> None:
    logs = [0.00, 0.01, 0.02]
    turns = [turn("bare loop", number, 10.0, 8.0) for number in range(3)]
    turns += [turn(GUEST, number, 10.0 * math.exp(log)) for number, log in enumerate(logs)]
    (row,) = report.rows(turns)
    assert row.ratio.value == pytest.approx(math.exp(0.01))
    # Student's t of 2 degrees of freedom at 97.5 % is 4.3027; the standard error is 0.01 / sqrt(3).
    assert row.ratio.high == pytest.approx(math.exp(0.01 + 4.3027 * 0.01 / math.sqrt(3)), rel=1e-5)
    assert row.copies == pytest.approx(0.25), "10 ms with the copies, 8 ms between them"


def test_two_rounds_have_no_interval() -> None:
    turns = [turn(tool, number, 10.0) for tool in (GUEST, "bare loop") for number in range(2)]
    (row,) = report.rows(turns)
    assert (row.ratio.value, row.ratio.low, row.ratio.high) == (1.0, None, None)


def test_a_narrow_terminal_cuts_no_figure() -> None:
    turns = [turn(tool, number, 10.0, 8.0) for tool in (GUEST, "torch.utils.benchmark") for number in range(3)]
    out = io.StringIO()
    report.print_rows(report.rows(turns), Console(file=out, width=40), texts("terminal", "en"))
    line = out.getvalue().splitlines()[1]
    words = ["onnx-fp32-cpu-320", "torch.utils.benchmark", "3", "1.0000", "[1.0000,", "1.0000]", "10.00", "10.00"]
    assert line.split() == [*words, "25.0", "%"]


def test_a_calibration_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "calibration" / "machine.parquet"
    turns = [turn(GUEST, 0, 10.5), turn("bare loop", 0, 10.0, 9.5)]
    stored.write(path, turns, {"machine": "this one"})
    assert stored.read(path) == (turns, {"machine": "this one"})
    for field in pq.read_schema(path):
        assert field.metadata[b"meaning"], f"{field.name} says what it is"
    pq.write_table(pa.table({"a": [1]}), path)
    with pytest.raises(StoreError, match="holds no calibration"):
        stored.read(path)


# -- the same conditions for both --------------------------------------------------------------------------------------


def test_a_tool_runs_on_the_cpus_and_with_the_variables_of_a_guest(tmp_path: Path) -> None:
    script = tmp_path / "tool.py"
    script.write_text(
        "import os, sys\n"
        "print(sorted(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else [])\n"
        "print(os.environ['OMP_NUM_THREADS'], os.environ.get('GLIBC_TUNABLES'), 'PYTHONPATH' in os.environ)\n"
        "print(sys.argv[1:], os.listdir())\n",
        encoding="utf-8",
    )
    last = max(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    variables = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(tmp_path), **condition(huge=True)}
    said = program.run(HERE, str(script), ["-m", "x"], variables=variables, threads=2, cpus=[last], timeout=60)
    cpus, environment, rest = said.splitlines()
    assert cpus == (f"[{last}]" if hasattr(os, "sched_getaffinity") else "[]")
    assert environment == f"2 {condition(huge=True)['GLIBC_TUNABLES']} False"
    assert rest == "['-m', 'x'] []"


@pytest.mark.parametrize(
    ("code", "timeout", "reason", "words"),
    [
        ("import sys; print('the cause'); sys.exit(3)", 60.0, Reason.CRASHED, "ended with 3(.|\n)*the cause"),
        ("import time; time.sleep(60)", 0.5, Reason.TIMED_OUT, "within 0.5 s"),
    ],
)
def test_a_tool_that_fails_says_why(code: str, timeout: float, reason: Reason, words: str, tmp_path: Path) -> None:
    script = tmp_path / "tool.py"
    script.write_text(code, encoding="utf-8")
    with pytest.raises(CellProblem, match=words) as problem:
        program.run(HERE, str(script), [], variables={}, threads=1, cpus=[], timeout=timeout)
    assert problem.value.reason is reason


def test_a_tool_that_is_not_installed_is_told() -> None:
    with pytest.raises(CellProblem, match="installs a program no-such-tool"):
        program.run(HERE, "no-such-tool", [], variables={}, threads=1, cpus=[], timeout=60)


# -- for real ----------------------------------------------------------------------------------------------------------


def check(folder: Path, expected: set[tuple[str, str]]) -> None:
    """Two rounds of each, with the medians of real inferences, and a page that can be made of them."""
    (path,) = folder.glob("*.parquet")
    turns, facts = stored.read(path)
    assert {(one.cell, one.tool, one.round) for one in turns} == {(*one, n) for one in expected for n in range(2)}
    # PyTorch's timer is given the time for 20, whatever of the processor it then gets.
    assert all(one.median_ms > 0 and one.runs >= (1 if one.tool == "torch.utils.benchmark" else 20) for one in turns)
    told = [one for one in turns if one.inner_ms is not None]
    assert all(0 < float(one.inner_ms or 0) <= one.median_ms for one in told), "a part is no longer than the whole"
    assert facts["cells"].keys() == {cell for cell, _ in expected}
    page = report.document(folder)
    assert all(f"| {cell} | {tool} | 2 |" in page for cell, tool in expected if tool != GUEST)
    assert all(about["version"] in page for about in facts["cells"].values())


def named(cell: str, *others: str) -> Iterator[tuple[str, str]]:
    return ((cell, tool) for tool in (GUEST, *others))


@REAL
def test_guests_and_tools_are_timed_in_turn(tmp_path: Path) -> None:
    done = bench(
        "calibrate", "--options", "onnx,openvino", "--precisions", "fp32", "--imgsz", 128, "--rounds", 2,
        "--results", tmp_path / "runs",
    )  # fmt: skip
    assert done.code == 0, done.said
    assert "benchmark_app" in done.said
    expected = {*named("onnx-fp32-cpu-128", "bare loop"), *named("openvino-fp32-cpu-128", "bare loop", "benchmark_app")}
    check(tmp_path / "calibration", expected)


@REAL
def test_a_tool_that_fails_costs_its_cell_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    absent = [replace(tool, program="no-such-tool") for tool in tools.TOOLS if "onnx_runtime" in tool.runtimes]
    others = [tool for tool in tools.TOOLS if tool.name == "benchmark_app"]
    monkeypatch.setattr(tools, "TOOLS", (*absent, *others))
    done = bench(
        "calibrate", "--options", "onnx,openvino", "--precisions", "fp32", "--imgsz", 128, "--rounds", 2,
        "--results", tmp_path / "runs",
    )  # fmt: skip
    assert done.code == 1
    assert "onnx-fp32-cpu-128: crashed: no-such-tool ended with 1" in done.said
    check(tmp_path / "calibration", {*named("openvino-fp32-cpu-128", "benchmark_app")})


@REAL
@pytest.mark.options
def test_the_other_runtimes_have_tools_too(tmp_path: Path) -> None:
    done = bench(
        "calibrate", "--sweep", "full", "--options", "pytorch,torchscript,tflite,ncnn", "--precisions", "fp32",
        "--targets", "cpu", "--imgsz", 160, "--threads", 1, "--batch", 1, "--rounds", 2,
        "--results", tmp_path / "runs",
    )  # fmt: skip
    assert done.code == 0, done.said
    expected = {
        *named("pytorch-fp32-cpu-160", "torch.utils.benchmark"),
        *named("torchscript-fp32-cpu-160", "torch.utils.benchmark"),
        *named("tflite-fp32-cpu-160", "bare loop", "litert-benchmark"),
        *named("ncnn-fp32-cpu-160", "bare loop"),
    }
    check(tmp_path / "calibration", expected)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--options", "mnn"), "options that have one: pytorch, torchscript, onnx, openvino"),
        (("--options", "onnx", "--threads", "4096"), "--threads 4096: as many CPUs are needed"),
        (("--options", "onnxx"), "did you mean onnx"),
    ],
)
def test_what_cannot_be_calibrated_is_wrong_usage(arguments: tuple[str, ...], words: str, tmp_path: Path) -> None:
    done = bench("calibrate", *arguments, "--results", tmp_path / "runs")
    assert done.code == 2
    assert words in " ".join(done.said.split())
    assert not (tmp_path / "calibration").exists()
