"""TorchScript: the fused network, traced by ultralytics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ._ultralytics import export as run
from ._ultralytics import finish


def export(request: dict[str, Any]) -> dict[str, Any]:
    """Write model.torchscript in fp32; half precision can only be traced on a GPU."""
    reply = run(request, "torchscript", ("fp32",))
    return finish(request, reply, {Path(reply["product"]): "model.torchscript"}, "model.torchscript")
