"""TF.js in a real browser: parity, attestation, clocks and processes, and what happens when something is missing."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from guest_spec import spec
from processes import below, left

from bench import store
from bench.demo import CHECKPOINT
from bench.demo.render import render
from bench.environments.javascript import JsEnvironments
from bench.environments.locked import Environments
from bench.grid import machine
from bench.places import EXPORTERS, GUEST, MATRICES, ROOT, RUNTIMES
from bench.reasons import CellProblem, Reason, Status
from bench.tasks.letterbox import letterbox
from bench.wall.artifacts import Artifact, Artifacts, ExportRequest
from bench.wall.worker import Worker

IMGSZ = 160
Images = list[np.ndarray[Any, np.dtype[np.float32]]]
BROWSER = next((path for name in ("chromium", "google-chrome") if (path := shutil.which(name))), None)
pytestmark = [
    pytest.mark.options,
    pytest.mark.skipif(BROWSER is None, reason="needs Chromium or Chrome"),
    pytest.mark.skipif(shutil.which("npm") is None, reason="needs npm"),
    pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="environments need Python 3.11"),
]


@pytest.fixture(scope="module")
def javascript(cache: Path) -> Path:
    return JsEnvironments(ROOT / "matrices", cache).ensure("browser-js").directory


def request_for(exporter: str, environment: str, precision: str = "fp32", source: Artifact | None = None) -> Any:
    path = EXPORTERS / f"{exporter}.py"
    return ExportRequest(CHECKPOINT, exporter, precision, IMGSZ, 1, path, environment, source=source)


@pytest.fixture(scope="module")
def exported(cache: Path, environments: Environments, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    """The three forms, really exported; the SavedModel they come from may be in the cache."""
    kept, own = Artifacts(cache, environments), Artifacts(tmp_path_factory.mktemp("cache"), environments)
    source = kept.ensure(request_for("onnx_normalised", "export-torch"))
    source = kept.ensure(request_for("saved_model", "export-tf", source=source))
    precisions = ("fp32", "fp16", "uint8")
    return {name: own.ensure(request_for("tfjs", "export-tf", name, source)) for name in precisions}


@pytest.fixture(scope="module")
def inputs() -> Images:
    return [letterbox(render(seed)[0], IMGSZ)[0] for seed in (1, 2)]


@pytest.fixture(scope="module")
def reference(cache: Path, environments: Environments, inputs: Images) -> Images:
    """PyTorch FP32 on the same inputs."""
    artifact = Artifacts(cache, environments).ensure(request_for("pytorch", "export-torch"))
    adapter = RUNTIMES / "pytorch.py"
    with Worker(environments.ensure("pytorch").python, adapter, variables=environments.variables()) as worker:
        worker.load(spec_for(artifact, "cpu", Path()))
        return [worker.infer(x) for x in inputs]


def spec_for(artifact: Artifact, target: str, javascript: Path, threads: int = 1) -> dict[str, Any]:
    return spec(artifact, IMGSZ, target=target, threads=threads, javascript=javascript)


def guest(environments: Environments, threads: int = 1, **variables: str) -> Worker:
    cpus = machine.available_cpus()[-threads:]
    python, adapter = environments.ensure("browser").python, RUNTIMES / "tfjs.py"
    return Worker(python, adapter, variables=environments.variables() | variables, threads=threads, cpus=cpus)


def test_the_weights_shrink_with_the_form_and_the_manifest_says_nhwc(exported: dict[str, Artifact]) -> None:
    sizes = {name: artifact.size_bytes for name, artifact in exported.items()}
    assert 0.45 < sizes["fp16"] / sizes["fp32"] < 0.6
    assert 0.22 < sizes["uint8"] / sizes["fp32"] < 0.35
    for artifact in exported.values():
        assert artifact.manifest["input"]["layout"] == "NHWC"
        assert artifact.manifest["input"]["shape"] == [1, IMGSZ, IMGSZ, 3]
        assert artifact.manifest["output"]["units"] == "unit"
        assert artifact.manifest["versions"]["tensorflowjs"] == "4.22.0"


@pytest.mark.parametrize("precision", ["fp32", "fp16", "uint8"])
def test_wasm_agrees_with_pytorch_and_says_what_ran(
    precision: str,
    exported: dict[str, Artifact],
    environments: Environments,
    javascript: Path,
    inputs: Images,
    reference: Images,
) -> None:
    with guest(environments) as worker:
        loaded = worker.load(spec_for(exported[precision], "browser-wasm", javascript))
        outputs = [worker.infer(x) for x in inputs]
        sample = worker.sample(inputs[-1])
        started = time.perf_counter()
        timing = worker.time(5, 1)
        elapsed = time.perf_counter() - started
        stats = worker.stats(attest=True)
        own = psutil.Process(worker.pid).memory_info().rss
    attested = stats.attested
    assert loaded.emulated == ""
    assert (attested["device"], attested["compute"], attested["threads"]) == ("wasm", "f32", 1)
    assert attested["input_shape"] == [1, 3, IMGSZ, IMGSZ]
    assert attested["simd"] is True
    assert attested["cross_origin_isolated"] is True
    assert attested["filters"] == {"float32": 88}
    assert attested["declared"] == []
    assert attested["software"] is False
    assert attested["clock_resolution_us"] <= 20  # 100 without isolation
    # The page's clock and this process's agree: five inferences fit into the time that asking for them took.
    assert 0 < timing.samples_ms.sum() / 1e3 < elapsed
    assert timing.cpu_s > 0
    # An inference whose output is handed out is timed by the page too, without the asking and the handing out.
    assert np.array_equal(sample.outputs["output"], outputs[-1])
    assert 0 < sample.ms == pytest.approx(sample.wall_s * 1e3)
    assert stats.peak_rss_bytes > 2 * own  # the browser's, not that of the process which drives it
    for output, expected in zip(outputs, reference, strict=True):
        difference = np.abs(output - expected)
        best = np.argsort(expected[0, 4:].max(axis=0))[-20:]
        if precision == "fp32":
            assert difference[:, :4].max() < 0.05
            assert difference[:, 4:].max() < 1e-4
        else:
            assert difference.max() > 0
            assert difference[0, :4, best].mean() < 8
            assert np.corrcoef(output[0, 4:].ravel(), expected[0, 4:].ravel())[0, 1] > 0.8


@pytest.mark.skipif(len(machine.available_cpus()) < 2, reason="needs two CPUs")
def test_two_threads_are_two_threads(
    exported: dict[str, Artifact], environments: Environments, javascript: Path, inputs: Images, reference: Images
) -> None:
    with guest(environments, 2) as worker:
        worker.load(spec_for(exported["fp32"], "browser-wasm", javascript, 2))
        difference = np.abs(worker.infer(inputs[0]) - reference[0])
        assert worker.stats(attest=True).attested["threads"] == 2
    assert difference[:, 4:].max() < 1e-4


def test_plain_javascript_agrees_with_pytorch(
    exported: dict[str, Artifact], environments: Environments, javascript: Path, inputs: Images, reference: Images
) -> None:
    with guest(environments) as worker:
        worker.load(spec_for(exported["fp32"], "browser-cpu", javascript))
        difference = np.abs(worker.infer(inputs[0]) - reference[0])
        assert worker.stats(attest=True).attested["device"] == "cpu"
    assert difference[:, :4].max() < 0.05
    assert difference[:, 4:].max() < 1e-4


def test_webgpu_names_what_draws(exported: dict[str, Artifact], environments: Environments, javascript: Path) -> None:
    with guest(environments) as worker:
        loaded = worker.load(spec_for(exported["fp32"], "browser-webgpu", javascript))
        attested = worker.stats(attest=True).attested
    assert (attested["device"], attested["compute"]) == ("webgpu", "f32")
    assert attested["renderer"]
    assert attested["software"] == bool(loaded.emulated)
    assert loaded.emulated in ("", attested["renderer"])


def test_what_is_drawn_in_software_is_checked_on_few_images_and_not_timed(cache: Path, tmp_path: Path) -> None:
    """A whole run of WebGL."""
    folder = shutil.copytree(MATRICES, tmp_path / "matrices")
    sweep = 'description = "test"\nimgsz = [160]\nimages = 12\noptions = ["tfjs"]\nprecisions = ["fp32"]\n'
    sweep += 'targets = ["browser-webgl"]\nparity.images = 1\nlatency = { min_launches = 3, max_launches = 3 }\n'
    (folder / "sweeps" / "webgl.toml").write_text(sweep, encoding="utf-8")
    targets = (folder / "targets.toml").read_text(encoding="utf-8").replace("images = 8\n", "images = 3\n")
    (folder / "targets.toml").write_text(targets, encoding="utf-8")
    command = [sys.executable, "-m", "bench", "run", "--matrices", str(folder), "--sweep", "webgl"]
    command += ["--results", str(tmp_path), "--run-id", "r", "--cache", str(cache)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = store.read_table(tmp_path / "r", "cells").set_index("option")
    cell, own = rows.loc["tfjs"], rows.loc["pytorch"]
    assert cell.status == "measured"
    assert cell.map_delta == pytest.approx(0, abs=0.002)
    if '"software": true' not in cell.attested:
        pytest.skip("this machine draws WebGL on a GPU")
    assert (cell.images, own.images) == (3, 12)
    assert "stands in for the device" in cell.latency_stop
    assert np.isnan(cell.latency_p50_ms)
    assert own.latency_p50_ms > 0


@pytest.mark.parametrize("damaged", ["model.json", "group1-shard1of3.bin"])
def test_a_damaged_artifact_is_a_load_that_fails(
    damaged: str, exported: dict[str, Artifact], environments: Environments, javascript: Path, tmp_path: Path
) -> None:
    shutil.copytree(exported["fp32"].directory, tmp_path / "copy")
    file = tmp_path / "copy" / damaged
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    broken = dataclasses.replace(exported["fp32"], directory=tmp_path / "copy")
    with guest(environments) as worker, pytest.raises(CellProblem) as problem:
        worker.load(spec_for(broken, "browser-wasm", javascript))
    assert problem.value.reason is Reason.LOAD_FAILED


def test_without_a_browser_the_cell_is_skipped_with_how_to_get_one(
    exported: dict[str, Artifact], environments: Environments, javascript: Path, tmp_path: Path
) -> None:
    nowhere: dict[str, Any] = {"PATH": str(tmp_path), "PLAYWRIGHT_BROWSERS_PATH": str(tmp_path)}
    with guest(environments, **nowhere) as worker, pytest.raises(CellProblem, match="Install Chromium") as problem:
        worker.load(spec_for(exported["fp32"], "browser-wasm", javascript))
    assert problem.value.reason is Reason.TARGET_ABSENT
    assert problem.value.status is Status.SKIPPED


HELPERS = """
import os, subprocess, sys
from pathlib import Path

