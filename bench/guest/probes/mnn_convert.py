"""MNN's own converter on an ONNX file.

Importing the converter would run `pip install` through a shell for a package that reports conversions to its makers;
the module that does so is optional and is kept from being imported.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.modules["MNN.tools.utils.log"] = None  # type: ignore[assignment]  # before anything imports MNN's tools

from MNN.tools import mnnconvert  # noqa: E402 - after the line above

PRODUCT = "model.mnn"


def export(request: dict[str, Any]) -> dict[str, Any]:
    """Write model.mnn out of the ONNX file of `request["source"]`; returns entry, input and output."""
    source = request["source"]
    model = Path(source["directory"]) / source["manifest"]["entry"]
    product = Path(request["output_dir"]) / PRODUCT
    line = ["", "-f", "ONNX", "--modelFile", str(model), "--MNNModel", str(product), "--bizCode", "bench"]
    mnnconvert.convert(line)
    if not product.is_file():
        raise RuntimeError("MNN's converter wrote no file; its own words are in the log.")
    return {name: source["manifest"][name] for name in ("input", "output")} | {"entry": PRODUCT}
