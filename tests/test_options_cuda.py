"""GPU targets and TensorRT: what can be shown without a GPU, and the same options run where there is one.

Without a GPU these show the graphs that TensorRT would build, run by ONNX Runtime, how an engine's description is
read, half precision of PyTorch on the processor, and which environment and arithmetic a cell on a GPU asks for.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from guest_spec import spec

from bench.demo import CHECKPOINT
from bench.demo.render import render
from bench.environments import brought
from bench.environments.locked import Environments
from bench.grid import machine, matrix
from bench.guest import tf32
from bench.guest.refusals import PrecisionUnsupported
from bench.guest.runtimes import _told as told
from bench.guest.runtimes import _trt_layers as trt_layers
from bench.places import EXPORTERS, GUEST, RUNTIMES
from bench.reasons import CellProblem, Reason, Status
from bench.tasks.letterbox import letterbox
from bench.wall.artifacts import Artifact, Artifacts, ExportRequest
from bench.wall.confinement import Confinement
from bench.wall.worker import Worker

ROOT = Path(__file__).parents[1]
IMGSZ = 320
pytestmark = [
    pytest.mark.options,
    pytest.mark.skipif(
        sys.version_info[:2] != (3, 11) and not brought.given("export-torch"),
        reason="environments need Python 3.11, or interpreters that are named by BENCH_ENV_*",
    ),
]
Array = np.ndarray[Any, np.dtype[np.float32]]
GPU = machine.detect(matrix.load().targets["cuda"])
needs_gpu = pytest.mark.skipif(not GPU.found, reason=GPU.text)
needs_tensorrt = pytest.mark.skipif(
    sys.version_info[:2] != (3, 11) and not brought.given("tensorrt"), reason="TensorRT's environment needs Python 3.11"
)


@pytest.fixture(scope="module")
def calibration(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("calibration")
    paths = [folder / f"{seed}.png" for seed in range(8)]
    for seed, path in enumerate(paths):
        assert cv2.imwrite(str(path), render(900_000 + seed)[0])
    return [str(path) for path in paths]


@pytest.fixture(scope="module")
def inputs() -> list[Array]:
    return [letterbox(render(seed)[0], IMGSZ)[0] for seed in (1, 2)]


def request_for(option: str, precision: str = "fp32") -> ExportRequest:
    exporter = EXPORTERS / f"{option}.py"
    return ExportRequest(CHECKPOINT, option, precision, IMGSZ, 1, exporter, "export-torch")


def spec_for(artifact: Artifact, precision: str, target: str) -> dict[str, Any]:
    return spec(artifact, IMGSZ, precision=precision, target=target)


def run(
    environments: Environments, family: str, runtime: str, spec: dict[str, Any], inputs: list[Array]
) -> tuple[list[Array], dict[str, Any]]:
    """Outputs of a runtime and what it attests."""
    adapter = RUNTIMES / f"{runtime}.py"
    with Worker(environments.ensure(family).python, adapter, variables=environments.variables(), threads=1) as worker:
        worker.load(spec)
        return [worker.infer(x) for x in inputs], worker.stats(attest=True).attested


@pytest.fixture(scope="module")
def reference(artifacts: Artifacts, environments: Environments, inputs: list[Array]) -> list[Array]:
    spec = spec_for(artifacts.ensure(request_for("pytorch")), "fp32", "cpu")
    outputs, attested = run(environments, "pytorch", "pytorch", spec, inputs)
    assert attested["compute"] == "f32"
    assert all(output[:, 4:].max() > 0.3 for output in outputs)
    return outputs


def assert_same_detector(outputs: list[Array], reference: list[Array], box: float, correlation: float) -> None:
    """The 20 anchors PyTorch is surest of have boxes within `box` px on average, and all scores go together."""
    for output, expected in zip(outputs, reference, strict=True):
        best = np.argsort(expected[0, 4:].max(axis=0))[-20:]
        assert np.abs(output - expected)[0, :4, best].mean() < box
        assert np.corrcoef(output[0, 4:].ravel(), expected[0, 4:].ravel())[0, 1] > correlation


# -- what cells on a GPU ask for -------------------------------------------------------------------------------------


def test_cells_on_a_gpu_ask_for_their_own_environment_and_arithmetic() -> None:
    read = matrix.load()
    sweep = matrix.override(read.sweep("full"), "test", imgsz=[320], batch=[1], threads=[1], targets=["cpu", "cuda"])
    cells = {cell.id: (cell.environment, cell.compute) for cell in read.cells("m", sweep)}
    assert cells["pytorch-fp32-cpu-320"] == ("pytorch", "f32")
    assert cells["pytorch-fp16-cuda-320"] == ("pytorch-cuda", "f16")
    assert cells["torchscript-fp16-cuda-320"] == ("torchscript-cuda", "f16")
    assert cells["onnx-fp16-cpu-320"] == ("onnx", "f32")
    assert cells["onnx-fp16-cuda-320"] == ("onnx-cuda", "f16")
    assert cells["tensorrt-int8-cuda-320"] == ("tensorrt", "i8")
    assert cells["tensorrt-tf32-cuda-320"] == ("tensorrt", "tf32")
    assert "tensorrt-fp32-cpu-320" not in cells


# -- reading an engine -----------------------------------------------------------------------------------------------


def layer(kind: str, words: str, weights: str = "", tactic: str = "", key: str = "Format/Datatype") -> dict[str, Any]:
    """A layer as an inspector describes it."""
    entry: dict[str, Any] = {"Name": "x", "LayerType": kind, "Inputs": [{"Name": "in", key: words}], "Outputs": []}
    if weights:
        entry |= {"ParameterType": "Convolution", "Weights": {"Type": weights, "Count": 9}, "TacticName": tactic}
    return entry


@pytest.mark.parametrize(
    ("described", "arithmetic"),
    [
        (layer("CaskConvolution", "Row major linear FP32", "Float", "sm80_xmma_fprop_f32f32_f32_f32"), "f32"),
        (layer("CaskConvolution", "Row major linear FP32", "Float", "sm80_fprop_f32f32_tf32f32_f32_nhwckrsc"), "tf32"),
        (layer("CaskConvolution", "Channel major FP16 format where C % 8 == 0", "Half"), "f16"),
        (layer("CaskGemmConvolution", "Half", "Half", key="DataType"), "f16"),
        (layer("CaskConvolution", "Thirty-two wide channel vectorized row major Int8 format.", "Int8"), "i8"),
        (layer("CaskConvolution", "Row major linear BFloat16", "BFloat16"), "bf16"),
        (layer("CaskConvolution", "Row major linear FP32", "Int8"), "f32 x i8"),
    ],
)
def test_an_engines_convolutions_are_read_from_its_description(described: dict[str, Any], arithmetic: str) -> None:
    other = layer("Reformat", "Row major linear FP32")
    answer = json.dumps({"Layers": [other, described, other], "Bindings": ["images", "output0"]})
    assert trt_layers.convolutions(answer) == {arithmetic: 1}
    assert trt_layers.layer_kinds(answer)["Reformat f32"] == 2


def test_every_layer_is_told_with_the_type_that_it_works_on() -> None:
    """What is no convolution may be computed in another type, and what lies between two types is told by both."""
    half = {"Name": "out", "Format/Datatype": "Channel major FP16 format where C % 8 == 0"}
    layers: list[dict[str, Any]] = [
        layer("CaskConvolution", "Half", "Half"),
        layer("PointWiseV2", "Row major linear FP32"),
        layer("Reformat", "Row major linear FP32") | {"Outputs": [half]},
        {"LayerType": "Constant", "Inputs": [], "Outputs": [half]},
        {"LayerType": "Signal"},
        layer("NoOp", "Row major linear Int64"),
    ]
    assert trt_layers.layer_kinds(json.dumps({"Layers": layers})) == {
        "CaskConvolution f16": 1, "Constant f16": 1, "NoOp ?": 1, "PointWiseV2 f32": 1, "Reformat f32-f16": 1,
        "Signal": 1,
    }  # fmt: skip


def test_an_engine_with_one_layer_in_tf32_is_not_float32() -> None:
    words, weights = "Row major linear FP32", "Float"
    layers = [layer("CaskConvolution", words, weights, tactic) for tactic in ("sm80_f32f32_f32", "sm80_f32f32_f32")]
    layers.append(layer("CaskConvolution", words, weights, "sm80_tf32f32_tf32f32"))
    found = trt_layers.convolutions(json.dumps({"Layers": layers}))
    assert found == {"f32": 2, "tf32": 1}
    assert told.arithmetic(found) == "tf32"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("no JSON", "no list of layers"),
        ('{"Bindings": []}', "no list of layers"),
        ('{"Layers": ["conv_1", "conv_2"]}', "layer names only"),
        (json.dumps({"Layers": [layer("Reformat", "Row major linear FP32")]}), "is a convolution"),
    ],
)
def test_a_description_without_what_is_needed_is_refused(answer: str, said: str) -> None:
    with pytest.raises(trt_layers.InspectorUnreadable, match=said):
        trt_layers.convolutions(answer)


# -- the graphs TensorRT builds --------------------------------------------------------------------------------------


def typed(
    precision: str, artifacts: Artifacts, environments: Environments, calibration: list[str], output: Path
) -> Artifact:
    """The graph of a precision, made by the exporter, as an artifact that ONNX Runtime can run."""
    source = artifacts.ensure(request_for("onnx"))
    asked = {
        "precision": precision,
        "imgsz": IMGSZ,
        "batch": 1,
        "calibration": calibration,
        "source": {"directory": str(source.directory), "manifest": source.manifest},
        "output": str(output / "typed.onnx"),
    }
    exporter = EXPORTERS / "tensorrt.py"
    python = environments.ensure("export-torch").python
    own = Confinement(writable=(output,))
    with Worker(python, exporter, variables=environments.variables(), threads=2, confinement=own) as worker:
        assert worker.call("typed_graph", asked, 300) == {"path": asked["output"]}
    return Artifact("", output, {**source.manifest, "entry": "typed.onnx"})


@pytest.mark.parametrize(("precision", "box", "correlation"), [("fp16", 1.0, 0.999), ("int8", 4.0, 0.95)])
def test_typed_graphs_detect_what_pytorch_detects(
    precision: str,
    box: float,
    correlation: float,
    artifacts: Artifacts,
    environments: Environments,
    calibration: list[str],
    inputs: list[Array],
    reference: list[Array],
    tmp_path: Path,
) -> None:
    artifact = typed(precision, artifacts, environments, calibration, tmp_path)
    outputs, attested = run(environments, "onnx", "onnx_runtime", spec_for(artifact, precision, "cpu"), inputs)
    assert attested["provider_share"] == 1
    assert attested["provider_nodes"].keys() == {"CPUExecutionProvider"}
    assert_same_detector(outputs, reference, box, correlation)


GRAPH_FACTS = """
import json, sys, onnx
from onnx import numpy_helper
graph = onnx.load(sys.argv[1]).graph
made = {name: node for node in graph.node for name in node.output}
constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
convolutions = [node for node in graph.node if node.op_type == "Conv"]
quantised = [node for node in convolutions if all(
    name in made and made[name].op_type == "DequantizeLinear" for name in node.input[:2])]
