"""LiteRT.js in a headless Chromium: its WebAssembly build on the TF Lite option's own file.  Not in the guide."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ._browser import open_page
from ._page import Model, TargetUnsupported, cpu_ns, describe, emulated, footprint, infer, prepare, time_inside

__all__ = ["attest", "cpu_ns", "emulated", "footprint", "infer", "load", "prepare", "time_inside"]

TARGET = "browser-wasm"
COMPUTE = {"float32": "f32", "float16": "f16"}


def load(spec: dict[str, Any]) -> Model:
    """The model in a page of its own.  Raises TargetAbsent, TargetUnsupported, and playwright's Error."""
    if spec["target"] != TARGET:
        raise TargetUnsupported(f"LiteRT.js is run on {TARGET} here, not on {spec['target']}.")
    folders = {"js": Path(spec["javascript_dir"]), "model": Path(spec["artifact_dir"])}
    asked = {"threads": int(spec["threads"])}
    page, _ = open_page(TARGET, folders, "/page/litert_js.js", asked, processors=2 * asked["threads"])
    manifest = spec["manifest"]
    page.ask("load", {"url": f"/model/{manifest['entry']}", "input": manifest["input"]["shape"]})
    return Model(page, manifest["input"]["layout"])


def attest(model: Model) -> dict[str, Any]:
    """What LiteRT.js says; it names no kernels, so `compute` is the type of the model's input."""
    facts = describe(model)
    kind = facts["input_type"]
    batch, height, width, channels = facts["input_shape"]
    return {
        **facts,
        "device": facts["accelerator"],
        "provider": facts["accelerator"],
        "compute": COMPUTE.get(kind, kind),
        "compute_source": "type of the model's input",
        "input_shape": [batch, channels, height, width],
        "threads_source": "option",
        "software": False,
    }
