"""QNN's simulator of a Hexagon processor: ONNX Runtime's provider on QNN's HTP backend, on an x86-64 processor.

QNN compiles the graph for the processor's tensor unit (HTP) while the session is made, and its backend for x86-64
computes what that unit is to compute.  ONNX Runtime's own kernels may not step in: a graph that QNN does not take whole
is refused.  None of it is the processor: no latency can be read from it.
"""

from __future__ import annotations

import functools
import json
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import onnxruntime_qnn

from ..refusals import BatchUnsupported, TargetUnsupported
from ._ort_nodes import COMPUTE, executed, plain
from ._told import arithmetic

TARGET = "hexagon-simulator"
PROVIDER = onnxruntime_qnn.get_ep_name()
ARCHITECTURE = "73"
"""Of the Hexagon that is simulated; 75, 79 and 81 give the same numbers.  QNN's own choice is 68, older than those."""
SETTINGS = {
    "backend_path": onnxruntime_qnn.get_qnn_htp_path(),
    "htp_arch": ARCHITECTURE,
    "offload_graph_io_quantization": "0",  # by default ONNX Runtime is to round the input and to widen the output
}
ENTRIES = {"session.disable_cpu_ep_fallback": "1", "session.record_ep_graph_assignment_info": "1"}
QUANTISERS = {"QuantizeLinear", "DequantizeLinear"}
"""Operators of ONNX between which an integer stands."""


class NotQuantised(RuntimeError):
    """The graph has convolutions whose weights or input are no integers."""


@dataclass(frozen=True)
class Model:
    """A session on the simulator, and the types that its graph has, by the names of its convolutions."""

    session: Any
    path: Path
    source: str
    input_shape: tuple[int, ...]
    around: dict[str, tuple[str, str]]
    """Types of weights and of input of every convolution, as the graph stores them."""


def load(spec: dict[str, Any]) -> Model:
    """A session over the artifact's graph.

    Raises TargetUnsupported, NotQuantised, or ONNX Runtime's errors where QNN does not take the whole graph.
    """
    if spec["target"] != TARGET:
        raise TargetUnsupported(
            f"QNN is run by its simulator here, on the target {TARGET}, not on {spec['target']}: a Hexagon processor "
            "is reached from the device itself. Give the artifact's model.onnx to ONNX Runtime with QNN there."
        )
    path = Path(spec["artifact_dir"]) / spec["manifest"]["entry"]
    around = _around(onnx.load(path).graph)
    bare = sorted(name for name, types in around.items() if "" in types)
    if bare or not around:
        raise NotQuantised(f"{path.name}: {len(bare)} of {len(around)} convolutions are not quantised: {bare[:5]}")
    session = _session(path, ort.SessionOptions())
    entry = session.get_inputs()[0]
    return Model(session, path, entry.name, tuple(entry.shape), around)


def prepare(model: Model, x: np.ndarray) -> np.ndarray:
    """The input as it is; the graph rounds it to 8 bits."""
    if x.shape != model.input_shape:
        raise BatchUnsupported(f"The artifact takes inputs of shape {list(model.input_shape)}, not {list(x.shape)}.")
    return x


def infer(model: Model, prepared: np.ndarray) -> np.ndarray:
    """Raw output (B, 4 + classes, anchors), boxes in 0..1."""
    output: np.ndarray = model.session.run(None, {model.source: prepared})[0]
    return output


def attest(model: Model) -> dict[str, Any]:
    """Which providers one profiled inference executed, and what ONNX Runtime gave to them, in a session of its own.

    QNN makes one kernel of all that it takes, so the profile names no convolution: those are read from the session, and
    their types from the graph.  That the backend computes as a Hexagon does, in these types, is what its maker says.
    """
    providers, given = _profiled(model)
    ran: Counter[str] = Counter()
    by_compute: Counter[str] = Counter()
    placed: Counter[str] = Counter()
    for (provider, operator, name), number in given.items():
        placed[provider] += number
        if operator == "Conv" and provider in providers:
            weights, inputs = model.around[name]
            ran[f"Conv w {weights}, x {inputs} on {provider}"] += number
            by_compute[COMPUTE.get(inputs, inputs)] += number
    provider = max(providers, key=providers.__getitem__, default="")
    return {
        "device": TARGET,
        "provider": provider,
        "compute": arithmetic(by_compute),
        "input_shape": list(model.input_shape),
        "version": ort.__version__,
        "declared": ["device", "compute"],
        "provider_version": onnxruntime_qnn.__version__,
        "architecture": model.session.get_provider_options()[PROVIDER]["htp_arch"],
        "kernels": dict(sorted(providers.items())),
        "provider_nodes": dict(sorted(placed.items())),
        "convolutions": dict(sorted(ran.items())),
    }


def _around(graph: onnx.GraphProto) -> dict[str, tuple[str, str]]:
    """Types of weights and input of every convolution, by its name; empty where no quantiser stands before it."""
    makers = {output: node for node in graph.node for output in node.output}
    types = {entry.name: _named(entry.data_type) for entry in graph.initializer}

    def stored(tensor: str) -> str:
        """The type in which a quantiser has a tensor: that of its zero point, its third input."""
        node = makers.get(tensor)
        return types[node.input[2]] if node is not None and node.op_type in QUANTISERS else ""

    found = (node for node in graph.node if node.op_type == "Conv")
    return {node.name: (stored(node.input[1]), stored(node.input[0])) for node in found}


def _named(kind: int) -> str:
    """A type of ONNX as ONNX Runtime's profile names it, "uint8"."""
    return str(onnx.TensorProto.DataType.Name(kind)).lower()


def _profiled(model: Model) -> tuple[Counter[str], Counter[tuple[str, str, str]]]:
    """Providers of the kernels of one inference, and every node given to a provider: provider, operator, name."""
    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = _session(model.path, options)
        session.run(None, {model.source: np.zeros(model.input_shape, np.float32)})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    given = Counter(
        (part.ep_name, node.op_type, plain(node.name))
        for part in session.get_provider_graph_assignment_info()
        for node in part.get_nodes()
    )
    return Counter(kernel["args"]["provider"] for kernel in executed(events)), given


def _session(path: Path, options: Any) -> Any:
    """A session of which all is computed by QNN's HTP backend."""
    for name, value in ENTRIES.items():
        options.add_session_config_entry(name, value)
    options.add_provider_for_devices(_devices(), SETTINGS)
    return ort.InferenceSession(str(path), options)


@functools.cache  # a second registration in one process is an error
def _devices() -> list[Any]:
    """What QNN's provider, a library of its own, offers here: this processor, on which its backends simulate."""
    ort.register_execution_provider_library(PROVIDER, onnxruntime_qnn.get_library_path())
    return [device for device in ort.get_ep_devices() if device.ep_name == PROVIDER]
