"""OpenVINO IR: converted by ultralytics; int8 is post-training quantisation by NNCF, fp16 stores half weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ._ultralytics import export as run
from ._ultralytics import finish, versions


def export(request: dict[str, Any]) -> dict[str, Any]:
    """Write model.xml, model.bin and upstream's metadata.yaml in fp32, fp16 or int8."""
    reply = run(request, "openvino", ("fp32", "fp16", "int8"))
    reply["versions"] |= versions("openvino", "nncf")
    folder = Path(reply["product"])
    names = {folder / name: name for name in ("model.xml", "model.bin", "metadata.yaml")}
    return finish(request, reply, names, "model.xml")
