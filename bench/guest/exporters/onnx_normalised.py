"""ONNX with boxes in 0..1 of the image side: what the TensorFlow family is converted from.

A tensor that holds pixels beside scores cannot be quantised to eight bits: one scale would have to serve values up to
640 and values up to 1.  The division by the side must therefore stand in the graph before boxes and scores are joined,
which upstream does for TensorFlow in a decoder of its own; it is used here.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import onnx
import onnxslim
import torch
from ultralytics import YOLO
from ultralytics.nn.modules import Detect
from ultralytics.utils.export.tensorflow import tf_wrapper

from ..refusals import PrecisionUnsupported
from ._ultralytics import describe, versions

OPSET = 18
# The newest intermediate representation that every converter in the TensorFlow environment reads.
IR_VERSION = 8


def export(request: dict[str, Any]) -> dict[str, Any]:
    """Write model.onnx in fp32: input (B, 3, S, S), output (B, 4 + classes, anchors) with boxes in 0..1.

    Raises PrecisionUnsupported or ExportRefused.
    """
    if request["precision"] != "fp32":
        raise PrecisionUnsupported(f"The normalised ONNX is written as fp32 only, not as {request['precision']}.")
    imgsz, batch = int(request["imgsz"]), int(request["batch"])
    weights, path = Path(request["weights"]), Path(request["output_dir"]) / "model.onnx"
    model = YOLO(str(weights)).model
    reply = describe(model, weights, imgsz, batch)
    network = copy.deepcopy(model).float().fuse(verbose=False).eval()
    for module in network.modules():
        if hasattr(module, "export"):
            module.export = True
        if isinstance(module, Detect):
            module.format, module.dynamic = "saved_model", False
    tf_wrapper(network)
    x = torch.zeros(batch, 3, imgsz, imgsz)
    with torch.no_grad():
        network(x)  # makes the anchors of this size, so that they are traced as constants
        torch.onnx.export(
            network,
            (x,),
            str(path),
            opset_version=OPSET,
            input_names=["images"],
            output_names=["output0"],
            dynamo=False,
            do_constant_folding=True,
        )
    slim = onnxslim.slim(onnx.load(path))
    slim.ir_version = IR_VERSION
    onnx.save(slim, path)
    reply["output"]["units"] = "unit"
    reply["versions"] |= versions("onnx", "onnxslim")
    told = f"torch.onnx.export of {weights.name} with ultralytics' tf_wrapper, opset {OPSET}, then onnxslim"
    return {**reply, "files": ["model.onnx"], "entry": "model.onnx", "reproduce": told}
