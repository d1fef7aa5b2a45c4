"""RKNN: the ONNX artifact with normalised boxes, built for a Rockchip NPU by RKNN-Toolkit2.

Boxes are in 0..1 because a tensor that holds pixels beside scores cannot be quantised to eight bits.  The toolkit's
simulator runs no .rknn file: beside it lies the graph that it was built from, in int8 as the toolkit quantised it.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from rknn.api import RKNN

from ..refusals import ExportRefused, require_precision
from ._calibration import batches

PRECISIONS = ("fp16", "int8")
PLATFORM = "rk3588"
SIDE = 255  # pixels are handed in as they are, and divided by this inside
PROGRAM, GRAPH = "model.rknn", "graph.onnx"
QUANTISED = ("graph.model", "graph.data", "graph.quantization.cfg")


def export(request: dict[str, Any]) -> dict[str, Any]:
    """Write model.rknn in fp16 or int8, and what the simulator builds it from again.

    Raises PrecisionUnsupported or ExportRefused.
    """
    precision, output, source = request["precision"], Path(request["output_dir"]), request["source"]
    require_precision(request, "RKNN", PRECISIONS)
    work = output / "work"
    work.mkdir()
    shutil.copyfile(Path(source["directory"]) / source["manifest"]["entry"], work / GRAPH)
    with contextlib.chdir(work):  # the toolkit writes beside whoever calls it
        _build(request)
    kept = [PROGRAM, *(QUANTISED if precision == "int8" else (GRAPH,))]
    for name in kept:
        (work / name).replace(output / name)
    shutil.rmtree(work)
    told = f"{source['manifest']['reproduce']}; then bench/guest/exporters/rknn.py for {PLATFORM}, {precision}"
    return {
        "files": kept,
        "entry": PROGRAM,
        "input": source["manifest"]["input"],
        "output": source["manifest"]["output"],
        "versions": {
            **source["manifest"]["versions"],
            "rknn-toolkit2": importlib.metadata.version("rknn-toolkit2"),
        },
        "reproduce": told,
        "details": {"platform": PLATFORM},
    }


def _build(request: dict[str, Any]) -> None:
    rknn = _loaded()
    if request["precision"] == "fp16":
        _require("build", rknn.build(do_quantization=False))
    else:
        images = _images(request)
        _require("hybrid_quantization_step1", rknn.hybrid_quantization_step1(dataset=images))
        rknn.release()
        rknn = RKNN()
        names = dict(zip(("model_input", "data_input", "model_quantization_cfg"), QUANTISED, strict=True))
        _require("hybrid_quantization_step2", rknn.hybrid_quantization_step2(**names))
    _require("export_rknn", rknn.export_rknn(PROGRAM))
    rknn.release()


def _loaded() -> RKNN:
    rknn = RKNN()
    scale = {"mean_values": [[0] * 3], "std_values": [[SIDE] * 3]}
    _require("config", rknn.config(**scale, target_platform=PLATFORM))
    _require("load_onnx", rknn.load_onnx(model=GRAPH))
    return rknn


def _images(request: dict[str, Any]) -> str:
    """The toolkit's list of calibration images, uint8 (1, 3, S, S) each."""
    names = []
    for number, batch in enumerate(batches(request)):
        name = f"{number}.npy"
        np.save(name, np.rint(batch * SIDE).astype(np.uint8).transpose(0, 3, 1, 2))
        names.append(f"{name}\n")
    Path("images.txt").write_text("".join(names), encoding="utf-8")
    return "images.txt"


def _require(step: str, code: int) -> None:
    """Raise ExportRefused for a step of the toolkit that failed; it logs why and returns a number."""
    if code != 0:
        raise ExportRefused(f"RKNN-Toolkit2's {step} returned {code}; its lines above say why.")
