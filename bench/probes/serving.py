"""The SavedModel in TensorFlow Serving itself: its own server, started on our artifact and asked over REST.

No package index has that server, so it is the user's to bring: `tensorflow_model_server` on PATH.  It runs as a guest
does, without a network but the loopback.  Its answers must be those of the option's own runtime on the same images.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from bench.places import GUEST_PROBES
from bench.probes.context import Context, Parity, Tensor, as_given, as_raw, difference
from bench.probes.observation import Observation, Unavailable, verdict
from bench.reasons import Reason

OPTION = "saved_model"
PROGRAM = "tensorflow_model_server"
GUEST = GUEST_PROBES / "serving.py"
ABSENT = (
    f"TensorFlow Serving's server, {PROGRAM}, is not on PATH. No package of PyPI, npm or Debian has it "
    "(tensorflow-serving-api is its client); take it from its makers' image or package repository."
)
_LOAD_S, _INFER_S, _SERVE_S = 300.0, 120.0, 1800.0


def observe(context: Context) -> Iterator[Observation]:
    """One row: `yes` where the server gives what the runtime gives.  Raises Unavailable, CellProblem."""
    server = shutil.which(PROGRAM)
    if server is None:
        raise Unavailable(ABSENT)
    subject = context.subject(OPTION, "fp32", ("cpu", "arm-cpu"))
    manifest, imgsz = subject.artifact.manifest, subject.cell.imgsz
    inputs = context.inputs(imgsz, subject.cell.batch)
    with context.runtime(subject) as guest:
        guest.load(context.spec(subject), _LOAD_S)
        theirs = [guest.infer(x, _INFER_S) for x in inputs]
    with context.scratch() as folder, context.guest(GUEST, subject.cell.environment) as guest:
        sources = [folder / f"input-{number}.npy" for number in range(len(inputs))]
        for path, x in zip(sources, inputs, strict=True):
            np.save(path, as_given(manifest, x))
        arguments = {
            "server": server, "model": str((subject.artifact.directory / manifest["entry"]).parent),
            "inputs": [str(path) for path in sources], "seconds": _LOAD_S,
        }  # fmt: skip
        with context.progress.timed(PROGRAM, "serves the model"):
            seen = guest.call("serve", arguments, _SERVE_S, Reason.INFERENCE_FAILED)
        given = [np.load(Path(path)) for path in seen["outputs"]]
    strange = next((answer.shape for answer in given if answer.ndim != theirs[0].ndim), None)
    error = str(seen["error"]) or (f"its answer has the shape {strange}" if strange else "")
    answers = [] if error else [as_raw(manifest, imgsz, answer) for answer in given]
    yield judge(str(seen["version"]), answers, theirs, error, context.settings.parity)


def judge(version: str, answers: Sequence[Tensor], theirs: Sequence[Tensor], error: str, limit: Parity) -> Observation:
    """The row of what the server answered beside what the runtime gave; `error` is why it answered nothing."""
    if error:
        return Observation(OPTION, "answers", verdict(False), f"{version}: {error}")
    gap = difference(answers, theirs)
    text = f"{version}, asked over REST: its answers to {len(answers)} images differ from TensorFlow's by at most {gap}"
    value = gap.box_px if np.isfinite(gap.box_px) else None
    return Observation(OPTION, "answers", verdict(gap.within(limit)), text, value, "px")
