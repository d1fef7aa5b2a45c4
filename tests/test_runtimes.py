"""The real exporters and runtimes on the demo checkpoint: parity with PyTorch, attestation, and what goes wrong.

The first run builds the locked environments (some 2.5 GB, a minute or two); later ones take them from the cache.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from guest_spec import spec

from bench.demo import CHECKPOINT
from bench.demo.render import render
from bench.environments.locked import Environments
from bench.grid import machine
from bench.places import EXPORTERS, GUEST, RUNTIMES
from bench.reasons import CellProblem, Reason, Status
from bench.tasks.letterbox import letterbox
from bench.wall.artifacts import Artifact, Artifacts, ExportRequest
from bench.wall.confinement import UNCONFINED
from bench.wall.worker import Worker

ROOT = Path(__file__).parents[1]
IMGSZ = 320
pytestmark = [
    pytest.mark.skipif(not CHECKPOINT.is_file(), reason=f"{CHECKPOINT.name} is not there yet"),
    pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="environments need Python 3.11"),
]

# id: option, its precision, precision of the artifact, runtime, runtime options, arithmetic to be attested,
# largest difference from PyTorch FP32 in box px and in score (None: quantised, judged by what it detects)
CASES: dict[str, tuple[str, str, str, str, dict[str, Any], str, tuple[float, float] | None]] = {
    "torchscript": ("torchscript", "fp32", "fp32", "torchscript", {}, "f32", (0.05, 1e-4)),
    "onnx": ("onnx", "fp32", "fp32", "onnx_runtime", {}, "f32", (0.05, 1e-4)),
    "onnx-fp16": ("onnx", "fp16", "fp16", "onnx_runtime", {}, "f32", None),
    "onnx-int8": ("onnx", "int8", "int8", "onnx_runtime", {}, "i8", None),
    "openvino": ("openvino", "fp32", "fp32", "openvino_runtime", {"inference_precision": "f32"}, "f32", (0.05, 1e-4)),
    "openvino-fp16": ("openvino", "fp16", "fp16", "openvino_runtime", {"inference_precision": "f32"}, "f32", None),
    "openvino-int8": ("openvino", "int8", "int8", "openvino_runtime", {"inference_precision": "f32"}, "i8", None),
    "openvino-bf16": ("openvino", "bf16", "fp32", "openvino_runtime", {"inference_precision": "bf16"}, "bf16", None),
}


@pytest.fixture(scope="module")
def calibration(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    folder = tmp_path_factory.mktemp("calibration")
    paths = []
    for seed in range(8):
        paths.append(folder / f"{seed}.png")
        assert cv2.imwrite(str(paths[-1]), render(900_000 + seed)[0])
    return tuple(paths)


@pytest.fixture(scope="module")
def inputs() -> list[np.ndarray[Any, np.dtype[np.float32]]]:
    return [letterbox(render(seed)[0], IMGSZ)[0] for seed in (1, 2)]


def request_for(option: str, precision: str, calibration: tuple[Path, ...]) -> ExportRequest:
    images = calibration if precision.startswith("int8") else ()
    exporter = EXPORTERS / f"{option}.py"
    return ExportRequest(CHECKPOINT, option, precision, IMGSZ, 1, exporter, "export-torch", images)


def spec_for(artifact: Artifact, precision: str, options: dict[str, Any], target: str = "cpu") -> dict[str, Any]:
    return spec(artifact, IMGSZ, precision=precision, target=target, options=options)


def guest(environments: Environments, family: str, runtime: str) -> Worker:
    adapter = RUNTIMES / f"{runtime}.py"
    return Worker(environments.ensure(family).python, adapter, variables=environments.variables(), threads=1)


@pytest.fixture(scope="module")
def reference(
    artifacts: Artifacts, environments: Environments, inputs: list[np.ndarray[Any, np.dtype[np.float32]]]
) -> list[np.ndarray[Any, np.dtype[np.float32]]]:
    """PyTorch FP32, attested, on the same inputs."""
    artifact = artifacts.ensure(request_for("pytorch", "fp32", ()))
    assert (artifact.directory / "model.pt").read_bytes() == CHECKPOINT.read_bytes()
    with guest(environments, "pytorch", "pytorch") as worker:
        worker.load(spec_for(artifact, "fp32", {}))
        outputs = [worker.infer(x) for x in inputs]
        attested = worker.stats(attest=True).attested
    assert (attested["compute"], attested["device"], attested["threads"]) == ("f32", "cpu", 1)
    assert attested["declared"] == []
    assert sum(attested["convolutions"].values()) > 80
    # Random or broken weights would let everything below agree about nothing.
    assert all(output[:, 4:].max() > 0.3 for output in outputs)
    return outputs


def top(output: np.ndarray[Any, np.dtype[np.float32]], count: int = 20) -> np.ndarray[Any, np.dtype[np.intp]]:
    """Anchors with the highest scores."""
    return np.argsort(output[0, 4:].max(axis=0))[-count:]


@pytest.mark.parametrize("case", CASES)
def test_each_export_runs_attests_and_agrees_with_pytorch(
    case: str,
    artifacts: Artifacts,
    environments: Environments,
    calibration: tuple[Path, ...],
    inputs: list[np.ndarray[Any, np.dtype[np.float32]]],
    reference: list[np.ndarray[Any, np.dtype[np.float32]]],
) -> None:
    option, precision, stored, runtime, options, compute, limits = CASES[case]
    artifact = artifacts.ensure(request_for(option, stored, calibration))
    with guest(environments, option, runtime) as worker:
        try:
            loaded = worker.load(spec_for(artifact, precision, options))
        except CellProblem as problem:
            if problem.status is Status.SKIPPED:  # no bfloat16 on this CPU
                pytest.skip(str(problem))
            raise
        outputs = [worker.infer(x) for x in inputs]
        timing = worker.time(3, 1)
        attested = worker.stats(attest=True).attested
    assert loaded.load_ms > 0
    assert timing.samples_ms.min() > 0
    if sys.platform == "linux" and os.uname().machine == "x86_64":
        assert attested["compute"] == compute, attested
    assert attested["device"] == "cpu"
    assert attested["threads"] == 1
    assert attested["input_shape"] == [1, 3, IMGSZ, IMGSZ]
    assert attested["version"] in artifact.manifest["versions"].values()
    assert attested["declared"] == []
    for output, expected in zip(outputs, reference, strict=True):
        difference = np.abs(output - expected)
        if limits is not None:
            assert difference[:, :4].max() < limits[0]
            assert difference[:, 4:].max() < limits[1]
        else:
            # Still the same detector: the anchors that PyTorch is sure about are those it is sure about.
            assert difference.max() > 0
            assert difference[0, :4, top(expected)].mean() < 8
            assert np.corrcoef(output[0, 4:].ravel(), expected[0, 4:].ravel())[0, 1] > 0.8


# -- what an attestation would get wrong by repeating the request ------------------------------------------------------


def attested(environments: Environments, option: str, runtime: str, given: dict[str, Any]) -> dict[str, Any]:
    """What a runtime attests after an inference."""
    python, adapter = environments.ensure(option).python, RUNTIMES / f"{runtime}.py"
    with Worker(python, adapter, variables=environments.variables(), threads=int(given["threads"])) as worker:
        worker.load(given)
        worker.infer(np.zeros((1, 3, IMGSZ, IMGSZ), np.float32))
        return worker.stats(attest=True).attested


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="Arm's kernels differ")
@pytest.mark.parametrize(
    ("option", "runtime", "options"),
    [("onnx", "onnx_runtime", {}), ("openvino", "openvino_runtime", {"inference_precision": "f32"})],
)
def test_a_float32_file_is_attested_as_that_whatever_was_asked_for(
    option: str, runtime: str, options: dict[str, Any], artifacts: Artifacts, environments: Environments
) -> None:
    artifact = artifacts.ensure(request_for(option, "fp32", ()))
    said = attested(environments, option, runtime, spec_for(artifact, "int8", options))
    assert (said["compute"], said["declared"]) == ("f32", [])


@pytest.mark.skipif(len(machine.available_cpus()) < 2, reason="needs two CPUs")
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="this system does not list threads")
def test_onnx_runtimes_threads_are_those_it_started(artifacts: Artifacts, environments: Environments) -> None:
    artifact = artifacts.ensure(request_for("onnx", "fp32", ()))
    said = attested(environments, "onnx", "onnx_runtime", spec(artifact, IMGSZ, threads=2))
    assert (said["threads"], said["declared"]) == (2, [])


def test_openvinos_threads_are_those_it_settled_on(artifacts: Artifacts, environments: Environments) -> None:
    artifact = artifacts.ensure(request_for("openvino", "fp32", ()))
    said = attested(environments, "openvino", "openvino_runtime", spec(artifact, IMGSZ, threads=1000))
    assert said["threads"] == len(machine.available_cpus())


PROVIDERS = """
import json, sys, torch
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import server
_torch = server.import_adapter(Path(sys.argv[1], "runtimes", "_torch.py"))
network = torch.nn.Conv2d(3, 8, 3).eval()
model = _torch.Model(network, torch.device("cpu"), torch.float32, (1, 3, 160, 160))  # not too small for oneDNN
said = [_torch.attest(model)["provider"]]
with torch.backends.mkldnn.flags(enabled=False):
    said.append(_torch.attest(model)["provider"])
