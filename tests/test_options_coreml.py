"""Core ML packages: converted here, interpreted here, and held to PyTorch; what only macOS can do is refused here."""

from __future__ import annotations

import dataclasses
import itertools
import platform
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from guest_spec import spec

from bench.demo import CHECKPOINT
from bench.demo.render import render
from bench.environments.locked import Environments
from bench.places import EXPORTERS, RUNTIMES
from bench.reasons import CellProblem, Reason, Status
from bench.tasks.letterbox import letterbox
from bench.wall.artifacts import Artifact, Artifacts, ExportRequest
from bench.wall.confinement import Confinement
from bench.wall.worker import Worker

IMGSZ = 320
WEIGHTS = "model.mlpackage/Data/com.apple.CoreML/weights/weight.bin"
pytestmark = [
    pytest.mark.options,
    pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="environments need Python 3.11"),
]
Array = np.ndarray[Any, np.dtype[np.float32]]

# Arithmetic to be attested, how the weights are stored, and the largest difference from PyTorch FP32: box px, score.
# 8-bit weights move boxes where nothing is; they are judged by the anchors that PyTorch is surest of.
CASES: dict[str, tuple[str, str, tuple[float, float] | None]] = {
    "fp32": ("f32", "", (0.01, 1e-4)),
    "fp16": ("f16", "", (1.5, 0.02)),
    "int8": ("f16", "constexpr_affine_dequantize", None),
    "palette8": ("f16", "constexpr_lut_to_dense", None),
}


def request_for(precision: str, option: str = "coreml", family: str = "export-coreml", batch: int = 1) -> ExportRequest:
    exporter = EXPORTERS / f"{option}.py"
    return ExportRequest(CHECKPOINT, option, precision, IMGSZ, batch, exporter, family)


def spec_for(artifact: Artifact, precision: str, target: str = "coreml-mil", batch: int = 1) -> dict[str, Any]:
    return spec(artifact, IMGSZ, precision=precision, target=target, batch=batch)


def guest(environments: Environments, family: str, runtime: str) -> Worker:
    adapter = RUNTIMES / f"{runtime}.py"
    return Worker(environments.ensure(family).python, adapter, variables=environments.variables(), threads=1)


@pytest.fixture(scope="module")
def inputs() -> list[Array]:
    return [letterbox(render(seed)[0], IMGSZ)[0] for seed in (1, 2)]


@pytest.fixture(scope="module")
def reference(artifacts: Artifacts, environments: Environments, inputs: list[Array]) -> list[Array]:
    artifact = artifacts.ensure(request_for("fp32", "pytorch", "export-torch"))
    with guest(environments, "pytorch", "pytorch") as worker:
        worker.load(spec_for(artifact, "fp32", "cpu"))
        outputs = [worker.infer(x) for x in inputs]
    assert all(output[:, 4:].max() > 0.3 for output in outputs)
    return outputs


@pytest.mark.parametrize("precision", CASES)
def test_a_package_says_what_the_network_says(
    precision: str, artifacts: Artifacts, environments: Environments, inputs: list[Array], reference: list[Array]
) -> None:
    compute, stored, limits = CASES[precision]
    artifact = artifacts.ensure(request_for(precision))
    with guest(environments, "coreml-mil", "coreml_mil") as worker:
        worker.load(spec_for(artifact, precision))
        outputs = [worker.infer(x) for x in inputs]
        attested = worker.stats(attest=True).attested
    assert attested["device"] == "mil-reference"
    assert attested["compute"] == compute
    assert attested["threads"] == 1
    assert attested["input_shape"] == [1, 3, IMGSZ, IMGSZ]
    assert attested["version"] == artifact.manifest["versions"]["coremltools"]
    assert sum(attested["convolutions"].values()) > 80
    # All convolutions but the first and the one that decodes distances, which are small; no other constant.
    assert attested["compressed_weights"] == ({stored: attested["operations"]["conv"] - 2} if stored else {})
    # Half or a quarter of float32's bytes, and the tables of the clustered values.
    size = {file["path"]: file["bytes"] for file in artifact.manifest["files"]}[WEIGHTS]
    assert size == pytest.approx(10.35e6 * {"fp32": 1, "fp16": 0.5}.get(precision, 0.25), rel=0.05)
    for output, expected in zip(outputs, reference, strict=True):
        difference = np.abs(output - expected)
        if limits is not None:
            assert difference[:, :4].max() < limits[0]
            assert difference[:, 4:].max() < limits[1]
        else:
            best = np.argsort(expected[0, 4:].max(axis=0))[-20:]
            assert difference[0, :4, best].mean() < 1
            assert np.corrcoef(output[0, 4:].ravel(), expected[0, 4:].ravel())[0, 1] > 0.98


def test_a_batch_is_part_of_the_package(artifacts: Artifacts, environments: Environments, inputs: list[Array]) -> None:
    one, two = artifacts.ensure(request_for("fp32")), artifacts.ensure(request_for("fp32", batch=2))
    with guest(environments, "coreml-mil", "coreml_mil") as worker:
        worker.load(spec_for(two, "fp32", batch=2))
        both = worker.infer(np.concatenate(inputs))
        worker.load(spec_for(one, "fp32"))
        single = worker.infer(inputs[1])
    assert both.shape[0] == 2
    np.testing.assert_allclose(both[1], single[0], atol=1e-3)


