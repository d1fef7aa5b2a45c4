"""What the exporters of the TensorFlow family share: from the normalised ONNX to a SavedModel.

The chain is onnx_normalised (in the environment of PyTorch) -> saved_model -> graphdef, tflite, edgetpu, tfjs.  Each
stage is an artifact of its own, so the slow step, onnx2tf, runs once for all of them.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["TF_USE_LEGACY_KERAS"] = "1"  # onnx2tf builds with Keras 2

import numpy as np
import onnx

SAVED_MODEL = "saved_model"
SIGNATURE, INPUT, OUTPUT = "serving_default", "images", "output_0"
# onnx2tf feeds this file to both models to compare them and downloads it when it is not in the working directory.
_SAMPLES = "calibration_image_sample_data_20x128x128x3_float32.npy"


def saved_model(request: Mapping[str, Any]) -> Path:
    """Folder of the SavedModel that `request` is to be converted from; its signature is `serving_default`.

    Input `images` (B, S, S, 3) float32 RGB 0..1, output `output_0` (B, 4 + classes, anchors) with boxes in 0..1.
    """
    source: Mapping[str, Any] = request["source"]
    return Path(source["directory"], source["manifest"]["entry"]).parent


def describe(request: Mapping[str, Any], *packages: str) -> dict[str, Any]:
    """Input, output and versions of what is converted from the source of `request`: channels last, boxes in 0..1."""
    import tensorflow as tf

    manifest = request["source"]["manifest"]
    imgsz, batch = int(request["imgsz"]), int(request["batch"])
    installed = {name: importlib.metadata.version(name) for name in packages}
    return {
        "input": {"layout": "NHWC", "range": "0..1", "dtype": "float32", "shape": [batch, imgsz, imgsz, 3]},
        "output": dict(manifest["output"]),
        "versions": {**manifest["versions"], "tensorflow": tf.__version__, **installed},
    }


def convert(onnx_path: Path, folder: Path, work: Path) -> None:
    """Convert an ONNX file to a SavedModel in `folder`, in float32; `work` is an empty directory for scratch files."""
    import onnx2tf
    import tf_keras

    source = Path(shutil.copy(onnx_path, work / "model.onnx"))  # onnx2tf writes generated node names into its input
    replacements = work / "replacements.json"
    replacements.write_text(json.dumps(depthwise_replacements(onnx.load(onnx_path))), encoding="utf-8")
    samples = np.random.default_rng(0).random((20, 128, 128, 3), np.float32)
    np.save(work / _SAMPLES, samples)
    with contextlib.chdir(work):
        model = onnx2tf.convert(
            input_onnx_file_path=str(source),
            output_folder_path=str(work / "out"),
            not_use_onnxsim=True,
            disable_group_convolution=True,
            param_replacement_file=str(replacements),
            disable_model_save=True,  # it would write TF Lite files too
            verbosity="error",
        )
    archive = tf_keras.export.ExportArchive()
    signature = [_renamed(tensor) for tensor in model.inputs]
    archive.add_endpoint(
        name=SIGNATURE,
        fn=lambda images: model(images),  # noqa: PLW0108 - of one parameter, as the signature has one input
        input_signature=signature,
    )
    archive.write_out(str(folder))


def depthwise_replacements(model: onnx.ModelProto) -> dict[str, Any]:
    """onnx2tf's parameter replacements that keep the attention's position encoding a depthwise convolution.

    That convolution (`attn.pe` in ultralytics) reads a Reshape, of which onnx2tf does not know that its result is an
    image; it then emits a grouped convolution, which TensorFlow runs and no backend of TF.js does.  Transposing the
    Reshape's output to channels last tells it.  Found by pattern, a grouped convolution fed by a Reshape, because
    larger models have more attention blocks.
    """
    producers = {name: node for node in model.graph.node for name in node.output}
    operations = []
    for node in model.graph.node:
        group = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
        before = producers.get(node.input[0]) if node.op_type == "Conv" else None
        if group > 1 and before is not None and before.op_type == "Reshape":
            operations.append(
                {
                    "op_name": before.name,
                    "param_target": "outputs",
                    "param_name": before.output[0],
                    "post_process_transpose_perm": [0, 2, 3, 1],
                }
            )
    return {"format_version": 1, "operations": operations}


def _renamed(tensor: Any) -> Any:
    import tensorflow as tf

    return tf.TensorSpec(tensor.shape, tensor.dtype, INPUT)
