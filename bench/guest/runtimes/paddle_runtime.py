"""PaddlePaddle: the inference engine with its own defaults, as many math threads as asked.

On x86 the default is oneDNN.  The option `onednn` ("bf16" or "int8") asks it for a narrower arithmetic than the
program's float32, the way Paddle's configuration offers it; whether it was granted is read from oneDNN's own log.
"""

from __future__ import annotations

import ctypes
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import inference

from ..refusals import BatchUnsupported, PrecisionUnsupported, TargetAbsent, TargetUnsupported
from ._told import arithmetic

TARGETS = ("cpu", "arm-cpu", "kunlun")
WANTED = {"bf16": "bf16", "int8": "i8"}
COMPUTE = {"f32": "f32", "f16": "f16", "bf16": "bf16", "s8": "i8", "u8": "i8"}
_THREADS = ",cpu,runtime:"
# oneDNN names its threads only in the first lines it logs in a process.
_threads_seen: list[int] = []


@dataclass(frozen=True)
class Model:
    """A predictor with its configuration and the handles of its input and output."""

    config: Any
    predictor: Any
    source: Any
    sink: Any


def load(spec: Mapping[str, Any]) -> Model:
    """The predictor; a narrower arithmetic is tried once, since Paddle may accept it and then not use it.

    Raises TargetAbsent, TargetUnsupported, PrecisionUnsupported or Paddle's own errors.
    """
    if spec["target"] not in TARGETS:
        raise TargetUnsupported(f"Paddle is run on {', '.join(TARGETS)} here, not on {spec['target']}.")
    program = Path(spec["artifact_dir"]) / spec["manifest"]["entry"]
    config = inference.Config(str(program), str(program.with_suffix(".pdiparams")))
    config.set_cpu_math_library_num_threads(int(spec["threads"]))
    config.disable_glog_info()
    wanted = spec["options"].get("onednn", "")
    if spec["target"] == "kunlun":
        if wanted:
            raise PrecisionUnsupported(f"{wanted} is asked of oneDNN, which runs on CPUs.")
        _use_kunlun(config)
    if not wanted:
        return _open(config)
    if wanted not in WANTED:
        raise ValueError(f"the option onednn is {wanted!r}; allowed: {', '.join(WANTED)}")
    if wanted == "bf16":
        config.enable_mkldnn_bfloat16()
    else:
        config.enable_mkldnn_int8()
    try:
        model = _open(config)
    except SystemError as error:  # what Paddle's "Fatal" becomes
        said = str(error).split(" (at ")[0].strip()
        raise PrecisionUnsupported(f"Paddle refuses {wanted} on this CPU: {said}") from error
    ran = _convolutions(_logged(model))
    if WANTED[wanted] not in {compute for compute, _ in ran}:
        told = " and ".join(f"{count} in {compute}" for compute, count in _by_compute(ran).items())
        raise PrecisionUnsupported(
            f"Paddle accepts {wanted} and does not use it: oneDNN ran {told or 'no'} of the network's convolutions."
        )
    return model


def prepare(model: Model, x: np.ndarray) -> np.ndarray:
    """The input as it is.  Raises BatchUnsupported."""
    expected = model.source.shape()
    if list(x.shape) != expected:
        raise BatchUnsupported(f"The Paddle program takes an input of {expected}, not {list(x.shape)}.")
    return x


def infer(model: Model, prepared: np.ndarray) -> np.ndarray:
    """Raw output (B, 4 + classes, anchors)."""
    model.source.copy_from_cpu(prepared)
    model.predictor.run()
    output: np.ndarray = model.sink.copy_to_cpu()
    return output


