"""TensorFlow.js in a headless browser: WebAssembly, WebGL, WebGPU or plain JavaScript, timed inside the page."""

from __future__ import annotations

from typing import Any

from . import _page
from ._page import COMPUTE, Model, cpu_ns, describe, emulated, footprint, infer, output, prepare, time_inside
from ._told import arithmetic

__all__ = ["attest", "cpu_ns", "emulated", "footprint", "infer", "load", "output", "prepare", "time_inside"]


def load(spec: dict[str, Any]) -> Model:
    """The model in a page of its own.  Raises TargetAbsent, TargetUnsupported, and the browser driver's error."""
    return _page.load(spec, "TensorFlow.js", "/page/tfjs.js", ("cpu", "wasm", "webgl", "webgpu"))


def attest(model: Model) -> dict[str, Any]:
    """What TensorFlow.js says: its backend, and the type of its convolutions' weights as they lie in memory.

    On WebGPU the kernels that were dispatched say more than the weights.
    """
    facts = describe(model)
    filters = {COMPUTE.get(kind, kind): number for kind, number in facts["filters"].items()}
    batch, *sides = facts["input_shape"]
    return {
        **facts,
        "device": facts["backend"],
        "provider": facts["backend"],
        "compute": "f16" if facts["half_textures"] else arithmetic(facts.get("kernels", filters)),
        "input_shape": [batch, sides[2], *sides[:2]] if model.layout == "NHWC" else [batch, *sides],
        "declared": [],
    }
