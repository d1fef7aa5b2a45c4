"""The main job from the command line, on the embedded default: whole runs with real guests, small on purpose."""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
from processes import command_line, lives
from running import USERS_CACHE, bench
from sweeps import LATENCY_OF_SECONDS, matrices_with

from bench import demo, store
from bench.grid.request import CACHE_VARIABLE, Request
from bench.guest.seal import ISOLATED, NETWORK, WRITES
from bench.places import GUEST, ROOT
from bench.store import benchmark_json
from bench.wall.confinement import refusals

pytest_plugins = ["pytester"]

SWEEP = """
description = "A minute: for the tests of the harness."
imgsz = [160]
images = 24
calibration_images = 8
options = ["onnx"]
precisions = ["fp32"]
targets = ["cpu", "arm-cpu"]
"""
SWEEP += LATENCY_OF_SECONDS


@pytest.fixture(scope="session")
def matrices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return matrices_with(SWEEP, tmp_path_factory.mktemp("matrices"))


def tiny(matrices: Path, results: Path, *arguments: str) -> list[str]:
    """A run of the tiny sweep, as a command."""
    return ["run", "--matrices", str(matrices), "--sweep", "tiny", "--results", str(results), "--run-id", "r",
            *arguments]  # fmt: skip


def variables(root: Path = ROOT) -> dict[str, str]:
    return os.environ | {CACHE_VARIABLE: str(Request({}).cache), "PYTHONPATH": str(root), "COLUMNS": "200"}


def started(command: Sequence[str], root: Path = ROOT) -> tuple[int, str]:
    """Exit code and output of the command line in an interpreter of its own."""
    line = [sys.executable, "-m", "bench", *command]
    done = subprocess.run(line, cwd=root, env=variables(root), capture_output=True, text=True, check=False, timeout=900)
    return done.returncode, done.stdout + done.stderr


def run(matrices: Path, results: Path, *arguments: str) -> tuple[int, str, Path]:
    done = bench(*tiny(matrices, results, *arguments))
    return done.code, done.said, results / "r"


