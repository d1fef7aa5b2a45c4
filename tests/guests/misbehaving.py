"""A runtime adapter that does what `options.behaviour` says, in `load` or, where `options.late` is set, in `infer`."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SHAPE = (1, 6, 5)


class TargetAbsent(RuntimeError):
    """Named like the refusals of the real adapters."""


def load(spec: dict[str, Any]) -> dict[str, Any]:
    if not spec["options"].get("late"):
        act(spec["options"])
    return dict(spec)


def prepare(model: dict[str, Any], x: np.ndarray) -> np.ndarray:
    del model
    return x


def infer(model: dict[str, Any], prepared: np.ndarray) -> np.ndarray:
    output: np.ndarray = np.full((prepared.shape[0], *SHAPE[1:]), 0.5, np.float32)
    match model["options"]["behaviour"]:
        case "nan":
            output[0, 1, 2] = np.nan
        case "shape":
            output = output[:, :, :-1]
        case "flat":
            output = output.ravel()
        case _:
            if model["options"].get("late"):
                act(model["options"])
    return output


def attest(model: dict[str, Any]) -> dict[str, Any]:
    del model
    return {"device": object()}


def act(options: dict[str, Any]) -> None:
    BEHAVIOURS[options["behaviour"]](options)


def killed(_options: dict[str, Any]) -> None:
    print("about to go", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def chatty(_options: dict[str, Any]) -> None:
    print("python prints", "x" * 100_000)
    os.write(1, b'{"id": 1, "nonsense": true}\n')
    ctypes.CDLL(None).puts(b"a C library prints")
    ctypes.CDLL(None).fflush(None)


def endless(_options: dict[str, Any]) -> None:
    while True:
        write_to_protocol(b"y" * (1 << 20))


def with_child(options: dict[str, Any]) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(options["pid_file"]).write_text(f"{os.getpid()} {child.pid}", encoding="ascii")
    time.sleep(600)


def litter(options: dict[str, Any]) -> None:
    """Leave files and folders in the system's temporary folder, and a child that goes on doing so; then die."""
    tempfile.mkdtemp(suffix=".mlpackage")
    descriptor, _ = tempfile.mkstemp(prefix="__autograph_generated_file")
    os.close(descriptor)
    code = "import tempfile, time\nwhile True: tempfile.mkdtemp(); time.sleep(0.001)"
    subprocess.Popen([sys.executable, "-c", code])
    for name in ("TMPDIR", "TEMP", "TMP"):
        Path(os.environ[name], name).mkdir()
    Path(options["told"]).write_text(tempfile.gettempdir(), encoding="utf-8")
    BEHAVIOURS[options["then"]](options)


def fails_with(error: Exception) -> Callable[[dict[str, Any]], None]:
    def fail(_options: dict[str, Any]) -> None:
        raise error

    return fail


def write_to_protocol(data: bytes) -> None:
    """Find the private pipe to the core and write to it: every pipe but standard error is tried."""
    for link in list(Path("/proc/self/fd").iterdir()):
        try:
            if int(link.name) > 2 and str(link.readlink()).startswith("pipe:"):
                os.write(int(link.name), data)
        except OSError:
            continue  # the reading end of the requests, or the listing itself


BEHAVIOURS: dict[str, Callable[[dict[str, Any]], object]] = {
    "none": lambda _options: None,
    "exit": lambda _options: os._exit(3),
    "sigkill": killed,
    "segfault": lambda _options: ctypes.string_at(0),
    "abort": lambda _options: os.abort(),
    "memory": fails_with(MemoryError("no room for the workspace")),
    "bad_alloc": fails_with(RuntimeError("Non-zero status code: std::bad_alloc")),
    "raise": fails_with(RuntimeError("the kernel said no")),
    "absent": fails_with(TargetAbsent("There is no such device here.")),
    "library": lambda _options: ctypes.CDLL("libGomp-is-absent.so.1"),
    "chatty": chatty,
    "rubbish": lambda options: write_to_protocol(options["line"].encode()),
    "endless": endless,
    "child": with_child,
    "litter": litter,
}
