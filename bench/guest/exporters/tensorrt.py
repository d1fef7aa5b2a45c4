"""TensorRT and TensorRT for RTX: the ONNX artifact, retyped or quantised, and built into an engine.

TensorRT 11 builds strongly typed networks only, and 10 can: what each layer computes in is what the ONNX graph says.
So the precision is put into the graph, on the processor, by `typed_graph`, and the builder chooses kernels, not types.
int8 is explicit quantisation: pairs of QuantizeLinear and DequantizeLinear around the convolutions, symmetric and
signed, weights per channel, since TensorRT takes no other.  An engine of TensorRT works with the release and the kind
of GPU it was built with; `version_compatible` makes one that later releases and the lean runtime take as well, and may
be slower.  One of TensorRT for RTX is built without a GPU and compiled on the one that runs it.
"""

from __future__ import annotations

import importlib.metadata
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.transformers.float16 import convert_float_to_float16

from .. import tensorrts
from ..refusals import PrecisionUnsupported, require_precision
from ._calibration import batches

PRECISIONS = ("fp32", "tf32", "fp16", "int8")
TYPES = {"FLOAT": "f32", "HALF": "f16"}
# The convolution that turns a distribution over 16 distances into one: 16 numbers, whose rounding moves every box.
KEPT = "/dfl/"


class EngineRefused(RuntimeError):
    """TensorRT cannot parse or build the graph; the message is its own."""


def export(request: dict[str, Any], *, version_compatible: bool = False) -> dict[str, Any]:
    """Write model.engine in fp32, tf32, fp16 or int8.  Raises PrecisionUnsupported, ExportRefused or EngineRefused."""
    output = Path(request["output_dir"])
    graph = typed_graph({**request, "output": str(output / "typed.onnx")})
    tf32 = request["precision"] == "tf32"
    plan, parsed = _build(Path(graph["path"]), tf32=tf32, version_compatible=version_compatible)
    (output / "model.engine").write_bytes(plan)
    Path(graph["path"]).unlink()
    source = request["source"]["manifest"]
    built = tensorrts.versions()
    versions = {name: importlib.metadata.version(name) for name in ("onnx", "onnxruntime")}
    return {
        "files": ["model.engine"],
        "entry": "model.engine",
        "input": source["input"],
        "output": source["output"],
        "versions": {**source["versions"], **versions, **built},
        "reproduce": f"{source['reproduce']}  # then bench/guest/exporters/tensorrt.py, {request['precision']}",
        "details": {"parsed_convolutions": parsed},
    }


def typed_graph(request: dict[str, Any]) -> dict[str, str]:
    """The source's ONNX graph in the types of a precision, written to `output`; needs no GPU and no TensorRT.

    `request` is an export request with `output`, the path to write.  Input and output stay float32.  Raises
    PrecisionUnsupported or ExportRefused.
    """
    precision, output = request["precision"], Path(request["output"])
    require_precision(request, "TensorRT", PRECISIONS)
    source = Path(request["source"]["directory"]) / request["source"]["manifest"]["entry"]
    model = onnx.load(str(source))
    if precision == "fp16":
        model = convert_float_to_float16(model, keep_io_types=True)
    if precision == "int8":
        _quantise(output, model, request)
    else:
        onnx.save(model, str(output))
    return {"path": str(output)}


def _quantise(output: Path, model: Any, request: Mapping[str, Any]) -> None:
    (name,) = [tensor.name for tensor in model.graph.input]
    quantize_static(
        model,  # not its path, beside which the quantiser would write: that is another artifact's folder
        str(output),
        _Images(name, request),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["Conv"],
        nodes_to_exclude=[node.name for node in model.graph.node if KEPT in node.name],
        per_channel=True,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        extra_options={
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            # What TensorRT reads: weights in float before their pair, biases in float, and only the inputs of a
            # convolution quantised, so that what follows it can be fused into it.
            "AddQDQPairToWeight": True,
            "QuantizeBias": False,
            "OpTypesToExcludeOutputQuantization": ["Conv"],
        },
    )


class _Images(CalibrationDataReader):  # type: ignore[misc]  # the core has no onnxruntime to type it with
    """Calibration images as network inputs, one batch after another."""

    def __init__(self, name: str, request: Mapping[str, Any]) -> None:
        self._batches = batches(request)
        self._name = name

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next batch by the input's name, None at the end."""
        batch = next(self._batches, None)
        return None if batch is None else {self._name: np.ascontiguousarray(batch.transpose(0, 3, 1, 2))}


def _build(graph: Path, *, tf32: bool, version_compatible: bool) -> tuple[bytes, dict[str, int]]:
    """The engine of a typed graph, with the details its inspector is asked for, and the convolutions that were parsed.

    Where the graph says float32, `tf32` lets kernels round to that.  A version-compatible engine would hold the lean
    runtime itself, were it not left out: whoever deploys it has that once.  Raises PrecisionUnsupported or
    EngineRefused.
    """
    # Here and not above: what comes before it needs neither TensorRT nor a GPU, and is tested without them.
    trt, name = tensorrts.library(), tensorrts.name()
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    if tf32 and not builder.platform_has_tf32:
        raise PrecisionUnsupported("This GPU has no TF32, which came with compute capability 8.0: ask for fp32.")
    always_typed = int(trt.__version__.split(".")[0]) >= 11
    flags = 0 if always_typed else 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(flags)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(graph.read_bytes()):
        said = "; ".join(str(parser.get_error(index)) for index in range(parser.num_errors))
        raise EngineRefused(f"{name} {trt.__version__} cannot parse the graph: {said}")
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if tf32:
        config.set_flag(trt.BuilderFlag.TF32)
    else:
        config.clear_flag(trt.BuilderFlag.TF32)  # on by default, and its 10-bit mantissa is not FP32
    if version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
        config.set_flag(trt.BuilderFlag.EXCLUDE_LEAN_RUNTIME)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineRefused(f"{name} {trt.__version__} built no engine; the log says why.")
    return bytes(plan), _convolutions(trt, network)


def _convolutions(trt: Any, network: Any) -> dict[str, int]:
    """Convolutions of a parsed network by the type that they are to compute in: f32, f16, or i8 where quantised."""
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    quantised = {layer.get_output(0).name for layer in layers if layer.type == trt.LayerType.DEQUANTIZE}
    taken = [layer.get_input(0) for layer in layers if layer.type == trt.LayerType.CONVOLUTION]
    counted = Counter("i8" if one.name in quantised else TYPES.get(one.dtype.name, one.dtype.name) for one in taken)
    return dict(sorted(counted.items()))
