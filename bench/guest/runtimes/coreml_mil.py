"""MIL reference interpretation: the program and the weights stored in a Core ML package, executed with PyTorch.

Core ML itself runs on Apple's systems only.  What can be checked anywhere is that the package says what the network
says: its graph, the values of its (perhaps compressed) weights and the types it computes in.  None of this is Apple's
kernels: neither a latency nor an accuracy on a device can be read from it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
import torch
from coremltools.converters.mil.frontend.milproto.load import load as read_program

from ..refusals import TargetUnsupported
from ._mil_operations import OPERATIONS, OperationUnknown
from ._told import arithmetic

TARGET = "coreml-mil"
NAMES = {torch.float32: "f32", torch.float16: "f16"}


@dataclass(frozen=True)
class Reference:
    """The value of a variable, known when the program runs."""

    name: str


@dataclass(frozen=True)
class Step:
    """One operation: its arguments by MIL's own parameter names, and the variables it makes and is last to use."""

    kind: str
    arguments: dict[str, Any]
    outputs: tuple[str, ...]
    last_uses: tuple[str, ...]


@dataclass(frozen=True)
class Model:
    """A program whose weights are in memory."""

    steps: list[Step]
    weights: dict[str, torch.Tensor]
    input: str
    output: str
    input_shape: tuple[int, ...]
    stored: dict[str, int]


def load(spec: dict[str, Any]) -> Model:
    """The package's program with its weights decompressed.

    Raises TargetUnsupported, OperationUnknown naming the operation, or coremltools' errors for a damaged package.
    """
    if spec["target"] != TARGET:
        raise TargetUnsupported(f"The MIL interpretation is no runtime; its target is {TARGET}, not {spec['target']}.")
    torch.set_num_threads(int(spec["threads"]))
    package = ct.models.MLModel(str(Path(spec["artifact_dir"]) / spec["manifest"]["entry"]), skip_model_load=True)
    protobuf = package.get_spec()
    program = read_program(protobuf, protobuf.specificationVersion, package.weights_dir)
    function = program.functions["main"]
    (variable,) = function.inputs.values()
    weights: dict[str, torch.Tensor] = {}
    stored: Counter[str] = Counter()
    steps: list[Step] = []
    needed = {function.outputs[0].name}
    for operation in reversed(function.operations):  # from the end, where a use met first is the last one
        kind = operation.op_type
        if kind == "const":
            continue
        if kind.startswith("constexpr_"):
            weights[operation.outputs[0].name] = torch.from_numpy(np.array(operation.materialized_val_inference()))
            stored[kind] += 1
            continue
        if kind not in OPERATIONS:
            raise OperationUnknown(
                f"The program uses the MIL operation {kind!r} ({operation.name}), which is not known."
            )
        arguments = {name: _argument(value) for name, value in operation.inputs.items() if value is not None}
        last = {value.name for entry in arguments.values() for value in _references(entry)} - needed
        needed |= last
        outputs = tuple(output.name for output in operation.outputs)
        steps.append(Step(kind, arguments, outputs, tuple(sorted(last))))
    shape = tuple(int(side) for side in variable.shape)
    steps = [_without_weights(step, weights) for step in reversed(steps)]
    return Model(steps, weights, variable.name, function.outputs[0].name, shape, dict(stored))


def prepare(_model: Model, x: np.ndarray) -> torch.Tensor:
    """The input as a tensor."""
    return torch.from_numpy(x)


def infer(model: Model, prepared: torch.Tensor) -> np.ndarray:
    """Raw float32 output (B, 4 + classes, anchors)."""
    return _run(model, prepared, _ignore)


def attest(model: Model) -> dict[str, Any]:
    """Types of the convolutions that one more interpretation computed, and how the package stores its weights."""
    convolutions: Counter[tuple[torch.dtype, torch.dtype]] = Counter()

    def watch(kind: str, arguments: dict[str, Any]) -> None:
        if kind == "conv":
            convolutions[arguments["x"].dtype, arguments["weight"].dtype] += 1

    _run(model, torch.zeros(model.input_shape), watch)
    by_compute: Counter[str] = Counter()
    for (activations, weight), number in convolutions.items():
        name = NAMES.get(activations, str(activations))
        by_compute[name if activations == weight else f"{activations} x {weight}"] += number
    return {
        "device": "mil-reference",
        "provider": f"PyTorch {torch.__version__}",
        "compute": arithmetic(by_compute),
        "accumulation": "f32",
        "threads": torch.get_num_threads(),
        "input_shape": list(model.input_shape),
        "version": ct.__version__,
        "declared": [],
        "convolutions": {f"{a} x {b}": n for (a, b), n in sorted(convolutions.items(), key=str)},
        "compressed_weights": model.stored,
        "operations": dict(sorted(Counter(step.kind for step in model.steps).items())),
    }


def _run(model: Model, x: torch.Tensor, watch: Callable[[str, dict[str, Any]], None]) -> np.ndarray:
    values = {**model.weights, model.input: x}
    with torch.inference_mode():
        for step in model.steps:
            arguments = {name: _value(entry, values) for name, entry in step.arguments.items()}
            watch(step.kind, arguments)
            made = OPERATIONS[step.kind](**arguments)
            values.update(zip(step.outputs, made if isinstance(made, (tuple, list)) else [made], strict=True))
            for name in step.last_uses:
                del values[name]
    output: np.ndarray = values[model.output].float().numpy()
    return output


def _ignore(_kind: str, _arguments: dict[str, Any]) -> None:
    """Watch nothing."""


# -- arguments: constants are decoded once, variables are looked up at each run ------------------------------------


def _argument(value: Any) -> Any:
    """A reference, a list of arguments, or a constant: text, number, list of integers or tensor."""
    if isinstance(value, (list, tuple)):
        return [_argument(entry) for entry in value]
    if value.val is None:
        return Reference(value.name)
    constant = np.asarray(value.val)
    if constant.ndim == 0 or constant.dtype.kind in "iub":
        return constant.tolist()
    return torch.from_numpy(np.array(constant))


def _references(entry: Any) -> list[Reference]:
    entries = entry if isinstance(entry, list) else [entry]
    return [value for value in entries if isinstance(value, Reference)]


def _value(entry: Any, values: dict[str, torch.Tensor]) -> Any:
    if isinstance(entry, list):
        return [_value(part, values) for part in entry]
    return values[entry.name] if isinstance(entry, Reference) else entry


def _without_weights(step: Step, weights: dict[str, torch.Tensor]) -> Step:
    """The step with what it may drop after its run: weights stay."""
    kept = tuple(name for name in step.last_uses if name not in weights)
    return Step(step.kind, step.arguments, step.outputs, kept)
