"""What the PyTorch and the TorchScript adapter share: device, threads, precision, and seeing what was computed."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ..refusals import PrecisionUnsupported, TargetAbsent, TargetUnsupported

DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
NAMES = {torch.float32: "f32", torch.float16: "f16", torch.bfloat16: "bf16"}
_UNCOUNTED = 3
"""Inferences before a profile; TorchScript's executor still changes the graph in the first two."""


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
    set when it was made, whatever is set here.  Raises TargetAbsent or TargetUnsupported.
    """
    torch.set_num_threads(int(spec["threads"]))
    target = str(spec["target"])
    if target.endswith("cpu"):
        return torch.device("cpu")
    if target != "cuda":
        raise TargetUnsupported(f"PyTorch runs on cpu and cuda here, not on {target}.")
    if not torch.cuda.is_available():
        raise TargetAbsent("PyTorch sees no CUDA device; install its CUDA build and a driver that fits it.")
    torch.backends.cudnn.allow_tf32 = bool(spec["options"].get("tf32", False))
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
        output = model.network(prepared.to(model.device))
        if isinstance(output, (tuple, list)):
            output = output[0]
        # The copy into ordinary host memory returns when the device has finished all that was queued before it.
        result: np.ndarray = output.float().cpu().numpy()
        if model.device.type == "cuda":
            torch.cuda.synchronize(model.device)  # said aloud too, for whatever was queued on another stream
    return result


class _Convolutions(TorchDispatchMode):  # type: ignore[misc]  # the core has no torch to type it with
    """Counts the convolutions that are dispatched, by dtype and device of their input and weight.

    `traced` counts what those of a trace hold for allow_tf32: cuDNN is given that constant and not PyTorch's setting,
    which was looked at once, when the trace was made.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[tuple[torch.dtype, torch.dtype, str]] = Counter()
        self.traced: Counter[bool] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if "conv" in func.name():  # aten::conv2d under inference mode, aten::_convolution in TorchScript
            self.seen[args[0].dtype, args[1].dtype, args[0].device.type] += 1
            given = dict(zip((argument.name for argument in func._schema.arguments), args, strict=False))
            if "allow_tf32" in given:
                self.traced[given["allow_tf32"]] += 1
        return func(*args, **(kwargs or {}))


def arithmetic(seen: Counter[tuple[torch.dtype, torch.dtype, str]], traced: Counter[bool], tf32_setting: bool) -> str:
    """Arithmetic of most of the convolutions that were `seen`.

    Float32 on CUDA is `tf32` when any of them may round its inputs to it: by the constant of its trace, which `traced`
    counts, or, where it was not traced, by PyTorch's setting.
    """
    (first, weight, device), _ = seen.most_common(1)[0]
    if first != weight:
        return f"{first} x {weight}"
    rounds = traced[True] > 0 or (tf32_setting and seen.total() > traced.total())
    return "tf32" if device == "cuda" and first == torch.float32 and rounds else NAMES.get(first, str(first))


def attest(model: Model) -> dict[str, Any]:
    """What one more inference dispatched: arithmetic, device, threads, versions."""
    x = np.zeros(model.input_shape, np.float32)
    with _Convolutions() as convolutions:
        infer(model, prepare(model, x))
    (_, _, device), _ = convolutions.seen.most_common(1)[0]
    return {
        "device": device,
        "provider": _provider(device),
        "compute": arithmetic(convolutions.seen, convolutions.traced, torch.backends.cudnn.allow_tf32),
        "threads": torch.get_num_threads(),
        "input_shape": list(model.input_shape),
        "version": torch.__version__,
        "convolutions": {f"{a} x {b} on {where}": n for (a, b, where), n in sorted(convolutions.seen.items(), key=str)},
        "traced_allow_tf32": {str(allowed).lower(): n for allowed, n in sorted(convolutions.traced.items())},
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


def _provider(device: str) -> str:
    if device == "cuda":
        return f"cuDNN {torch.backends.cudnn.version()}"
    return "oneDNN" if torch.backends.mkldnn.is_available() else "native"
