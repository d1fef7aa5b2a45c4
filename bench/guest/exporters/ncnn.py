"""NCNN: traced by ultralytics, converted by PNNX; fp16 stores half weights, int8 is for upstream to refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ._ultralytics import export as run
from ._ultralytics import finish, versions


def export(request: dict[str, Any]) -> dict[str, Any]:
    """Write model.ncnn.param (the graph), model.ncnn.bin (weights) and upstream's metadata.yaml.

    The graph has no batch dimension: what is traced with a batch above 1 is written all the same, and ends the
    process that runs it.  Raises PrecisionUnsupported with upstream's own words for int8.
    """
    reply = run(request, "ncnn", ("fp32", "fp16", "int8"), weight_only=True)
    reply["versions"] |= versions("ncnn", "pnnx")
    folder = Path(reply["product"])
    names = {folder / name: name for name in ("model.ncnn.param", "model.ncnn.bin", "metadata.yaml")}
    return finish(request, reply, names, "model.ncnn.param")
