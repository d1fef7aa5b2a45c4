"""PaddlePaddle: the ONNX artifact, converted by X2Paddle into a program for Paddle's inference engine."""

from __future__ import annotations

import importlib.metadata
import shutil
from pathlib import Path
from typing import Any

import onnx
from paddle.inference import PlaceType, PrecisionType, convert_to_mixed_precision
from x2paddle.convert import onnx2paddle

from ..refusals import PrecisionUnsupported

PROGRAM, WEIGHTS = "model.json", "model.pdiparams"


def export(request: dict[str, Any]) -> dict[str, Any]:
    """Write model.json (the program) and model.pdiparams (weights) in fp32; fp16 is for Paddle to refuse.

    The other half of X2Paddle's output, a checkpoint and Python code for training on, is not needed to run it.  Raises
    PrecisionUnsupported with Paddle's own words.
    """
    if request["precision"] not in ("fp32", "fp16"):
        raise PrecisionUnsupported(f"The Paddle exporter writes fp32 and fp16, not {request['precision']}.")
    source, output = request["source"], Path(request["output_dir"])
    work = output / "work"
    work.mkdir()
    _without_idle_dilations(Path(source["directory"]) / source["manifest"]["entry"], work / "model.onnx")
    # Left on, the feedback reports each conversion to X2Paddle's makers.
    onnx2paddle(str(work / "model.onnx"), str(work), disable_feedback=True)
    converted = work / "inference_model"
    if request["precision"] == "fp16":
        converted = _half(converted, work / "half")
    for name in (PROGRAM, WEIGHTS):
        (converted / name).replace(output / name)
    shutil.rmtree(work)
    return {
        "files": [PROGRAM, WEIGHTS],
        "entry": PROGRAM,
        "input": source["manifest"]["input"],
        "output": source["manifest"]["output"],
        "versions": {
            **source["manifest"]["versions"],
            **{name: importlib.metadata.version(name) for name in ("paddlepaddle", "x2paddle")},
        },
        "reproduce": f"{source['manifest']['reproduce']}; "
        "x2paddle --framework=onnx --model=model.onnx --save_dir=. --disable_feedback  # less idle pool dilations",
    }


def _without_idle_dilations(source: Path, target: Path) -> None:
    """Copy an ONNX model without pool dilations of one, the default, which X2Paddle refuses to see written out."""
    model = onnx.load(source)
    for node in model.graph.node:
        if node.op_type.endswith("Pool"):
            kept = [a for a in node.attribute if not (a.name == "dilations" and set(a.ints) == {1})]
            del node.attribute[:]
            node.attribute.extend(kept)
    onnx.save(model, target)


def _half(converted: Path, target: Path) -> Path:
    """The program with half-precision weights for the CPU.  Raises PrecisionUnsupported when Paddle does not do it."""
    target.mkdir()
    names = [str(folder / name) for folder in (converted, target) for name in (PROGRAM, WEIGHTS)]
    try:
        convert_to_mixed_precision(*names, PrecisionType.Half, PlaceType.CPU)
    except ValueError as error:
        said = str(error).split(" (at ")[0].strip()
        raise PrecisionUnsupported(f"Paddle's convert_to_mixed_precision refuses: {said}") from error
    return target
