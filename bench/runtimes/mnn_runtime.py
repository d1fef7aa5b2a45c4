"""MNN: an interpreter with one session on the CPU, as many threads as asked.

The option `precision` ("high", "normal", "low", "lowBF") is MNN's own: how much it may round to be faster.  The
session interface is used, not the newer module, because a session can be asked what it runs on.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import MNN
import numpy as np

TARGETS = ("cpu", "arm-cpu")
# What `getSessionInfo` is asked for, by the numbers of MNN's header.
_MEMORY, _FLOPS, _BACKEND, _THREADS = 0, 1, 2, 4
_BACKENDS = {0: "CPU", 13: "CPU extension"}
# What MNN documents for a reduced precision. It is believed only where the numbers differ from "high".
_REDUCED = {"low": "f16", "lowBF": "bf16"}


class TargetUnsupported(ValueError):
    """MNN is not run on this target here."""


class BatchUnsupported(ValueError):
    """The artifact takes another number of images."""


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
    """A session as MNN makes it.  Raises TargetUnsupported, ValueError for a file that is no model."""
    if spec["target"] not in TARGETS:
        raise TargetUnsupported(f"MNN is run on {', '.join(TARGETS)} here, not on {spec['target']}.")
    path = Path(spec["artifact_dir"]) / spec["manifest"]["entry"]
    config = {"backend": "CPU", "numThread": int(spec["threads"]), **spec["options"]}
    return _open(path, config)


def prepare(model: Model, x: np.ndarray) -> tuple[np.ndarray, Any]:
    """A host tensor over x (B, 3, S, S); the array is kept alive beside it.  Raises BatchUnsupported."""
    expected = tuple(model.source.getShape())
    if x.shape != expected:
        raise BatchUnsupported(f"The MNN model takes an input of {expected}, not {x.shape}.")
    return x, MNN.Tensor(expected, MNN.Halide_Type_Float, x, MNN.Tensor_DimensionType_Caffe)


def infer(model: Model, prepared: tuple[np.ndarray, Any]) -> np.ndarray:
    """Raw output (B, 4 + classes, anchors)."""
    model.source.copyFrom(prepared[1])
    model.interpreter.runSession(model.session)
    model.sink.copyToHostTensor(model.reply)
    return np.array(model.reply.getNumpyData(), np.float32).reshape(model.sink.getShape())


def attest(model: Model) -> dict[str, Any]:
    """Backend, threads and memory as the session names them, and whether a reduced precision changed any bit.

    MNN does not say what its kernels compute in.  So the same file is run in a second session at high precision,
    which is float32 by MNN's definition: equal bits mean that the asked precision was computed in float32 too.
    """
    shape = tuple(model.source.getShape())
    x = np.random.default_rng(0).random(shape, dtype=np.float32)
    high = _open(model.path, {**model.config, "precision": "high"})
    mine, other = infer(model, prepare(model, x)), infer(high, prepare(high, x))
    equal = bool(np.array_equal(mine, other))
    asked = str(model.config.get("precision", "normal"))
    backend = int(_info(model, _BACKEND))
    return {
        "device": "cpu",
        "provider": _BACKENDS.get(backend, f"backend {backend}"),
        "compute": "f32" if equal else _REDUCED.get(asked, asked),
        "compute_source": "bits compared with a session at high precision",
        # An integer in a float's place, as the binding hands it out.
        "threads": struct.unpack("i", struct.pack("f", _info(model, _THREADS)))[0],
        "input_shape": list(shape),
        "version": MNN.version(),
        "precision": asked,
        "equal_to_high": equal,
        "memory_mb": {"asked": round(_info(model, _MEMORY), 2), "high": round(_info(high, _MEMORY), 2)},
        "mflops": round(_info(model, _FLOPS), 1),
        "operators": _operators(model),
    }


def _open(path: Path, config: dict[str, Any]) -> Model:
    interpreter = MNN.Interpreter(str(path))
    session = interpreter.createSession(config)
    outputs = interpreter.getSessionOutputAll(session)
    if len(outputs) != 1:
        raise ValueError(f"{path.name} has {len(outputs)} outputs; expected one")
    sink = interpreter.getSessionOutput(session)
    shape = tuple(sink.getShape())
    zeros = np.zeros(shape, np.float32)
    reply = MNN.Tensor(shape, MNN.Halide_Type_Float, zeros, MNN.Tensor_DimensionType_Caffe)
    return Model(interpreter, session, interpreter.getSessionInput(session), sink, reply, path, config)


def _info(model: Model, what: int) -> float:
    value: float = model.interpreter.getSessionInfo(model.session, what)
    return value


def _operators(model: Model) -> dict[str, int]:
    """How often each kind of operator ran in one more inference."""
    seen: Counter[str] = Counter()

    def before(_tensors: Any, _operator: Any) -> bool:
        return True

    def after(_tensors: Any, operator: Any) -> bool:
        seen[operator.getType()] += 1
        return True

    model.interpreter.runSessionWithCallBackInfo(model.session, before, after)
    return dict(sorted(seen.items()))
