"""Edge TPU: the compiled model through libedgetpu, or the file before it on a CPU as a stand-in for its accuracy."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, load_delegate

from ..refusals import TargetAbsent
from . import _tflite

LIBRARY = "libedgetpu.so.1"
COMPILED = "model_edgetpu.tflite"
CUSTOM = "edgetpu-custom-op"


@dataclass(frozen=True)
class Model:
    """A TF Lite model, what its export found out about the compiler, and the compiled file where that is what runs."""

    inner: _tflite.Model
    details: dict[str, Any]
    compiled: Path | None = None


def load(spec: dict[str, Any]) -> Model:
    """The compiled model on the device, or model.tflite on `edgetpu-proxy`.

    Raises TargetAbsent, TargetUnsupported or TF Lite's ValueError.
    """
    details = spec["manifest"]["details"]
    if spec["target"] != "edgetpu":
        return Model(_tflite.load(spec, Interpreter, targets=("edgetpu-proxy",)), details)
    try:
        delegate = load_delegate(LIBRARY)
    except (OSError, ValueError) as error:
        text = f"{LIBRARY} cannot be loaded ({error}); install libedgetpu1-std and plug in a Coral."
        raise TargetAbsent(text) from error
    compiled = Path(spec["artifact_dir"]) / COMPILED
    if not compiled.is_file():
        raise TargetAbsent(
            f"The artifact was exported without the compiler: {details['compiler']} Install it, delete "
            f"{spec['artifact_dir']} and run again."
        )
    inner = _tflite.load(spec, Interpreter, targets=("edgetpu",), name=COMPILED, delegates=[delegate])
    return Model(inner, details, compiled)


def prepare(model: Model, x: np.ndarray) -> np.ndarray:
    """Channels last, quantised."""
    return _tflite.prepare(model.inner, x)


def infer(model: Model, prepared: np.ndarray) -> np.ndarray:
    """Raw output (B, 4 + classes, anchors), boxes in 0..1."""
    return _tflite.infer(model.inner, prepared)


def attest(model: Model) -> dict[str, Any]:
    """What ran, and from the manifest what the compiler can take; on the device, which nodes were left to the CPU."""
    attested = _tflite.attest(model.inner, importlib.metadata.version("ai-edge-litert"))
    attested["from_manifest"] = {name: value for name, value in model.details.items() if name != "operators"}
    if CUSTOM in attested["operators"]:
        # No kernel but libedgetpu's can execute it; that it holds integers is what its compiler takes, and not seen.
        attested |= {"device": "edgetpu", "provider": "libedgetpu", "compute": "i8"}
        attested["declared"].append("compute")
    if model.compiled is not None:
        attested["cpu_refusal"] = cpu_refusal(model.compiled)
    return attested


def cpu_refusal(path: Path) -> str:
    """What TF Lite says when a CPU alone is to run a file; empty where it runs it."""
    interpreter = Interpreter(model_path=str(path))
    try:
        interpreter.allocate_tensors()
        interpreter.invoke()
    except (RuntimeError, ValueError) as error:
        return str(error).strip().splitlines()[0]
    return ""