pairs = [node for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
print(json.dumps({
    "convolutions": len(convolutions),
    "others": [node.name for node in convolutions if node not in quantised],
    "zero_points": sorted({int(value) for node in pairs for value in constants[node.input[2]].ravel()}),
    "types": sorted({str(constants[node.input[2]].dtype) for node in pairs}),
    "float_weights": all(made[made[node.input[1]].input[0]].op_type == "QuantizeLinear" for node in quantised),
    "float_biases": all(str(constants[node.input[2]].dtype) == "float32" for node in quantised if len(node.input) > 2),
}))
"""


def test_int8_is_quantised_the_way_tensorrt_reads_it(
    artifacts: Artifacts, environments: Environments, calibration: list[str], tmp_path: Path
) -> None:
    artifact = typed("int8", artifacts, environments, calibration, tmp_path)
    python = environments.ensure("export-torch").python
    command = [str(python), "-c", GRAPH_FACTS, str(artifact.directory / "typed.onnx")]
    facts = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert facts["convolutions"] > 80
    assert len(facts["others"]) == 1
    assert "/dfl/" in facts["others"][0]
    assert (facts["zero_points"], facts["types"]) == ([0], ["int8"])
    assert facts["float_weights"]
    assert facts["float_biases"]


def test_tensorrt_refuses_what_it_cannot_make(artifacts: Artifacts, environments: Environments, tmp_path: Path) -> None:
    with pytest.raises(CellProblem, match="fp32, tf32, fp16, int8, not int4") as problem:
        typed("int4", artifacts, environments, [], tmp_path)
    assert problem.value.reason is Reason.PRECISION_UNSUPPORTED
    with pytest.raises(CellProblem, match="needs calibration images"):
        typed("int8", artifacts, environments, [], tmp_path)
    (tmp_path / "bad.png").write_bytes(b"no picture")
    with pytest.raises(CellProblem, match=r"bad\.png: OpenCV cannot decode"):
        typed("int8", artifacts, environments, [str(tmp_path / "bad.png")], tmp_path)


# -- half precision of PyTorch ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["pytorch", "torchscript"])
def test_half_precision_is_attested_as_what_was_dispatched(
    option: str, artifacts: Artifacts, environments: Environments, inputs: list[Array], reference: list[Array]
) -> None:
    artifact = artifacts.ensure(request_for(option, "fp32" if option == "pytorch" else "fp16"))
    outputs, attested = run(environments, option, option, spec_for(artifact, "fp16", "cpu"), inputs[:1])
    assert attested["compute"] == "f16"
    assert_same_detector(outputs, reference[:1], 1.0, 0.999)


# -- TF32 ------------------------------------------------------------------------------------------------------------

CONSTANTS = """
import collections, json, sys, torch
graph = torch.jit.load(sys.argv[1], map_location="cpu").inlined_graph
constants = [list(node.inputs())[-1].toIValue() for node in graph.findAllNodes("aten::_convolution", recurse=True)]
print(json.dumps({str(value): count for value, count in collections.Counter(constants).items()}))
"""


@pytest.mark.parametrize(("precision", "allowed"), [("fp32", False), ("tf32", True), ("fp16", False)])
def test_an_archive_holds_whether_tf32_is_allowed_and_the_runtime_says_so(
    precision: str, allowed: bool, artifacts: Artifacts, environments: Environments, inputs: list[Array]
) -> None:
    artifact = artifacts.ensure(request_for("torchscript", precision))
    python = environments.ensure("torchscript").python
    command = [str(python), "-c", CONSTANTS, str(artifact.directory / artifact.manifest["entry"])]
    held = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert held == {str(allowed): 88}
    _, attested = run(environments, "torchscript", "torchscript", spec_for(artifact, precision, "cpu"), inputs[:1])
    assert attested["traced_allow_tf32"] == {str(allowed).lower(): 88}
    # A processor has no TF32, so it computes in float32 whatever the archive allows.
    assert attested["compute"] == ("f16" if precision == "fp16" else "f32")


def test_the_two_archives_are_the_same_network(
    artifacts: Artifacts, environments: Environments, inputs: list[Array]
) -> None:
    outputs = []
    for precision in ("fp32", "tf32"):
        spec = spec_for(artifacts.ensure(request_for("torchscript", precision)), precision, "cpu")
        outputs.append(run(environments, "torchscript", "torchscript", spec, inputs[:1])[0][0])
    assert np.array_equal(outputs[0], outputs[1])


ARITHMETIC = """
import json, sys, torch
from collections import Counter
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import server
_torch = server.import_adapter(Path(sys.argv[1], "runtimes", "_torch.py"))

class Attention(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.convolution = torch.nn.Conv2d(3, 4, 3)
    def forward(self, x):
        y = self.convolution(x).flatten(2)
        return y @ y.transpose(1, 2)

def archive(name, make, allowed):
    torch.backends.cudnn.allow_tf32 = allowed
    path = f"{sys.argv[2]}/{name}.torchscript"
    make(Attention().eval()).save(path)
    return path

def said(path, setting, products=False):
    torch.backends.cudnn.allow_tf32 = setting
    network = torch.jit.load(path, map_location="cpu").eval()
    model = _torch.Model(network, torch.device("cpu"), torch.float32, (2, 3, 16, 16))
    attested, seen = _torch.attest(model), _torch.dispatched(model)
    assert attested["input_shape"] == [2, 3, 16, 16], attested
    moved = _torch.Dispatched(
        Counter({(a, b, "cuda", held): n for (a, b, _, held), n in seen.convolutions.items()}),
        Counter({(kind, "cuda"): n for (kind, _), n in seen.products.items()}),
    )
    counted = _torch.by_compute(moved, convolutions=setting, products=products)
    return [attested["compute"], _torch.arithmetic(counted)]

def traced(network):
    return torch.jit.trace(network, torch.zeros(2, 3, 16, 16))

on, off = archive("on", traced, True), archive("off", traced, False)
scripted = archive("scripted", torch.jit.script, True)
print(json.dumps({
    "traced with TF32": [said(on, True), said(on, False)],
    "traced without": [said(off, True), said(off, False)],
    "scripted": [said(scripted, True), said(scripted, False)],
    "traced without, products rounded": [said(off, False, products=True)],
}))
"""


def test_the_constant_of_a_trace_outweighs_the_setting(environments: Environments, tmp_path: Path) -> None:
    """What an archive is attested as on this processor, and what its very graph would be on a GPU."""
    python, script = environments.ensure("torchscript").python, tmp_path / "arithmetic.py"
    script.write_text(ARITHMETIC, encoding="utf-8")  # a file, since torch.jit.script reads the source of a class
    command = [str(python), str(script), str(GUEST), str(tmp_path)]
    said = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert said == {
        "traced with TF32": [["f32", "tf32"], ["f32", "tf32"]],
        "traced without": [["f32", "f32"], ["f32", "f32"]],
        # A script holds no constant: there the setting of the process that runs it decides.
        "scripted": [["f32", "tf32"], ["f32", "f32"]],
        # No constant holds a matrix product back either, and one that is rounded is not float32.
        "traced without, products rounded": [["f32", "tf32"]],
    }


@pytest.mark.parametrize("option", ["torchscript", "onnx"])
def test_a_processor_has_no_tf32_and_says_so(
    option: str, artifacts: Artifacts, environments: Environments, inputs: list[Array]
) -> None:
    artifact = artifacts.ensure(request_for(option, "fp32"))
    asked = spec_for(artifact, "tf32", "cpu") | {"options": {"tf32": True}}
    runtime = {"onnx": "onnx_runtime"}.get(option, option)
    with pytest.raises(CellProblem, match="TF32 is an arithmetic of NVIDIA GPUs; on cpu float32") as problem:
        run(environments, option, runtime, asked, inputs[:1])
    assert (problem.value.reason, problem.value.status) == (Reason.PRECISION_UNSUPPORTED, Status.SKIPPED)


@pytest.mark.parametrize(("capability", "refused"), [((7, 5), True), ((8, 0), False), ((12, 0), False), (None, False)])
def test_cards_before_ampere_have_no_tf32(
    capability: tuple[int, int] | None, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tf32, "compute_capability", lambda: capability)
    if refused:
        with pytest.raises(PrecisionUnsupported, match=r"this card has 7\.5 and would compute in float32"):
            tf32.require_tf32("cuda")
    else:
        tf32.require_tf32("cuda")


@pytest.mark.skipif(GPU.found, reason="there is a driver here")
def test_without_a_driver_no_capability_is_told() -> None:
    assert tf32.compute_capability() is None


# -- CUDA's libraries -------------------------------------------------------------------------------------------------

LIBRARIES = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import server
adapter = server.import_adapter(Path(sys.argv[1], "runtimes", "onnx_runtime.py"))
asked = []
adapter.ort.preload_dlls = lambda directory=None: asked.append(directory)
adapter.preload()
sys.path.append(sys.argv[2])  # as a .pth file of an environment does with the packages of the interpreter below it
adapter.preload()
own = Path(sys.argv[2], "own")
(own / "nvidia").mkdir(parents=True)
adapter.ort.__file__ = str(own / "onnxruntime" / "__init__.py")
adapter.preload()
print(json.dumps(asked))
"""


def test_cudas_libraries_are_loaded_from_the_interpreter_below(environments: Environments, tmp_path: Path) -> None:
    """ONNX Runtime by itself looks beside itself alone, and would take what the system has, or nothing."""
    below = tmp_path / "below"
    folders = [below / "nvidia" / name / "lib" for name in ("cu13", "cudnn")]
    for folder in folders:
        folder.mkdir(parents=True)
    script = tmp_path / "libraries.py"
    script.write_text(LIBRARIES, encoding="utf-8")
    command = [str(environments.ensure("onnx").python), str(script), str(GUEST), str(below)]
    asked = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert asked == [None, *map(str, folders), None]


# -- where there is a GPU --------------------------------------------------------------------------------------------


@needs_gpu
@pytest.mark.parametrize(
    ("option", "runtime", "precision", "stored", "compute"),
    [
        ("pytorch", "pytorch", "fp32", "fp32", "f32"),
        ("pytorch", "pytorch", "tf32", "fp32", "tf32"),
        ("pytorch", "pytorch", "fp16", "fp32", "f16"),
        ("torchscript", "torchscript", "fp32", "fp32", "f32"),
        ("torchscript", "torchscript", "tf32", "tf32", "tf32"),
        ("torchscript", "torchscript", "fp16", "fp16", "f16"),
        ("onnx", "onnx_runtime", "fp32", "fp32", "f32"),
        ("onnx", "onnx_runtime", "tf32", "fp32", "tf32"),
        ("onnx", "onnx_runtime", "fp16", "fp16", "f16"),
    ],
)
def test_options_run_on_the_gpu(
    option: str,
    runtime: str,
    precision: str,
    stored: str,
    compute: str,
    artifacts: Artifacts,
    environments: Environments,
    inputs: list[Array],
    reference: list[Array],
) -> None:
    artifact = artifacts.ensure(request_for(option, stored))
    options = matrix.load().options[option].precisions[precision].runtime_options
    spec = spec_for(artifact, precision, "cuda") | {"options": dict(options)}
    outputs, attested = run(environments, f"{option}-cuda", runtime, spec, inputs)
    assert (attested["device"], attested["compute"]) == ("cuda", compute)
    assert_same_detector(outputs, reference, 1.0, 0.999)
    if compute == "f32":
        for output, expected in zip(outputs, reference, strict=True):
            assert np.abs(output - expected)[:, :4].max() < 0.05


@needs_tensorrt
@needs_gpu
@pytest.mark.parametrize(("precision", "compute"), [("fp32", "f32"), ("tf32", "tf32"), ("fp16", "f16"), ("int8", "i8")])
def test_engines_are_built_and_run_on_the_gpu(
    precision: str,
    compute: str,
    artifacts: Artifacts,
    environments: Environments,
    calibration: list[str],
    inputs: list[Array],
    reference: list[Array],
) -> None:
    exporter = EXPORTERS / "tensorrt.py"
    images = tuple(Path(path) for path in calibration) if precision == "int8" else ()
    source = artifacts.ensure(request_for("onnx"))
    request = ExportRequest(
        CHECKPOINT, "tensorrt", precision, IMGSZ, 1, exporter, "export-tensorrt", images, source=source
    )
    artifact = artifacts.ensure(request)
    outputs, attested = run(environments, "tensorrt", "tensorrt", spec_for(artifact, precision, "cuda"), inputs)
    assert (attested["device"], attested["compute"]) == ("cuda", compute)
    assert_same_detector(outputs, reference, 4.0, 0.95)
