"""One ONNX file, several runtimes: which of them run the very file that the ONNX option measured, with equal output.

Some read the file as it is, some bring a converter for it.  The reference is ONNX Runtime on the same images; a reader
counts where its raw output is within `parity` of matrices/probes.toml on all of them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.places import EXPORTERS, GUEST_PROBES, RUNTIMES
from bench.probes.context import Context, Subject, Tensor, difference
from bench.probes.observation import Observation, unavailable, verdict
from bench.reasons import CellProblem, Reason
from bench.wall.confinement import Confinement

OPTION = "onnx"
_CONVERT_S, _LOAD_S, _INFER_S = 900.0, 300.0, 120.0
# What says that a reader could not be tried, rather than that it cannot read the file.
_NOT_HERE = (Reason.ENVIRONMENT_FAILED, Reason.TARGET_ABSENT)


@dataclass(frozen=True)
class Step:
    """A converter: a guest or exporter module with `export`, and the environment family it runs in."""

    module: Path
    family: str


@dataclass(frozen=True)
class Reader:
    """A runtime that takes the file, after `steps` of conversion; `option` gives its adapter and its settings."""

    name: str
    how: str
    option: str
    target: str = "cpu"
    steps: tuple[Step, ...] = ()
    adapter: Path | None = None
    family: str = ""


READERS = (
    Reader("openvino", "reads it as it is", "openvino"),
    Reader("opencv-dnn", "reads it as it is", OPTION, adapter=GUEST_PROBES / "opencv_dnn.py", family="opencv"),
    Reader("onnxruntime-web", "reads it as it is, in a browser", "ort-web", "browser-wasm"),
    Reader("mnn", "through MNN's converter", "mnn", steps=(Step(GUEST_PROBES / "mnn_convert.py", "mnn"),)),
    Reader("ncnn", "through PNNX", "ncnn", steps=(Step(GUEST_PROBES / "pnnx_convert.py", "export-torch"),)),
    Reader("paddle", "through X2Paddle", "paddle", steps=(Step(EXPORTERS / "paddle.py", "export-paddle"),)),
    Reader(
        "tensorflow",
        "through onnx2tf, as a SavedModel",
        "saved_model",
        steps=(Step(EXPORTERS / "saved_model.py", "export-tf"),),
    ),
    Reader(
        "tflite",
        "through onnx2tf and TensorFlow's converter",
        "tflite",
        steps=(Step(EXPORTERS / "saved_model.py", "export-tf"), Step(EXPORTERS / "tflite.py", "export-tf")),
    ),
)


def observe(context: Context, readers: Sequence[Reader] = READERS) -> Iterator[Observation]:
    """A row per reader: `yes` with equal output, `no` with another output or none.  Raises Unavailable, CellProblem."""
    subject = context.subject(OPTION, "fp32", ("cpu", "arm-cpu"))
    inputs = context.inputs(subject.cell.imgsz, subject.cell.batch)
    file = {"directory": str(subject.artifact.directory), "manifest": subject.artifact.manifest}
    itself = Reader("onnxruntime", "reads it as it is", OPTION, subject.cell.target)
    reference = read(context, itself, subject, file, inputs)
    text = f"The reference: {len(inputs)} images of {subject.cell.imgsz} px."
    yield Observation(OPTION, itself.name, verdict(True), text, 0.0, "px")
    limit = context.settings.parity
    for reader in readers:
        try:
            with context.progress.timed(reader.name, "reads the ONNX file"):
                outputs = read(context, reader, subject, file, inputs)
        except CellProblem as problem:
            said = f"{reader.how}: {problem}"
            if problem.reason in _NOT_HERE:
                yield unavailable(OPTION, reader.name, said)
            else:
                yield Observation(OPTION, reader.name, verdict(False), said)
            continue
        gap = difference(outputs, reference)
        said = f"{reader.how}; differs from ONNX Runtime by at most {gap} on {len(inputs)} images"
        yield Observation(OPTION, reader.name, verdict(gap.within(limit)), said, gap.box_px, "px")


def read(
    context: Context, reader: Reader, subject: Subject, file: dict[str, Any], inputs: Sequence[Tensor]
) -> list[Tensor]:
    """Raw outputs of a reader on `inputs`.  Raises CellProblem where it cannot be had, or cannot read the file."""
    option = context.matrix.options[reader.option]
    cell = subject.cell
    with ExitStack() as stack:
        for step in reader.steps:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-probe-")))
            file = convert(context, step, subject, file, folder)
        adapter = reader.adapter or RUNTIMES / f"{option.runtimes.get(reader.target, option.runtime)}.py"
        family = reader.family or option.environments.get(reader.target, option.environment)
        javascript = context.javascript.ensure(option.javascript).directory if option.javascript else ""
        settings = option.precisions["fp32"].runtime_options if reader.adapter is None else {}
        with context.guest(adapter, family) as guest:
            spec = {
                "javascript_dir": str(javascript), "artifact_dir": file["directory"], "manifest": file["manifest"],
                "target": reader.target, "threads": 1, "precision": "fp32", "imgsz": cell.imgsz, "batch": cell.batch,
                "options": dict(settings),
            }  # fmt: skip
            guest.load(spec, _LOAD_S)
            return [guest.infer(x, _INFER_S) for x in inputs]


def convert(context: Context, step: Step, subject: Subject, source: dict[str, Any], folder: Path) -> dict[str, Any]:
    """What a converter makes of `source` in `folder`, as directory and manifest.  Raises CellProblem."""
    arguments = {
        "weights": "", "output_dir": str(folder), "imgsz": subject.cell.imgsz, "batch": subject.cell.batch,
        "precision": "fp32", "calibration": [], "source": source,
    }  # fmt: skip
    with context.guest(step.module, step.family, confinement=Confinement(writable=(folder,))) as guest:
        return {"directory": str(folder), "manifest": guest.call("export", arguments, _CONVERT_S)}
