"""Core ML: an ML program without non-maximum suppression, traced and converted on any system, macOS or not.

The network is traced as ultralytics prepares it for its own exports and converted by coremltools.  The input is a
tensor like every other option's, not an image with its scale inside, so that the same numbers go in.  fp16 is Core
ML's own default, the arithmetic that the Neural Engine has; the two 8-bit forms compress the weights of that program
and leave its arithmetic alone.  They compress what convolutions read and nothing else: asked for every constant,
coremltools also takes the positions of the anchors, and 127 steps over 80 cells move every box (0.1 of mAP50-95).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import coremltools as ct
import coremltools.optimize.coreml as cto
import numpy as np
import torch
from ultralytics import YOLO

from ..refusals import require_precision
from ._ultralytics import describe, versions

PRECISIONS = ("fp32", "fp16", "int8", "palette8")
PACKAGE = "model.mlpackage"
# Weights of fewer elements stay as they are: what they would save is less than their table of values.
SMALLEST_WEIGHT = 512


def export(request: dict[str, Any]) -> dict[str, Any]:
    """Write model.mlpackage in fp32, fp16, int8 (linear, per channel) or palette8 (256 clustered values per layer).

    Raises PrecisionUnsupported or what `describe` raises.
    """
    precision, imgsz, batch = request["precision"], int(request["imgsz"]), int(request["batch"])
    require_precision(request, "Core ML", PRECISIONS)
    weights = Path(request["weights"])
    network = YOLO(str(weights)).model
    reply = describe(network, weights, imgsz, batch)
    program = _convert(_trace(network, imgsz, batch), batch, imgsz, half=precision != "fp32")
    if precision == "int8":
        linear = cto.OpLinearQuantizerConfig(mode="linear_symmetric", weight_threshold=SMALLEST_WEIGHT)
        program = cto.linear_quantize_weights(program, cto.OptimizationConfig(op_type_configs={"conv": linear}))
    elif precision == "palette8":
        palette = cto.OpPalettizerConfig(mode="kmeans", nbits=8, weight_threshold=SMALLEST_WEIGHT)
        program = cto.palettize_weights(program, cto.OptimizationConfig(op_type_configs={"conv": palette}))
    package = Path(request["output_dir"]) / PACKAGE
    program.save(str(package))
    files = sorted(str(path.relative_to(package.parent)) for path in package.rglob("*") if path.is_file())
    reply["versions"] |= versions("coremltools")
    reply["input"]["name"] = "images"
    told = (
        f"bench/guest/exporters/coreml.py: coremltools.convert(traced {weights.name}, imgsz={imgsz}, batch={batch}), "
    )
    return {**reply, "files": files, "entry": PACKAGE, "reproduce": told + precision}


def _trace(network: Any, imgsz: int, batch: int) -> Any:
    """The fused network as TorchScript.  One run before makes the anchors, which are then constants of the trace."""
    network = network.float().fuse(verbose=False).eval()
    for module in network.modules():
        if hasattr(module, "forward_split"):  # chunk, which upstream avoids in exports, as split
            module.forward = module.forward_split
    head = network.model[-1]
    head.export, head.format = True, "coreml"
    x = torch.zeros(batch, 3, imgsz, imgsz)
    with torch.inference_mode():
        network(x)
    with torch.no_grad():
        return torch.jit.trace(network, x, strict=False, check_trace=False)


def _convert(traced: Any, batch: int, imgsz: int, *, half: bool) -> Any:
    return ct.convert(
        traced,
        convert_to="mlprogram",
        inputs=[ct.TensorType(name="images", shape=(batch, 3, imgsz, imgsz), dtype=np.float32)],
        outputs=[ct.TensorType(name="output", dtype=np.float32)],
        compute_precision=ct.precision.FLOAT16 if half else ct.precision.FLOAT32,
        # The oldest system that has every operation used and compressed weights.
        minimum_deployment_target=ct.target.iOS16,
        skip_model_load=True,
    )
