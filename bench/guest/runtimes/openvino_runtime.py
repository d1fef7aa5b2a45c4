"""OpenVINO: one compiled model, one stream, the latency hint, and the arithmetic asked for by name.

Left to itself, OpenVINO computes in bfloat16 on CPUs that have it, whatever the IR stores.  The option
`inference_precision` ("f32", "bf16", "f16") is therefore part of what a cell asks for; without it the default stands.
"""

from __future__ import annotations

import importlib.metadata
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov

from ..refusals import PrecisionUnsupported, TargetAbsent, TargetUnsupported
from ._told import arithmetic, places

DEVICES = {"cpu": "CPU", "arm-cpu": "CPU", "intel-gpu": "GPU", "intel-npu": "NPU"}
COMPUTE = {"f32": "f32", "f16": "f16", "bf16": "bf16", "i8": "i8", "u8": "i8"}
_FUSED = "undef"
"""Kernel of an operator that was fused into another."""
_UNCOUNTED = 2
"""Inferences of a profile that are not counted."""


@dataclass(frozen=True)
class Model:
    """A compiled model with the request that is used again and again."""

    compiled: Any
    request: Any
    device: str
    path: Path
    config: dict[str, Any]


def load(spec: dict[str, Any]) -> Model:
    """The IR compiled for the device.  Raises TargetAbsent, TargetUnsupported, PrecisionUnsupported."""
    target = spec["target"]
    if target not in DEVICES:
        raise TargetUnsupported(f"OpenVINO is run on {', '.join(DEVICES)} here, not on {target}.")
    device = DEVICES[target]
    core = ov.Core()
    if not any(name.split(".")[0] == device for name in core.available_devices):
        found = ", ".join(core.available_devices) or "no device"
        raise TargetAbsent(f"OpenVINO finds {found}, no {device}; install the driver of that device.")
    config: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
    if device == "CPU":
        config |= {"INFERENCE_NUM_THREADS": spec["threads"], "NUM_STREAMS": 1}
    wanted = spec["options"].get("inference_precision")
    if wanted:
        able = core.get_property(device, "OPTIMIZATION_CAPABILITIES")
        if wanted != "f32" and {"f16": "FP16", "bf16": "BF16"}.get(wanted) not in able:
            raise PrecisionUnsupported(f"OpenVINO's {device} computes in {', '.join(able)} here, not in {wanted}.")
        config["INFERENCE_PRECISION_HINT"] = wanted
    path = Path(spec["artifact_dir"]) / spec["manifest"]["entry"]
    compiled = core.compile_model(str(path), device, config)
    return Model(compiled, compiled.create_infer_request(), device, path, config)


def prepare(_model: Model, x: np.ndarray) -> np.ndarray:
    """The input as it is."""
    return x


def infer(model: Model, prepared: np.ndarray) -> np.ndarray:
    """Raw output (B, 4 + classes, anchors), copied out of the request."""
    output: np.ndarray = model.request.infer({0: prepared})[0]
    return output


def attest(model: Model) -> dict[str, Any]:
    """Kernels of the convolutions in the graph that the plugin executes.

    The arithmetic is read from the kernel's name where that ends in one ("brgconv_avx512_f32"), else from
    `runtimePrecision`, which names the stored type of the weights: f16 for an IR with half weights even where they
    were converted once and the convolution runs in f32.
    """
    convolutions: Counter[tuple[str, str]] = Counter()
    by_compute: Counter[str] = Counter()
    for operation in model.compiled.get_runtime_model().get_ordered_ops():
        facts = operation.get_rt_info()
        if "Convolution" in _text(facts, "layerType"):
            precision, kernel = _text(facts, "runtimePrecision"), _text(facts, "primitiveType")
            convolutions[precision, kernel] += 1
            ending = kernel.rsplit("_", 1)[-1].lower()
            by_compute[COMPUTE.get(ending, COMPUTE.get(precision, precision))] += 1
    properties = {name: _property(model.compiled, name) for name in ("INFERENCE_PRECISION_HINT", "NUM_STREAMS")}
    devices = model.compiled.get_property("EXECUTION_DEVICES")
    return {
        "device": places(Counter(name.strip("()").partition(".")[0].lower() for name in devices)),
        "provider": ", ".join(devices),
        "compute": arithmetic(by_compute),
        "threads": _property(model.compiled, "INFERENCE_NUM_THREADS"),
        "input_shape": list(model.compiled.input(0).shape),
        "version": importlib.metadata.version("openvino"),
        "declared": [],
        "inference_precision_hint": properties["INFERENCE_PRECISION_HINT"],
        "streams": properties["NUM_STREAMS"],
        "convolutions": {f"{precision} {kernel}": n for (precision, kernel), n in sorted(convolutions.items())},
    }


def profile(model: Model, prepared: np.ndarray, n: int) -> list[dict[str, Any]] | None:
    """Nodes of the compiled graph, their types made of layer and kernel, from a compilation of their own.

    Those that have nothing to do, such as a reshape in place, take no time; what was fused into others is left out.
    The CPU's counters are means over everything since the compilation, so what the first inferences had in them, which
    are not counted, is taken off; what is given are means.  None on other devices, whose counters mean something else.
    """
    if model.device != "CPU":
        return None
    compiled = ov.Core().compile_model(str(model.path), model.device, model.config | {"PERF_COUNT": True})
    request = compiled.create_infer_request()
    before = _counters(request, prepared, _UNCOUNTED)
    after = _counters(request, prepared, n)
    total = _UNCOUNTED + n
    return [
        {"name": name, "type": kind, "ms": max(0.0, (total * ms - _UNCOUNTED * before[name, kind]) / n)}
        for (name, kind), ms in after.items()
    ]


def _counters(request: Any, x: np.ndarray, n: int) -> dict[tuple[str, str], float]:
    """Name and type of every node of the graph, with its counter in ms after `n` more inferences."""
    for _ in range(n):
        request.infer({0: x})
    return {
        (node.node_name, f"{node.node_type} {node.exec_type}"): node.real_time.total_seconds() * 1e3
        for node in request.get_profiling_info()
        if node.exec_type != _FUSED  # not by its status, which is that of a counter of whole microseconds above 0
    }


def _text(facts: Any, name: str) -> str:
    return str(facts[name].astype(str)) if name in facts else ""


def _property(compiled: Any, name: str) -> Any:
    """A property as JSON can carry it, or None where the device has no such property."""
    if name not in compiled.get_property("SUPPORTED_PROPERTIES"):
        return None
    value = compiled.get_property(name)
    return value if isinstance(value, (int, str)) else value.to_string()
