"""A converter that does its work badly: weights changed, or half of the file lost, as `PRODUCTS` names them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
from onnx import numpy_helper


def export(request: dict[str, Any]) -> dict[str, Any]:
    """Write changed.onnx, or half.onnx where the image size is not a multiple of 64."""
    source, folder = request["source"], Path(request["output_dir"])
    path = Path(source["directory"]) / source["manifest"]["entry"]
    entry = "changed.onnx" if request["imgsz"] % 64 == 0 else "half.onnx"
    if entry == "half.onnx":
        content = path.read_bytes()
        (folder / entry).write_bytes(content[: len(content) // 2])
    else:
        model = onnx.load(path)
        largest = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
        largest.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(largest), largest.name))
        onnx.save(model, folder / entry)
    return {name: source["manifest"][name] for name in ("input", "output")} | {"entry": entry}
