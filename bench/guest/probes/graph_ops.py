"""Operators of a TensorFlow graph, read from its file without loading it."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from tensorflow.core.framework import graph_pb2
from tensorflow.core.protobuf import saved_model_pb2


def count(arguments: dict[str, Any]) -> dict[str, Any]:
    """`operators`: how often each occurs in the graph and its functions; `form` is "saved_model" or "graphdef"."""
    content = Path(arguments["path"]).read_bytes()
    if arguments["form"] == "saved_model":
        graphs = [meta.graph_def for meta in saved_model_pb2.SavedModel.FromString(content).meta_graphs]
    else:
        graphs = [graph_pb2.GraphDef.FromString(content)]
    found: Counter[str] = Counter()
    for graph in graphs:
        found.update(node.op for node in graph.node)
        found.update(node.op for function in graph.library.function for node in function.node_def)
    return {"operators": dict(sorted(found.items()))}
