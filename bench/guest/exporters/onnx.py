"""ONNX: traced and slimmed by ultralytics; int8 is static QDQ quantisation by ONNX Runtime.

`int8` has unsigned activations, which ONNX Runtime's documentation recommends for x86 and which run as integers there.
Upstream leaves ONNX Runtime's default in place, signed activations, for which x86 has no fast kernels: most
convolutions then run in float between conversions, slower than fp32.  `int8-s8` is that file, as upstream writes it.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnxruntime.quantization

from ._ultralytics import export as run
from ._ultralytics import finish, versions


def export(request: dict[str, Any]) -> dict[str, Any]:
    """Write model.onnx in fp32, fp16 (input and output stay float32), int8 or int8-s8."""
    unsigned = request["precision"] == "int8"
    with _unsigned_activations() if unsigned else contextlib.nullcontext():
        reply = run(request, "onnx", ("fp32", "fp16", "int8", "int8-s8"))
    if unsigned:
        reply["reproduce"] += "  # with onnxruntime.quantization.quantize_static(activation_type=QuantType.QUInt8)"
    reply["versions"] |= versions("onnx", "onnxslim", "onnxruntime")
    return finish(request, reply, {Path(reply["product"]): "model.onnx"}, "model.onnx")


@contextlib.contextmanager
def _unsigned_activations() -> Iterator[None]:
    """Give ONNX Runtime's quantiser the activation type that upstream's exporter has no argument for."""
    library = onnxruntime.quantization
    original = library.quantize_static
    library.quantize_static = functools.partial(original, activation_type=library.QuantType.QUInt8)
    try:
        yield
    finally:
        library.quantize_static = original