@pytest.fixture(scope="session")
def finished(matrices: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    results = tmp_path_factory.mktemp("results")
    code, said = started(tiny(matrices, results))
    assert code == 0, said
    return results / "r"


NATIVE = "arm-cpu" if platform.machine().lower() in ("aarch64", "arm64") else "cpu"


def cells(directory: Path) -> pd.DataFrame:
    """The rows of this machine's own CPU."""
    table = store.read_table(directory, "cells")
    return table[table.target == NATIVE]


def test_a_run_measures_stores_and_reports(finished: Path) -> None:
    table = cells(finished).set_index("option")
    assert set(table.index) == {"pytorch", "onnx"}
    assert table.status.eq("measured").all()
    onnx = table.loc["onnx"]
    assert abs(onnx.map50_95 - table.loc["pytorch"].map50_95) < 0.005
    assert 0 < onnx.parity_box_max < 0.1
    assert onnx.map_delta_low <= onnx.map_delta <= onnx.map_delta_high
    assert onnx.latency_ratio > 0
    # A machine whose CPUs others are at work on gives no interval; a quiet one does.
    disturbed = store.read_table(finished, "environment").key.eq("latency_disturbed").any()
    assert disturbed or onnx.latency_ratio_low <= onnx.latency_ratio <= onnx.latency_ratio_high
    assert json.loads(str(onnx.attested))["threads"] == 1
    assert onnx.compute == "f32"
    assert onnx.network == refusals().get(NETWORK, ISOLATED)
    assert onnx.writes.startswith(refusals().get(WRITES, "own folders (Landlock "))
    for column in ("size_bytes", "env_bytes", "peak_rss_bytes", "import_ms", "load_ms", "first_inference_ms"):
        assert onnx[column] > 0, column
    assert (finished / "report.html").stat().st_size > 50_000


def test_every_cell_has_samples_and_detections(finished: Path) -> None:
    table = cells(finished)
    samples = store.read_table(finished, "samples")
    counts = samples.groupby("cell_id", observed=True).size()
    assert (counts[table.cell_id] >= 15).all()
    rounds = samples.groupby(["window", "round"]).cell_id.nunique()
    assert (rounds == 2).all()
    detections = store.read_table(finished, "detections")
    assert set(detections.cell_id.unique()) == set(table.cell_id)
    truth = store.read_table(finished, "ground_truth")
    assert truth.image_id.nunique() == 24
    facts = store.read_table(finished, "environment")
    assert {"run", "machine", "core", "targets", "env:onnx", "env:pytorch"} <= set(facts.scope)


def test_what_is_timed_and_evaluated_at_once_scores_as_what_is_evaluated_alone(
    finished: Path, matrices: Path, tmp_path: Path
) -> None:
    code, said, alone = run(matrices, tmp_path, "-k", "accuracy")
    assert code == 0, said
    columns = ["cell_id", "map50_95", "map50", "map75", "map_large", "map_delta", "map_delta_low", "map_delta_high",
               "map_per_class", "images", "evaluator"]  # fmt: skip
    pd.testing.assert_frame_equal(cells(finished)[columns], cells(alone)[columns], check_exact=True)
    one, other = (store.read_table(directory, "detections") for directory in (finished, alone))
    pd.testing.assert_frame_equal(one, other, check_exact=True)
    assert not (alone / "samples.parquet").exists()
    # Parity, the first inference of each of three processes and that of each of six turns leave the timed ones fewer of
    # the 24 images than two rounds of three samples take in three launches.
    samples = store.read_table(finished, "samples").groupby(["cell_id", "launch"], observed=True).size()
    assert samples.tolist() == [6, 6, 6] * 2


def test_two_runs_can_be_compared_by_pytest_benchmark(finished: Path, tmp_path: Path) -> None:
    # As on a quiet machine: other tests may be at work on the CPU of this run's guests, and then nothing of it counts.
    run = shutil.copytree(finished, tmp_path / "r")
    store.write_table(run, "samples", store.read_table(run, "samples").assign(contaminated=False).to_dict("records"))
    file = benchmark_json.write(run)
    assert file is not None
    other = shutil.copy(file, run / "other.json")
    command = [str(Path(sys.executable).parent / "pytest-benchmark"), "compare", str(file), str(other)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=run)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("test_latency[onnx-fp32") >= 2


def test_every_process_of_a_timed_cell_is_stored(finished: Path) -> None:
    launches = store.read_table(finished, "launches").set_index("cell_id")
    taken = store.read_table(finished, "samples").groupby("cell_id", observed=True).launch.unique()
    for cell in cells(finished).itertuples():
        own = launches.loc[[str(cell.cell_id)]]
        assert list(own.launch) == [0, 1, 2]
        assert list(taken.loc[str(cell.cell_id)]) == [0, 1, 2]
        for name in ("import_ms", "load_ms", "first_inference_ms", "peak_rss_bytes"):
            assert (own[name] > 0).all(), name
            assert getattr(cell, name) == pytest.approx(own[name].median()), name
            assert pd.isna(getattr(cell, f"{name}_low")), "so few processes bound no median"


@pytest.mark.skipif(sys.platform != "linux", reason="guests are forked on Linux alone")
def test_launches_may_be_forked(tmp_path: Path, temporary: Path) -> None:
    """Import, load and memory are then those of the process that a cell was characterised in."""
    code, said, alone = run(matrices_with(SWEEP + "forks = true\n", tmp_path / "matrices"), tmp_path)
    assert code == 0, said
    assert list(temporary.glob("bench-worker-*")) == []
    taken = store.read_table(alone, "samples").groupby("cell_id", observed=True).launch.unique()
    table = cells(alone)
    assert [list(launches) for launches in taken] == [[0, 1, 2]] * 2
    assert store.read_table(alone, "launches").empty
    for name in ("import_ms", "load_ms", "first_inference_ms", "peak_rss_bytes", "map50_95"):
        assert (table[name] > 0).all(), name
    assert table.import_ms_low.isna().all()
    assert not table.attested.isna().any()
    logs = sorted(path.name.rpartition("-")[2] for path in (alone / "logs").iterdir())
    assert logs == ["latency.log"] * 2 + ["measure.log"] * 2


def test_show_and_report_read_a_past_run(finished: Path, tmp_path: Path) -> None:
    shown = bench("show", "r", "--results", finished.parent)
    assert shown.code == 0, shown.said
    assert "ONNX" in shown.said
    page = tmp_path / "again.html"
    assert bench("report", finished, "--out", page).code == 0
    assert page.stat().st_size > 50_000


def test_pytest_users_get_what_they_expect(
    matrices: Path, tmp_path: Path, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(USERS_CACHE))
    results = tmp_path / "runs"
    base: list[str | Path] = [
        ROOT / "bench",
        "-p",
        "no:cacheprovider",
        "--matrices",
        matrices,
        "--sweep",
        "smoke",
        "--results",
        results,
    ]
    shown = pytester.runpytest_inprocess(*base, "--collect-only", "-q").stdout.str()
    assert "bench/suites/test_cells.py::test_latency[onnx-int8-cpu-320]" in shown
    assert not results.exists(), "--collect-only must measure nothing"
    some = pytester.runpytest_inprocess(*base, "--collect-only", "-q", "-k", "onnx and int8 and cuda").stdout.str()
    assert "[onnx-int8-cuda-320]" in some
    assert "pytorch" not in some
    skipped = pytester.runpytest_inprocess(*base, "-rs", "-k", "intel-gpu and fp32 and export")
    assert skipped.ret == 0
    skipped.assert_outcomes(skipped=1)
    assert "target_absent: Intel GPU not found" in skipped.stdout.str()


def test_a_format_that_nothing_here_makes_is_a_row_with_its_reason(matrices: Path, tmp_path: Path) -> None:
    asked = ("--options", "Hailo", "--precisions", "int8", "--targets", "hailo", "-k", "hailo")
    code, said, directory = run(matrices, tmp_path, *asked)
    assert code == 2, said  # as where every device is absent: nothing was measured
    row = store.read_table(directory, "cells").set_index("option").loc["hailo"]
    assert (row.status, row.reason_code) == ("skipped", "format_absent")
    assert row.reason.startswith("Hailo is not benched: what makes its files, Hailo's Dataflow Compiler")
    assert "Hailo is not benched" in (directory / "report.html").read_text(encoding="utf-8")
    done = bench("ab", "--matrices", matrices, "--options", "hailo", "--precisions", "int8", "--sweep", "tiny",
                 "--targets", "hailo", "--base", "current", "--candidate", "current")  # fmt: skip
    assert done.code == 2
    assert "Hailo is not benched" in done.said


def test_a_selection_leaves_the_other_cells_in_the_grid(matrices: Path, tmp_path: Path) -> None:
    code, said, directory = run(matrices, tmp_path, "--precisions", "fp32,fp16", "-k", "fp16 and export")
    assert code == 0, said
    table = store.read_table(directory, "cells").set_index("precision")
    assert set(table.loc["fp32"].reason_code) == {"not_selected"}


def test_a_reference_that_alone_was_asked_for_is_a_result(matrices: Path, tmp_path: Path) -> None:
    asked = ["--options", "pytorch,onnx", "--precisions", "fp32", "-k", "pytorch and export"]
    done = bench("run", "--matrices", matrices, "--sweep", "tiny", "--results", tmp_path, *asked)
    assert done.code == 0, done.said
    assert "nothing was measured" not in done.said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--sweep", "nope"], "no sweep 'nope'"),
        (["--options", "onxx"], "allowed: pytorch, torchscript, onnx"),
        (["--imgsz", "large"], "--imgsz large: not whole numbers"),
        (["--imgsz", "100"], "command line: imgsz"),
        (["--model", "missing.pt", "--data", "x.yaml"], "x.yaml"),
        (["--model", "missing.pt"], "--model needs --data"),
        (["--data", "missing.yaml"], "missing.yaml"),
        (["--run-id", "a/b"], "begin with a dot or contain a slash"),
        (["--targets", "intel-npu", "--options", "openvino"], "nothing was measured"),
        (["-k", "nothing_like_this"], "no cell matches"),
        (["-k", "(("], "Wrong expression passed to '-k': (("),
    ],
)
def test_wrong_usage_is_one_clear_message_and_exit_code_2(
    matrices: Path, tmp_path: Path, arguments: Sequence[str], said: str
) -> None:
    done = bench("run", "--matrices", matrices, "--sweep", "tiny", "--results", tmp_path, *arguments)
    assert done.code == 2, done.said
    assert said in done.said
    assert done.said.count("bench: ") == 1, done.said
    assert "Traceback" not in done.said