@pytest.mark.parametrize("damage", ["weights changed", "weights cut", "program cut"])
def test_the_stored_bytes_are_what_is_interpreted(
    damage: str, artifacts: Artifacts, environments: Environments, inputs: list[Array], tmp_path: Path
) -> None:
    artifact = artifacts.ensure(request_for("fp32"))
    broken = dataclasses.replace(artifact, directory=Path(shutil.copytree(artifact.directory, tmp_path / "copy")))
    weights = broken.directory / WEIGHTS
    program = weights.parents[1] / "model.mlmodel"
    with guest(environments, "coreml-mil", "coreml_mil") as worker:
        worker.load(spec_for(artifact, "fp32"))
        whole = worker.infer(inputs[0])
        if damage == "weights changed":
            stored = bytearray(weights.read_bytes())
            heads = [match.start() for match in re.finditer(b"\xef\xbe\xad\xde", stored)]  # one before each tensor
            size, head = max((after - head, head) for head, after in itertools.pairwise(heads))
            stored[head + size // 4 : head + size // 2] = bytes(size // 2 - size // 4)
            weights.write_bytes(stored)
            worker.load(spec_for(broken, "fp32"))
            assert np.abs(worker.infer(inputs[0]) - whole).max() > 1
            return
        path = weights if damage == "weights cut" else program
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(CellProblem) as problem:
            worker.load(spec_for(broken, "fp32"))
    assert problem.value.reason in (Reason.LOAD_FAILED, Reason.CRASHED)


@pytest.mark.parametrize("target", ["cpu", "coreml"])
def test_the_interpretation_passes_for_no_other_target(
    target: str, artifacts: Artifacts, environments: Environments
) -> None:
    artifact = artifacts.ensure(request_for("fp32"))
    with guest(environments, "coreml-mil", "coreml_mil") as worker, pytest.raises(CellProblem) as problem:
        worker.load(spec_for(artifact, "fp32", target))
    assert problem.value.reason is Reason.TARGET_UNSUPPORTED


def test_an_operation_that_is_not_known_is_named(environments: Environments, tmp_path: Path) -> None:
    maker = tmp_path / "maker.py"
    maker.write_text(
        "import coremltools as ct\n"
        "from coremltools.converters.mil import Builder as mb\n"
        "def export(request):\n"
        "    @mb.program(input_specs=[mb.TensorSpec(shape=(1, 3, 8, 8))])\n"
        "    def program(x):\n"
        "        return mb.erf(x=x)\n"
        "    ct.convert(program, convert_to='mlprogram', skip_model_load=True).save(request['path'])\n"
        "    return {}\n",
        encoding="utf-8",
    )
    python, variables = environments.ensure("coreml-mil").python, environments.variables()
    with Worker(python, maker, variables=variables, confinement=Confinement(writable=(tmp_path,))) as worker:
        worker.call("export", {"path": str(tmp_path / "model.mlpackage")}, 60)
    manifest = {"entry": "model.mlpackage", "output": {"layout": "channels_first", "units": "px"}}
    artifact = Artifact("", tmp_path, manifest)
    with (
        guest(environments, "coreml-mil", "coreml_mil") as worker,
        pytest.raises(CellProblem, match="'erf'") as problem,
    ):
        worker.load(spec_for(artifact, "fp32"))
    assert problem.value.reason is Reason.LOAD_FAILED


@pytest.mark.skipif(platform.system() == "Darwin", reason="here Core ML itself runs")
def test_core_ml_itself_is_refused_outside_macos(artifacts: Artifacts, environments: Environments) -> None:
    artifact = artifacts.ensure(request_for("fp32"))
    with guest(environments, "coreml", "coreml") as worker, pytest.raises(CellProblem, match="macOS") as problem:
        worker.load(spec_for(artifact, "fp32", "coreml"))
    assert (problem.value.reason, problem.value.status) == (Reason.TARGET_ABSENT, Status.SKIPPED)


@pytest.mark.skipif(platform.system() != "Darwin", reason="Core ML runs on macOS only")
@pytest.mark.parametrize("units", ["ALL", "CPU_ONLY", "CPU_AND_GPU", "CPU_AND_NE"])
def test_core_ml_agrees_with_pytorch_on_macos(
    units: str, artifacts: Artifacts, environments: Environments, inputs: list[Array], reference: list[Array]
) -> None:
    artifact = artifacts.ensure(request_for("fp16"))
    with guest(environments, "coreml", "coreml") as worker:
        worker.load(spec_for(artifact, "fp16", "coreml") | {"options": {"compute_units": units}})
        outputs = [worker.infer(x) for x in inputs]
        attested = worker.stats(attest=True).attested
    assert attested["compute"] == "f16"
    assert attested["compute_units"] == units
    for output, expected in zip(outputs, reference, strict=True):
        assert np.corrcoef(output[0, 4:].ravel(), expected[0, 4:].ravel())[0, 1] > 0.99


def test_a_precision_the_exporter_has_not_is_refused(artifacts: Artifacts) -> None:
    with pytest.raises(CellProblem, match="fp32, fp16, int8, palette8, not int4") as problem:
        artifacts.ensure(request_for("int4"))
    assert (problem.value.reason, problem.value.status) == (Reason.PRECISION_UNSUPPORTED, Status.SKIPPED)
