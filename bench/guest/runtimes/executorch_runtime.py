"""ExecuTorch: a program on its Python runtime, whose XNNPACK backend computes on the processor.  Not in the guide."""

from __future__ import annotations

import importlib.metadata
import importlib.resources
import json
import struct
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from executorch.exir._serialize._program import deserialize_pte_binary
from executorch.extension.pybindings import portable_lib
from executorch.runtime import Runtime

from ..refusals import BatchUnsupported, TargetUnsupported
from ._told import arithmetic

TARGETS = ("cpu", "arm-cpu")
BACKEND, PORTABLE = "XnnpackBackend", "portable"
# A serialised subgraph begins with a header: its magic at byte 4, offset and size of the graph at bytes 10 and 14
# (`XNNHeader` of executorch.backends.xnnpack.serialization, whose import needs the exporter's packages).
MAGIC, GRAPH = b"XH00", struct.Struct("<4x4s2xII")
# (activations, weights) of a convolution to its arithmetic, by the names of types of XNNPACK and of a program.
COMPUTE = {
    ("fp32", "fp32"): "f32",
    ("fp16", "fp16"): "f16",
    ("qint8", "qint8"): "i8",
    ("qint8", "qcint8"): "i8",
    ("float", "float"): "f32",
    ("half", "half"): "f16",
}


@dataclass(frozen=True)
class Model:
    """The loaded method of a program, the file it comes from and its input's shape."""

    method: Any
    path: Path
    input_shape: tuple[int, ...]


def load(spec: dict[str, Any]) -> Model:
    """The program's only method.  Raises TargetUnsupported or ExecuTorch's RuntimeError."""
    if spec["target"] not in TARGETS:
        raise TargetUnsupported(f"ExecuTorch is run on {', '.join(TARGETS)} here, not on {spec['target']}.")
    torch.set_num_threads(int(spec["threads"]))
    # ExecuTorch's own pool has as many threads as the machine has processors, whatever the environment says. It can be
    # replaced only before a method is loaded; nothing else of the library sets its size from Python.
    portable_lib._unsafe_reset_threadpool(int(spec["threads"]))
    path = Path(spec["artifact_dir"]) / spec["manifest"]["entry"]
    method = Runtime.get().load_program(path).load_method("forward")
    return Model(method, path, tuple(method.metadata.input_tensor_meta(0).sizes()))


def prepare(model: Model, x: np.ndarray) -> torch.Tensor:
    """The input as a tensor.  Raises BatchUnsupported."""
    if x.shape != model.input_shape:
        raise BatchUnsupported(f"This program takes inputs of shape {list(model.input_shape)}, not {list(x.shape)}.")
    return torch.from_numpy(x)


def infer(model: Model, prepared: torch.Tensor) -> np.ndarray:
    """Raw output (B, 4 + classes, anchors)."""
    output: np.ndarray = model.method.execute([prepared])[0].numpy()
    return output


def attest(model: Model) -> dict[str, Any]:
    """Which operations the program hands to XNNPACK, and the types of its convolutions, there and outside.

    The Python package is built without ExecuTorch's tracer, so this is read from the very program that was loaded.
    """
    program = deserialize_pte_binary(model.path.read_bytes()).program
    (plan,) = program.execution_plan
    nodes: Counter[str] = Counter()
    convolutions = Counter((PORTABLE, *told) for told in _portable_convolutions(plan))
    for delegate in plan.delegates:
        if delegate.id == BACKEND:
            payload = program.backend_delegate_data[delegate.processed.index].data
            for operation, activations, weights in _operations(payload):
                nodes[operation] += 1
                if "Conv2d" in operation:  # there is a Convert too
                    convolutions[BACKEND, operation, activations, weights] += 1
    by_compute: Counter[str] = Counter()
    by_provider: Counter[str] = Counter()
    for (provider, _, activations, weights), count in convolutions.items():
        by_compute[COMPUTE.get((activations, weights), f"{activations} x {weights}")] += count
        by_provider[provider] += count
    others = sorted({delegate.id for delegate in plan.delegates} - {BACKEND})
    return {
        "device": ", ".join(others) or "cpu",  # XNNPACK and the portable kernels have no other
        "provider": max(by_provider, key=by_provider.__getitem__, default=""),
        "compute": arithmetic(by_compute),
        "compute_source": "the program: its XNNPACK subgraphs, and calls of portable kernels",
        "threads": portable_lib._threadpool_get_thread_count(),
        "input_shape": list(model.input_shape),
        "version": importlib.metadata.version("executorch"),
        "declared": [],
        "convolutions": {f"{op} {a} x {w}": n for (_, op, a, w), n in sorted(convolutions.items())},
        "operators": dict(sorted(nodes.items())),
        "portable_operators": sorted({operator.name for operator in plan.operators}),
    }


def _portable_convolutions(plan: Any) -> Iterator[tuple[str, str, str]]:
    """Name and the types of input and weights of every convolution that a program calls outside of its delegates."""
    for chain in plan.chains:
        for call in (instruction.instr_args for instruction in chain.instructions):
            if hasattr(call, "op_index") and "conv" in plan.operators[call.op_index].name:
                tensors = (plan.values[index].val for index in call.args[:2])
                source, weights = (str(tensor.scalar_type.name).lower() for tensor in tensors)
                yield plan.operators[call.op_index].name, source, weights


def _operations(payload: bytes) -> Iterator[tuple[str, str, str]]:
    """Name, type of the first input and type of the weights of every node of a serialised XNNPACK subgraph.

    The schema of the graph, and flatc, which reads it, are part of ExecuTorch's package.  Raises ValueError for another
    kind of payload.
    """
    magic, start, size = GRAPH.unpack_from(payload)
    if magic != MAGIC:
        raise ValueError(f"an XNNPACK subgraph begins with {magic!r}; only {MAGIC!r} is known here")
    graph = payload[start : start + size]
    package = importlib.resources.files("executorch")
    with (
        tempfile.TemporaryDirectory() as folder,
        importlib.resources.as_file(package / "data" / "bin" / "flatc") as flatc,
        importlib.resources.as_file(package / "backends" / "xnnpack" / "serialization") as schemas,
    ):
        (Path(folder) / "graph.bin").write_bytes(graph)
        line = [str(flatc), "--json", "--strict-json", "--defaults-json", "--raw-binary", "-o", folder]
        line += [str(schemas / "runtime_schema.fbs"), "--", str(Path(folder) / "graph.bin")]
        subprocess.run(line, check=True, capture_output=True)
        read = json.loads((Path(folder) / "graph.json").read_text(encoding="utf-8"))
    types = {}
    for value in read["xvalues"]:
        entry = value["xvalue_union"]
        entry = entry.get("tensor_value", entry)  # a quantised value wraps the tensor
        types[entry["id_out"]] = entry["datatype"].removeprefix("xnn_datatype_")
    for node in read["xnodes"]:
        arguments = node["xnode_union"]
        first = arguments.get("input1_id", arguments.get("input_id"))
        yield (
            node["xnode_union_type"].lstrip("_").removeprefix("XNN"),
            types.get(first, ""),
            types.get(arguments.get("filter_id"), ""),
        )
