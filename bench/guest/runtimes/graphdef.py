"""TensorFlow GraphDef: a frozen graph, imported and pruned to one function."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ._tensorflow import Model, attest, infer, prepare, set_up

# isort: split
import tensorflow as tf

__all__ = ["attest", "infer", "load", "prepare"]


def load(spec: dict[str, Any]) -> Model:
    """The graph between the two tensors that the manifest names.

    Raises TargetAbsent, TargetUnsupported or TensorFlow's errors.
    """
    set_up(spec)
    manifest = spec["manifest"]
    names = manifest["input"]["name"], manifest["output"]["name"]
    definition = tf.compat.v1.GraphDef()
    definition.ParseFromString((Path(spec["artifact_dir"]) / manifest["entry"]).read_bytes())
    wrapped = tf.compat.v1.wrap_function(lambda: tf.compat.v1.import_graph_def(definition, name=""), [])
    graph = wrapped.graph
    function = wrapped.prune(*(graph.as_graph_element(name) for name in names))
    batch, height, width, channels = function.inputs[0].shape.as_list()

    def restore(_session: Any) -> tuple[str, str]:
        tf.import_graph_def(definition, name="")
        return names

    return Model(function, restore, [batch, channels, height, width])
