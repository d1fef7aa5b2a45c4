"""TorchScript: the fused network, traced by ultralytics in FP32; half precision is that trace with half weights.

Upstream traces in half precision on a GPU only.  Converting the trace needs none, and keeps the anchors, which are
constants of the trace, in FP32.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ..refusals import require_precision
from ._ultralytics import export as run
from ._ultralytics import finish

PRECISIONS = ("fp32", "fp16")


def export(request: dict[str, Any]) -> dict[str, Any]:
    """Write model.torchscript in fp32 or fp16.  Raises PrecisionUnsupported."""
    require_precision(request, "torchscript", PRECISIONS)
    reply = run({**request, "precision": "fp32"}, "torchscript", ("fp32",))
    product = Path(reply["product"])
    if request["precision"] == "fp16":
        torch.jit.load(str(product), map_location="cpu").half().save(str(product))
        reply["reproduce"] += "  # then torch.jit.load(path).half().save(path)"
    return finish(request, reply, {product: "model.torchscript"}, "model.torchscript")
