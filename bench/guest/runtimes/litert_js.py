"""LiteRT.js in a headless browser: WebAssembly or WebGPU, on the TF Lite option's own file.  Not in the guide."""

from __future__ import annotations

from typing import Any

from . import _page
from ._page import COMPUTE, Model, cpu_ns, describe, emulated, footprint, infer, output, prepare, time_inside
from ._told import arithmetic

__all__ = ["attest", "cpu_ns", "emulated", "footprint", "infer", "load", "output", "prepare", "time_inside"]


def load(spec: dict[str, Any]) -> Model:
    """The model in a page of its own.  Raises as `_page.load`."""
    return _page.load(spec, "LiteRT.js", "/page/litert_js.js", ("wasm", "webgpu"), half=("webgpu",))


def attest(model: Model) -> dict[str, Any]:
    """On WebGPU the kernels that an inference dispatched, and whether those were the whole model.

    On WebAssembly LiteRT.js says little: it names no kernels and repeats what it was asked for.  There `compute` is the
    type of the model's input, and declared, as are accelerator and threads.
    """
    facts = describe(model)
    batch, height, width, channels = facts["input_shape"]
    facts["input_shape"] = [batch, channels, height, width]
    if kernels := facts.get("kernels"):
        place = "webgpu" if facts["whole"] else "webgpu + wasm"
        return {
            **facts,
            "device": place,
            "provider": place,
            "compute": arithmetic(kernels),
            "declared": [],
        }
    kind = facts["input_type"]
    return {
        **facts,
        "device": facts["accelerator"],
        "provider": facts["accelerator"],
        "compute": COMPUTE.get(kind, kind),
        "declared": ["device", "provider", "compute", "threads"],
    }
