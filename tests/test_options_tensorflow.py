"""The TensorFlow family for real: SavedModel, GraphDef, TF Lite on both runtimes, the Edge TPU's file on a CPU.

One chain of exports on the demo checkpoint serves all tests; every run of them exports anew.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from guest_spec import spec

from bench.demo import CHECKPOINT
from bench.demo.render import render
from bench.environments.locked import Environments
from bench.grid import matrix
from bench.places import EXPORTERS, RUNTIMES
from bench.reasons import CellProblem, Reason, Status
from bench.tasks.letterbox import letterbox
from bench.wall.artifacts import Artifact, Artifacts, ExportRequest
from bench.wall.worker import Worker

ROOT = Path(__file__).parents[1]
IMGSZ = 160
CALIBRATION = 6
CHAIN = (("onnx_normalised", "export-torch"), ("saved_model", "export-tf"))
pytestmark = [
    pytest.mark.options,
    pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="environments need Python 3.11"),
]
Array = np.ndarray[Any, np.dtype[np.float32]]


@dataclasses.dataclass(frozen=True)
class Case:
    """An artifact, what runs it, and what must come back; `limits` in box px and score, None where quantised."""

    exporter: str
    precision: str
    family: str
    runtime: str
    compute: str
    provider: str
    limits: tuple[float, float] | None
    target: str = "cpu"


CASES = {
    "saved_model": Case("saved_model", "fp32", "tensorflow", "saved_model", "f32", "oneDNN", (0.05, 1e-4)),
    "graphdef": Case("graphdef", "fp32", "tensorflow", "graphdef", "f32", "oneDNN", (0.05, 1e-4)),
    "tflite": Case("tflite", "fp32", "litert", "tflite", "f32", "XNNPACK", (0.05, 1e-4)),
    "tflite-fp16": Case("tflite", "fp16", "litert", "tflite", "f32", "XNNPACK", (2.0, 0.05)),
    "tflite-dynamic": Case("tflite", "dynamic", "litert", "tflite", "i8", "XNNPACK", None),
    "tflite-int8": Case("tflite", "int8", "litert", "tflite", "i8", "XNNPACK", None),
    "runtime": Case("tflite", "fp32", "tflite-runtime", "tflite_runtime", "f32", "XNNPACK", (0.05, 1e-4)),
    # This release hands no quantised convolution to XNNPACK: why its integers are slower than its floats.
    "runtime-int8": Case("tflite", "int8", "tflite-runtime", "tflite_runtime", "i8", "built-in", None),
    "edgetpu": Case("edgetpu", "int8-full", "litert", "edgetpu", "i8", "XNNPACK", None, "edgetpu-proxy"),
}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    folder = tmp_path_factory.mktemp("calibration")
    paths = tuple(folder / f"{seed}.png" for seed in range(CALIBRATION))
    for seed, path in enumerate(paths):
        assert cv2.imwrite(str(path), render(900_000 + seed)[0])
    return paths


class Exports:
    """Artifacts of the chain, made when they are first asked for."""

    def __init__(self, artifacts: Artifacts, images: tuple[Path, ...]) -> None:
        self._artifacts, self._images = artifacts, images
        self.made = cache(self._made)

    def _made(self, exporter: str, precision: str = "fp32") -> Artifact:
        return self._artifacts.ensure(self.request(exporter, precision))

    def request(self, exporter: str, precision: str, calibration: tuple[Path, ...] | None = None) -> ExportRequest:
        names = [name for name, _ in CHAIN]
        before = names[: names.index(exporter)] if exporter in names else names
        source = self.made(before[-1]) if before and exporter != "pytorch" else None
        family = dict(CHAIN).get(exporter, "export-torch" if exporter == "pytorch" else "export-tf")
        wanted = self._images if precision.startswith("int8") else ()
        return ExportRequest(
            CHECKPOINT,
            exporter,
            precision,
            IMGSZ,
            1,
            EXPORTERS / f"{exporter}.py",
            family,
            wanted if calibration is None else calibration,
            source=source,
        )


@pytest.fixture(scope="module")
def exports(artifacts: Artifacts, images: tuple[Path, ...]) -> Exports:
    return Exports(artifacts, images)


@pytest.fixture(scope="module")
def inputs() -> list[Array]:
    return [letterbox(render(seed)[0], IMGSZ)[0] for seed in (1, 2)]


def spec_for(artifact: Artifact, precision: str, target: str = "cpu", threads: int = 1) -> dict[str, Any]:
    return spec(artifact, IMGSZ, precision=precision, target=target, threads=threads)


def guest(environments: Environments, family: str, runtime: str) -> Worker:
    python = environments.ensure(family).python
    return Worker(python, RUNTIMES / f"{runtime}.py", variables=environments.variables(), threads=1)


@pytest.fixture(scope="module")
def reference(exports: Exports, environments: Environments, inputs: list[Array]) -> list[Array]:
    """PyTorch FP32 on the same inputs."""
    with guest(environments, "pytorch", "pytorch") as worker:
        worker.load(spec_for(exports.made("pytorch"), "fp32"))
        outputs = [worker.infer(x) for x in inputs]
    assert all(output[:, 4:].max() > 0.3 for output in outputs)  # a detector that sees nothing agrees with anything
    return outputs


@pytest.mark.parametrize("name", CASES)
def test_each_format_runs_attests_and_agrees_with_pytorch(
    name: str, exports: Exports, environments: Environments, inputs: list[Array], reference: list[Array]
) -> None:
    case = CASES[name]
    artifact = exports.made(case.exporter, case.precision)
    with guest(environments, case.family, case.runtime) as worker:
        worker.load(spec_for(artifact, case.precision, case.target))
        outputs = [worker.infer(x) for x in inputs]
        again = worker.infer(inputs[0])
        attested = worker.stats(attest=True).attested
    assert np.array_equal(again, outputs[0])
    expected = {"device": "cpu", "compute": case.compute, "threads": 1, "input_shape": [1, 3, IMGSZ, IMGSZ]}
    assert {key: attested[key] for key in expected} == expected
    if os.uname().machine == "x86_64":
        assert attested["provider"] == case.provider
    assert sum(attested["convolutions"].values()) >= 85
    threads_read = case.provider == "XNNPACK"
    assert attested["declared"] == ([] if threads_read else ["threads"])
    assert artifact.manifest["output"]["units"] == "unit"
    assert artifact.manifest["input"]["layout"] == "NHWC"
    for output, wanted in zip(outputs, reference, strict=True):
        difference = np.abs(output - wanted)
        assert difference.max() > 0
        if case.limits is not None:
            assert difference[:, :4].max() < case.limits[0]
            assert difference[:, 4:].max() < case.limits[1]
        else:
            best = np.argsort(wanted[0, 4:].max(axis=0))[-20:]
            assert difference[0, :4, best].mean() < 8
            assert np.corrcoef(output[0, 4:].ravel(), wanted[0, 4:].ravel())[0, 1] > 0.8


@pytest.mark.parametrize("name", ["saved_model", "tflite", "runtime-int8"])
def test_threads_are_what_was_asked_for(name: str, exports: Exports, environments: Environments) -> None:
    case = CASES[name]
    with guest(environments, case.family, case.runtime) as worker:
        worker.load(spec_for(exports.made(case.exporter, case.precision), case.precision, threads=2))
        worker.infer(np.zeros((1, 3, IMGSZ, IMGSZ), np.float32))
        assert worker.stats(attest=True).attested["threads"] == 2


def test_stored_sizes_follow_the_precision_and_integers_reach_both_ends(
    exports: Exports, environments: Environments
) -> None:
    sizes = [exports.made("tflite", name).size_bytes for name in ("fp32", "fp16", "dynamic")]
    assert sizes[0] > 1.9 * sizes[1] > 1.9 * 1.8 * sizes[2]
    with guest(environments, "litert", "edgetpu") as worker:
        worker.load(spec_for(exports.made("edgetpu", "int8-full"), "int8-full", "edgetpu-proxy"))
        worker.infer(np.zeros((1, 3, IMGSZ, IMGSZ), np.float32))
        attested = worker.stats(attest=True).attested
    assert (attested["input_dtype"], attested["output_dtype"]) == ("int8", "int8")


def test_onnx2tf_leaves_its_source_alone(exports: Exports, artifacts: Artifacts) -> None:
    exports.made("saved_model")
    assert artifacts.ensure(exports.request("onnx_normalised", "fp32")).warnings == ()


def test_the_edgetpu_export_lists_what_the_compiler_knows(exports: Exports) -> None:
    details = exports.made("edgetpu", "int8-full").manifest["details"]
    # The attention's position encoding is the seventh; onnx2tf would make a grouped convolution of it.
    assert details["operators"]["DEPTHWISE_CONV_2D"] == 7
    assert details["operators"]["CONV_2D"] == 81
    assert details["unlisted"] == {"BATCH_MATMUL": 2}
    assert "SOFTMAX" in details["limited"]
    assert details["source"].startswith("https://coral.ai/")
    assert "edgetpu_compiler" in details["compiler"]


def test_both_tflite_options_share_their_artifacts() -> None:
    options = matrix.load().options
    first, second = options["tflite"], options["tflite-runtime"]
    assert (first.export, first.precisions) == (second.export, second.precisions)
    assert first.making.chain == list(CHAIN)


@pytest.mark.parametrize("name", ["saved_model", "graphdef", "tflite", "runtime"])
def test_a_corrupt_artifact_is_a_load_that_fails(
    name: str, exports: Exports, environments: Environments, tmp_path: Path
) -> None:
    case = CASES[name]
    artifact = exports.made(case.exporter)
    shutil.copytree(artifact.directory, tmp_path / "copy")
    entry = tmp_path / "copy" / artifact.manifest["entry"]
    entry.write_bytes(entry.read_bytes()[: entry.stat().st_size // 2])
    broken = dataclasses.replace(artifact, directory=tmp_path / "copy")
    with guest(environments, case.family, case.runtime) as worker, pytest.raises(CellProblem) as problem:
        worker.load(spec_for(broken, "fp32"))
    # The old package does not check the file and dies of it, which costs its guest and nothing else.
    assert problem.value.reason is (Reason.CRASHED if name == "runtime" else Reason.LOAD_FAILED)


@pytest.mark.parametrize(
    ("name", "target", "reason"),
    [
        ("saved_model", "cuda", Reason.TARGET_ABSENT),
        ("graphdef", "vulkan", Reason.TARGET_UNSUPPORTED),
        ("tflite", "cuda", Reason.TARGET_UNSUPPORTED),
        ("edgetpu", "edgetpu", Reason.TARGET_ABSENT),
    ],
)
def test_a_device_that_is_not_there_is_skipped_with_words(
    name: str, target: str, reason: Reason, exports: Exports, environments: Environments
) -> None:
    case = CASES[name]
    artifact = exports.made(case.exporter, case.precision)
    with guest(environments, case.family, case.runtime) as worker, pytest.raises(CellProblem) as problem:
        worker.load(spec_for(artifact, case.precision, target))
    assert problem.value.reason is reason
    assert problem.value.status is Status.SKIPPED
    assert problem.value.text.endswith(".")


REFUSALS = """
import json, pathlib, sys
import flatbuffers
from ai_edge_litert import schema_py_generated as schema
sys.path.insert(0, sys.argv[1])
from bench.guest.runtimes.edgetpu import CUSTOM, cpu_refusal
source, compiled = pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
model = schema.ModelT.InitFromPackedBuf(source.read_bytes())
model.operatorCodes[model.subgraphs[0].operators[0].opcodeIndex] = schema.OperatorCodeT(
    deprecatedBuiltinCode=schema.BuiltinOperator.CUSTOM, builtinCode=schema.BuiltinOperator.CUSTOM, customCode=CUSTOM)
