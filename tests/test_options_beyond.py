"""Options that the guide does not name, for real on the demo checkpoint.

ExecuTorch, LiteRT.js in a browser, RKNN and QNN in their makers' simulators, an IMX500's graph on the processor, and
TensorRT for RTX as far as a machine without such a card goes.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from guest_spec import spec
from numpy.typing import NDArray

from bench.demo import CHECKPOINT
from bench.demo.render import render
from bench.environments.javascript import JsEnvironments
from bench.environments.locked import Environments
from bench.grid import machine, matrix
from bench.places import EXPORTERS, ROOT, RUNTIMES
from bench.reasons import CellProblem, Reason, Status
from bench.tasks.letterbox import letterbox
from bench.wall.artifacts import Artifact, Artifacts, ExportRequest
from bench.wall.worker import Worker

IMGSZ = 160
OPTIONS = matrix.load().options
Image = NDArray[np.float32]
BROWSER = next((path for name in ("chromium", "google-chrome") if (path := shutil.which(name))), None)
pytestmark = [
    pytest.mark.options,
    pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="environments need Python 3.11"),
]
in_browser = pytest.mark.skipif(not (BROWSER and shutil.which("npm")), reason="needs Chromium or Chrome, and npm")
GPU = machine.detect(matrix.load().targets["cuda"])
simulated = pytest.mark.skipif(
    not machine.detect(matrix.load().targets["rknn-simulator"]).found, reason="RKNN-Toolkit2 is for x86-64 Linux"
)
hexagon_simulated = pytest.mark.usefixtures("qnn_is_here")
two_cpus = pytest.mark.skipif(len(machine.available_cpus()) < 2, reason="needs two CPUs")


@pytest.fixture(scope="module")
def qnn_is_here(environments: Environments) -> None:
    """Skip where nobody has asked for QNN yet: to download it is to accept its maker's terms, which no test does."""
    if environments.existing("qnn") is None:
        pytest.skip("QNN is not installed: read docs/dependencies.md, then `python -m bench run --options qnn`")


