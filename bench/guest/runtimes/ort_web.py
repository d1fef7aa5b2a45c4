"""ONNX Runtime Web in a headless Chromium: its WebAssembly build on the ONNX option's own file.  Not in the guide."""

from __future__ import annotations

from typing import Any

from ._page import COMPUTE, Model, cpu_ns, describe, emulated, footprint, infer, load_wasm, prepare, time_inside

__all__ = ["attest", "cpu_ns", "emulated", "footprint", "infer", "load", "prepare", "time_inside"]


def load(spec: dict[str, Any]) -> Model:
    """The model in a page of its own.  Raises TargetAbsent, TargetUnsupported, and playwright's Error."""
    return load_wasm(spec, "ONNX Runtime Web", "/page/ort_web.js")


def attest(model: Model) -> dict[str, Any]:
    """What ONNX Runtime Web says; it names no kernels, so `compute` is the type of the graph's input."""
    facts = describe(model)
    kind = facts["input_type"]
    return {
        **facts,
        "device": "wasm",
        "provider": "wasm",
        "compute": COMPUTE.get(kind, kind),
        "compute_source": "type of the graph's input",
        "software": False,
    }
