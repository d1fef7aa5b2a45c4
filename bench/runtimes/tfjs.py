"""TensorFlow.js in a headless Chromium: WebAssembly, WebGL, WebGPU or plain JavaScript, timed inside the page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import _browser
from ._browser import Page, TargetUnsupported, is_software, open_page, to_layout

BACKENDS = {f"browser-{name}": name for name in ("cpu", "wasm", "webgl", "webgpu")}
COMPUTE = {"float32": "f32", "float16": "f16"}


@dataclass(frozen=True)
class Model:
    """A page with the model loaded; `renderer` is what draws, empty where nothing is drawn."""

    page: Page
    layout: str
    renderer: str


def load(spec: dict[str, Any]) -> Model:
    """The model in a page of its own.  Raises TargetAbsent, TargetUnsupported, and playwright's Error."""
    target = spec["target"]
    if target not in BACKENDS:
        raise TargetUnsupported(f"TensorFlow.js is run on {', '.join(BACKENDS)} here, not on {target}.")
    folders = {"js": Path(spec["javascript_dir"]), "model": Path(spec["artifact_dir"])}
    asked = {"backend": BACKENDS[target], "threads": spec["threads"]}
    page, found = open_page(target, folders, "/page/tfjs.js", asked, processors=2 * spec["threads"])
    if BACKENDS[target] == "wasm" and found["threads"] != spec["threads"]:
        page.close()
        raise TargetUnsupported(
            f"TensorFlow.js was asked for {spec['threads']} threads and says that it uses {found['threads']}."
        )
    manifest = spec["manifest"]
    page.ask("load", {"url": f"/model/{manifest['entry']}", "input": manifest["input"]["shape"]})
    return Model(page, manifest["input"]["layout"], found["renderer"])


def prepare(model: Model, x: np.ndarray) -> int:
    """Put the input into the page, where it stays until the next one; returns its size in bytes."""
    model.page.server.sent = to_layout(x, model.layout).tobytes()
    model.page.ask("put")
    return len(model.page.server.sent)


def infer(model: Model, _prepared: int) -> np.ndarray:
    """Raw output of the page's input."""
    shape = model.page.ask("infer")
    return np.frombuffer(model.page.server.received, np.float32).reshape(shape)


def time_inside(model: Model, _prepared: int, n: int) -> list[int]:
    """Nanoseconds of `n` inferences by the page's own clock."""
    return [round(sample * 1e6) for sample in model.page.ask("time", n)]


def cpu_ns(model: Model) -> int:
    """CPU time of the browser's processes; this process only drives them."""
    return _browser.cpu_ns(model.page.processes())


def footprint(model: Model) -> dict[str, int]:
    """Peak resident bytes and threads of the browser's processes."""
    return _browser.footprint(model.page.processes())


def emulated(model: Model) -> str:
    """The renderer where it draws in software, else nothing."""
    return model.renderer if is_software(model.renderer) else ""


def attest(model: Model) -> dict[str, Any]:
    """What TensorFlow.js and the page say about themselves."""
    facts = model.page.ask("describe")
    kind = max(facts["filters"], key=facts["filters"].get)
    batch, *sides = facts["input_shape"]
    shape = [batch, sides[2], *sides[:2]] if model.layout == "NHWC" else [batch, *sides]
    return {
        **facts,
        "device": facts["backend"],
        "compute": "f16" if facts["half_textures"] else COMPUTE.get(kind, kind),
        "input_shape": shape,
        "renderer": model.renderer,
        "software": is_software(model.renderer),
        "browser": model.page.version,
        "fetched_bytes": model.page.server.fetched_bytes("js"),
    }
