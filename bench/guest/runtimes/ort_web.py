"""ONNX Runtime Web in a headless browser: WebAssembly or WebGPU, on the ONNX option's own file.  Not in the guide."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from . import _page
from ._ort_nodes import convolutions, executed, named, tallied
from ._page import Model, cpu_ns, describe, emulated, footprint, infer, output, prepare, time_inside
from ._told import arithmetic, places

__all__ = ["attest", "cpu_ns", "emulated", "footprint", "infer", "load", "output", "prepare", "time_inside"]

DEVICES = {"CPUExecutionProvider": "wasm", "WebGpuExecutionProvider": "webgpu"}
"""Of its providers in a page: the processor is WebAssembly's."""


def load(spec: dict[str, Any]) -> Model:
    """The model in a page of its own.  Raises as `_page.load`."""
    return _page.load(spec, "ONNX Runtime Web", "/page/ort_web.js", ("wasm", "webgpu"), half=("webgpu",))


def attest(model: Model) -> dict[str, Any]:
    """Providers and types of the convolutions that a profiled inference executed, in a session of its own.

    Threads are the page and its workers.
    """
    facts = describe(model)
    said = model.page.ask("profile")
    events = [json.loads(line.rstrip(",")) for line in said if line.startswith('{"cat"')]
    kernels = [event["args"] for event in executed(events)]
    ran = convolutions(kernels)
    by_compute, by_provider = tallied(ran)
    return {
        **facts,
        "device": places({DEVICES.get(name, name): number for name, number in by_provider.items()}),
        "provider": max(by_provider, key=by_provider.__getitem__, default=""),
        "compute": arithmetic(by_compute),
        "threads": 1 + facts["workers"],
        "declared": [],
        "convolutions": named(ran),
        "operators": dict(sorted(Counter(node["op_name"] for node in kernels).items())),
    }