builder = flatbuffers.Builder()
builder.Finish(model.Pack(builder), b"TFL3")
compiled.write_bytes(builder.Output())
print(json.dumps([cpu_refusal(source), cpu_refusal(compiled)]))
"""


def test_a_cpu_refuses_what_holds_the_devices_operation(
    exports: Exports, environments: Environments, tmp_path: Path
) -> None:
    source = exports.made("edgetpu", "int8-full").directory / "model.tflite"
    command = [environments.ensure("litert").python, "-c", REFUSALS, ROOT, source, tmp_path / "compiled.tflite"]
    said = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True).stdout
    taken, refused = json.loads(said)
    assert taken == ""
    assert "edgetpu-custom-op" in refused


def test_what_cannot_be_exported_is_refused(exports: Exports, artifacts: Artifacts, tmp_path: Path) -> None:
    with pytest.raises(CellProblem, match="writes fp32, not fp16") as problem:
        artifacts.ensure(exports.request("saved_model", "fp16"))
    assert problem.value.reason is Reason.PRECISION_UNSUPPORTED
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"not a picture")
    with pytest.raises(CellProblem, match=r"bad\.png: OpenCV cannot decode"):
        artifacts.ensure(exports.request("tflite", "int8", (bad,)))


def inside(environments: Environments, exporter: str, code: str, *arguments: str, path: str = "") -> str:
    """What `code` prints in the export environment, with the exporter's module as `module`."""
    start = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'bench' / 'guest')!r}); from pathlib import Path; import server\n"
    )
    start += f"module = server.import_adapter(Path({str(EXPORTERS / f'{exporter}.py')!r}))\n"
    variables = environments.variables()
    variables["PATH"] = os.pathsep.join(filter(None, [path, variables["PATH"]]))
    python = str(environments.ensure("export-tf").python)
    line = [python, "-s", "-P", "-c", start + code, *arguments]
    return subprocess.run(line, env=variables, check=True, capture_output=True, text=True).stdout


