"""TensorRT: one engine, one execution context, one CUDA stream; input and output are copied from and to the host."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorrt as trt
from cuda.bindings import runtime as cuda

from ..refusals import TargetAbsent, TargetUnsupported
from ._told import arithmetic
from ._trt_layers import convolutions, layer_kinds

TARGET = "cuda"


class EngineUnusable(RuntimeError):
    """The engine cannot be used here; the message says why."""


@dataclass(frozen=True)
class Model:
    """An engine with its context and its memory on the device."""

    engine: Any
    context: Any
    stream: Any
    input: str
    output: str
    given: int
    made: int
    result: np.ndarray

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the input, which the engine fixes."""
        return tuple(self.engine.get_tensor_shape(self.input))


def load(spec: dict[str, Any]) -> Model:
    """The engine, deserialised.  Raises TargetUnsupported, TargetAbsent or EngineUnusable."""
    if spec["target"] != TARGET:
        raise TargetUnsupported(f"TensorRT runs on the target {TARGET}, not on {spec['target']}.")
    error, count = cuda.cudaGetDeviceCount()
    if error != cuda.cudaError_t.cudaSuccess or count == 0:
        raise TargetAbsent(f"CUDA finds no device ({error.name}); install a driver that fits CUDA 13.")
    logger = trt.Logger(trt.Logger.WARNING)
    path = Path(spec["artifact_dir"]) / spec["manifest"]["entry"]
    engine = trt.Runtime(logger).deserialize_cuda_engine(path.read_bytes())
    if engine is None:
        raise EngineUnusable(
            f"TensorRT {trt.__version__} refuses {path.name}: an engine works with the TensorRT release and the kind "
            "of GPU that it was built with; see the log."
        )
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    (given,) = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
    (made,) = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.OUTPUT]
    for name in names:
        if engine.get_tensor_dtype(name) != trt.float32:
            raise EngineUnusable(f"The engine's {name} is {engine.get_tensor_dtype(name)}; the bench exports float32.")
    context = engine.create_execution_context()
    stream = _checked(cuda.cudaStreamCreate())
    result = np.empty(tuple(engine.get_tensor_shape(made)), np.float32)
    places = {}
    for name in names:
        places[name] = _checked(cuda.cudaMalloc(4 * int(np.prod(tuple(engine.get_tensor_shape(name))))))
        context.set_tensor_address(name, int(places[name]))
    return Model(engine, context, stream, given, made, places[given], places[made], result)


def prepare(model: Model, x: np.ndarray) -> np.ndarray:
    """The input as it is; the copy to the device belongs to the inference.  Raises ValueError on another shape."""
    if x.shape != model.input_shape:
        raise ValueError(f"The engine takes {model.input_shape}, not {x.shape}.")
    return np.ascontiguousarray(x, np.float32)


def infer(model: Model, prepared: np.ndarray) -> np.ndarray:
    """Raw output (B, 4 + classes, anchors), on the host when this returns, in memory that the next call uses again."""
    kinds = cuda.cudaMemcpyKind
    _checked(
        cuda.cudaMemcpyAsync(
            model.given, prepared.ctypes.data, prepared.nbytes, kinds.cudaMemcpyHostToDevice, model.stream
        )
    )
    if not model.context.execute_async_v3(int(model.stream)):
        raise EngineUnusable("TensorRT refused to run the engine; see the log.")
    result = model.result
    _checked(
        cuda.cudaMemcpyAsync(result.ctypes.data, model.made, result.nbytes, kinds.cudaMemcpyDeviceToHost, model.stream)
    )
    _checked(cuda.cudaStreamSynchronize(model.stream))
    return result


def attest(model: Model) -> dict[str, Any]:
    """Arithmetic of the convolutions in the engine, as its inspector describes the layers that were built."""
    inspector = model.engine.create_engine_inspector()
    answer = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    found = convolutions(answer)
    properties = _checked(cuda.cudaGetDeviceProperties(0))
    return {
        "device": TARGET,
        "provider": f"TensorRT {trt.__version__}",
        "compute": arithmetic(found),
        "input_shape": list(model.input_shape),
        "version": trt.__version__,
        "declared": [],
        "device_name": properties.name.decode(),
        "convolutions": dict(sorted(found.items())),
        "layers": layer_kinds(answer),
    }


def _checked(answer: tuple[Any, ...]) -> Any:
    """The value of a CUDA call.  Raises EngineUnusable naming the error."""
    error, *values = answer
    if error != cuda.cudaError_t.cudaSuccess:
        raise EngineUnusable(f"CUDA: {cuda.cudaGetErrorString(error)[1].decode()} ({error.name}).")
    return values[0] if values else None
