"""TensorFlow SavedModel: the normalised ONNX through onnx2tf, channels last."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from ..refusals import require_precision
from ._tensorflow import SAVED_MODEL, convert, describe


def export(request: dict[str, Any]) -> dict[str, Any]:
    """Write the folder saved_model in fp32.  Raises PrecisionUnsupported or the converter's errors."""
    require_precision(request, "SavedModel", ("fp32",))
    output = Path(request["output_dir"])
    source = request["source"]
    work = output / "work"
    work.mkdir()
    convert(Path(source["directory"]) / source["manifest"]["entry"], output / SAVED_MODEL, work)
    shutil.rmtree(work)
    files = sorted(str(path.relative_to(output)) for path in output.rglob("*") if path.is_file())
    reply = describe(request, "onnx2tf")
    told = "onnx2tf -i model.onnx -dgc -prf REPLACEMENTS.json -osd -nuo"
    return {**reply, "files": files, "entry": f"{SAVED_MODEL}/saved_model.pb", "reproduce": told}
