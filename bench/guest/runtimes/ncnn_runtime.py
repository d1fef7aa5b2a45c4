"""NCNN: one network, one extractor per inference, as many OpenMP threads as asked, or a GPU through Vulkan.

NCNN's own defaults ask for half precision, which its Arm kernels honour and its x86 kernels do not have.  A cell's
`options` are therefore fields of `ncnn.Option` by name; without any, the defaults stand.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ncnn
import numpy as np

from ..refusals import BatchUnsupported, TargetAbsent, TargetUnsupported
from ._stored import stored_as
from ._tasks import worked
from ._told import arithmetic, places

TARGETS = ("cpu", "arm-cpu", "vulkan")
_CPU_TYPE = 3
"""What Vulkan calls a device that is a processor: a driver that draws in software."""
OPTIONS = tuple(name for name in dir(ncnn.Option) if name.startswith("use_"))


@dataclass(frozen=True)
class Model:
    """A loaded network with the names of its one input and its one output; `gpu` where NCNN computes on one."""

    network: Any
    source: str
    sink: str
    imgsz: int
    gpu: Any = None


def load(spec: Mapping[str, Any]) -> Model:
    """The network with its options set before anything is read, as NCNN wants it.

    Raises TargetAbsent, TargetUnsupported, or ValueError when the files are not a whole network (NCNN says why on
    standard error).
    """
    if spec["target"] not in TARGETS:
        raise TargetUnsupported(f"NCNN is run on {', '.join(TARGETS)} here, not on {spec['target']}.")
    gpu = _gpu() if spec["target"] == "vulkan" else None
    network = ncnn.Net()
    network.opt.use_vulkan_compute = gpu is not None
    network.opt.num_threads = int(spec["threads"])
    for name, value in spec["options"].items():
        if name not in OPTIONS:
            raise ValueError(f"NCNN has no option {name!r}; it has {', '.join(OPTIONS)}")
        setattr(network.opt, name, bool(value))
    graph = Path(spec["artifact_dir"]) / spec["manifest"]["entry"]
    weights = graph.with_suffix(".bin")
    # Used after a failed load, a network ends the process.
    for what, status in (
        (graph.name, network.load_param(str(graph))),
        (weights.name, network.load_model(str(weights))),
    ):
        if status != 0:
            raise ValueError(f"NCNN cannot read {what} (status {status})")
    (source,), (sink,) = network.input_names(), network.output_names()
    # NCNN itself takes this back where it cannot have the device, and goes on with the processor.
    return Model(network, source, sink, int(spec["imgsz"]), gpu if network.opt.use_vulkan_compute else None)


def emulated(model: Model) -> str:
    """The driver's name for its device where it draws in software, else nothing."""
    return model.gpu.device_name() if model.gpu is not None and model.gpu.type() == _CPU_TYPE else ""


def prepare(_model: Model, x: np.ndarray) -> tuple[np.ndarray, Any]:
    """A matrix (3, S, S) over the first and only image of x (1, 3, S, S); the array is kept alive beside it.

    Raises BatchUnsupported.
    """
    if len(x) != 1:
        raise BatchUnsupported(f"NCNN's matrix has no batch dimension: one image per inference, not {len(x)}.")
    image = np.ascontiguousarray(x[0])
    return image, ncnn.Mat(image)


def infer(model: Model, prepared: tuple[np.ndarray, Any]) -> np.ndarray:
    """Raw output (1, 4 + classes, anchors).  Raises RuntimeError with NCNN's status."""
    extractor = model.network.create_extractor()
    extractor.input(model.source, prepared[1])
    return np.array(_extract(extractor, model.sink))[np.newaxis]


