"""QNN: the ONNX artifact with normalised boxes, quantised by ONNX Runtime for Qualcomm's Hexagon processors.

Activations and weights have 8 bits, weights signed and with a scale for each channel.  Upstream gives activations 16
bits, which the simulator of onnxruntime-qnn 2.7.0 computes wrongly: of the embedded model at 320 px it is up to 29 px
and 0.98 of a score off, where a CPU that is given the same graph is 10 px and 0.2 off.

Boxes are in 0..1 because a tensor that holds pixels beside scores cannot be quantised to eight bits.  What is written
is the graph: QNN compiles it when it is loaded, for the processor that it finds.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize
from onnxruntime.quantization.execution_providers.qnn import get_qnn_qdq_config, qnn_preprocess_model

from ..refusals import require_precision
from ._calibration import batches
from ._ultralytics import versions

PRECISIONS = ("int8",)
GRAPH = "model.onnx"
TYPES = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8, "per_channel": True}


class Images(CalibrationDataReader):  # type: ignore[misc]  # untyped: the core has no onnxruntime
    """The calibration images of a request, a batch at a time, as inputs of the graph."""

    def __init__(self, request: dict[str, Any], name: str) -> None:
        """Nothing is read yet; `name` is that of the graph's input."""
        self._batches: Iterator[np.ndarray] = batches(request)
        self._name = name

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next batch as float32 (B, 3, S, S) in 0..1, None after the last.  Raises ExportRefused."""
        batch = next(self._batches, None)
        return None if batch is None else {self._name: np.ascontiguousarray(batch.transpose(0, 3, 1, 2))}


def export(request: dict[str, Any]) -> dict[str, Any]:
    """Write model.onnx with quantisers: output (B, 4 + classes, anchors), boxes in 0..1.

    Raises PrecisionUnsupported or ExportRefused.
    """
    require_precision(request, "QNN", PRECISIONS)
    output, manifest = Path(request["output_dir"]), request["source"]["manifest"]
    work = output / "work"
    work.mkdir()
    graph, fused = work / "source.onnx", work / "fused.onnx"
    shutil.copyfile(Path(request["source"]["directory"]) / manifest["entry"], graph)  # it is written beside
    if qnn_preprocess_model(graph, fused):  # which writes only where it has changed something
        graph = fused
    images = Images(request, onnx.load(graph).graph.input[0].name)
    settings = get_qnn_qdq_config(graph, images, **TYPES)
    quantize(graph, output / GRAPH, settings)
    shutil.rmtree(work)
    return {
        "files": [GRAPH],
        "entry": GRAPH,
        "input": manifest["input"],
        "output": manifest["output"],
        "versions": {**manifest["versions"], **versions("onnx", "onnxruntime")},
        "reproduce": f"{manifest['reproduce']}; then bench/guest/exporters/qnn.py, int8",
    }
