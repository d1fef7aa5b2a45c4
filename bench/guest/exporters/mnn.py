"""MNN: ONNX by ultralytics, converted by MNN's own converter; fp16 stores half weights, int8 quantises weights alone.

Importing the converter would run `pip install` through a shell, with whatever pip comes first on PATH, to get a
package that reports each conversion to its makers.  The module that does so is optional to the converter, so it is
kept from being imported here.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

# An import of a name that is None here fails, which the converter allows for. It stands before anything imports MNN.
sys.modules["MNN.tools.utils.log"] = None  # type: ignore[assignment]  # no module, on purpose

from ._ultralytics import export as run  # noqa: E402 - after the line above
from ._ultralytics import finish, versions  # noqa: E402 - likewise


def export(request: dict[str, Any]) -> dict[str, Any]:
    """Write model.mnn in fp32, fp16 or int8 (8-bit weights, no calibration)."""
    reply = run(request, "mnn", ("fp32", "fp16", "int8"), weight_only=True)
    reply["versions"] |= versions("onnx", "onnxslim", "mnn")
    return finish(request, reply, {Path(reply["product"]): "model.mnn"}, "model.mnn")
