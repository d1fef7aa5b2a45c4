"""TensorFlow Serving: its server started on a SavedModel, and asked over REST as a client would.

Runs in TensorFlow's environment, of which it needs numpy alone: the server is a program of its own.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..refusals import TargetAbsent

# No proxy of the environment's stands between two programs of one machine.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
NAME, SIGNATURE, VERSION = "bench", "serving_default", "1"
_SAYS_S, _POLL_S, _ANSWERS_S = 60.0, 0.2, 10.0


def serve(arguments: dict[str, Any]) -> dict[str, Any]:
    """Have the server load the model and answer every input.

    `arguments`: `server` (the program), `model` (folder of a SavedModel), `inputs` (.npy files, in the model's own
    layout), `seconds` (for loading, and for each answer).  Returns version (its own word for itself), outputs (.npy
    files) and error: why there are none, empty where there are.  Raises TargetAbsent where the program does not run.
    """
    version = _version(arguments["server"])
    base = Path.cwd() / "served"
    # The folder of a model holds one folder per version, named by a number.
    shutil.copytree(arguments["model"], base / VERSION)
    with _running(arguments["server"], base, arguments["seconds"]) as (address, problem):
        if problem:
            return {"version": version, "outputs": [], "error": problem}
        outputs = []
        for number, path in enumerate(arguments["inputs"]):
            answer, refusal = _ask(address, np.load(path), arguments["seconds"])
            if refusal:
                return {"version": version, "outputs": [], "error": refusal}
            sink = Path.cwd() / f"output-{number}.npy"
            np.save(sink, answer)
            outputs.append(str(sink))
    return {"version": version, "outputs": outputs, "error": ""}


def _version(server: str) -> str:
    try:
        done = subprocess.run([server, "--version"], capture_output=True, text=True, timeout=_SAYS_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise TargetAbsent(f"{server} does not run: {error}") from error
    if done.returncode:
        raise TargetAbsent(f"{server} --version ended with {done.returncode}: {_last(done.stderr)}")
    return (done.stdout.strip().splitlines() or ["of no version that it tells"])[0]


@contextmanager
def _running(server: str, base: Path, seconds: float) -> Iterator[tuple[str, str]]:
    """The address of the running server's model, and why it does not serve it; empty where it does."""
    grpc, rest = _free_ports()
    log = Path.cwd() / "server.log"
    command = [server, f"--port={grpc}", f"--rest_api_port={rest}", f"--model_name={NAME}", f"--model_base_path={base}"]
    command.append(f"--rest_api_timeout_in_ms={round(seconds * 1000)}")
    with log.open("wb") as sink, subprocess.Popen(command, stdout=sink, stderr=sink) as process:
        try:
            address = f"http://127.0.0.1:{rest}/v1/models/{NAME}"
            yield address, _waited(process, address, log, seconds)
        finally:
            process.terminate()
            try:
                process.wait(_ANSWERS_S)
            except subprocess.TimeoutExpired:
                process.kill()


def _waited(process: subprocess.Popen[bytes], address: str, log: Path, seconds: float) -> str:
    """Wait until the model is there; why it is not, or nothing."""
    until = time.monotonic() + seconds
    state = "says nothing"
    while time.monotonic() < until:
        if process.poll() is not None:
            return f"the server ended with {process.returncode}: {_last(log.read_text(errors='replace'))}"
        try:
            with _OPENER.open(address, timeout=_ANSWERS_S) as answer:
                found = json.loads(answer.read())["model_version_status"]
        except (OSError, ValueError, KeyError):
            time.sleep(_POLL_S)  # it listens before it has looked for models
            continue
        state = ", ".join(str(one.get("state")) for one in found)
        if "AVAILABLE" in state.split(", "):
            return ""
        if found and all(one.get("state") == "END" for one in found):
            return f"the model is not served: {found[0].get('status', {}).get('error_message', '')[:300]}"
        time.sleep(_POLL_S)
    return f"the model is not available after {seconds:.0f} s (state {state}): {_last(log.read_text(errors='replace'))}"


def _ask(address: str, x: np.ndarray[Any, Any], seconds: float) -> tuple[np.ndarray[Any, Any], str]:
    """The answer to one input, float32, and why there is none."""
    body = json.dumps({"signature_name": SIGNATURE, "inputs": x.tolist()}).encode()
    request = urllib.request.Request(f"{address}:predict", body, {"Content-Type": "application/json"})  # noqa: S310
    try:
        with _OPENER.open(request, timeout=seconds) as answer:
            return np.asarray(json.loads(answer.read())["outputs"], np.float32), ""
    except urllib.error.HTTPError as error:
        return np.empty(0, np.float32), f"it answers {error.code}: {error.read().decode(errors='replace')[:300]}"
    except (OSError, ValueError, KeyError) as error:
        return np.empty(0, np.float32), f"it gives no answer: {type(error).__name__}: {error}"


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return (lines or ["without a word"])[-1][:300]
