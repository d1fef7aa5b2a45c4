"""TensorRT for its lean runtime: the engines of the exporter beside this one, built to be version-compatible."""

from __future__ import annotations

from typing import Any

from . import tensorrt


def export(request: dict[str, Any]) -> dict[str, Any]:
    """Write model.engine in fp32, tf32, fp16 or int8.  Raises PrecisionUnsupported, ExportRefused or EngineRefused."""
    return tensorrt.export(request, version_compatible=True)
