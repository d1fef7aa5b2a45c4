"""What the PyTorch and the TorchScript adapter share: device, threads, precision, and seeing what was computed."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ..refusals import PrecisionUnsupported, TargetAbsent, TargetUnsupported
from ..tf32 import require_tf32
from ._told import arithmetic, places

DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
NAMES = {torch.float32: "f32", torch.float16: "f16", torch.bfloat16: "bf16"}
_ROUNDABLE = (torch.float32, "cuda")
"""What TF32 rounds: numbers of this dtype on this device."""
_PRODUCTS = ("aten::mm", "aten::bmm", "aten::addmm", "aten::baddbmm", "aten::matmul", "aten::linear")
# Kernels that a convolution is handed to, as the profiler names them, and whose they are.
_KERNELS = {
    "aten::mkldnn_convolution": "oneDNN",
    "aten::cudnn_convolution": "cuDNN",
    "aten::miopen_convolution": "MIOpen",
    "aten::_nnpack_spatial_convolution": "NNPACK",
    "aten::_slow_conv2d_forward": "native",
    "aten::_conv_depthwise2d": "native",
}
_UNCOUNTED = 3
"""Inferences before a profile or a capture; TorchScript's executor still changes the graph in the first two."""


@dataclass(frozen=True)
class Model:
    """A network on its device with the input it takes."""

    network: Any
    device: torch.device
    dtype: torch.dtype
    input_shape: tuple[int, ...]


def device_of(spec: Mapping[str, Any]) -> torch.device:
    """The device of the target, with threads and TF32 set as asked.

    TF32 is off unless `options.tf32` is true: PyTorch lets cuDNN use it by default, and its 10-bit mantissa is not
    FP32.  Where it is asked for it is that default: in convolutions, not in matrix products.  A trace keeps what was
    set when it was made, whatever is set here.  Raises TargetAbsent, TargetUnsupported, or PrecisionUnsupported where
    TF32 is asked for and there is none.
    """
    torch.set_num_threads(int(spec["threads"]))
    target, tf32 = str(spec["target"]), bool(spec["options"].get("tf32", False))
    if tf32:
        require_tf32(target)
    if target.endswith("cpu"):
        return torch.device("cpu")
    if target != "cuda":
        raise TargetUnsupported(f"PyTorch runs on cpu and cuda here, not on {target}.")
    if not torch.cuda.is_available():
        raise TargetAbsent("PyTorch sees no CUDA device; install its CUDA build and a driver that fits it.")
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    return torch.device("cuda", 0)


def dtype_of(spec: Mapping[str, Any]) -> torch.dtype:
    """The dtype of a precision.  Raises PrecisionUnsupported."""
    if spec["precision"] not in DTYPES:
        raise PrecisionUnsupported(f"PyTorch is run in {', '.join(DTYPES)} here, not in {spec['precision']}.")
    return DTYPES[spec["precision"]]


def prepare(model: Model, x: np.ndarray) -> torch.Tensor:
    """A host tensor of the network's dtype; the copy to the device belongs to the inference."""
    return torch.from_numpy(x).to(model.dtype)


def infer(model: Model, prepared: torch.Tensor) -> np.ndarray:
    """Raw float32 output (B, 4 + classes, anchors) on the host; the copy back waits for the device."""
    with torch.inference_mode():
        output = _forward(model, prepared.to(model.device))
        # The copy into ordinary host memory returns when the device has finished all that was queued before it.
        result: np.ndarray = output.cpu().numpy()
        if model.device.type == "cuda":
            torch.cuda.synchronize(model.device)  # said aloud too, for whatever was queued on another stream
    return result


def time_on_device(model: Model, prepared: torch.Tensor, n: int, *, graph: bool) -> list[float] | None:
    """Milliseconds of `n` inferences between two events, each of which the host waits for; None off a GPU.

    Where the host hands out kernels more slowly than the card runs them, the card's pauses are in these times; a graph
    has none.  Raises RuntimeError, also where the inference cannot be captured.
    """
    if model.device.type != "cuda":
        return None
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    stream, samples = torch.cuda.Stream(model.device), []
    with torch.inference_mode(), torch.cuda.stream(stream):
        x = prepared.to(model.device)
        run = _captured(model, x, stream) if graph else lambda: _forward(model, x)
        for _ in range(n):
            begin.record(stream)
            run()
            end.record(stream)
            end.synchronize()
            samples.append(begin.elapsed_time(end))
    return samples


def _forward(model: Model, x: torch.Tensor) -> torch.Tensor:
    """Raw float32 output of an input on the network's device, there."""
    output = model.network(x)
    first: torch.Tensor = output[0] if isinstance(output, (tuple, list)) else output
    return first.float()


def _captured(model: Model, x: torch.Tensor, stream: Any) -> Callable[[], None]:
    """What replays the inference of `x` as a CUDA graph, captured on the stream that is current."""
    for _ in range(_UNCOUNTED):
        _forward(model, x)  # what libraries set up per stream cannot be captured
    captured = torch.cuda.CUDAGraph()
    with torch.cuda.graph(captured, stream=stream):
        _forward(model, x)
    replay: Callable[[], None] = captured.replay
    return replay


