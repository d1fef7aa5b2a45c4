"""MNN: an interpreter with one session on the CPU, as many threads as asked, or on a GPU through Vulkan.

The option `precision` ("high", "normal", "low", "lowBF") is MNN's own: how much it may round to be faster.  The
session interface is used, not the newer module, because a session can be asked what it runs on.
"""

from __future__ import annotations

import statistics
import struct
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import MNN
import numpy as np

from ..refusals import BatchUnsupported, TargetAbsent, TargetUnsupported
from ._stored import stored_as
from ._told import arithmetic

TARGETS = {"cpu": "CPU", "arm-cpu": "CPU", "vulkan": "VULKAN"}
# What `getSessionInfo` is asked for, by the numbers of MNN's header.
_MEMORY, _FLOPS, _BACKEND, _THREADS = 0, 1, 2, 4
_BACKENDS = {0: "CPU", 7: "Vulkan", 13: "CPU extension"}
_VULKAN = 7


@dataclass(frozen=True)
class Model:
    """A session with its input and output, and a host tensor (1, 4 + classes, anchors) that takes the output."""

    interpreter: Any
    session: Any
    source: Any
    sink: Any
    reply: Any
    path: Path
    config: dict[str, Any]


def load(spec: Mapping[str, Any]) -> Model:
    """A session as MNN makes it.

    Raises TargetAbsent, TargetUnsupported, ValueError for a file that is no model.
    """
    if spec["target"] not in TARGETS:
        raise TargetUnsupported(f"MNN is run on {', '.join(TARGETS)} here, not on {spec['target']}.")
    path = Path(spec["artifact_dir"]) / spec["manifest"]["entry"]
    config = {"backend": TARGETS[spec["target"]], "numThread": int(spec["threads"]), **spec["options"]}
    model = _open(path, config)
    # MNN falls back to the CPU without a word.
    if spec["target"] == "vulkan" and int(_info(model, _BACKEND)) != _VULKAN:
        raise TargetAbsent(
            "This MNN has no Vulkan, or finds no device: PyPI's package for Linux is built without it. Name the Python "
            "of an environment with a build of MNN that has it in BENCH_ENV_MNN."
        )
    return model


def prepare(model: Model, x: np.ndarray) -> tuple[np.ndarray, Any]:
    """A host tensor over x (B, 3, S, S); the array is kept alive beside it.  Raises BatchUnsupported."""
    expected = tuple(model.source.getShape())
    if x.shape != expected:
        raise BatchUnsupported(f"The MNN model takes an input of {expected}, not {x.shape}.")
    return x, MNN.Tensor(expected, MNN.Halide_Type_Float, x, MNN.Tensor_DimensionType_Caffe)


def infer(model: Model, prepared: tuple[np.ndarray, Any]) -> np.ndarray:
    """Raw output (B, 4 + classes, anchors).  Raises RuntimeError with MNN's status."""
    model.source.copyFrom(prepared[1])
    status = model.interpreter.runSession(model.session)
    if status != 0:
        raise RuntimeError(f"MNN's runSession ended with status {status}")
    model.sink.copyToHostTensor(model.reply)
    return np.array(model.reply.getNumpyData(), np.float32).reshape(model.sink.getShape())