def test_calibration_sees_what_the_core_feeds(environments: Environments, tmp_path: Path) -> None:
    image = render(3)[0][:200, :333]
    assert cv2.imwrite(str(tmp_path / "image.png"), image)
    code = """
import numpy
request = {"calibration": [sys.argv[1]] * 3, "imgsz": 160, "batch": 2}
numpy.save(sys.argv[2], numpy.concatenate(list(module.batches(request))))
try:
    next(module.batches(request | {"calibration": []}))
except module.ExportRefused as refused:
    print(refused)
"""
    said = inside(environments, "_calibration", code, str(tmp_path / "image.png"), str(tmp_path / "seen.npy"))
    assert said.startswith("int8 needs calibration images")
    seen = np.load(tmp_path / "seen.npy")
    wanted = letterbox(image, 160)[0].transpose(0, 2, 3, 1)
    assert seen.dtype == np.float32
    assert np.array_equal(seen, np.repeat(wanted, 4, axis=0))


def test_every_grouped_convolution_behind_a_reshape_is_found(environments: Environments) -> None:
    code = """
import json, onnx
node = onnx.helper.make_node
nodes = [
    node("Reshape", ["a", "s"], ["r1"], name="first"),
    node("Conv", ["r1", "w"], ["c1"], group=8),
    node("Reshape", ["c1", "s"], ["r2"], name="second"),
    node("Conv", ["r2", "w"], ["c2"], group=8),
    node("Reshape", ["c2", "s"], ["r3"], name="before a plain one"),
    node("Conv", ["r3", "w"], ["c3"]),
    node("Conv", ["c3", "w"], ["c4"], group=8),
]
model = onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", [], []))
print(json.dumps(module.depthwise_replacements(model)))
"""
    found = json.loads(inside(environments, "_tensorflow", code))
    assert [(each["op_name"], each["param_name"]) for each in found["operations"]] == [
        ("first", "r1"),
        ("second", "r2"),
    ]
    assert {tuple(each["post_process_transpose_perm"]) for each in found["operations"]} == {(0, 2, 3, 1)}