def test_wrong_usage_as_the_shell_sees_it(tmp_path: Path) -> None:
    code, said = started(["run", "--results", str(tmp_path), "--sweep", "nope"])
    assert code == 2, said
    assert said.startswith("bench: no sweep 'nope'")
    assert len(said.splitlines()) == 1, said


def test_a_data_file_that_names_a_missing_folder(tmp_path: Path) -> None:
    data = tmp_path / "data.yaml"
    data.write_text("path: .\ntrain: images/train\nval: images/nowhere\nnames: [a]\n", encoding="utf-8")
    done = bench("run", "--results", tmp_path / "r", "--data", data)
    assert done.code == 2
    assert "images/nowhere" in done.said
    assert "data.yaml, line 3" in done.said


def test_a_checkpoint_that_is_none(matrices: Path, tmp_path: Path) -> None:
    fake = tmp_path / "fake.pt"
    fake.write_bytes(b"this is no checkpoint")
    data = demo.prepare(Request({}).cache / "demo")
    code, said, directory = run(matrices, tmp_path, "--model", str(fake), "--data", str(data))
    assert code == 2, said
    assert "fake.pt cannot be used" in said
    assert not directory.exists()
    code, said, _ = run(matrices, tmp_path, "--model", str(tmp_path / "none.pt"), "--data", str(data))
    assert code == 2
    assert "none.pt: no such file" in said


