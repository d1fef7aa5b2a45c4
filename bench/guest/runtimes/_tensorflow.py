"""What the SavedModel and GraphDef runtimes share: device, threads, layout, an attestation from a traced inference."""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# TensorFlow imports requests, whose urllib3 would open a socket to see whether the loopback has IPv6.
socket.has_ipv6 = False

import numpy as np  # noqa: E402 - after the line above
import tensorflow as tf  # noqa: E402 - likewise
from tensorflow.python.util import _pywrap_util_port as port  # noqa: E402 - likewise

from ..refusals import TargetAbsent, TargetUnsupported  # noqa: E402 - likewise
from ._told import arithmetic, places  # noqa: E402 - likewise

TARGETS = ("cpu", "arm-cpu", "cuda")
DEVICES = {"GPU": "cuda"}
COMPUTE = {"DT_FLOAT": "f32", "DT_HALF": "f16", "DT_BFLOAT16": "bf16", "DT_QINT8": "i8", "DT_QUINT8": "i8"}


@dataclass(frozen=True)
class Model:
    """A function of one tensor, and how to load the same graph into a session that can be traced.

    `run` takes float32 (B, S, S, 3) and returns (B, 4 + classes, anchors).  `restore` loads the graph into a session
    and returns the names of its input and output tensor.
    """

    run: Callable[[Any], Any]
    restore: Callable[[Any], tuple[str, str]]
    input_shape: list[int]


def set_up(spec: dict[str, Any]) -> None:
    """Set device and threads before TensorFlow's first operation.

    TF32 is off, as for PyTorch: TensorFlow lets cuDNN use it by default, and its 10-bit mantissa is not FP32.  Of a
    card's memory it takes what it needs, up to `gpu_limit_bytes` where there is such a limit.  Raises TargetAbsent or
    TargetUnsupported.
    """
    if spec["target"] not in TARGETS:
        raise TargetUnsupported(f"TensorFlow is run on {', '.join(TARGETS)} here, not on {spec['target']}.")
    if spec["target"] == "cuda":
        devices = tf.config.list_physical_devices("GPU")
        if not devices:
            raise TargetAbsent("TensorFlow sees no CUDA device; install its CUDA build and a driver that fits it.")
        # It would take all that it may of the card's memory at once, which the guests beside it need. By this variable
        # and not by set_memory_growth, which is refused where there is a limit.
        os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"
        if "gpu_limit_bytes" in spec:
            limited = tf.config.LogicalDeviceConfiguration(memory_limit=spec["gpu_limit_bytes"] // 2**20)
            for device in devices:
                tf.config.set_logical_device_configuration(device, [limited])
        tf.config.experimental.enable_tensor_float_32_execution(False)
    else:
        tf.config.set_visible_devices([], "GPU")
    tf.config.threading.set_intra_op_parallelism_threads(int(spec["threads"]))
    # One operator at a time: otherwise several would share the CPUs that the cell was given.
    tf.config.threading.set_inter_op_parallelism_threads(1)


def prepare(_model: Model, x: np.ndarray) -> Any:
    """A host tensor in channels last; the copy to the device belongs to the inference."""
    with tf.device("CPU:0"):
        return tf.constant(np.ascontiguousarray(x.transpose(0, 2, 3, 1)))


def infer(model: Model, prepared: Any) -> np.ndarray:
    """Raw output (B, 4 + classes, anchors), boxes in 0..1."""
    output: np.ndarray = model.run(prepared).numpy()
    return output


def attest(model: Model) -> dict[str, Any]:
    """Device, type and kernel of the convolutions in the graph that a traced inference executed.

    The trace needs a session of its own; its graph goes through the same rewrites and kernels as the function's.
    """
    batch, channels, height, width = model.input_shape
    v1 = tf.compat.v1
    config = v1.ConfigProto(
        intra_op_parallelism_threads=tf.config.threading.get_intra_op_parallelism_threads(),
        inter_op_parallelism_threads=tf.config.threading.get_inter_op_parallelism_threads(),
    )
    metadata = v1.RunMetadata()
    with tf.Graph().as_default(), v1.Session(config=config) as session:
        source, target = model.restore(session)
        session.run(
            target,
            {source: np.zeros((batch, height, width, channels), np.float32)},
            options=v1.RunOptions(trace_level=v1.RunOptions.FULL_TRACE, output_partition_graphs=True),
            run_metadata=metadata,
        )
    executed = {stats.node_name for device in metadata.step_stats.dev_stats for stats in device.node_stats}
    nodes = [node for graph in metadata.partition_graphs for node in graph.node if node.name in executed]
    types = tf.compat.v1.AttrValue.DESCRIPTOR.fields_by_name["type"].enum_type.values_by_number
    convolutions = Counter(
        (node.op, types[node.attr["T"].type].name, node.device.rsplit(":", 2)[-2])
        for node in nodes
        if "Conv" in node.op
    )
    tf32 = tf.config.experimental.tensor_float_32_execution_enabled()
    by_compute: Counter[str] = Counter()
    by_device: Counter[str] = Counter()
    for (_, kind, device), count in convolutions.items():
        rounded = tf32 and (kind, device) == ("DT_FLOAT", "GPU")
        by_compute["tf32" if rounded else COMPUTE.get(kind, kind)] += count
        by_device[DEVICES.get(device, device.lower())] += count
    device = places(by_device)
    return {
        "device": device,
        "provider": _provider(device, convolutions),
        "compute": arithmetic(by_compute),
        "threads": tf.config.threading.get_intra_op_parallelism_threads(),
        "input_shape": model.input_shape,
        "version": tf.__version__,
        "declared": ["threads"],
        "inter_op_threads": tf.config.threading.get_inter_op_parallelism_threads(),
        "onednn_enabled": bool(port.IsMklEnabled()),
        "convolutions": {f"{op} {kind} on {where}": n for (op, kind, where), n in sorted(convolutions.items())},
        "operators": dict(sorted(Counter(node.op for node in nodes).items())),
        **({"gpu_mem_limit_mib": _limits()} if device == "cuda" else {}),
    }


def _limits() -> list[int | None]:
    """What TensorFlow may take of each GPU that it sees, MiB; None where it has no limit."""
    configured = map(tf.config.get_logical_device_configuration, tf.config.list_physical_devices("GPU"))
    return [None if one is None else one[0].memory_limit for one in configured]


def _provider(device: str, convolutions: Counter[tuple[str, str, str]]) -> str:
    if device == "cuda":
        return f"cuDNN {tf.sysconfig.get_build_info().get('cudnn_version', '')}".strip()
    onednn = sum(count for (op, _, _), count in convolutions.items() if op.startswith("_Mkl"))
    return "oneDNN" if 2 * onednn > sum(convolutions.values()) else "Eigen"