REPORT = """Edge TPU Compiler version 16.0.384591198
Started a compilation timeout timer of 180 seconds.
Model compiled successfully in 2000 ms.
Operator                       Count      Status

CONV_2D                        81         Mapped to Edge TPU
BATCH_MATMUL                   2          Operation not supported
SOFTMAX                        2          Operation is otherwise supported, but not mapped due to some limitation
"""


def test_a_compiler_is_used_and_its_report_read(environments: Environments, tmp_path: Path) -> None:
    """With a stand-in for the compiler, which cannot be had here: it proves the handling, not the compiler."""
    (tmp_path / "bin").mkdir()
    compiler = tmp_path / "bin" / "edgetpu_compiler"
    steps = 'cp "$4" "$3/model_edgetpu.tflite" || exit 1; touch "$3/model_edgetpu.log"'
    compiler.write_text(f"#!/bin/sh\ncat <<'END'\n{REPORT}END\n{steps}\n", encoding="utf-8")
    compiler.chmod(0o755)
    (tmp_path / "out").mkdir()
    (tmp_path / "empty").mkdir()
    (tmp_path / "out" / "model.tflite").write_bytes(b"model")
    code = """
import json
print(json.dumps(module.compiled(Path(sys.argv[1]))))
try:
    module.compiled(Path(sys.argv[2]))
except RuntimeError as error:
    print(error)
"""
    said = inside(
        environments, "edgetpu", code, str(tmp_path / "out"), str(tmp_path / "empty"), path=str(compiler.parent)
    )
    first, _, second = said.partition("\n")
    details = json.loads(first)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["model.tflite", "model_edgetpu.tflite"]
    assert details["compiler"] == "16.0.384591198"
    assert [(row["operator"], row["count"]) for row in details["mapped"]] == [
        ("CONV_2D", 81),
        ("BATCH_MATMUL", 2),
        ("SOFTMAX", 2),
    ]
    assert details["mapped"][0]["status"] == "Mapped to Edge TPU"
    assert second.startswith("edgetpu_compiler ended with 1")