def attest(model: Model) -> dict[str, Any]:
    """What the convolutions of one more inference left in memory, element by element, and where they ran.

    NCNN has no word for what it computed, but it hands out any intermediate matrix as it is stored: four bytes an
    element is float32, two are half precision or bfloat16, whichever the layer supports and the options allow.
    Arithmetic on half-precision elements is half precision only if the options say so too.  From a GPU everything
    comes back as float32, so there it is what the numbers themselves are exact in.  A layer without a Vulkan kernel
    runs on the processor, and says so.  Threads are those that computed in one inference more: loading half precision
    on Arm starts one for each processor, whatever was asked for, and they rest from then on.
    """
    extractor = model.network.create_extractor()
    extractor.set_light_mode(False)  # keep every matrix, so that the network runs once and not once per layer
    x = np.random.default_rng(0).random((1, 3, model.imgsz, model.imgsz), np.float32)
    kept, matrix = prepare(model, x)
    extractor.input(model.source, matrix)
    blobs = model.network.blobs()
    convolutions: Counter[tuple[str, str]] = Counter()
    by_compute: Counter[str] = Counter()
    by_device: Counter[str] = Counter()
    for layer in model.network.layers():
        if "Convolution" in layer.type:
            stored = _extract(extractor, blobs[layer.tops[0]].name, raw=model.gpu is None)
            compute = _compute(layer, model, stored)
            convolutions[layer.type, compute] += 1
            by_compute[compute] += 1
            by_device["vulkan" if model.gpu is not None and layer.support_vulkan else "cpu"] += 1
    entered = _extract(extractor, model.source)
    computing = worked(lambda: infer(model, (kept, matrix))) if model.gpu is None else None
    return {
        "device": places(by_device),
        "provider": "CPU" if model.gpu is None else model.gpu.device_name(),
        "compute": arithmetic(by_compute),
        "threads": model.network.opt.num_threads if computing is None else computing,
        "input_shape": [1, entered.c, entered.h, entered.w],
        "version": ncnn.__version__,
        "declared": ["threads"] if computing is None else [],
        "options": {name: getattr(model.network.opt, name) for name in OPTIONS},
        "convolutions": {f"{kind} {compute}": n for (kind, compute), n in sorted(convolutions.items())},
        "cpu_features": [
            name.removeprefix("cpu_support_")
            for name in dir(ncnn)
            if name.startswith("cpu_support_") and getattr(ncnn, name)()
        ],
    }


def profile(model: Model, prepared: tuple[np.ndarray, Any], n: int) -> list[dict[str, Any]] | None:
    """Layers in the order of the network, each timed by asking for its first output once those before it are there.

    NCNN's packages have no profiler.  Here every matrix is kept, so a layer that would write over its input, such as an
    activation, makes a copy first, and all write to memory that is new to them: the sum is more than an inference
    takes.  The first round is not counted.  None on a GPU, where asking for a matrix also brings it to the host.
    """
    if model.gpu is not None:
        return None
    blobs = model.network.blobs()
    layers = [(layer.name, layer.type, blobs[layer.tops[0]].name) for layer in model.network.layers() if layer.bottoms]
    ns = np.zeros((n + 1, len(layers)))
    for times in ns:
        extractor = model.network.create_extractor()
        extractor.set_light_mode(False)
        extractor.input(model.source, prepared[1])
        for place, (_, _, output) in enumerate(layers):
            started = time.perf_counter_ns()
            _extract(extractor, output, raw=True)
            times[place] = time.perf_counter_ns() - started
    usual = np.median(ns[1:], axis=0) / 1e6
    return [{"name": name, "type": kind, "ms": float(ms)} for (name, kind, _), ms in zip(layers, usual, strict=True)]


def _gpu() -> Any:
    """The GPU that NCNN would choose.  Raises TargetAbsent."""
    if ncnn.get_gpu_count() == 0:
        raise TargetAbsent("NCNN finds no Vulkan device; install the Vulkan loader (libvulkan1) and the GPU's driver.")
    return ncnn.get_gpu_info(ncnn.get_default_gpu_index())


def _extract(extractor: Any, name: str, *, raw: bool = False) -> Any:
    """A matrix of the network, computed now; `raw` leaves its elements as they are stored."""
    status, matrix = extractor.extract(name, int(raw))
    if status != 0:
        raise RuntimeError(f"NCNN cannot compute {name} (status {status})")
    return matrix


def _compute(layer: Any, model: Model, stored: Any) -> str:
    """Arithmetic of a layer with that output."""
    options = model.network.opt
    if model.gpu is not None:
        kind = stored_as(np.array(stored))
        return "f32" if kind == "f16" and not options.use_fp16_arithmetic else kind
    element_bytes = stored.elemsize // stored.elempack
    if element_bytes == 4:
        return "f32"
    if element_bytes == 2 and layer.support_bf16_storage and options.use_bf16_storage:
        return "bf16"
    if element_bytes == 2 and layer.support_fp16_storage and options.use_fp16_storage:
        return "f16" if options.use_fp16_arithmetic else "f32"
    return f"{8 * element_bytes} bits"
