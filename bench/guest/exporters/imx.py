"""IMX500: the network quantised by Sony's Model Compression Toolkit, as it enters Sony's converter.

The converter's files allow their use under a written licence agreement with Sony alone, so nothing here runs it:
whoever has one packs the graph with `imxconv-pt`.  The graph is upstream's own network for this camera, and ends where
its suppression of boxes would begin: that is the bench's work for every option.

All weights have 8 bits.  Upstream also holds them to a limit of memory, 1 % below what YOLO11n's take with COCO's 80
classes, for which the toolkit tries every layer with 4 and 2 bits: on two processors that outlasts a sweep's deadline.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ultralytics import YOLO
from ultralytics.utils.export.imx import MCT_CONFIG, FXModel
from ultralytics.utils.patches import onnx_export_patch

from ..refusals import ExportRefused, require_precision
from ._calibration import batches
from ._ultralytics import describe, versions

PRECISIONS = ("int8",)
GRAPH = "model.onnx"
# What the camera can compute, as Sony's package of that says it: upstream names the same version.
CAPABILITIES = {"tpc_version": "4.0", "device_type": "imx500"}
WIDE = 16  # bits of the tensors that hold pixels


def export(request: dict[str, Any]) -> dict[str, Any]:
    """Write model.onnx with Sony's quantisers.

    Output of the graph: corners of boxes in px (B, anchors, 4), and scores (B, anchors, classes).  Raises
    PrecisionUnsupported or ExportRefused.
    """
    require_precision(request, "IMX500", PRECISIONS)
    imgsz, output, weights = int(request["imgsz"]), Path(request["output_dir"]), Path(request["weights"])
    checkpoint = YOLO(str(weights)).model
    reply = describe(checkpoint, weights, imgsz, int(request["batch"]))
    network = _prepared(checkpoint, imgsz)
    layers = _wide_layers(network, weights)
    _import_torchvision()
    _quantise(network, layers, request, output / GRAPH)
    reply["versions"] |= versions("model-compression-toolkit", "mct-quantizers", "edge-mdt-tpc", "onnx")
    told = f"bench/guest/exporters/imx.py: {weights.name}, imgsz={imgsz}; for the camera then imxconv-pt -i {GRAPH}"
    return {**reply, "files": [GRAPH], "entry": GRAPH, "reproduce": told}


def _prepared(checkpoint: Any, imgsz: int) -> Any:
    """The fused network as upstream prepares it for this camera: without what torch.fx cannot trace."""
    network = FXModel(checkpoint.float().fuse(verbose=False).eval(), (imgsz, imgsz))
    for module in network.modules():
        if hasattr(module, "forward_split"):  # chunk, which upstream avoids in exports, as split
            module.forward = module.forward_split
    for parameter in network.parameters():
        parameter.requires_grad = False
    head = network.model[-1]
    head.export, head.format, head.dynamic, head.xyxy, head.shape = True, "imx", False, True, None
    with torch.no_grad():
        network(torch.zeros(1, 3, imgsz, imgsz))  # makes the anchors of this size
    return network


def _wide_layers(network: Any, weights: Path) -> list[str]:
    """Layers of this network to which upstream gives 16 bits.  Raises ExportRefused for one that it has none for."""
    settings = MCT_CONFIG["YOLO11" if "C2PSA" in str(network) else "YOLOv8"]["detect"]
    if len(list(network.modules())) not in settings["n_layers"]:
        raise ExportRefused(
            f"{weights.name}: ultralytics has bit widths for this camera, which has 8 MB of memory, for YOLO11n and "
            "YOLOv8n alone; give a checkpoint of one of these."
        )
    return list(settings["layer_names"])


def _import_torchvision() -> None:
    """Import torchvision, as the toolkit does, also where it was built for another torch than the one that is here.

    Its own operators cannot be loaded then, and its import ends at the first of them that it describes.  None of them
    is called here: that they are declared is enough.  Any other error is raised.
    """
    try:
        import torchvision
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]  # what the failed import left half made
        for name in ("nms", "qnms"):
            torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision  # noqa: F401 - now it can be


def _quantise(network: Any, layers: list[str], request: dict[str, Any], path: Path) -> None:
    """Write the network to `path`, its weights and tensors quantised, calibrated on the request's images."""
    # Imported here: the toolkit imports torchvision.
    import model_compression_toolkit as mct
    from edgemdt_tpc import get_target_platform_capabilities

    def images() -> Iterator[list[torch.Tensor]]:
        for batch in batches(request):
            yield [torch.from_numpy(np.ascontiguousarray(batch.transpose(0, 3, 1, 2)))]

    widths = mct.core.BitWidthConfig()
    for name in layers:
        widths.set_manual_activation_bit_width([mct.core.common.network_editors.NodeNameFilter(name)], WIDE)
    quantised, _ = mct.ptq.pytorch_post_training_quantization(
        in_module=network,
        representative_data_gen=images,
        core_config=mct.core.CoreConfig(
            quantization_config=mct.core.QuantizationConfig(concat_threshold_update=True),
            bit_width_config=widths,
        ),
        target_platform_capabilities=get_target_platform_capabilities(**CAPABILITIES),
    )
    with onnx_export_patch():  # the toolkit asks for no exporter by name, and torch's newer one knows no quantiser
        mct.exporter.pytorch_export_model(model=quantised, save_model_path=str(path), repr_dataset=images)
