"""The system's Firefox, driven by WebDriver BiDi (https://www.w3.org/TR/webdriver-bidi) without a screen.

Of its commands five are needed, as JSON over a WebSocket that Firefox itself listens on.  Playwright speaks BiDi too,
but begins every page with `emulation.setMediaFeaturesOverride`, which Firefox 153 ESR does not know.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import tempfile
from pathlib import Path
from typing import Any

import websocket

from ._webdriver import PageError, start

PREFERENCES: dict[str, bool | int | str] = {
    # A page's clock ticks in steps of 20 microseconds that are moved at random, unless both of these are off.
    "privacy.reduceTimerPrecision": False,
    "privacy.reduceTimerPrecision.unconditional": False,
    # The page is asked for by its address: no name is looked up, for the browser either.
    "network.dns.disabled": True,
    "network.trr.mode": 5,
}
"""Those that matter here, beside the many that Firefox and playwright set for every browser that is driven."""
VARIABLES = {"MOZ_ASSUME_USER_NS": "0", "MOZ_CRASHREPORTER_DISABLE": "1"}
"""Its sandbox without user namespaces: a guest may not write the files of /proc that make one, and its pages would end.

System calls stay filtered.
"""
_ENDPOINT = "WebDriverBiDiServer.json"  # where Firefox writes which port of its own it listens at
# What goes in and out is JSON in a string: BiDi's own form of values would have to be taken apart.
_CALL = "(given) => Promise.resolve((FUNCTION)(JSON.parse(given))).then((value) => JSON.stringify(value))"


class Firefox:
    """Firefox without a screen and with a profile of its own: one page, like `_browser.Tab`."""

    def __init__(self, program: Path) -> None:
        """Start the browser.  Raises PageError."""
        self._numbers = itertools.count()
        with contextlib.ExitStack() as started:
            self._open(program, started)
            self._started = started.pop_all()

    def visit(self, address: str) -> None:
        """Load a page."""
        self._command("browsingContext.navigate", context=self._context, url=address, wait="complete")

    def evaluate(self, function: str, argument: Any) -> Any:
        """What a function of JavaScript resolves to.  Raises PageError."""
        answer = self._command(
            "script.callFunction",
            functionDeclaration=_CALL.replace("FUNCTION", function),
            arguments=[{"type": "string", "value": json.dumps(argument)}],
            target={"context": self._context},
            awaitPromise=True,
        )
        if "exceptionDetails" in answer:
            raise PageError(_told(answer["exceptionDetails"]))
        value = answer["result"].get("value")
        return None if value is None else json.loads(value)

    def close(self) -> None:
        """End the browser, and what was started for it, whatever it answers.  Raises PageError where it has ended."""
        with self._started:
            self._command("browser.close")

    def _open(self, program: Path, started: contextlib.ExitStack) -> None:
        """Start the browser, whose profile and end belong to `started`."""
        scratch = tempfile.TemporaryDirectory(dir=Path.cwd(), ignore_cleanup_errors=True)
        profile = Path(started.enter_context(scratch))
        lines = (f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in PREFERENCES.items())
        (profile / "user.js").write_text("".join(lines), encoding="utf-8")
        command = [str(program), "--headless", "--no-remote", "--profile", str(profile), "--remote-debugging-port=0"]
        # As root it refuses a home that is somebody else's.
        variables = {"HOME": str(profile), **VARIABLES}
        start(started, command, variables, lambda: _port(profile) is not None)
        address = f"ws://127.0.0.1:{_port(profile)}/session"
        # It takes no connection that names another origin than its own.
        self._socket = websocket.create_connection(address, suppress_origin=True)
        started.callback(self._socket.shutdown)
        told = self._command("session.new", capabilities={})
        self.version: str = told["capabilities"]["browserVersion"]
        self._command("session.subscribe", events=["log.entryAdded"])
        self._context = self._command("browsingContext.getTree")["contexts"][0]["context"]

    def _command(self, method: str, **given: Any) -> Any:
        """The result of a command; what the page writes to its console meanwhile goes into the guest's log.

        Raises PageError.
        """
        number = next(self._numbers)
        try:
            self._socket.send(json.dumps({"id": number, "method": method, "params": given}))
            while True:
                message = json.loads(self._socket.recv())
                if message.get("id") == number:
                    break
                if message.get("method") == "log.entryAdded":
                    print(message["params"]["text"])  # noqa: T201 - as of the other browsers
        except (websocket.WebSocketException, OSError) as error:
            raise PageError(f"Firefox has ended: {error}") from error
        if message["type"] == "error":
            raise PageError(f"{message['error']}: {message['message']}")
        return message["result"]


def _port(profile: Path) -> int | None:
    """The port that a Firefox takes commands at; None until it has written it down."""
    try:
        return int(json.loads((profile / _ENDPOINT).read_text(encoding="utf-8"))["ws_port"])
    except (FileNotFoundError, json.JSONDecodeError):  # not yet, or not to its end
        return None


def _told(exception: dict[str, Any]) -> str:
    """What was thrown in the page, with the places it went through."""
    frames = exception["stackTrace"]["callFrames"]
    places = [f"{frame['functionName']}@{frame['url']}:{frame['lineNumber'] + 1}" for frame in frames]
    return "\n".join([exception["text"], *places])
