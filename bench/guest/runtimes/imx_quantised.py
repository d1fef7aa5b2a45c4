"""The graph that an IMX500's network is packed from, computed by ONNX Runtime on the processor.

Weights and tensors are rounded by Sony's quantisers, which are operators of the graph, to the values that the camera is
to have; between them ONNX Runtime computes in float32.  None of it is the camera: no latency can be read from it.
"""

from __future__ import annotations

import importlib.metadata
import json
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mct_quantizers
import numpy as np
import onnx
import onnxruntime as ort

from ..refusals import BatchUnsupported, TargetUnsupported
from ._ort_nodes import convolutions, executed, named, plain, tallied
from ._tasks import started, tasks
from ._told import arithmetic, places

TARGET, CPU = "imx500-quantised", "CPUExecutionProvider"
DOMAIN = "mct_quantizers"
REARRANGING = {"Pad", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"}
"""Operators behind which a tensor has the values that it had before, and zeros."""


class NotQuantised(RuntimeError):
    """The graph has convolutions whose weights or input no quantiser rounds."""


@dataclass(frozen=True)
class Model:
    """A session, its pool of threads where that can be told, and how the graph rounds, by the names of its nodes."""

    session: Any
    path: Path
    threads: int
    pool: int | None
    source: str
    input_shape: tuple[int, ...]
    bits: dict[str, tuple[str, int]]
    """Of every quantiser: whether it rounds `weights` or `activations`, and to how many bits."""
    around: dict[str, str]
    """Of every convolution: bits of its weights and of its input, as w8a8."""


def load(spec: dict[str, Any]) -> Model:
    """A session over the artifact's graph.  Raises TargetUnsupported, BatchUnsupported or NotQuantised."""
    if spec["target"] != TARGET:
        raise TargetUnsupported(
            f"An IMX500's network is run on its quantised graph here, on the target {TARGET}, not on {spec['target']}."
        )
    if spec["batch"] != 1:
        raise BatchUnsupported("An IMX500 takes one image at a time.")
    path = Path(spec["artifact_dir"]) / spec["manifest"]["entry"]
    graph = onnx.load(path).graph
    bits = _bits(graph)
    around = _around(graph, bits)
    bare = sorted(name for name, width in around.items() if "?" in width)
    if bare or not around:
        raise NotQuantised(f"{path.name}: {len(bare)} of {len(around)} convolutions are not quantised: {bare[:5]}")
    before = tasks()
    session = ort.InferenceSession(str(path), _options(spec["threads"]), providers=[CPU])
    pool = started(before, tasks())
    entry = session.get_inputs()[0]
    shape = tuple(side if isinstance(side, int) else 1 for side in entry.shape)  # the graph leaves the batch open
    return Model(session, path, spec["threads"], pool, entry.name, shape, bits, around)


def prepare(model: Model, x: np.ndarray) -> np.ndarray:
    """The input as it is; the graph rounds it to 8 bits."""
    if x.shape != model.input_shape:
        raise BatchUnsupported(f"The artifact takes inputs of shape {list(model.input_shape)}, not {list(x.shape)}.")
    return x


def infer(model: Model, prepared: np.ndarray) -> np.ndarray:
    """Raw output (1, 4 + classes, anchors), boxes as centre and size in px: the graph has corners."""
    corners, scores = model.session.run(None, {model.source: prepared})
    low, high = corners[..., :2], corners[..., 2:]
    return np.concatenate([(low + high) / 2, high - low, scores], axis=-1).transpose(0, 2, 1)


def attest(model: Model) -> dict[str, Any]:
    """Convolutions and quantisers that one profiled inference executed, in a session of its own.

    How many bits a quantiser has is read from the node of its name in the graph.
    """
    events = _kernels(model)
    kernels = [event["args"] for event in events]
    ran = convolutions(kernels)
    by_compute, by_provider = tallied(ran)
    nodes = [plain(event["name"]) for event in events]
    rounded: dict[str, Counter[str]] = {"weights": Counter(), "activations": Counter()}
    for what, width in (model.bits[name] for name in nodes if name in model.bits):
        rounded[what][str(width)] += 1
    return {
        "device": places({"cpu" if name == CPU else name: number for name, number in by_provider.items()}),
        "provider": max(by_provider, key=by_provider.__getitem__, default=""),
        "compute": arithmetic(by_compute),
        "threads": model.threads if model.pool is None else 1 + model.pool,
        "input_shape": list(model.input_shape),
        "version": ort.__version__,
        "declared": ["threads"] if model.pool is None else [],
        "quantisers": f"mct-quantizers {importlib.metadata.version('mct-quantizers')}",
        "quantised": {what: dict(sorted(counted.items())) for what, counted in rounded.items()},
        "convolutions": named(ran),
        "convolutions_between": dict(
            sorted(Counter(model.around[name] for name in nodes if name in model.around).items())
        ),
    }


def _bits(graph: onnx.GraphProto) -> dict[str, tuple[str, int]]:
    """What every quantiser of the graph rounds, and to how many bits, by its name."""
    found = {}
    for node in graph.node:
        if node.domain == DOMAIN:
            what = "weights" if node.op_type.startswith("Weights") else "activations"
            (bits,) = (entry.i for entry in node.attribute if entry.name == "num_bits")
            found[node.name] = (what, int(bits))
    return found


def _around(graph: onnx.GraphProto, bits: dict[str, tuple[str, int]]) -> dict[str, str]:
    """Bits of weights and input of every convolution, by its name; "?" where no quantiser stands before it."""
    makers = {output: node for node in graph.node for output in node.output}

    def width(tensor: str) -> int | str:
        while (node := makers.get(tensor)) is not None and node.op_type in REARRANGING:
            tensor = node.input[0]
        return bits[node.name][1] if node is not None and node.name in bits else "?"

    found = (node for node in graph.node if node.op_type == "Conv")
    return {node.name: f"w{width(node.input[1])}a{width(node.input[0])}" for node in found}


def _kernels(model: Model) -> list[dict[str, Any]]:
    """The kernels of one inference, as the profiler has them."""
    with tempfile.TemporaryDirectory() as folder:
        options = _options(model.threads)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = ort.InferenceSession(str(model.path), options, providers=[CPU])
        session.run(None, {model.source: np.zeros(model.input_shape, np.float32)})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return executed(events)


def _options(threads: int) -> Any:
    options = mct_quantizers.get_ort_session_options()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # The toolkit writes shapes into the graph that some tensors do not have, and by them buffers would be shared.
    options.enable_mem_reuse = False
    return options
