"""TF Lite: the SavedModel converted in float32, with half weights, or quantised.

`dynamic` stores weights as int8 and leaves activations to the runtime; `int8` quantises both, calibrated on training
images, and keeps a float32 input and output; `int8-full` has them as int8 too, as an accelerator wants it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..refusals import require_precision
from ._calibration import batches
from ._tensorflow import describe, saved_model

# isort: split
import tensorflow as tf

PRECISIONS = ("fp32", "fp16", "dynamic", "int8", "int8-full")


def export(request: dict[str, Any]) -> dict[str, Any]:
    """Write model.tflite.  Raises PrecisionUnsupported, ExportRefused or the converter's errors."""
    require_precision(request, "TF Lite", PRECISIONS)
    path = Path(request["output_dir"]) / "model.tflite"
    path.write_bytes(convert(request))
    reply = describe(request)
    told = f"tensorflow: tf.lite.TFLiteConverter.from_saved_model, {request['precision']}"
    return {**reply, "files": [path.name], "entry": path.name, "reproduce": told}


def convert(request: dict[str, Any]) -> bytes:
    """The flatbuffer of the SavedModel of `request` in its precision."""
    precision = request["precision"]
    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved_model(request)))
    if precision != "fp32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "fp16":
        converter.target_spec.supported_types = [tf.float16]
    if precision.startswith("int8"):
        converter.representative_dataset = lambda: ([batch] for batch in batches(request))
        # Without float built-ins beside them, an operator that has no integer kernel is an error and not a float one.
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    if precision == "int8-full":
        converter.inference_input_type = converter.inference_output_type = tf.int8
    flatbuffer: bytes = converter.convert()
    return flatbuffer
