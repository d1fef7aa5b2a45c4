"""TorchScript: the fused network, traced by ultralytics in FP32; half precision is that trace with half weights.

Upstream traces in half precision on a GPU only.  Converting the trace needs none, and keeps the anchors, which are
constants of the trace, in FP32.

A trace writes PyTorch's setting for TF32 into each convolution, and a GPU then obeys the trace and not the setting of
the process that runs it.  By default it is on, so what is traced as upstream leaves it computes in TF32 on a GPU: that
is `tf32`.  The others are traced with it off.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ..refusals import require_precision
from ._ultralytics import export as run
from ._ultralytics import finish

PRECISIONS = ("fp32", "tf32", "fp16")


def export(request: dict[str, Any]) -> dict[str, Any]:
    """Write model.torchscript in fp32, tf32 or fp16.  Raises PrecisionUnsupported."""
    require_precision(request, "torchscript", PRECISIONS)
    tf32 = request["precision"] == "tf32"
    torch.backends.cudnn.allow_tf32 = tf32  # also where this PyTorch was built without CUDA: the trace notes it
    reply = run({**request, "precision": "fp32"}, "torchscript", ("fp32",))
    product = Path(reply["product"])
    if not tf32:
        reply["reproduce"] += "  # with torch.backends.cudnn.allow_tf32 = False"
    if request["precision"] == "fp16":
        torch.jit.load(str(product), map_location="cpu").half().save(str(product))
        reply["reproduce"] += ", then torch.jit.load(path).half().save(path)"
    return finish(request, reply, {product: "model.torchscript"}, "model.torchscript")