print(json.dumps(said))
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="Arm's kernels differ")
def test_pytorchs_provider_is_whose_kernels_ran_and_not_what_is_installed(environments: Environments) -> None:
    python = environments.ensure("torchscript").python
    done = subprocess.run([str(python), "-c", PROVIDERS, str(GUEST)], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == ["oneDNN", "native"]


@pytest.mark.parametrize(
    ("option", "runtime"),
    [("torchscript", "torchscript"), ("onnx", "onnx_runtime"), ("openvino", "openvino_runtime")],
)
def test_a_corrupt_artifact_is_a_load_that_fails(
    option: str, runtime: str, artifacts: Artifacts, environments: Environments, tmp_path: Path
) -> None:
    artifact = artifacts.ensure(request_for(option, "fp32", ()))
    shutil.copytree(artifact.directory, tmp_path / "copy")
    entry = tmp_path / "copy" / artifact.manifest["entry"]
    entry.write_bytes(entry.read_bytes()[: entry.stat().st_size // 2])
    broken = dataclasses.replace(artifact, directory=tmp_path / "copy")
    with guest(environments, option, runtime) as worker, pytest.raises(CellProblem) as problem:
        worker.load(spec_for(broken, "fp32", {}))
    assert problem.value.reason is Reason.LOAD_FAILED


@pytest.mark.parametrize(
    ("option", "runtime", "target", "reasons"),
    [
        ("torchscript", "torchscript", "edge-tpu", {Reason.TARGET_UNSUPPORTED}),
        ("onnx", "onnx_runtime", "cuda", {Reason.TARGET_ABSENT}),
        ("openvino", "openvino_runtime", "intel-npu", {Reason.TARGET_ABSENT}),
    ],
)
def test_a_device_that_is_not_there_is_skipped_with_words(
    option: str,
    runtime: str,
    target: str,
    reasons: set[Reason],
    artifacts: Artifacts,
    environments: Environments,
) -> None:
    artifact = artifacts.ensure(request_for(option, "fp32", ()))
    with guest(environments, option, runtime) as worker, pytest.raises(CellProblem) as problem:
        worker.load(spec_for(artifact, "fp32", {}, target))
    assert problem.value.reason in reasons
    assert problem.value.status is Status.SKIPPED
    assert problem.value.text.endswith(".")


def test_a_precision_no_exporter_writes_is_skipped(artifacts: Artifacts) -> None:
    with pytest.raises(CellProblem, match="writes fp32, tf32, fp16, not bf16") as problem:
        artifacts.ensure(request_for("torchscript", "bf16", ()))
    assert problem.value.reason is Reason.PRECISION_UNSUPPORTED


def test_a_size_off_the_stride_is_refused_with_the_remedy(artifacts: Artifacts) -> None:
    with pytest.raises(CellProblem, match="multiple of the stride 32") as problem:
        artifacts.ensure(dataclasses.replace(request_for("onnx", "fp32", ()), imgsz=300))
    assert problem.value.reason is Reason.EXPORT_FAILED
    assert "Traceback" not in problem.value.text


def png_without_pixels() -> bytes:
    """A picture that is sound as far as its header and its sums say, and cannot be decoded."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 40, 40, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"no pixels") + chunk(b"IEND", b"")


def test_unreadable_calibration_images_are_not_silently_dropped(
    artifacts: Artifacts, calibration: tuple[Path, ...], tmp_path: Path
) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"not a picture")
    with pytest.raises(CellProblem, match=f"1 of 2 calibration images can be used: .*{re.escape(str(bad))}"):
        artifacts.ensure(request_for("onnx", "int8", (calibration[0], bad)))
    hollow = tmp_path / "hollow.png"
    hollow.write_bytes(png_without_pixels())
    with pytest.raises(CellProblem, match=r"hollow\.png"):
        artifacts.ensure(request_for("onnx", "int8", (calibration[0], hollow)))


def test_checkpoints_are_looked_into_first(environments: Environments, artifacts: Artifacts, tmp_path: Path) -> None:
    exporter = EXPORTERS / "checkpoint.py"
    python = environments.ensure("export-torch").python
    scripted = artifacts.ensure(request_for("torchscript", "fp32", ())).directory / "model.torchscript"
    shutil.copyfile(scripted, tmp_path / "scripted.pt")
    (tmp_path / "text.pt").write_text("not a checkpoint", encoding="utf-8")
    (tmp_path / "cut.pt").write_bytes(CHECKPOINT.read_bytes()[:100_000])
    (tmp_path / "model.onnx").touch()
    # What a malicious file looks like: a pickle that runs a command when it is loaded.
    (tmp_path / "evil.pt").write_bytes(b"cposix\nsystem\n(S'touch " + str(tmp_path / "pwned").encode() + b"'\ntR.")
    variables = environments.variables()
    with Worker(python, exporter, variables=variables, threads=1, confinement=UNCONFINED) as worker:
        facts = worker.call("inspect", {"weights": str(CHECKPOINT)}, 120)
        assert facts["task"] == "detect"
        assert facts["nc"] == len(facts["names"])
        assert facts["strides"] == [8, 16, 32]
        assert facts["params"] > 2e6
        for name, words in {
            "absent.pt": "no such file",
            "model.onnx": "ends in .pt",
            "text.pt": "not a checkpoint that Ultralytics can load",
            "cut.pt": "not a checkpoint that Ultralytics can load",
            "scripted.pt": "not a checkpoint that Ultralytics can load",
            "evil.pt": "not a checkpoint that Ultralytics can load",
        }.items():
            with pytest.raises(CellProblem, match=words) as problem:
                worker.call("inspect", {"weights": str(tmp_path / name)}, 120)
            assert name in problem.value.text
            assert "Traceback" not in problem.value.text
    assert not (tmp_path / "pwned").exists()
