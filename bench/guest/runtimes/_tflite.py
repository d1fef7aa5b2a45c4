"""What the TF Lite runtimes share: one interpreter, and an attestation from its execution plan.

An interpreter does not say which kernels ran.  But it lists its nodes, among them those that a delegate put in place
of others, and their tensors: walking back from the output over whatever produces each tensor last gives the nodes
that are executed.  Convolutions that are not among them were taken over by the delegate.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..refusals import TargetUnsupported
from ._tasks import started, tasks
from ._told import arithmetic

TARGETS = ("cpu", "arm-cpu", "edgetpu-proxy")
BUILT_IN, XNNPACK = "built-in", "XNNPACK"
_SAID: list[str] = []
"""What the library has logged in this process: a delegate is named by the first interpreter that has one."""
# (activations, weights) of a convolution to its arithmetic. Float activations before int8 weights are quantised on
# the fly, by XNNPACK as by the built-in "hybrid" kernels, and multiplied as integers.
COMPUTE = {("float32", "float32"): "f32", ("float32", "int8"): "i8", ("int8", "int8"): "i8", ("uint8", "uint8"): "i8"}


@dataclass(frozen=True)
class Model:
    """An interpreter with its only input and output, and what the library had said in this process by then.

    `pool` is how many threads were started for it; None where that cannot be told.
    """

    interpreter: Any
    source: dict[str, Any]
    target: dict[str, Any]
    threads: int
    pool: int | None
    said: str


def load(
    spec: dict[str, Any],
    interpreter: Callable[..., Any],
    *,
    targets: Sequence[str] = TARGETS,
    name: str = "",
    delegates: Sequence[Any] = (),
) -> Model:
    """The file `name` of the artifact (default: its entry).  Raises TargetUnsupported or TF Lite's ValueError."""
    if spec["target"] not in targets:
        raise TargetUnsupported(f"TF Lite is run on {', '.join(targets)} here, not on {spec['target']}.")
    path = Path(spec["artifact_dir"]) / (name or spec["manifest"]["entry"])
    threads = int(spec["threads"])
    before = tasks()
    with _listening() as said:
        made = interpreter(model_path=str(path), num_threads=threads, experimental_delegates=list(delegates) or None)
        made.allocate_tensors()
    source, target = made.get_input_details()[0], made.get_output_details()[0]
    _SAID.extend(said)
    return Model(made, source, target, threads, started(before, tasks()), "".join(_SAID))


def prepare(model: Model, x: np.ndarray) -> np.ndarray:
    """Channels last, quantised where the model's input is an integer."""
    last = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    kind = model.source["dtype"]
    if kind == np.float32:
        return last
    scale, zero = model.source["quantization"]
    limits = np.iinfo(kind)
    quantised: np.ndarray = np.clip(np.rint(last / scale + zero), limits.min, limits.max).astype(kind)
    return quantised


def infer(model: Model, prepared: np.ndarray) -> np.ndarray:
    """Raw output (B, 4 + classes, anchors), boxes in 0..1, dequantised where the model's output is an integer."""
    model.interpreter.set_tensor(model.source["index"], prepared)
    model.interpreter.invoke()
    output: np.ndarray = model.interpreter.get_tensor(model.target["index"])
    if model.target["dtype"] == np.float32:
        return output
    scale, zero = model.target["quantization"]
    return (output.astype(np.float32) - np.float32(zero)) * np.float32(scale)


def attest(model: Model, version: str) -> dict[str, Any]:
    """Which convolutions the delegate took over, the types they have, threads, input and output types.

    The threads of XNNPACK are made with the interpreter and can be counted; the built-in kernels have several pools of
    their own, in which more are started than were asked for.
    """
    nodes = model.interpreter._get_ops_details()
    executed = executed_nodes(nodes, [model.target["index"]])
    outside = Counter(node["op_name"] for node in nodes if node["index"] in executed)
    types = {tensor["index"]: np.dtype(tensor["dtype"]).name for tensor in model.interpreter.get_tensor_details()}
    xnnpack = "XNNPACK delegate" in model.said
    convolutions: Counter[tuple[str, str, str, str]] = Counter()
    for node in nodes:
        if "CONV" in node["op_name"]:
            activation, weight = (types[int(tensor)] for tensor in node["inputs"][:2])
            where = BUILT_IN if node["index"] in executed else XNNPACK if xnnpack else "delegate"
            convolutions[node["op_name"], activation, weight, where] += 1
    by_compute: Counter[str] = Counter()
    by_provider: Counter[str] = Counter()
    for (_, activation, weight, where), count in convolutions.items():
        by_compute[COMPUTE.get((activation, weight), f"{activation} x {weight}")] += count
        by_provider[where] += count
    half = sum(types[int(node["inputs"][0])] == "float16" for node in nodes if node["op_name"] == "DEQUANTIZE")
    batch, height, width, channels = (int(side) for side in model.source["shape"])
    provider = max(by_provider, key=by_provider.__getitem__, default="")
    pool = model.pool if provider == XNNPACK else None
    return {
        "device": "cpu" if by_provider.keys() <= {BUILT_IN, XNNPACK} else "delegate",
        "provider": provider,
        "compute": arithmetic(by_compute),
        "threads": model.threads if pool is None else 1 + pool,
        "input_shape": [batch, channels, height, width],
        "version": version,
        "declared": ["threads"] if pool is None else [],
        "convolutions": {f"{op} {a} x {w} in {where}": n for (op, a, w, where), n in sorted(convolutions.items())},
        "half_weights": half,
        "operators": dict(sorted(Counter(node["op_name"] for node in nodes).items())),
        "executed": dict(sorted(outside.items())),
        "input_dtype": np.dtype(model.source["dtype"]).name,
        "output_dtype": np.dtype(model.target["dtype"]).name,
        "said": model.said.strip(),
    }


def executed_nodes(nodes: Sequence[dict[str, Any]], outputs: Sequence[int]) -> set[int]:
    """Indices of the nodes that are run to make `outputs`; a delegate's node comes last and hides what it replaced."""
    producer = {int(tensor): node for node in nodes for tensor in node["outputs"]}
    pending, executed = [int(tensor) for tensor in outputs], set[int]()
    while pending:
        node = producer.get(pending.pop())
        if node is not None and node["index"] not in executed:
            executed.add(node["index"])
            pending += [int(tensor) for tensor in node["inputs"]]
    return executed


@contextlib.contextmanager
def _listening() -> Iterator[list[str]]:
    """Collect what the library writes to file descriptor 2, and pass it on: only its log names the delegate."""
    said: list[str] = []
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield said
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            file.seek(0)
            said.append(file.read().decode(errors="replace"))
            sys.stderr.write(said[-1])