def attest(model: Model) -> dict[str, Any]:
    """Backend, threads and memory as the session names them, and what its convolutions left in memory.

    MNN does not say what its kernels compute in, so one more inference is looked into.  Outputs that are all exact in
    half precision or bfloat16 were stored as that.  Float32 outputs could still come from 8-bit products, which
    MNN uses for quantised weights where it is told to save memory: they count as float32 only where a session that is
    told not to save anything gives the same bits.
    """
    shape = tuple(model.source.getShape())
    x = np.random.default_rng(0).random(shape, dtype=np.float32)
    plain = _open(model.path, {**model.config, "precision": "high", "memory": "high"})
    equal = bool(np.array_equal(infer(model, prepare(model, x)), infer(plain, prepare(plain, x))))
    convolutions, operators = _watch(model, prepare(model, x))
    stored = arithmetic(convolutions)
    backend = int(_info(model, _BACKEND))
    return {
        "device": "vulkan" if backend == _VULKAN else "cpu",
        "provider": _BACKENDS.get(backend, f"backend {backend}"),
        "compute": stored if stored != "f32" or equal else "mixed",
        "compute_source": "outputs of the convolutions",
        # An integer in a float's place, as the binding hands it out.
        "threads": struct.unpack("i", struct.pack("f", _info(model, _THREADS)))[0],
        "input_shape": list(shape),
        "version": MNN.version(),
        "declared": [],
        "precision": model.config.get("precision", "normal"),
        "equal_to_high": equal,
        "memory_mb": round(_info(model, _MEMORY), 2),
        "mflops": round(_info(model, _FLOPS), 1),
        "convolutions": dict(sorted(convolutions.items())),
        "operators": dict(sorted(operators.items())),
    }


def profile(model: Model, prepared: tuple[np.ndarray, Any], n: int) -> list[dict[str, Any]] | None:
    """Operators that the session runs, timed from the call before each to the call after it.

    The first run is not counted.  None on a GPU, where the call after comes before the operator is done.
    """
    if int(_info(model, _BACKEND)) == _VULKAN:
        return None
    runs: list[list[tuple[str, str, int]]] = []
    started = 0

    def before(_tensors: Any, _operator: Any) -> bool:
        nonlocal started
        started = time.perf_counter_ns()
        return True

    def after(_tensors: Any, operator: Any) -> bool:
        elapsed = time.perf_counter_ns() - started
        runs[-1].append((operator.getName(), operator.getType(), elapsed))
        return True

    for _ in range(n + 1):
        runs.append([])
        model.source.copyFrom(prepared[1])
        model.interpreter.runSessionWithCallBackInfo(model.session, before, after)
    return [
        {"name": same[0][0], "type": same[0][1], "ms": statistics.median(ns for _, _, ns in same) / 1e6}
        for same in zip(*runs[1:], strict=True)
    ]


def _open(path: Path, config: dict[str, Any]) -> Model:
    interpreter = MNN.Interpreter(str(path))
    session = interpreter.createSession(config)
    outputs = interpreter.getSessionOutputAll(session)
    if len(outputs) != 1:
        raise ValueError(f"{path.name} has {len(outputs)} outputs; expected one")
    sink = interpreter.getSessionOutput(session)
    reply = _host_tensor(tuple(sink.getShape()))
    return Model(interpreter, session, interpreter.getSessionInput(session), sink, reply, path, config)


def _info(model: Model, what: int) -> float:
    value: float = model.interpreter.getSessionInfo(model.session, what)
    return value


def _watch(model: Model, prepared: tuple[np.ndarray, Any]) -> tuple[Counter[str], Counter[str]]:
    """Convolutions by the type their outputs are stored as, and operators by kind, of one more inference."""
    model.source.copyFrom(prepared[1])  # the inference before it reused the memory of its input
    convolutions: Counter[str] = Counter()
    operators: Counter[str] = Counter()

    def before(_tensors: Any, _operator: Any) -> bool:
        return True

    def after(tensors: Any, operator: Any) -> bool:
        operators[operator.getType()] += 1
        if "Convolution" in operator.getType():
            copy = _host_tensor(tuple(tensors[0].getShape()))
            tensors[0].copyToHostTensor(copy)
            convolutions[stored_as(np.array(copy.getNumpyData(), np.float32))] += 1
        return True

    model.interpreter.runSessionWithCallBackInfo(model.session, before, after)
    return convolutions, operators


def _host_tensor(shape: tuple[int, ...]) -> Any:
    return MNN.Tensor(shape, MNN.Halide_Type_Float, np.zeros(shape, np.float32), MNN.Tensor_DimensionType_Caffe)