def test_a_model_of_other_classes(matrices: Path, tmp_path: Path) -> None:
    data = demo.prepare(Request({}).cache / "demo")
    other = tmp_path / "other.yaml"
    text = f"path: {data.parent}\ntrain: images/calib\nval: images/val\nnames: [only, two]\n"
    other.write_text(text, encoding="utf-8")
    code, said, _ = run(matrices, tmp_path, "--data", str(other))
    assert code == 2, said


ECHO = """

_load, _attest = load, attest


def load(spec):
    global _asked
    _asked = {"fp32": "f16", "fp16": "f32"}[spec["precision"]]
    return _load(spec)


def attest(model):
    return _attest(model) | {"compute": _asked}
"""
"""Makes a runtime repeat what it is asked for."""


def test_raw_outputs_that_the_arithmetic_does_not_allow_make_a_row_invalid(matrices: Path, tmp_path: Path) -> None:
    """ONNX Runtime says half precision of float32 weights, and float32 of weights that were rounded to half."""
    folder = shutil.copytree(matrices, tmp_path / "matrices")
    guest = shutil.copytree(GUEST, tmp_path / GUEST.name)
    with (guest / "runtimes" / "onnx_runtime.py").open("a", encoding="utf-8") as adapter:
        adapter.write(ECHO)
    options = folder / "options" / "onnx.toml"
    text, begin, end = options.read_text(encoding="utf-8"), "[precisions.fp32]", "[precisions.int8]"
    claimed = '[precisions.fp32]\ncompute = "f16"\n\n[precisions.fp16]\ncompute = "f32"\n\n'
    options.write_text(text[: text.index(begin)] + claimed + text[text.index(end) :], encoding="utf-8")
    code, said, directory = run(folder, tmp_path, "--precisions", "fp32,fp16", "-k", "parity or attestation")
    assert code == 1, said
    rows: dict[Any, Any] = {(row.option, row.precision): row for row in cells(directory).itertuples()}
    assert rows["pytorch", "fp32"].status == "measured"  # it differs from itself by nothing
    near, far = rows["onnx", "fp32"], rows["onnx", "fp16"]
    assert (near.status, near.reason_code) == ("invalid", "parity_too_near")
    assert "f16 moves them by 0.003 px at least. So something finer was computed, whatever ONNX says" in near.reason
    assert (far.status, far.reason_code) == ("invalid", "parity_exceeded")
    assert "f32 stays within 0.005 px. So something else was computed, whatever ONNX says" in far.reason
    assert (near.compute, far.compute) == ("f16", "f32")  # what it says of itself is kept beside that
    assert near.parity_box_mean < 0.003
    assert far.parity_box_mean > 0.005


