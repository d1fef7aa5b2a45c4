"""ONNX Runtime's own format: the ONNX file, optimised ahead of time and stored as a flatbuffer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime

from ..refusals import PrecisionUnsupported
from ._sessions import options


def export(request: dict[str, Any]) -> dict[str, Any]:
    """Write model.ort in fp32 from the ONNX file that comes before it."""
    if request["precision"] != "fp32":
        raise PrecisionUnsupported(f"The ORT format is written in fp32 here, not {request['precision']}.")
    source = request["source"]
    manifest = source["manifest"]
    writing = options()
    writing.optimized_model_filepath = str(Path(request["output_dir"]) / "model.ort")
    writing.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(str(Path(source["directory"]) / manifest["entry"]), writing)
    return {
        "files": ["model.ort"],
        "entry": "model.ort",
        "input": manifest["input"],
        "output": manifest["output"],
        "versions": {**manifest["versions"], "onnxruntime": onnxruntime.__version__},
        "reproduce": "onnxruntime: SessionOptions.optimized_model_filepath, session.save_model_format=ORT",
    }
