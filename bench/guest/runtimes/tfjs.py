"""TensorFlow.js in a headless Chromium: WebAssembly, WebGL, WebGPU or plain JavaScript, timed inside the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..refusals import TargetUnsupported
from ._browser import is_software, open_page
from ._page import (
    COMPUTE,
    Model,
    cpu_ns,
    describe,
    emulated,
    footprint,
    infer,
    output,
    prepare,
    require_threads,
    time_inside,
)
from ._told import arithmetic

__all__ = ["attest", "cpu_ns", "emulated", "footprint", "infer", "load", "output", "prepare", "time_inside"]

BACKENDS = {f"browser-{name}": name for name in ("cpu", "wasm", "webgl", "webgpu")}


def load(spec: dict[str, Any]) -> Model:
    """The model in a page of its own.  Raises TargetAbsent, TargetUnsupported, and playwright's Error."""
    target, threads = spec["target"], int(spec["threads"])
    if target not in BACKENDS:
        raise TargetUnsupported(f"TensorFlow.js is run on {', '.join(BACKENDS)} here, not on {target}.")
    folders = {"js": Path(spec["javascript_dir"]), "model": Path(spec["artifact_dir"])}
    asked = {"backend": BACKENDS[target], "threads": threads}
    page, found = open_page(target, folders, "/page/tfjs.js", asked, processors=2 * threads)
    if BACKENDS[target] == "wasm":
        require_threads(page, "TensorFlow.js", found["threads"], threads)
    manifest = spec["manifest"]
    page.ask("load", {"url": f"/model/{manifest['entry']}", "input": manifest["input"]["shape"]})
    return Model(page, manifest["input"]["layout"], found["renderer"])


def attest(model: Model) -> dict[str, Any]:
    """What TensorFlow.js says: its backend, and the type of its convolutions' weights as they lie in memory."""
    facts = describe(model)
    filters = {COMPUTE.get(kind, kind): number for kind, number in facts["filters"].items()}
    batch, *sides = facts["input_shape"]
    return {
        **facts,
        "device": facts["backend"],
        "provider": facts["backend"],
        "compute": "f16" if facts["half_textures"] else arithmetic(filters),
        "input_shape": [batch, sides[2], *sides[:2]] if model.layout == "NHWC" else [batch, *sides],
        "declared": [],
        "renderer": model.renderer,
        "software": is_software(model.renderer),
    }
