"""TensorFlow.js: a graph model, converted from the SavedModel by tensorflowjs, and its weights in shards.

fp16 and uint8 are forms of storage: the page turns the weights back into float32 when it loads them.
"""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

from ..refusals import require_precision
from ._tensorflow import SIGNATURE, describe, saved_model

# isort: split
# tensorflowjs must find these imported: it would else import a Keras that does not fit the tensorflow beside it.
import keras  # noqa: F401 - see above
import tensorflow as tf  # noqa: F401 - likewise
import tf_keras  # noqa: F401 - likewise

# tensorflowjs imports what it converts from these, unconditionally; a SavedModel needs none of them.
_ABSENT = ("tensorflow_decision_forests", "jax", "jax.experimental", "jax.experimental.jax2tf")
_QUANTIZATION: dict[str, dict[str, Any] | None] = {
    "fp32": None,
    "fp16": {"float16": True},
    "uint8": {"uint8": True},
}


def export(request: dict[str, Any]) -> dict[str, Any]:
    """Write model.json and its weight shards in fp32, fp16 or uint8."""
    require_precision(request, "TensorFlow.js", tuple(_QUANTIZATION))
    output = Path(request["output_dir"])
    quantization = _QUANTIZATION[request["precision"]]
    _converter().convert_tf_saved_model(
        str(saved_model(request)),
        str(output),
        signature_def=SIGNATURE,
        saved_model_tags="serve",
        quantization_dtype_map=quantization,
    )
    reply = describe(request, "tensorflowjs")
    told = f"tensorflowjs_converter --input_format=tf_saved_model --signature_name={SIGNATURE}"
    told += "".join(f" --quantize_{name}=*" for name in quantization or ())
    files = sorted(path.name for path in output.iterdir())
    return {**reply, "files": files, "entry": "model.json", "reproduce": f"{told} SAVED_MODEL OUTPUT"}


def _converter() -> types.ModuleType:
    """tensorflowjs' converter of SavedModels, with empty stand-ins for what it imports and does not use."""
    for name in _ABSENT:
        parent, _, last = name.rpartition(".")
        module = sys.modules.setdefault(name, types.ModuleType(name))
        if parent:
            setattr(sys.modules[parent], last, module)
    from tensorflowjs.converters import tf_saved_model_conversion_v2

    return tf_saved_model_conversion_v2  # type: ignore[no-any-return]  # the core has none to type it with
