"""The system's WebKit, driven by W3C WebDriver (https://www.w3.org/TR/webdriver2) without a screen.

Of its commands four are needed.  WebKitGTK's driver takes them as JSON over HTTP and needs a display for its browser.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..refusals import TargetAbsent

COMPOSITOR = "weston"
PROGRAM = "WebKitWebDriver"
BESIDE = (PROGRAM, COMPOSITOR)
"""What the names of programs begin with that are no part of a browser."""
VARIABLES = {"JSC_useSharedArrayBuffer": "1"}
"""WebKitGTK gives no page shared memory by itself, isolated or not, and WebAssembly no second thread."""
_START_S = 60.0
_RETRY_S = 0.05
# The last argument of an asynchronous script is what it answers through.
_CALL = """
const [argument, answer] = arguments;
Promise.resolve((FUNCTION)(argument)).then(
  (value) => answer({value}),
  (error) => answer({error: `${error}\\n${error.stack || ""}`}),
);
"""


class PageError(RuntimeError):
    """A command was refused, or a script in the page failed."""


class WebKit:
    """WebKitGTK's MiniBrowser on a Wayland compositor that draws to nowhere: one page, like `_browser.Tab`."""

    def __init__(self, program: Path) -> None:
        """Start the browser.  Raises TargetAbsent, PageError."""
        with contextlib.ExitStack() as started:
            folder = Path(
                started.enter_context(tempfile.TemporaryDirectory(dir=Path.cwd(), ignore_cleanup_errors=True))
            )
            self._open(program, folder, started)
            self._started = started.pop_all()

    def visit(self, address: str) -> None:
        """Load a page."""
        self._command("url", {"url": address})

    def evaluate(self, function: str, argument: Any) -> Any:
        """What a function of JavaScript resolves to.  Raises PageError."""
        script = {"script": _CALL.replace("FUNCTION", function), "args": [argument]}
        answer = self._command("execute/async", script)
        if "error" in answer:
            raise PageError(answer["error"])
        return answer.get("value")

    def close(self) -> None:
        """End the browser, and what was started for it, whatever it answers.  Raises PageError where it refuses."""
        with self._started:
            self._command("close")

    def _open(self, program: Path, folder: Path, started: contextlib.ExitStack) -> None:
        """Start all that belongs to `started`, with a `folder` for what it writes."""
        compositor = shutil.which(COMPOSITOR)
        if compositor is None:
            raise TargetAbsent(f"{program.name} needs a display, and there is no {COMPOSITOR} on PATH. Install it.")
        display = folder / "wayland"
        variables = {"XDG_RUNTIME_DIR": str(folder), "WAYLAND_DISPLAY": display.name, "GDK_BACKEND": "wayland"}
        arguments = ["--backend=headless-backend.so", "--shell=kiosk-shell.so", "--no-config", "--idle-time=0"]
        try:
            start(started, [compositor, *arguments, f"--socket={display.name}"], variables, display.exists)
        except PageError as error:
            raise TargetAbsent(str(error)) from error
        self._port, self._session = _free_port(), ""
        start(
            started,
            [str(program), "--host=127.0.0.1", f"--port={self._port}"],
            {**VARIABLES, **variables},
            lambda: _answers(self._port),
        )
        told = self._command("", {"capabilities": {"alwaysMatch": {"timeouts": {"script": None}}}})
        self._session = f"/{told['sessionId']}"
        self.version: str = told["capabilities"]["browserVersion"]

    def _command(self, name: str, given: Mapping[str, Any] | None = None) -> Any:
        """The value that a command is answered with.  Raises PageError."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port)
        method, path = ("DELETE", "") if name == "close" else ("POST", f"/{name}" if name else "")
        body = None if given is None else json.dumps(given)
        connection.request(method, f"/session{self._session}{path}", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        value = json.loads(response.read())["value"]
        connection.close()
        if response.status != http.HTTPStatus.OK:
            raise PageError(f"{value['error']}: {value['message']}")
        return value


def start(
    stack: contextlib.ExitStack, command: Sequence[str], variables: Mapping[str, str], ready: Callable[[], bool]
) -> None:
    """Start a program that ends with the stack, and wait until it is of use.  Raises PageError."""
    process = subprocess.Popen(command, env={**os.environ, **variables})
    stack.callback(process.wait)
    stack.callback(process.terminate)
    deadline = time.monotonic() + _START_S
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            code = process.poll()
            why = "it does not answer" if code is None else f"it ended with {code}"
            raise PageError(f"{command[0]} cannot be started: {why}")
        time.sleep(_RETRY_S)


def _answers(port: int) -> bool:
    """Whether somebody on this machine takes connections at a port."""
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0


def _free_port() -> int:
    """A port of this machine's loopback that nobody listens on."""
    with socket.socket() as own:
        own.bind(("127.0.0.1", 0))
        return int(own.getsockname()[1])
