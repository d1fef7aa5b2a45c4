"""What the adapters of runtimes in a page share: everything but how the model is loaded and what it says it ran."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..refusals import TargetUnsupported
from . import _browser
from ._browser import Page, is_software, open_page

WASM = "browser-wasm"
COMPUTE = {"float32": "f32", "float16": "f16"}  # by the type of a model's input


@dataclass(frozen=True)
class Model:
    """A page with the model loaded; `layout` of its input, `renderer` is what draws, empty where nothing is drawn."""

    page: Page
    layout: str
    renderer: str = ""


def load_wasm(spec: dict[str, Any], name: str, script: str) -> Model:
    """The model in a page of its own, for a runtime that is run in WebAssembly alone; `script` is the page's part.

    Raises TargetAbsent, TargetUnsupported, and playwright's Error.
    """
    if spec["target"] != WASM:
        raise TargetUnsupported(f"{name} is run on {WASM} here, not on {spec['target']}.")
    folders = {"js": Path(spec["javascript_dir"]), "model": Path(spec["artifact_dir"])}
    asked = {"threads": int(spec["threads"])}
    page, _ = open_page(WASM, folders, script, asked, processors=2 * asked["threads"])
    manifest = spec["manifest"]
    page.ask("load", {"url": f"/model/{manifest['entry']}", "input": manifest["input"]["shape"]})
    return Model(page, manifest["input"]["layout"])


def require_threads(page: Page, name: str, found: int, asked: int) -> None:
    """Close the page and raise TargetUnsupported unless the runtime uses as many threads as it was asked for."""
    if found != asked:
        page.close()
        raise TargetUnsupported(f"{name} was asked for {asked} threads and says that it uses {found}.")


def prepare(model: Model, x: np.ndarray) -> int:
    """Put the input into the page, where it stays until the next one; returns its size in bytes."""
    ordered = x.transpose(0, 2, 3, 1) if model.layout == "NHWC" else x
    model.page.server.sent = np.ascontiguousarray(ordered, dtype=np.float32).tobytes()
    model.page.ask("put")
    return len(model.page.server.sent)


def infer(model: Model, prepared: int) -> np.ndarray:
    """Raw output of the page's input."""
    time_inside(model, prepared, 1)
    return output(model)


def time_inside(model: Model, _prepared: int, n: int) -> list[int]:
    """Nanoseconds of `n` inferences by the page's own clock."""
    return [round(sample * 1e6) for sample in model.page.ask("time", n)]


def output(model: Model) -> np.ndarray:
    """Raw output of the last of those inferences."""
    shape = model.page.ask("output")
    return np.frombuffer(model.page.server.received, np.float32).reshape(shape)


def cpu_ns(model: Model) -> int:
    """CPU time of the browser's processes; this process only drives them."""
    return _browser.cpu_ns(model.page.processes())


def footprint(model: Model) -> dict[str, int]:
    """Peak resident bytes and threads of the browser's processes."""
    return _browser.footprint(model.page.processes())


def emulated(model: Model) -> str:
    """The renderer where it draws in software, else nothing."""
    return model.renderer if is_software(model.renderer) else ""


def describe(model: Model) -> dict[str, Any]:
    """What the runtime and the page say about themselves, and the browser that they are in."""
    return {
        **model.page.ask("describe"),
        "browser": model.page.version,
        "fetched_bytes": model.page.server.fetched_bytes("js"),
    }
