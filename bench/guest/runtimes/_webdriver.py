"""The system's WebKit, driven by W3C WebDriver: WebKitGTK's MiniBrowser, on a display that nobody sees.

The protocol is JSON over HTTP (https://www.w3.org/TR/webdriver2); of its commands four are needed.
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

PROGRAMS = ("WebKitWebDriver",)
COMPOSITOR = "weston"
_START_S = 30.0
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
    """The driver refused a command, or a script in the page failed."""


class Session:
    """A browser with one page, like `_browser.Tab`."""

    def __init__(self, program: Path) -> None:
        """Start a compositor without a screen, the driver, and the browser.  Raises TargetAbsent, PageError."""
        compositor = shutil.which(COMPOSITOR)
        if compositor is None:
            raise TargetAbsent(f"{program.name} needs a display, and there is no {COMPOSITOR} on PATH. Install it.")
        with contextlib.ExitStack() as started:
            folder = started.enter_context(tempfile.TemporaryDirectory(dir=Path.cwd()))  # 0700, as Wayland asks
            display = Path(folder, "wayland")
            variables = {"XDG_RUNTIME_DIR": folder, "WAYLAND_DISPLAY": display.name, "GDK_BACKEND": "wayland"}
            arguments = ["--backend=headless-backend.so", f"--socket={display.name}", "--idle-time=0"]
            _start(started, [compositor, *arguments], variables, display.exists)
            self._port = _free_port()
            _start(started, [str(program), f"--port={self._port}"], variables, self._answers)
            told = self._command("POST", "", {"capabilities": {"alwaysMatch": {"timeouts": {"script": None}}}})
            self._session = told["sessionId"]
            self.version: str = told["capabilities"]["browserVersion"]
            self._started = started.pop_all()

    def visit(self, address: str) -> None:
        """Load a page."""
        self._command("POST", f"/{self._session}/url", {"url": address})

    def evaluate(self, function: str, argument: Any) -> Any:
        """What a function of JavaScript resolves to.  Raises PageError."""
        script = {"script": _CALL.replace("FUNCTION", function), "args": [argument]}
        answer = self._command("POST", f"/{self._session}/execute/async", script)
        if "error" in answer:
            raise PageError(answer["error"])
        return answer.get("value")

    def close(self) -> None:
        """End the browser, the driver and the compositor."""
        self._command("DELETE", f"/{self._session}")
        self._started.close()

    def _answers(self) -> bool:
        """Whether the driver takes connections by now."""
        with socket.socket() as asking:
            return asking.connect_ex(("127.0.0.1", self._port)) == 0

    def _command(self, method: str, path: str, given: Any = None) -> Any:
        """The value that the driver answers a command about sessions with.  Raises PageError."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port)
        body = None if given is None else json.dumps(given)
        connection.request(method, f"/session{path}", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        value = json.loads(response.read())["value"]
        connection.close()
        if response.status != http.HTTPStatus.OK:
            raise PageError(f"{value['error']}: {value['message']}")
        return value


def _start(
    stack: contextlib.ExitStack, command: Sequence[str], variables: Mapping[str, str], ready: Callable[[], bool]
) -> None:
    """Start a program that ends with the stack, and wait until it is of use.  Raises TargetAbsent."""
    process = subprocess.Popen(command, env={**os.environ, **variables})
    stack.callback(process.wait)
    stack.callback(process.terminate)
    deadline = time.monotonic() + _START_S
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            code = process.poll()
            why = "it does not answer" if code is None else f"it ended with {code}"
            raise TargetAbsent(f"{command[0]} cannot be started: {why}")
        time.sleep(_RETRY_S)


def _free_port() -> int:
    """A port of this machine's loopback that nobody listens on."""
    with socket.socket() as own:
        own.bind(("127.0.0.1", 0))
        return int(own.getsockname()[1])
