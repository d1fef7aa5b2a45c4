"""Edge TPU: the full-integer TF Lite file, its operators, and the compiled model where edgetpu_compiler is installed.

Neither the compiler nor libedgetpu can be had from a package registry; Coral's own Debian repository has both.  What
needs neither is written always: the file that enters the compiler and its operators against those the compiler
knows.  The compiler's own verdict is stored where there is one.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from ..refusals import require_precision
from ._tensorflow import describe
from .tflite import convert

COMPILER, COMPILED = "edgetpu_compiler", "model_edgetpu.tflite"
SOURCE = "https://coral.ai/docs/edgetpu/models-intro/#supported-operations"
# Operators of that page, by their names in a TF Lite file, with the limits it gives; "" where it gives none.
SUPPORTED = {
    "ADD": "",
    "AVERAGE_POOL_2D": "no fused activation",
    "CONCATENATION": "no fused activation; a constant input must be all zeros and one of two inputs",
    "CONV_2D": "same dilation in x and y",
    "DEPTHWISE_CONV_2D": "same dilation in x and y",
    "EXPAND_DIMS": "",
    "FULLY_CONNECTED": "default weight format, one-dimensional output",
    "L2_NORMALIZATION": "",
    "LOGISTIC": "",
    "LSTM": "unidirectional",
    "MAXIMUM": "",
    "MAX_POOL_2D": "no fused activation",
    "MEAN": "not over the batch",
    "MINIMUM": "",
    "MUL": "",
    "PACK": "not along the batch",
    "PAD": "not along the batch",
    "PRELU": "one-dimensional alpha",
    "QUANTIZE": "",
    "REDUCE_MAX": "not over the batch",
    "REDUCE_MIN": "not over the batch",
    "RELU": "",
    "RELU6": "",
    "RELU_N1_TO_1": "",
    "RESHAPE": "large tensors may be left out",
    "RESIZE_BILINEAR": "some sizes are left out to keep precision",
    "RESIZE_NEAREST_NEIGHBOR": "some sizes are left out to keep precision",
    "RSQRT": "",
    "SLICE": "",
    "SOFTMAX": "one-dimensional input of at most 16,000 elements",
    "SPACE_TO_DEPTH": "",
    "SPLIT": "not along the batch",
    "SQUARED_DIFFERENCE": "",
    "SQUEEZE": "",
    "STRIDED_SLICE": "equal strides, no ellipsis or new axis",
    "SUB": "",
    "SUM": "not over the batch",
    "TANH": "",
    "TRANSPOSE": "",
    "TRANSPOSE_CONV": "",
}


def export(request: dict[str, Any]) -> dict[str, Any]:
    """Write model.tflite with int8 input and output and, where the compiler is there, model_edgetpu.tflite.

    `details` of the reply holds `operators`, `unlisted` and `limited` (operators the compiler's list lacks or limits),
    `source` of that list, and `compiler`: its version and report, or why it did not run.
    """
    require_precision(request, "Edge TPU", ("int8-full",))
    output = Path(request["output_dir"])
    flatbuffer = convert(request)
    (output / "model.tflite").write_bytes(flatbuffer)
    found = operators(flatbuffer)
    details = {"operators": found, "source": SOURCE, **judge(found), **compiled(output)}
    files = sorted(path.name for path in output.iterdir())
    reply = describe(request)
    told = f"tensorflow: tf.lite.TFLiteConverter.from_saved_model, int8-full; then {COMPILER} -s model.tflite"
    return {**reply, "files": files, "entry": "model.tflite", "reproduce": told, "details": details}


def operators(flatbuffer: bytes) -> dict[str, int]:
    """How often each operator occurs in a TF Lite file, by name."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(flatbuffer, 0))
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if name.isupper()}
    # Files of older converters give the code in a narrower field; the larger of the two is the one that is set.
    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    counts = Counter(names[codes[node.opcodeIndex]] for graph in model.subgraphs for node in graph.operators)
    return dict(sorted(counts.items()))


def judge(found: Mapping[str, int]) -> dict[str, Any]:
    """Which operators the compiler does not know, and which only within limits."""
    return {
        "unlisted": {name: count for name, count in found.items() if name not in SUPPORTED},
        "limited": {name: SUPPORTED[name] for name in found if SUPPORTED.get(name)},
    }


def compiled(folder: Path) -> dict[str, Any]:
    """Compile model.tflite in `folder` where the compiler is installed; its report says what it mapped."""
    compiler = shutil.which(COMPILER)
    if compiler is None:
        return {"compiler": f"{COMPILER} is not installed; Coral's Debian repository has it (coral.ai/docs/edgetpu)."}
    line = [compiler, "-s", "-o", str(folder), str(folder / "model.tflite")]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode or not (folder / COMPILED).is_file():
        raise RuntimeError(f"{COMPILER} ended with {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    for log in folder.glob("*.log"):
        log.unlink()
    return {"compiler": compiler_version(done.stdout), "mapped": mapping(done.stdout)}


def compiler_version(report: str) -> str:
    """The version in the first line of the compiler's report."""
    match = re.search(r"Edge TPU Compiler version (\S+)", report)
    return match[1] if match else ""


def mapping(report: str) -> list[dict[str, Any]]:
    """The compiler's table of operators: `operator`, `count` and `status` of each row."""
    rows = re.findall(r"^([A-Z][A-Z0-9_]+)\s+(\d+)\s+(\S.*?)\s*$", report, re.MULTILINE)
    return [{"operator": name, "count": int(count), "status": status} for name, count, status in rows]
