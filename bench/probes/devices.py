"""Which devices each runtime's own API lists: those its package was built with, and those found on this machine.

One row per device: `yes` when the package has it built in, and `value` is how many such devices it finds here.  Names
are lower case and the same for every runtime (cuda, vulkan, intel-gpu ...); `text` has the runtime's own words.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from bench.places import GUEST_PROBES
from bench.probes.context import Context
from bench.probes.observation import Observation, Unavailable, unavailable, verdict
from bench.reasons import CellProblem

GUEST = GUEST_PROBES / "devices.py"
_SECONDS = 300.0
# Option to the guest's function that asks its runtime. TF.js is a set of JavaScript packages and is read here.
FUNCTIONS = {
    "pytorch": "torch_devices",
    "torchscript": "torch_devices",
    "onnx": "onnxruntime_devices",
    "openvino": "openvino_devices",
    "tensorrt": "tensorrt_devices",
    "coreml": "coreml_devices",
    "saved_model": "tensorflow_devices",
    "graphdef": "tensorflow_devices",
    "tflite": "litert_devices",
    "tflite-runtime": "tflite_runtime_devices",
    "edgetpu": "edgetpu_devices",
    "paddle": "paddle_devices",
    "mnn": "mnn_devices",
    "ncnn": "ncnn_devices",
}
_BACKEND = "@tensorflow/tfjs-backend-"


def observe(context: Context) -> Iterator[Observation]:
    """Rows of every option that the matrix has."""
    for option in context.matrix.options:
        context.progress.phase(option, "devices")
        try:
            if option in FUNCTIONS:
                yield from rows(option, context.matrix.options[option].environment, ask(context, option))
            elif option == "tfjs":
                yield from _tfjs(context)
        except (CellProblem, Unavailable) as problem:
            yield unavailable(option, "", problem)


def ask(context: Context, option: str) -> Iterable[Mapping[str, Any]]:
    """What the runtime says, a mapping per device: name, built, here, said.  Raises CellProblem."""
    with context.guest(GUEST, context.matrix.options[option].environment) as guest:
        arguments = {"model": _model(context, option)}
        found: list[Mapping[str, Any]] = guest.call(FUNCTIONS[option], arguments, _SECONDS)["devices"]
        return found


def rows(option: str, family: str, found: Iterable[Mapping[str, Any]]) -> Iterator[Observation]:
    """A row per device; `family` is the environment whose packages were asked."""
    for device in found:
        said = f"{device['said']} (packages of the environment {family})"
        here = float(device["here"])
        yield Observation(option, str(device["name"]), verdict(bool(device["built"])), said, here, "devices here")


def _model(context: Context, option: str) -> str:
    """A model for the runtimes that say what they run on only once one is loaded; empty where the run has none."""
    if option != "mnn":
        return ""
    try:
        artifact = context.subject(option).artifact
    except Unavailable:
        return ""
    return str(artifact.directory / artifact.manifest["entry"])


def _tfjs(context: Context) -> Iterator[Observation]:
    """TF.js has a package per backend; which of them run in this browser is what its cells attest."""
    family = context.matrix.options["tfjs"].javascript
    if family is None:
        raise Unavailable("The option tfjs names no JavaScript packages.")
    cells = context.cells[(context.cells.option == "tfjs") & (context.cells.status == "measured")]
    for package in context.javascript.ensure(family).packages():
        name, _, version = package.rpartition("@")
        if name.startswith(_BACKEND):
            backend = name.removeprefix(_BACKEND)
            ran = int((cells.target == f"browser-{backend}").any())
            said = f"package {name} {version}; {'measured' if ran else 'not measured'} in this run"
            yield Observation("tfjs", backend, verdict(True), said, float(ran), "devices here")
