"""RKNN-Toolkit2's simulator: the network as a Rockchip NPU is to compute it, on an x86-64 processor.

The simulator runs what was just built and no .rknn file, so the artifact's graph is built again when it is loaded: for
int8 with the scales that the exporter's calibration found.  None of it is the NPU: no latency can be read from it.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rknn.api import RKNN
from ruamel.yaml import YAML

from ..refusals import BatchUnsupported, TargetUnsupported

TARGET = "rknn-simulator"
SIDE = 255
GRAPH = "graph.onnx"
QUANTISED = ("graph.model", "graph.data", "graph.quantization.cfg")


class ToolkitFailed(RuntimeError):
    """A step of RKNN-Toolkit2 returned an error; it logs why."""


@dataclass(frozen=True)
class Model:
    """A network that was built for the simulator, and how its tensors are quantised; empty where none is."""

    rknn: RKNN
    platform: str
    input_shape: tuple[int, ...]
    quantised: dict[str, int]


def load(spec: dict[str, Any]) -> Model:
    """The artifact's graph, built again.  Raises TargetUnsupported, BatchUnsupported or ToolkitFailed."""
    if spec["target"] != TARGET:
        raise TargetUnsupported(f"RKNN is run by its simulator, on the target {TARGET}, not on {spec['target']}.")
    manifest, folder = spec["manifest"], Path(spec["artifact_dir"]).absolute()
    shape = tuple(int(side) for side in manifest["input"]["shape"])
    if shape[0] != 1:
        raise BatchUnsupported("RKNN's simulator is given one image at a time.")
    platform = manifest["details"]["platform"]
    names = [str(folder / name) for name in QUANTISED]
    quantised = (folder / QUANTISED[0]).is_file()
    rknn = RKNN()
    with tempfile.TemporaryDirectory() as work, contextlib.chdir(work):  # the toolkit writes beside whoever calls it
        if quantised:
            keys = ("model_input", "data_input", "model_quantization_cfg")
            _require("hybrid_quantization_step2", rknn.hybrid_quantization_step2(**dict(zip(keys, names, strict=True))))
        else:
            scale = {"mean_values": [[0] * 3], "std_values": [[SIDE] * 3]}
            _require("config", rknn.config(**scale, target_platform=platform))
            _require("load_onnx", rknn.load_onnx(model=str(folder / GRAPH)))
            _require("build", rknn.build(do_quantization=False))
        _require("init_runtime", rknn.init_runtime())
    return Model(rknn, platform, shape, _quantised(Path(names[2])) if quantised else {})


def prepare(model: Model, x: np.ndarray) -> np.ndarray:
    """Pixels as uint8 (1, S, S, 3)."""
    if x.shape != model.input_shape:
        raise BatchUnsupported(f"The artifact takes inputs of shape {list(model.input_shape)}, not {list(x.shape)}.")
    return np.ascontiguousarray(np.rint(x * SIDE).astype(np.uint8).transpose(0, 2, 3, 1))


def infer(model: Model, prepared: np.ndarray) -> np.ndarray:
    """Raw output (1, 4 + classes, anchors), boxes in 0..1."""
    output: np.ndarray = model.rknn.inference(inputs=[prepared], data_format=["nhwc"])[0]
    return output


def attest(model: Model) -> dict[str, Any]:
    """How many tensors the toolkit quantised to which type.  That the simulator computes so is what its maker says."""
    integers = sum(number for kind, number in model.quantised.items() if "int8" in kind)
    return {
        "device": TARGET,
        "provider": f"RKNN-Toolkit2 simulator for {model.platform}",
        "compute": "i8" if integers else "f16",
        "input_shape": list(model.input_shape),
        "version": importlib.metadata.version("rknn-toolkit2"),
        "declared": ["device", "provider", "compute"],
        "quantised_tensors": model.quantised,
    }


def _quantised(path: Path) -> dict[str, int]:
    """Tensors by the type they are quantised to, as the toolkit's file has them."""
    found = YAML(typ="safe").load(path)["quantize_parameters"]
    return dict(sorted(Counter(str(entry["dtype"]) for entry in found.values()).items()))


def _require(step: str, code: int) -> None:
    if code != 0:
        raise ToolkitFailed(f"RKNN-Toolkit2's {step} returned {code}; its lines above say why.")
