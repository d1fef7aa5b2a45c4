"""TensorFlow GraphDef: the SavedModel's signature with its variables frozen into one file."""

from __future__ import annotations

from typing import Any

from ..refusals import require_precision
from ._tensorflow import SIGNATURE, describe, saved_model

# isort: split
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2


def export(request: dict[str, Any]) -> dict[str, Any]:
    """Write model.pb in fp32; the names of its input and output tensor are in the manifest."""
    require_precision(request, "GraphDef", ("fp32",))
    signature = tf.saved_model.load(str(saved_model(request))).signatures[SIGNATURE]
    frozen = convert_variables_to_constants_v2(signature)
    tf.io.write_graph(frozen.graph, request["output_dir"], "model.pb", as_text=False)
    reply = describe(request)
    reply["input"]["name"] = frozen.inputs[0].name
    reply["output"]["name"] = frozen.outputs[0].name
    told = "tensorflow: convert_variables_to_constants_v2(saved_model.signatures['serving_default'])"
    return {**reply, "files": ["model.pb"], "entry": "model.pb", "reproduce": told}
