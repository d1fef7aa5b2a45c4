"""ExecuTorch: the network as a program for the XNNPACK backend, which is the processor's.  Not in the guide.

The network is prepared as ultralytics prepares it for its own exports, captured with torch.export and lowered; what
XNNPACK does not take stays with ExecuTorch's portable kernels.  int8 quantises the convolutions, weights per channel,
calibrated; all else stays in float32, boxes included.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
    XNNPACKQuantizer,
    get_symmetric_quantization_config,
)
from executorch.exir import to_edge_transform_and_lower
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
from ultralytics import YOLO

from ..refusals import require_precision
from ._calibration import batches
from ._ultralytics import describe, versions

PRECISIONS = ("fp32", "int8")
PROGRAM = "model.pte"
# The convolution that turns a distribution over 16 distances into one: 16 numbers, whose rounding moves every box.
KEPT = ".dfl"


def export(request: dict[str, Any]) -> dict[str, Any]:
    """Write model.pte in fp32 or int8.  Raises PrecisionUnsupported, ExportRefused or the exporters' errors."""
    precision, imgsz, batch = request["precision"], int(request["imgsz"]), int(request["batch"])
    require_precision(request, "ExecuTorch", PRECISIONS)
    weights = Path(request["weights"])
    network = YOLO(str(weights)).model
    reply = describe(network, weights, imgsz, batch)
    x = torch.zeros(batch, 3, imgsz, imgsz)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore", FutureWarning)  # of torch about itself, thousands of lines
        captured = torch.export.export(_prepared(network, x), (x,), strict=False)
        if precision == "int8":
            captured = torch.export.export(_quantised(captured.module(), request), (x,), strict=False)
        lowered = to_edge_transform_and_lower(captured, partitioner=[XnnpackPartitioner()])
        program = lowered.to_executorch()
    (Path(request["output_dir"]) / PROGRAM).write_bytes(program.buffer)
    reply["versions"] |= versions("executorch", "torchao")
    told = f"bench/guest/exporters/executorch.py: torch.export of {weights.name}, XnnpackPartitioner, imgsz={imgsz}, "
    return {**reply, "files": [PROGRAM], "entry": PROGRAM, "reproduce": f"{told}batch={batch}, {precision}"}


def _prepared(network: Any, x: torch.Tensor) -> Any:
    """The fused network.  One run before makes the anchors, which are then constants of the program."""
    network = network.float().fuse(verbose=False).eval()
    for module in network.modules():
        if hasattr(module, "forward_split"):  # chunk, which upstream avoids in exports, as split
            module.forward = module.forward_split
    head = network.model[-1]
    head.export, head.format = True, "executorch"
    network(x)
    return network


def _quantised(network: Any, request: dict[str, Any]) -> Any:
    """The captured network with its convolutions between quantisation and back, calibrated."""
    quantizer = XNNPACKQuantizer()
    quantizer.set_operator_type(torch.ops.aten.conv2d.default, get_symmetric_quantization_config(is_per_channel=True))
    quantizer.set_filter_function(lambda node: KEPT not in str(node.meta.get("nn_module_stack")))
    prepared = prepare_pt2e(network, quantizer)
    for batch in batches(request):
        prepared(torch.from_numpy(np.ascontiguousarray(batch.transpose(0, 3, 1, 2))))
    return convert_pt2e(prepared)
