"""TF Lite on tflite-runtime, the package that Ultralytics' guide names; its last release is of 2023."""

from __future__ import annotations

import importlib.metadata
from typing import Any

from tflite_runtime.interpreter import Interpreter

from . import _tflite
from ._tflite import Model, infer, prepare

__all__ = ["attest", "infer", "load", "prepare"]


def load(spec: dict[str, Any]) -> Model:
    """The model with XNNPACK, the interpreter's default.  Raises TargetUnsupported or ValueError."""
    return _tflite.load(spec, Interpreter, targets=("cpu", "arm-cpu"))


def attest(model: Model) -> dict[str, Any]:
    """What ran; the version is tflite-runtime's."""
    return _tflite.attest(model, importlib.metadata.version("tflite-runtime"))