sys.path.insert(0, sys.argv[1])
import server

_browser = server.import_adapter(Path(sys.argv[1], "runtimes", "_browser.py"))
with subprocess.Popen(["sleep", "60"]) as living, subprocess.Popen(["true"]) as ended:
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)  # a zombie from here on
    print([process.pid == living.pid for process in _browser.Page.processes(None)])
    living.kill()
"""


def test_a_helper_of_the_browser_that_has_just_ended_is_not_counted(environments: Environments) -> None:
    command = [str(environments.ensure("browser").python), "-c", HELPERS, str(GUEST)]
    done = subprocess.run(command, env=environments.variables(), capture_output=True, text=True, check=False)
    assert done.stdout == "[True]\n", done.stderr


@pytest.mark.parametrize(
    ("script", "reason", "told"),
    [
        ('case "$*" in --version) echo Chromium 1.2.3;; *) kill -9 $$;; esac', Reason.LOAD_FAILED, "SIGKILL"),
        ('case "$*" in --version) echo Chromium 1.2.3;; *) exit 3;; esac', Reason.LOAD_FAILED, "exitCode=3"),
        ("exit 127", Reason.TARGET_ABSENT, "cannot be started"),  # as without one of its libraries
    ],
    ids=["killed", "ended", "cannot"],
)
def test_a_browser_that_ends_at_its_start_is_no_absent_one(
    exported: dict[str, Artifact],
    environments: Environments,
    javascript: Path,
    tmp_path: Path,
    script: str,
    reason: Reason,
    told: str,
) -> None:
    chromium = tmp_path / "chromium"
    chromium.write_text(f"#!/bin/sh\n{script}\n", encoding="ascii")
    chromium.chmod(0o755)
    with guest(environments, PATH=str(tmp_path)) as worker, pytest.raises(CellProblem, match=told) as problem:
        worker.load(spec_for(exported["fp32"], "browser-wasm", javascript))
    assert problem.value.reason is reason


def test_a_guest_that_is_killed_leaves_no_browser_behind(
    exported: dict[str, Artifact], environments: Environments, javascript: Path, inputs: Images
) -> None:
    with guest(environments) as worker:
        worker.load(spec_for(exported["fp32"], "browser-wasm", javascript))
        worker.infer(inputs[0])
        living = below(worker.pid, "chrom")
        assert living
        with pytest.raises(CellProblem) as problem:
            worker.time(10_000, 0, timeout=0.5)
    assert problem.value.reason is Reason.TIMED_OUT
    assert not left(living)
