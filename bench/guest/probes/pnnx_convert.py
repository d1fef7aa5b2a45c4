"""PNNX on an ONNX file: the converter of NCNN's makers, a program inside the Python package of that name."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pnnx

PRODUCT = "model.ncnn.param"


def export(request: dict[str, Any]) -> dict[str, Any]:
    """Write model.ncnn.param and model.ncnn.bin in float32; returns entry, input and output."""
    source = request["source"]
    folder = Path(request["output_dir"])
    model = Path(shutil.copy(Path(source["directory"]) / source["manifest"]["entry"], folder / "model.onnx"))
    program = Path(pnnx.__file__).parent / "pnnx"
    done = subprocess.run([str(program), model.name, "fp16=0"], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode or not (folder / PRODUCT).is_file():
        raise RuntimeError(f"PNNX ended with {done.returncode}: {(done.stdout + done.stderr)[-1000:]}")
    return {name: source["manifest"][name] for name in ("input", "output")} | {"entry": PRODUCT}