@dataclass
class Dispatched:
    """What an inference handed to its kernels.

    `convolutions` by dtype of input and weight, device, and what a trace holds for allow_tf32 (None outside of one):
    cuDNN is given that constant and not PyTorch's setting, which was looked at once, when the trace was made.
    `products` are matrix products by dtype and device, `shape` that of the first convolution's input.
    """

    convolutions: Counter[tuple[torch.dtype, torch.dtype, str, bool | None]] = field(default_factory=Counter)
    products: Counter[tuple[torch.dtype, str]] = field(default_factory=Counter)
    shape: list[int] = field(default_factory=list)


class _Watch(TorchDispatchMode):  # type: ignore[misc]  # the core has no torch to type it with
    """Notes the convolutions and matrix products that are dispatched while it is on."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = Dispatched()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: PyTorch would import its compiler, a second of work, to keep it away from what is dispatched here."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().partition(".")[0]
        if "conv" in name:  # aten::conv2d under inference mode, aten::_convolution in TorchScript
            given = dict(zip((argument.name for argument in func._schema.arguments), args, strict=False))
            device = args[0].device.type
            self.seen.convolutions[args[0].dtype, args[1].dtype, device, given.get("allow_tf32")] += 1
            self.seen.shape = self.seen.shape or list(args[0].shape)
        elif name in _PRODUCTS:
            self.seen.products[args[0].dtype, args[0].device.type] += 1
        return func(*args, **(kwargs or {}))


def by_compute(seen: Dispatched, *, convolutions: bool, products: bool) -> Counter[str]:
    """Convolutions by arithmetic; the two are PyTorch's settings, whether each may be rounded to TF32 on a GPU.

    Matrix products are counted where they are rounded: what holds some is not computed in float32.
    """
    counted: Counter[str] = Counter()
    for (first, weight, device, traced), number in seen.convolutions.items():
        rounded = (convolutions if traced is None else traced) and (first, device) == _ROUNDABLE
        same = "tf32" if rounded else NAMES.get(first, str(first))
        counted[same if first == weight else f"{first} x {weight}"] += number
    if products:
        counted["tf32"] += seen.products[_ROUNDABLE]
    return +counted


def dispatched(model: Model) -> Dispatched:
    """What one more inference, of zeros, hands to its kernels."""
    with _Watch() as watch:
        infer(model, prepare(model, np.zeros(model.input_shape, np.float32)))
    seen: Dispatched = watch.seen
    return seen


def attest(model: Model) -> dict[str, Any]:
    """What one more inference dispatched: arithmetic, device, shape; threads, versions."""
    seen = dispatched(model)
    allowed = {
        "convolutions": torch.backends.cudnn.allow_tf32,
        "products": torch.backends.cuda.matmul.allow_tf32,
    }
    ran, traced, where = Counter[str](), Counter[str](), Counter[str]()
    for (first, weight, on, held), number in seen.convolutions.items():
        ran[f"{first} x {weight} on {on}"] += number
        where[on] += number
        if held is not None:
            traced[str(held).lower()] += number
    device = places(where)
    return {
        "device": device,
        "provider": _provider(model),
        "compute": arithmetic(by_compute(seen, **allowed)),
        "threads": torch.get_num_threads(),
        "input_shape": seen.shape,
        "version": torch.__version__,
        "declared": [],
        "convolutions": dict(sorted(ran.items())),
        "matrix_products": {f"{kind} on {on}": n for (kind, on), n in sorted(seen.products.items(), key=str)},
        "traced_allow_tf32": dict(sorted(traced.items())),
        "tf32_allowed": allowed,
        "device_name": torch.cuda.get_device_name(model.device) if device == "cuda" else "",
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }


def profile(model: Model, prepared: torch.Tensor, n: int) -> list[dict[str, Any]] | None:
    """Calls of ATen's operators, type by type, each with the time that it spends itself.

    Those that call others are among them, so that the sum is the whole; a call is named by its type and its place among
    those of that type.  None on a GPU, where an operator's time ends when its kernels are queued.  Raises RuntimeError
    where the inferences are not alike.
    """
    if model.device.type != "cpu":
        return None
    for _ in range(_UNCOUNTED):
        infer(model, prepared)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        for _ in range(n):
            infer(model, prepared)
    times: dict[str, list[float]] = {}
    for event in sorted(profiler.events(), key=lambda event: event.time_range.start):
        times.setdefault(event.name, []).append(event.self_cpu_time_total / 1e3)
    uneven = [name for name, ms in times.items() if len(ms) % n]
    if uneven:
        raise RuntimeError(f"The {n} inferences of the profile differ in how often they call {', '.join(uneven)}.")
    return [
        {"name": f"{kind} {place + 1}", "type": kind, "ms": statistics.median(ms[place :: len(ms) // n])}
        for kind, ms in times.items()
        for place in range(len(ms) // n)
    ]


def _provider(model: Model) -> str:
    """Whose kernels most convolutions of one more inference were handed to, as the profiler saw it.

    It is torch.profiler's own, which by itself would import PyTorch's compiler as well, a second of work.
    """
    with torch.autograd.profiler.profile(use_kineto=True) as profiler:
        infer(model, prepare(model, np.zeros(model.input_shape, np.float32)))
    seen = Counter(_KERNELS[event.name] for event in profiler.function_events if event.name in _KERNELS)
    name = max(seen, key=seen.__getitem__, default="unknown")
    return f"cuDNN {torch.backends.cudnn.version()}" if name == "cuDNN" else name
