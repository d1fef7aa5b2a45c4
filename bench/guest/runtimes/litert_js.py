"""LiteRT.js in a headless Chromium: its WebAssembly build on the TF Lite option's own file.  Not in the guide."""

from __future__ import annotations

from typing import Any

from ._page import COMPUTE, Model, cpu_ns, describe, emulated, footprint, infer, load_wasm, output, prepare, time_inside

__all__ = ["attest", "cpu_ns", "emulated", "footprint", "infer", "load", "output", "prepare", "time_inside"]


def load(spec: dict[str, Any]) -> Model:
    """The model in a page of its own.  Raises TargetAbsent, TargetUnsupported, and playwright's Error."""
    return load_wasm(spec, "LiteRT.js", "/page/litert_js.js")


def attest(model: Model) -> dict[str, Any]:
    """What LiteRT.js says, which is little: it names no kernels and repeats what it was asked for.

    So `compute` is the type of the model's input, and declared, as are accelerator and threads.
    """
    facts = describe(model)
    kind = facts["input_type"]
    batch, height, width, channels = facts["input_shape"]
    return {
        **facts,
        "device": facts["accelerator"],
        "provider": facts["accelerator"],
        "compute": COMPUTE.get(kind, kind),
        "input_shape": [batch, channels, height, width],
        "declared": ["device", "provider", "compute", "threads"],
        "workers": model.page.workers,
        "software": False,
    }
