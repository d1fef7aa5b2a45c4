"""TF Lite on ai-edge-litert, the living successor of tflite-runtime."""

from __future__ import annotations

import importlib.metadata
from typing import Any

from ai_edge_litert.interpreter import Interpreter

from . import _tflite
from ._tflite import Model, infer, prepare

__all__ = ["attest", "infer", "load", "prepare"]


def load(spec: dict[str, Any]) -> Model:
    """The model with XNNPACK, the interpreter's default.  Raises TargetUnsupported or ValueError."""
    return _tflite.load(spec, Interpreter)


def attest(model: Model) -> dict[str, Any]:
    """What ran; the version is ai-edge-litert's."""
    return _tflite.attest(model, importlib.metadata.version("ai-edge-litert"))