@pytest.fixture(scope="module")
def calibration(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    folder = tmp_path_factory.mktemp("calibration")
    paths = tuple(folder / f"{seed}.png" for seed in range(8))
    for seed, path in enumerate(paths):
        assert cv2.imwrite(str(path), render(900_000 + seed)[0])
    return paths


@pytest.fixture(scope="module")
def inputs() -> list[Image]:
    return [letterbox(render(seed)[0], IMGSZ)[0] for seed in (1, 2)]


def exported(
    artifacts: Artifacts, option: str, precision: str, calibration: tuple[Path, ...] = (), imgsz: int = IMGSZ
) -> Artifact:
    """The artifact of an option as its matrix file says it is made."""
    export = OPTIONS[option].making

    def request(exporter: str, family: str, source: Artifact | None) -> ExportRequest:
        path = EXPORTERS / f"{exporter}.py"
        return ExportRequest(CHECKPOINT, exporter, "fp32", imgsz, 1, path, family, source=source)

    source = None
    for exporter, family in export.chain:
        source = artifacts.ensure(request(exporter, family, source))
    last = request(export.exporter, export.environment, source)
    images = calibration if OPTIONS[option].precisions[precision].calibrate else ()
    return artifacts.ensure(dataclasses.replace(last, precision=precision, calibration=images))


def spec_for(artifact: Artifact, target: str = "cpu", threads: int = 1, javascript: str = "") -> dict[str, Any]:
    return spec(artifact, IMGSZ, target=target, threads=threads, javascript=javascript)


def guest(environments: Environments, option: str, threads: int = 1) -> Worker:
    adapter = RUNTIMES / f"{OPTIONS[option].runtime}.py"
    python = environments.ensure(OPTIONS[option].environment).python
    cpus = machine.available_cpus()[-threads:]
    return Worker(python, adapter, variables=environments.variables(), threads=threads, cpus=cpus)


@pytest.fixture(scope="module")
def reference(cache: Path, environments: Environments, inputs: list[Image]) -> list[Image]:
    """PyTorch FP32 on the same inputs."""
    artifact = exported(Artifacts(cache, environments), "pytorch", "fp32")
    with guest(environments, "pytorch") as worker:
        worker.load(spec_for(artifact))
        outputs = [worker.infer(x) for x in inputs]
    assert all(output[:, 4:].max() > 0.3 for output in outputs)
    return outputs


def test_they_are_said_to_be_outside_the_guide() -> None:
    outside = {name for name, option in OPTIONS.items() if not option.in_guide and not option.lacks}
    assert outside == {"executorch", "imx", "litert-js", "ort-web", "qnn", "rknn", "tensorrt-lean", "tensorrt-rtx"}


def test_every_format_of_the_locked_ultralytics_is_known_by_both_names_that_it_has_there(
    environments: Environments,
) -> None:
    """A release that adds a format or renames one fails here: "LiteRT" and `litert` took TF Lite's place in one."""
    code = "import json; from ultralytics.engine.exporter import export_formats as f; print(json.dumps(f()))"
    python = environments.ensure("export-torch").python
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    formats = json.loads(done.stdout.splitlines()[-1])
    named = matrix.load().named
    assert formats["Argument"][0] == "-"  # of PyTorch, which is not exported
    titles, arguments = named(formats["Format"]), named(["pytorch", *formats["Argument"][1:]])
    assert titles == arguments
    assert set(titles) <= set(OPTIONS)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_executorch_agrees_with_pytorch_and_says_what_ran(
    precision: str,
    artifacts: Artifacts,
    environments: Environments,
    calibration: tuple[Path, ...],
    inputs: list[Image],
    reference: list[Image],
) -> None:
    artifact = exported(artifacts, "executorch", precision, calibration)
    with guest(environments, "executorch") as worker:
        worker.load(spec_for(artifact))
        outputs = [worker.infer(x) for x in inputs]
        again = worker.infer(inputs[0])
        attested = worker.stats(attest=True).attested
    assert np.array_equal(again, outputs[0])
    assert (attested["device"], attested["provider"], attested["threads"]) == ("cpu", "XnnpackBackend", 1)
    assert attested["compute"] == OPTIONS["executorch"].precisions[precision].compute
    assert attested["version"] == artifact.manifest["versions"]["executorch"]
    assert attested["input_shape"] == [1, 3, IMGSZ, IMGSZ]
    # 81 convolutions and 7 depthwise ones; the one that sums up a distribution over distances is not quantised.
    convolutions = attested["convolutions"]
    assert sum(convolutions.values()) == 88
    assert convolutions.get("Conv2d fp32 x fp32") == (81 if precision == "fp32" else 1), convolutions
    for output, expected in zip(outputs, reference, strict=True):
        difference = np.abs(output - expected)
        if precision == "fp32":
            assert difference[:, :4].max() < 0.05
            assert difference[:, 4:].max() < 1e-4
        else:
            assert difference.max() > 0.05
            assert np.corrcoef(output[0, 4:].ravel(), expected[0, 4:].ravel())[0, 1] > 0.95


@two_cpus
def test_executorchs_own_pool_gets_two_threads_when_two_are_asked_for(
    artifacts: Artifacts, environments: Environments, inputs: list[Image]
) -> None:
    artifact = exported(artifacts, "executorch", "fp32")
    running = []
    for threads in (1, 2):
        with guest(environments, "executorch", threads) as worker:
            worker.load(spec_for(artifact, threads=threads))
            worker.infer(inputs[0])
            stats = worker.stats(attest=True)
        assert stats.attested["threads"] == threads
        running.append(stats.threads)
    assert running[1] > running[0]


def test_executorch_refuses_another_target_and_another_batch(artifacts: Artifacts, environments: Environments) -> None:
    artifact = exported(artifacts, "executorch", "fp32")
    with guest(environments, "executorch") as worker:
        with pytest.raises(CellProblem, match="not on cuda") as problem:
            worker.load(spec_for(artifact, "cuda"))
        assert problem.value.reason is Reason.TARGET_UNSUPPORTED
        worker.load(spec_for(artifact))
        with pytest.raises(CellProblem, match=r"takes inputs of shape \[1, 3") as problem:
            worker.infer(np.zeros((2, 3, IMGSZ, IMGSZ), np.float32))
    assert problem.value.reason is Reason.BATCH_UNSUPPORTED
    assert problem.value.status is Status.SKIPPED


@pytest.mark.parametrize("option", ["executorch", pytest.param("litert-js", marks=in_browser)])
def test_a_corrupt_artifact_is_a_load_that_fails(
    option: str, artifacts: Artifacts, environments: Environments, cache: Path, tmp_path: Path
) -> None:
    artifact = exported(artifacts, option, "fp32")
    shutil.copytree(artifact.directory, tmp_path / "copy")
    entry = tmp_path / "copy" / artifact.manifest["entry"]
    entry.write_bytes(entry.read_bytes()[: entry.stat().st_size // 2])
    broken = dataclasses.replace(artifact, directory=tmp_path / "copy")
    target = OPTIONS[option].targets[0]
    with guest(environments, option) as worker, pytest.raises(CellProblem) as problem:
        worker.load(spec_for(broken, target, javascript=packages(cache) if option == "litert-js" else ""))
    assert problem.value.reason is Reason.LOAD_FAILED
    assert problem.value.status is Status.FAILED


def packages(cache: Path, family: str = "litert-js") -> str:
    """The folder of what a page loads."""
    return str(JsEnvironments(ROOT / "matrices", cache).ensure(family).directory)


@in_browser
@pytest.mark.parametrize("threads", [1, pytest.param(2, marks=two_cpus)])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_litert_js_agrees_with_pytorch_and_says_what_ran(
    precision: str,
    threads: int,
    artifacts: Artifacts,
    environments: Environments,
    cache: Path,
    inputs: list[Image],
    reference: list[Image],
) -> None:
    artifact = exported(artifacts, "litert-js", precision)
    with guest(environments, "litert-js", threads) as worker:
        worker.load(spec_for(artifact, "browser-wasm", threads, packages(cache)))
        outputs = [worker.infer(x) for x in inputs]
        timing = worker.time(3, 1)
        attested = worker.stats(attest=True).attested
    assert (attested["device"], attested["compute"], attested["threads"]) == ("wasm", "f32", threads)
    assert attested["input_shape"] == [1, 3, IMGSZ, IMGSZ]
    assert attested["version"] == "2.5.3"
    assert attested["declared"] == ["device", "provider", "compute", "threads"]
    assert timing.samples_ms.min() > 0
    for output, expected in zip(outputs, reference, strict=True):
        difference = np.abs(output - expected)
        assert difference[:, :4].max() < (0.05 if precision == "fp32" else 2.0)
        assert difference[:, 4:].max() < (1e-4 if precision == "fp32" else 0.05)
        assert (difference[:, :4].max() > 0.05) == (precision == "fp16")


@in_browser
@pytest.mark.parametrize(
    ("precision", "compute", "threads"),
    [("fp32", "f32", 1), ("int8", "i8", 1), pytest.param("fp32", "f32", 2, marks=two_cpus)],
)
def test_onnx_runtime_web_reads_what_ran_from_its_profile(
    precision: str,
    compute: str,
    threads: int,
    artifacts: Artifacts,
    environments: Environments,
    cache: Path,
    calibration: tuple[Path, ...],
    inputs: list[Image],
    reference: list[Image],
) -> None:
    """Both files take float32 in: by the type of their input alone both would be float32."""
    images = calibration if precision == "int8" else ()
    request = ExportRequest(CHECKPOINT, "onnx", precision, IMGSZ, 1, EXPORTERS / "onnx.py", "export-torch", images)
    artifact = artifacts.ensure(request)
    with guest(environments, "ort-web", threads) as worker:
        worker.load(spec_for(artifact, "browser-wasm", threads, packages(cache, "ort-web-js")))
        outputs = [worker.infer(x) for x in inputs]
        attested = worker.stats(attest=True).attested
    assert (attested["device"], attested["provider"]) == ("wasm", "CPUExecutionProvider")
    assert (attested["compute"], attested["threads"], attested["declared"]) == (compute, threads, [])
    assert attested["input_type"] == "float32"
    assert sum(attested["convolutions"].values()) == 88
    for output, expected in zip(outputs, reference, strict=True):
        assert (np.abs(output - expected)[:, :4].max() < 0.05) == (precision == "fp32")


# -- TensorRT for RTX ------------------------------------------------------------------------------------------------


KERNEL_SOURCE = re.compile(rb"[\t\n -~]{10000,}")
"""Text in an engine that is long enough to be the source of a kernel, whose preamble alone has 128 kB."""


@pytest.mark.parametrize(
    ("precision", "convolutions", "megabytes", "sources", "besides"),
    [
        ("fp32", {"f32": 88}, 13.8, 23, 10.8),
        ("fp16", {"f16": 88}, 9.2, 26, 5.8),  # half precision halves the weights
        # The convolution that sums up a distribution over distances is not quantised. The engine is the largest by the
        # sources of its kernels, as docs/method.md says, and without them the smallest.
        ("int8", {"f32": 1, "i8": 87}, 15.2, 87, 3.8),
    ],
)
def test_engines_for_rtx_cards_are_built_without_one(
    precision: str,
    convolutions: dict[str, int],
    megabytes: float,
    sources: int,
    besides: float,
    artifacts: Artifacts,
    calibration: tuple[Path, ...],
) -> None:
    """NVIDIA's own parser reads in the graph what the precision says, here and wherever `.ci/run` runs.

    The sizes are those that this release was seen to write at 320 px for the embedded model, a YOLO11n of ten classes.
    """
    artifact = exported(artifacts, "tensorrt-rtx", precision, calibration, 320)
    assert artifact.manifest["details"]["parsed_convolutions"] == convolutions
    assert artifact.manifest["versions"]["tensorrt-rtx-cu13-bindings"] == "1.7.1.116"
    assert artifact.size_bytes / 1e6 == pytest.approx(megabytes, rel=0.02)
    engine = (artifact.directory / artifact.manifest["entry"]).read_bytes()
    kernels = [text for text in KERNEL_SOURCE.findall(engine) if b"__global__" in text]
    assert len(kernels) == sources
    assert (len(engine) - sum(map(len, kernels))) / 1e6 == pytest.approx(besides, rel=0.02)


@pytest.mark.skipif(GPU.found, reason="has an NVIDIA GPU")
def test_without_a_card_the_runtime_for_rtx_says_what_is_missing(
    artifacts: Artifacts, environments: Environments
) -> None:
    artifact = exported(artifacts, "tensorrt-rtx", "fp32")
    with guest(environments, "tensorrt-rtx") as worker:
        with pytest.raises(CellProblem, match="TensorRT for RTX runs on the target cuda, not on cpu") as problem:
            worker.load(spec_for(artifact))
        assert problem.value.reason is Reason.TARGET_UNSUPPORTED
        with pytest.raises(CellProblem, match="CUDA finds no device") as problem:
            worker.load(spec_for(artifact, "cuda"))
    assert (problem.value.reason, problem.value.status) == (Reason.TARGET_ABSENT, Status.SKIPPED)


# -- RKNN, in the simulator of its toolkit --------------------------------------------------------------------------


@simulated
@pytest.mark.parametrize(("precision", "compute"), [("fp16", "f16"), ("int8", "i8")])
def test_rknns_simulator_agrees_with_pytorch_and_says_what_is_only_declared(
    precision: str,
    compute: str,
    artifacts: Artifacts,
    environments: Environments,
    calibration: tuple[Path, ...],
    inputs: list[Image],
    reference: list[Image],
) -> None:
    artifact = exported(artifacts, "rknn", precision, calibration)
    with guest(environments, "rknn") as worker:
        worker.load(spec_for(artifact, "rknn-simulator"))
        outputs = [worker.infer(x) for x in inputs]
        again = worker.infer(inputs[0])
        attested = worker.stats(attest=True).attested
    assert np.array_equal(again, outputs[0])
    assert (attested["device"], attested["compute"]) == ("rknn-simulator", compute)
    assert attested["declared"] == ["device", "provider", "compute"]
    assert attested["version"] == artifact.manifest["versions"]["rknn-toolkit2"]
    assert bool(attested["quantised_tensors"]) == (precision == "int8")
    for output, expected in zip(outputs, reference, strict=True):
        best = np.argsort(expected[0, 4:].max(axis=0))[-20:]
        difference = np.abs(output - expected)[0][:, best]
        # Half precision has 11 bits; int8 of this network is a few px off, and its scores some hundredths.
        assert difference[:4].max() < (1.5 if precision == "fp16" else 8)
        assert difference[4:].max() < (0.02 if precision == "fp16" else 0.3)
        assert difference.max() > 1e-5, "float32, and not what was asked for"
        assert np.corrcoef(output[0, 4:].ravel(), expected[0, 4:].ravel())[0, 1] > 0.95


@simulated
def test_rknn_is_made_for_a_board_and_run_by_nothing_but_the_simulator(
    artifacts: Artifacts, environments: Environments
) -> None:
    artifact = exported(artifacts, "rknn", "fp16")
    assert (artifact.directory / "model.rknn").stat().st_size > 1e6
    with guest(environments, "rknn") as worker:
        for target in ("cpu", "rockchip-npu"):
            with pytest.raises(CellProblem, match=f"run by its simulator, .* not on {target}") as problem:
                worker.load(spec_for(artifact, target))
            assert (problem.value.reason, problem.value.status) == (Reason.TARGET_UNSUPPORTED, Status.SKIPPED)
        worker.load(spec_for(artifact, "rknn-simulator"))
        with pytest.raises(CellProblem, match=r"takes inputs of shape \[1, 3") as problem:
            worker.infer(np.zeros((2, 3, IMGSZ, IMGSZ), np.float32))
    assert problem.value.reason is Reason.BATCH_UNSUPPORTED


# -- IMX500, its quantised graph on the processor -------------------------------------------------------------------


def test_the_graph_for_an_imx500_agrees_with_pytorch_and_says_how_it_rounds(
    artifacts: Artifacts,
    environments: Environments,
    calibration: tuple[Path, ...],
    inputs: list[Image],
    reference: list[Image],
) -> None:
    artifact = exported(artifacts, "imx", "int8", calibration)
    with guest(environments, "imx") as worker:
        worker.load(spec_for(artifact, "imx500-quantised"))
        outputs = [worker.infer(x) for x in inputs]
        again = worker.infer(inputs[0])
        attested = worker.stats(attest=True).attested
    assert np.array_equal(again, outputs[0])
    assert (attested["device"], attested["compute"], attested["declared"]) == ("cpu", "f32", [])
    assert attested["convolutions_between"] == {"w8a8": sum(attested["convolutions"].values())}
    assert set(attested["quantised"]["weights"]) == {"8"}
    assert set(attested["quantised"]["activations"]) == {"8", "16"}
    for output, expected in zip(outputs, reference, strict=True):
        # Eight bits of a score are its multiples of 1/256; a float that was not rounded is none.
        assert np.array_equal(output[0, 4:] * 256, np.rint(output[0, 4:] * 256))
        # Where PyTorch is surest. Boxes that it gives 0.3 move by 10 px, in the toolkit's own computation as well.
        best = np.argsort(expected[0, 4:].max(axis=0))[-5:]
        difference = np.abs(output - expected)[0][:, best]
        assert difference[:4].max() < 4
        assert difference[4:].max() < 0.1
        assert difference.max() > 1e-3, "float32, and not what was asked for"
        assert np.corrcoef(output[0, 4:].ravel(), expected[0, 4:].ravel())[0, 1] > 0.95


def test_the_graph_for_an_imx500_is_run_on_its_own_target_and_only_where_it_is_quantised(
    artifacts: Artifacts, environments: Environments, calibration: tuple[Path, ...]
) -> None:
    artifact = exported(artifacts, "imx", "int8", calibration)
    plain = exported(artifacts, "onnx", "fp32")
    with guest(environments, "imx") as worker:
        for target in ("cpu", "imx500"):
            with pytest.raises(CellProblem, match=f"run on its quantised graph here, .* not on {target}") as problem:
                worker.load(spec_for(artifact, target))
            assert (problem.value.reason, problem.value.status) == (Reason.TARGET_UNSUPPORTED, Status.SKIPPED)
        with pytest.raises(CellProblem, match="88 of 88 convolutions are not quantised"):
            worker.load(spec_for(plain, "imx500-quantised"))
        worker.load(spec_for(artifact, "imx500-quantised"))
        with pytest.raises(CellProblem, match=r"takes inputs of shape \[1, 3") as problem:
            worker.infer(np.zeros((2, 3, IMGSZ, IMGSZ), np.float32))
    assert problem.value.reason is Reason.BATCH_UNSUPPORTED


# -- QNN, in the simulator of its execution provider ----------------------------------------------------------------


WITH_HARDMAX = """
import sys, onnx
model = onnx.load(sys.argv[1])
graph = model.graph
graph.node.append(onnx.helper.make_node("Hardmax", [graph.output[0].name], ["hard"], "hard"))
graph.output.append(onnx.helper.make_tensor_value_info("hard", onnx.TensorProto.FLOAT, None))
onnx.save(model, sys.argv[1])
"""
"""A program that gives a graph one more output, of an operator that QNN does not have."""


@hexagon_simulated
def test_qnns_simulator_agrees_with_pytorch_and_says_what_is_only_declared(
    artifacts: Artifacts,
    environments: Environments,
    calibration: tuple[Path, ...],
    inputs: list[Image],
    reference: list[Image],
) -> None:
    artifact = exported(artifacts, "qnn", "int8", calibration)
    with guest(environments, "qnn") as worker:
        worker.load(spec_for(artifact, "hexagon-simulator"))
        outputs = [worker.infer(x) for x in inputs]
        again = worker.infer(inputs[0])
        attested = worker.stats(attest=True).attested
    assert np.array_equal(again, outputs[0])
    assert (attested["device"], attested["compute"]) == ("hexagon-simulator", "i8")
    assert (attested["provider"], attested["architecture"]) == ("QNNExecutionProvider", "73")
    assert attested["declared"] == ["device", "compute"]
    assert attested["input_shape"] == [1, 3, IMGSZ, IMGSZ]
    # All of the graph is one kernel of QNN's, and no node was left to ONNX Runtime's own.
    assert attested["kernels"] == {"QNNExecutionProvider": 1}
    assert set(attested["provider_nodes"]) == {"QNNExecutionProvider"}
    assert attested["convolutions"] == {"Conv w int8, x uint8 on QNNExecutionProvider": 88}
    for output, expected in zip(outputs, reference, strict=True):
        # Eight bits have 256 values, of boxes and scores together; float32 that was not rounded has thousands.
        assert len(np.unique(output)) <= 256
        require_alike(output, expected)
    with guest(environments, "onnx") as worker:  # the same graph, as ONNX Runtime's own kernels compute it
        worker.load(spec_for(artifact))
        for x, output in zip(inputs, outputs, strict=True):
            require_alike(output, worker.infer(x))


def require_alike(output: Image, expected: Image) -> None:
    """Boxes and scores agree where `expected` is surest; a box that it gives 0.1 moves by 8 px in eight bits."""
    best = np.argsort(expected[0, 4:].max(axis=0))[-5:]
    difference = np.abs(output - expected)[0][:, best]
    assert difference[:4].max() < 4
    assert difference[4:].max() < 0.1
    assert np.corrcoef(output[0, 4:].ravel(), expected[0, 4:].ravel())[0, 1] > 0.95


@hexagon_simulated
def test_qnns_graph_is_run_by_its_simulator_alone_and_only_where_it_is_quantised(
    artifacts: Artifacts, environments: Environments, calibration: tuple[Path, ...]
) -> None:
    artifact = exported(artifacts, "qnn", "int8", calibration)
    plain = exported(artifacts, "onnx", "fp32")
    with guest(environments, "qnn") as worker:
        for target in ("cpu", "hexagon"):
            with pytest.raises(CellProblem, match=f"run by its simulator here, .* not on {target}") as problem:
                worker.load(spec_for(artifact, target))
            assert (problem.value.reason, problem.value.status) == (Reason.TARGET_UNSUPPORTED, Status.SKIPPED)
        with pytest.raises(CellProblem, match="88 of 88 convolutions are not quantised"):
            worker.load(spec_for(plain, "hexagon-simulator"))
        worker.load(spec_for(artifact, "hexagon-simulator"))
        with pytest.raises(CellProblem, match=r"takes inputs of shape \[1, 3") as problem:
            worker.infer(np.zeros((2, 3, IMGSZ, IMGSZ), np.float32))
    assert problem.value.reason is Reason.BATCH_UNSUPPORTED


@hexagon_simulated
def test_what_qnn_does_not_take_is_left_to_nobody(
    artifacts: Artifacts, environments: Environments, calibration: tuple[Path, ...], tmp_path: Path
) -> None:
    """A node that ONNX Runtime's own kernels alone know ends the load; they would compute it where they may."""
    artifact = exported(artifacts, "qnn", "int8", calibration)
    shutil.copytree(artifact.directory, tmp_path / "copy")
    python = environments.ensure(OPTIONS["qnn"].environment).python
    subprocess.run([python, "-c", WITH_HARDMAX, tmp_path / "copy" / artifact.manifest["entry"]], check=True)
    changed = dataclasses.replace(artifact, directory=tmp_path / "copy")
    with guest(environments, "qnn") as worker, pytest.raises(CellProblem, match="fallback to CPU EP") as problem:
        worker.load(spec_for(changed, "hexagon-simulator"))
    assert problem.value.reason is Reason.LOAD_FAILED
