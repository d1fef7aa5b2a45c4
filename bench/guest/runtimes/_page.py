"""What the adapters of runtimes in a page share: everything but how the model is loaded and what it says it ran."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..refusals import PrecisionUnsupported, TargetUnsupported
from . import _processes
from ._browser import Page, is_software, open_page

BACKENDS = {
    "browser-cpu": "cpu",
    "browser-wasm": "wasm",
    "browser-webgl": "webgl",
    "browser-webgpu": "webgpu",
    "firefox-wasm": "wasm",
    "webkit-wasm": "wasm",
}
"""What computes in the page, by target."""
COMPUTE = {"float32": "f32", "float16": "f16"}  # by the type of a model's input


@dataclass(frozen=True)
class Model:
    """A page with the model loaded; `layout` of its input, `adapter` is what draws, None where nothing is drawn."""

    page: Page
    layout: str
    adapter: Mapping[str, Any] | None = None


def load(
    spec: Mapping[str, Any], name: str, script: str, backends: Collection[str], *, half: Collection[str] = ()
) -> Model:
    """The model in a page of its own; `script` is the page's part of a runtime that has these backends.

    With one of the backends `half` its FP16 is computed in half precision, which a GPU need not have.  Raises
    TargetAbsent, TargetUnsupported, PrecisionUnsupported, and the browser driver's error.
    """
    target, threads = spec["target"], int(spec["threads"])
    backend = BACKENDS.get(target, "")
    if backend not in backends:
        able = ", ".join(name for name, backend in BACKENDS.items() if backend in backends)
        raise TargetUnsupported(f"{name} is run on {able} here, not on {target}.")
    folders = {"js": Path(spec["javascript_dir"]), "model": Path(spec["artifact_dir"])}
    asked = {"backend": backend, "threads": threads, "half": backend in half and spec["precision"] == "fp16"}
    page, found = open_page(target, folders, script, asked, processors=2 * threads)
    refusal = _refusal(name, asked, {"browser": page.browser, **found})
    if refusal is not None:
        page.close()
        raise refusal
    manifest = spec["manifest"]
    page.ask("load", {"url": f"/model/{manifest['entry']}", "input": manifest["input"]["shape"]})
    return Model(page, manifest["input"]["layout"], found.get("adapter"))


def _refusal(name: str, asked: Mapping[str, Any], found: Mapping[str, Any]) -> Exception | None:
    """Why a runtime that has started cannot do as it was asked; None where it can."""
    threads, browser = asked["threads"], found["browser"]
    used = found.get("threads", threads)
    if asked["backend"] == "wasm" and threads > 1 and not found["shares"]:
        return TargetUnsupported(f"{browser} gives pages no shared memory: WebAssembly has one thread, not {threads}.")
    if asked["backend"] == "wasm" and used != threads:
        return TargetUnsupported(f"{name} was asked for {threads} threads and says that it uses {used}.")
    if asked["half"] and not found["adapter"]["shader_f16"]:
        renderer = found["adapter"]["renderer"]
        return PrecisionUnsupported(
            f"{renderer} has no half precision: its WebGPU adapter lacks the feature shader-f16."
        )
    return None


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
    return _processes.cpu_ns(model.page.processes())


def footprint(model: Model) -> dict[str, int]:
    """Peak resident bytes and threads of the browser's processes."""
    return _processes.footprint(model.page.processes())


def emulated(model: Model) -> str:
    """The renderer where it draws in software, else nothing."""
    return str(model.adapter["renderer"]) if model.adapter and is_software(model.adapter) else ""


def describe(model: Model) -> dict[str, Any]:
    """What the runtime and the page say about themselves, the browser that they are in, and what draws in it.

    The adapter that a library asked WebGPU for stands before the one that was looked at first.
    """
    facts = {"adapter": model.adapter, **model.page.ask("describe")}
    return {
        **facts,
        "browser": model.page.browser,
        "fetched_bytes": model.page.server.fetched_bytes("js"),
        "renderer": facts["adapter"]["renderer"] if facts["adapter"] else "",
        "software": is_software(facts["adapter"]),
    }
