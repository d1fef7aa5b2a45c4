"""Core ML on macOS: predictions of a package on the compute units asked for."""

from __future__ import annotations

import platform
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
from coremltools.models.compute_plan import MLComputePlan

from ..refusals import TargetAbsent, TargetUnsupported
from ._told import arithmetic, places

TARGET = "coreml"
COMPUTE = {"float32": "f32", "fp32": "f32", "float16": "f16", "fp16": "f16"}


@dataclass(frozen=True)
class Model:
    """A package that Core ML compiled for its compute units."""

    package: ct.models.MLModel
    units: ct.ComputeUnit
    input: str
    output: str
    input_shape: tuple[int, ...]


def load(spec: dict[str, Any]) -> Model:
    """The package, compiled.  `options.compute_units` is ALL (the default), CPU_ONLY, CPU_AND_GPU or CPU_AND_NE.

    Raises TargetUnsupported, TargetAbsent or Core ML's errors.
    """
    if spec["target"] != TARGET:
        raise TargetUnsupported(f"Core ML is run on the target {TARGET}, not on {spec['target']}.")
    if platform.system() != "Darwin":
        raise TargetAbsent(f"Core ML is part of macOS; this system is {platform.system()}.")
    units = ct.ComputeUnit[str(spec["options"].get("compute_units", "ALL"))]
    package = ct.models.MLModel(str(Path(spec["artifact_dir"]) / spec["manifest"]["entry"]), compute_units=units)
    description = package.get_spec().description
    (given,), (made,) = description.input, description.output
    return Model(package, units, given.name, made.name, tuple(given.type.multiArrayType.shape))


def prepare(_model: Model, x: np.ndarray) -> np.ndarray:
    """The input as it is."""
    return x


def infer(model: Model, prepared: np.ndarray) -> np.ndarray:
    """Raw output (B, 4 + classes, anchors)."""
    output: np.ndarray = model.package.predict({model.input: prepared})[model.output]
    return output


def attest(model: Model) -> dict[str, Any]:
    """Types of the program's convolutions, and the device that Core ML's compute plan prefers for each.

    The plan needs macOS 14.4; before that the provider is the compute units that were asked for, and declared.
    """
    block = model.package.get_spec().mlProgram.functions["main"].block_specializations
    (operations,) = (entry.operations for entry in block.values())
    types = Counter(_type(operation) for operation in operations if operation.type == "conv")
    devices = _devices(model)
    return {
        "device": TARGET,
        "provider": f"Core ML, {places(devices) or model.units.name}",
        "compute": arithmetic({COMPUTE.get(kind, kind): number for kind, number in types.items()}),
        "input_shape": list(model.input_shape),
        "version": ct.__version__,
        "declared": [] if devices else ["provider"],
        "compute_units": model.units.name,
        "system": f"macOS {platform.mac_ver()[0]}, {platform.machine()}",
        "convolutions": dict(types),
        "preferred_devices": devices,
    }


def _type(operation: Any) -> str:
    """The element type of a convolution's output, such as "float16"."""
    code = operation.outputs[0].type.tensorType.dataType
    return str(ct.proto.MIL_pb2.DataType.Name(code)).lower()


def _devices(model: Model) -> dict[str, int]:
    """How many convolutions each device is preferred for; empty before macOS 14.4, which has no compute plan."""
    version = tuple(int(part) for part in platform.mac_ver()[0].split(".")[:2])
    if version < (14, 4):
        return {}
    plan = MLComputePlan.load_from_path(path=model.package.get_compiled_model_path(), compute_units=model.units)
    program = plan.model_structure.program
    assert program is not None, "a package of the exporter's is an ML program"
    found: Counter[str] = Counter()
    for operation in program.functions["main"].block.operations:
        usage = plan.get_compute_device_usage_for_mlprogram_operation(operation)
        if operation.operator_name.endswith("conv") and usage is not None:
            found[type(usage.preferred_compute_device).__name__] += 1
    return dict(found)