def attest(model: Model) -> dict[str, Any]:
    """Kernels of the convolutions in oneDNN's log of one more inference.

    Without oneDNN Paddle's own kernels run, which say nothing: device and threads are then what was configured, and the
    arithmetic is that of the tensors at both ends.
    """
    lines = _logged(model)
    ran = _convolutions(lines)
    xpu = model.config.use_xpu()
    if ran:
        compute, source = arithmetic(_by_compute(ran)), "oneDNN's log"
    else:
        names = {str(handle.type()).rsplit(".", 1)[-1].lower() for handle in (model.source, model.sink)}
        compute, source = {"float32": "f32", "float16": "f16"}.get("/".join(names), "/".join(names)), "tensor types"
    return {
        "device": "cpu" if ran or not xpu else "xpu",
        "provider": "oneDNN" if ran else "XPU" if xpu else "native",
        "compute": compute,
        "compute_source": source,
        "threads": _threads_seen[0] if _threads_seen else model.config.cpu_math_library_num_threads(),
        "input_shape": model.source.shape(),
        "version": paddle.__version__,
        "declared": [*([] if ran else ["device", "provider", "compute"]), *([] if _threads_seen else ["threads"])],
        "mkldnn_enabled": model.config.mkldnn_enabled(),
        "mkldnn_int8_enabled": model.config.mkldnn_int8_enabled(),
        "convolutions": {f"{compute} {kernel}": n for (compute, kernel), n in sorted(ran.items())},
        "operators": dict(sorted(Counter(line.split(",")[5] for line in lines if ",exec,cpu," in line).items())),
    }


def _use_kunlun(config: Any) -> None:
    """Put a program on the first Kunlun chip.  Raises TargetAbsent."""
    if not paddle.is_compiled_with_xpu():
        raise TargetAbsent(
            "This Paddle has no support for Kunlun chips: install paddlepaddle-xpu from Paddle's own index and name "
            "its Python in BENCH_ENV_PADDLE."
        )
    config.enable_xpu()
    config.set_xpu_device_id(0)


def _open(config: Any) -> Model:
    predictor = inference.create_predictor(config)
    (source,), (sink,) = predictor.get_input_names(), predictor.get_output_names()
    return Model(config, predictor, predictor.get_input_handle(source), predictor.get_output_handle(sink))


def _logged(model: Model) -> list[str]:
    """What oneDNN logs of one inference, a line per primitive; empty where this build of Paddle has no oneDNN."""
    libraries = sorted((Path(paddle.__file__).parent / "libs").glob("libdnnl.so*"))
    if not libraries:
        return []
    onednn = ctypes.CDLL(str(libraries[0]))
    x = np.zeros(model.source.shape(), np.float32)
    onednn.dnnl_set_verbose(1)
    try:
        text = _captured(lambda: infer(model, x))
    finally:
        onednn.dnnl_set_verbose(0)
    lines = [line for line in text.splitlines() if line.startswith("onednn_verbose,")]
    told = [line for line in lines if _THREADS in line and "nthr:" in line]
    _threads_seen.extend(int(line.rpartition("nthr:")[2]) for line in told)
    return lines


def _captured(action: Callable[[], Any]) -> str:
    """What C code writes to standard output meanwhile."""
    c = ctypes.CDLL(None)
    sys.stdout.flush()
    c.fflush(None)
    with tempfile.TemporaryFile() as file:
        kept = os.dup(1)
        os.dup2(file.fileno(), 1)
        try:
            action()
        finally:
            c.fflush(None)
            os.dup2(kept, 1)
            os.close(kept)
        file.seek(0)
        return file.read().decode("utf-8", "replace")


def _convolutions(lines: list[str]) -> Counter[tuple[str, str]]:
    """Arithmetic and kernel of each convolution: the type of its source, as in `src:f32:a:blocked:acdb::f0`."""
    seen: Counter[tuple[str, str]] = Counter()
    for line in lines:
        if ",exec,cpu,convolution," in line:
            fields = line.split(",")
            kind = fields[8].partition("src:")[2].split(":")[0]
            seen[COMPUTE.get(kind, kind), fields[6]] += 1
    return seen


def _by_compute(ran: Counter[tuple[str, str]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for (compute, _), count in ran.items():
        total[compute] += count
    return dict(total)
