"""TensorFlow SavedModel: its serving signature, called as a function."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ._tensorflow import Model, attest, infer, prepare, set_up

# isort: split
import tensorflow as tf

__all__ = ["attest", "infer", "load", "prepare"]
SIGNATURE, INPUT, OUTPUT = "serving_default", "images", "output_0"


def load(spec: dict[str, Any]) -> Model:
    """The signature `serving_default`.  Raises TargetAbsent, TargetUnsupported or TensorFlow's errors."""
    set_up(spec)
    folder = str((Path(spec["artifact_dir"]) / spec["manifest"]["entry"]).parent)
    signature = tf.saved_model.load(folder).signatures[SIGNATURE]
    batch, height, width, channels = signature.structured_input_signature[1][INPUT].shape.as_list()

    def restore(session: Any) -> tuple[str, str]:
        meta = tf.compat.v1.saved_model.load(session, ["serve"], folder)
        definition = meta.signature_def[SIGNATURE]
        return definition.inputs[INPUT].name, definition.outputs[OUTPUT].name

    return Model(lambda x: signature(images=x)[OUTPUT], restore, [batch, channels, height, width])
