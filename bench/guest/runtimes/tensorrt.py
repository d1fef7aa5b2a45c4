"""TensorRT, its lean runtime, and TensorRT for RTX: one engine, one execution context, one CUDA stream.

Input and output are copied from and to the host.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from cuda.bindings import runtime as cuda

from .. import tensorrts
from ..refusals import TargetAbsent, TargetUnsupported
from ._told import arithmetic
from ._trt_layers import convolutions, layer_kinds

TARGET = "cuda"
trt = tensorrts.library()
NAME = f"{tensorrts.name()} {trt.__version__}"
OTHER_CARD = "compute capability"
"""What TensorRT for RTX says of a card that its engines cannot be compiled for."""


class EngineUnusable(RuntimeError):
    """The engine cannot be used here; the message says why."""


@dataclass(frozen=True)
class Model:
    """An engine with its context and its memory on the device, and the runtime that holds its log."""

    runtime: Any
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


class _Log(trt.ILogger):  # type: ignore[name-defined, misc]  # the core has no TensorRT to type it with
    """Hands on to standard error what the library warns of, and keeps its errors: it raises none."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self.errors: list[str] = []

    def log(self, severity: Any, message: str) -> None:
        """Take a message, as the library asks."""
        if severity.value <= trt.ILogger.ERROR.value:
            self.errors.append(message)
        if severity.value <= trt.ILogger.WARNING.value:
            sys.stderr.write(f"{severity.name}: {message}\n")


def load(spec: dict[str, Any]) -> Model:
    """The engine, deserialised.  Raises TargetUnsupported, TargetAbsent or EngineUnusable."""
    if spec["target"] != TARGET:
        raise TargetUnsupported(f"{tensorrts.name()} runs on the target {TARGET}, not on {spec['target']}.")
    error, count = cuda.cudaGetDeviceCount()
    if error != cuda.cudaError_t.cudaSuccess or count == 0:
        raise TargetAbsent(f"CUDA finds no device ({error.name}); install a driver that fits CUDA 13.")
    log = _Log()
    path = Path(spec["artifact_dir"]) / spec["manifest"]["entry"]
    runtime = trt.Runtime(log)
    engine = runtime.deserialize_cuda_engine(path.read_bytes())
    if engine is None:
        said = " ".join(log.errors)
        if tensorrts.module() == tensorrts.RTX and OTHER_CARD in said:
            raise TargetUnsupported(f"{NAME} does not run on this GPU: {said}")
        raise EngineUnusable(
            f"{NAME} refuses {path.name}: an engine works with the release, and one of TensorRT with the kind of GPU, "
            f"that it was built with. {said}"
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
    return Model(runtime, engine, context, stream, given, made, places[given], places[made], result)


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
    _enqueue(model)
    result = model.result
    _checked(
        cuda.cudaMemcpyAsync(result.ctypes.data, model.made, result.nbytes, kinds.cudaMemcpyDeviceToHost, model.stream)
    )
    _checked(cuda.cudaStreamSynchronize(model.stream))
    return result


def time_on_device(model: Model, prepared: np.ndarray, n: int, *, graph: bool) -> list[float]:
    """Milliseconds of `n` inferences between two events on the stream, each of which the host waits for.

    Where the host hands out kernels more slowly than the card runs them, the card's pauses are in these times; a graph
    has none.  Raises EngineUnusable, also where the inference cannot be captured.
    """
    infer(model, prepared)  # the input is on the device then, and what the first inference sets up is done
    replayed = _captured(model) if graph else None
    begin, end = (_checked(cuda.cudaEventCreate()) for _ in range(2))
    samples = []
    for _ in range(n):
        _checked(cuda.cudaEventRecord(begin, model.stream))
        if replayed is None:
            _enqueue(model)
        else:
            _checked(cuda.cudaGraphLaunch(replayed, model.stream))
        _checked(cuda.cudaEventRecord(end, model.stream))
        _checked(cuda.cudaEventSynchronize(end))
        samples.append(float(_checked(cuda.cudaEventElapsedTime(begin, end))))
    return samples


def _enqueue(model: Model) -> None:
    """Hand an inference of what lies on the device to the stream.  Raises EngineUnusable."""
    if not model.context.execute_async_v3(int(model.stream)):
        raise EngineUnusable(f"{NAME} refused to run the engine; see the log.")


def _captured(model: Model) -> Any:
    """That as a CUDA graph that can be launched.  Raises EngineUnusable, and leaves the stream as it was."""
    _checked(cuda.cudaStreamBeginCapture(model.stream, cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal))
    try:
        _enqueue(model)
    finally:
        captured = cuda.cudaStreamEndCapture(model.stream)
    return _checked(cuda.cudaGraphInstantiate(_checked(captured), 0))


def attest(model: Model) -> dict[str, Any]:
    """Arithmetic of the convolutions in the engine, as its inspector describes the layers that were built."""
    inspector = model.engine.create_engine_inspector()
    answer = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    found = convolutions(answer)
    properties = _checked(cuda.cudaGetDeviceProperties(0))
    return {
        "device": TARGET,
        "provider": NAME,
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