def test_kill_9_of_a_guest_costs_its_cell_alone(matrices: Path, tmp_path: Path) -> None:
    """A watcher kills the ONNX guest as soon as it is seen; PyTorch's row is whole."""
    command = [sys.executable, "-m", "bench", *tiny(matrices, tmp_path)]
    with subprocess.Popen(
        command, cwd=ROOT, env=variables(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        killed = False
        while process.poll() is None:
            for guest in psutil.Process(process.pid).children(recursive=True):
                if not killed and any("onnx_runtime.py" in part for part in command_line(guest)):
                    guest.send_signal(signal.SIGKILL)
                    killed = True
            time.sleep(0.005)
        assert process.returncode == 1
    assert killed
    table = cells(tmp_path / "r").set_index("option")
    assert table.loc["onnx"].status == "failed"
    assert table.loc["onnx"].reason_code == "crashed"
    assert "SIGKILL" in table.loc["onnx"].reason
    assert table.loc["pytorch"].status == "measured"
    assert table.loc["pytorch"].latency_p50_ms > 0


def test_a_full_disk_is_one_clear_error_and_keeps_what_was_measured(matrices: Path, tmp_path: Path) -> None:
    """On a real file system of 112 kB: rows fit, but not beside the raw outputs that a reference keeps for a while."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=112k", "tmpfs", str(disk)], check=False)
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        code, said = started(tiny(matrices, disk))
        assert code == 2, said
        assert "No space left on device" in said
        assert said.count("bench: cannot write") == 1, said
        assert "what was written before is complete" in said
        assert "Traceback" not in said
        row = cells(disk / "r").set_index("option").loc["pytorch"]
        assert row.size_bytes > 0
        assert row.parity_box_max == 0
        assert not list((disk / "r").glob(".*.tmp"))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def interruptible(command: Sequence[str]) -> subprocess.Popen[bytes]:
    """A process that Ctrl-C reaches also where these tests run in the background, which ignores it."""

    def restore() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    return subprocess.Popen(
        command, cwd=ROOT, env=variables(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        preexec_fn=restore,  # noqa: PLW1509 - all it does is one system call
    )  # fmt: skip


def test_ctrl_c_leaves_what_was_measured(matrices: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench", *tiny(matrices, tmp_path)]
    with interruptible(command) as process:
        while process.poll() is None:
            if (tmp_path / "r" / "cells.parquet").is_file() and cells(tmp_path / "r").map50_95.notna().any():
                guests = psutil.Process(process.pid).children(recursive=True)
                process.send_signal(signal.SIGINT)
                process.wait(120)
        assert process.returncode == 130
    table = cells(tmp_path / "r").set_index("option")
    assert table.loc["pytorch"].map50_95 > 0
    assert set(table.reason_code) == {"interrupted"}
    assert (tmp_path / "r" / "report.html").is_file()
    assert not any(lives(guest) for guest in guests)


def test_silent_bfloat16_is_caught(matrices: Path, tmp_path: Path) -> None:
    """OpenVINO left to itself computes in bf16 on CPUs that have it; the row must be invalid, not fast."""
    if not {"avx512_bf16", "amx_bf16"} & set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split()):
        pytest.skip("this CPU has no bfloat16, so OpenVINO has nothing to fall into")
    folder = shutil.copytree(matrices, tmp_path / "matrices")
    path = folder / "options" / "openvino.toml"
    text = path.read_text(encoding="utf-8")
    asked = '[precisions.fp32]\ncompute = "f32"\nruntime_options = { inference_precision = "f32" }\n'
    assert asked in text
    path.write_text(text.replace(asked, '[precisions.fp32]\ncompute = "f32"\n'), encoding="utf-8")
    code, said, directory = run(folder, tmp_path, "--options", "openvino", "-k", "attestation and openvino")
    assert code == 1, said
    row = cells(directory).set_index("option").loc["openvino"]
    assert row.status == "invalid"
    assert row.reason_code == "attestation_mismatch"
    assert "asked f32, ran bf16" in row.reason
