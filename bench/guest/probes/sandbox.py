"""A page of a browser runtime under a Content-Security-Policy, with the browser's own sandbox on where that works.

Runs in the browser's environment.  The page and its server are those of bench/guest/runtimes; the policy is added to
every answer, and the page does its inference by itself, so that no driver evaluates code past the policy.
"""

from __future__ import annotations

import json
import os
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import numpy as np
import psutil
from playwright.sync_api import Error

from ..refusals import TargetAbsent
from ..runtimes import _browser, _page_server

HERE = Path(__file__).resolve().parent
RUNTIMES = HERE.parent / "runtimes"
_FILTERED = 2  # seccomp's mode with a filter, in /proc/PID/status
_SETTLING = 20  # tenths of a second that a renderer is given to put itself under a filter


class Server(_page_server.Server):
    """The page server with a policy on every answer, and a place for the page's report."""

    def __init__(self, folders: Mapping[str, Path], policy: str, sent: bytes) -> None:
        """Listen on a free port of 127.0.0.1, in a thread of its own."""
        super().__init__(folders)
        self.RequestHandlerClass = Handler
        self.policy, self.sent = policy, sent
        self.report: dict[str, Any] = {}
        self.reported = threading.Event()


class Handler(_page_server.Handler):
    """One request of the page."""

    server: Server

    def end_headers(self) -> None:
        """Add the policy as the last header."""
        if self.server.policy:
            self.send_header("Content-Security-Policy", self.server.policy)
        super().end_headers()

    def do_POST(self) -> None:  # noqa: N802 - the name that http.server calls
        """The report of the page, else its output tensor."""
        if self.path != "/report":
            super().do_POST()
            return
        self.server.report = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._reply(204, b"", "text/plain")
        self.server.reported.set()


def visit(arguments: dict[str, Any]) -> dict[str, Any]:
    """Open the page once and wait for its report.

    `arguments`: `folders` by first part of the path, `policy`, `query` of the page, `input` (a file of float32),
    `target` of bench/guest/runtimes/_browser.py, `sandbox` (whether the browser's is asked for), `page` (default: the
    probe's own), `seconds`.  Returns shape, error, violations, console (the browser's complaints), output (a file of
    float32, or nothing), version, sandboxed (renderers under a system-call filter and those without), elsewhere
    (origins other than the page's own server that it sent requests to).
    """
    folders = {name: Path(path) for name, path in arguments["folders"].items()}
    sent = Path(arguments["input"]).read_bytes()
    server = Server({"probe": HERE, "page": RUNTIMES, **folders}, arguments["policy"], sent)
    complaints: list[str] = []
    elsewhere: set[str] = set()
    try:
        browser = _browser.driver().chromium.launch(
            executable_path=_browser.find_browser()[0],
            args=[*_browser.QUIET, *_browser.FLAGS[arguments["target"]][-1]],
            chromium_sandbox=bool(arguments["sandbox"]),
            headless=True,
        )
    except Error as error:
        server.shutdown()
        server.server_close()
        raise TargetAbsent(f"The browser does not start: {_cause(error)}") from error
    try:
        page = browser.new_page()
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        # Of the whole context, so that what a worker asks for is among it.
        page.context.on("request", lambda request: elsewhere.update(_elsewhere(request.url, server.url)))
        address = arguments.get("page", "/probe/sandbox.html")
        page.goto(f"{server.url}{address}?{urlencode(arguments['query'])}")
        waited = 0.0
        while waited < arguments["seconds"] and not server.reported.is_set():
            page.wait_for_timeout(100)  # serves the browser's events meanwhile
            waited += 0.1
        filtered, free = _renderers()
        for _ in range(_SETTLING):
            if not free:
                break
            page.wait_for_timeout(100)  # one that has just been started, ahead of the next page, has no filter yet
            filtered, free = _renderers()
        version = browser.version
    finally:
        browser.close()
        server.shutdown()
        server.server_close()
    return {
        "shape": server.report.get("shape"),
        "error": server.report.get("error", f"no report within {arguments['seconds']} s"),
        "violations": server.report.get("violations", []),
        "console": complaints[:20],
        "output": _keep(server.received),
        "version": version,
        "sandboxed": [filtered, free],
        "elsewhere": sorted(elsewhere),
    }


def evaluated(arguments: dict[str, Any]) -> dict[str, Any]:
    """As `visit`, of a page that calls `eval`: shows that the policy is enforced."""
    return visit({**arguments, "query": {"runtime": "/probe/evaluating.js", "shape": "1", "threads": "1"}})


def _elsewhere(address: str, own: str) -> list[str]:
    """The origin that a request of the page goes to, unless it is the page's own server or the page itself."""
    parts = urlsplit(address)
    origin = f"{parts.scheme}://{parts.netloc}"
    return [] if parts.scheme in ("blob", "data", "about") or origin == own else [origin]


def _renderers() -> tuple[int, int]:
    """Renderer processes under a filter of system calls, and those without."""
    filtered = free = 0
    for process in psutil.Process().children(recursive=True):
        try:
            if "--type=renderer" not in process.cmdline():
                continue
            status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii", errors="replace")
        except (psutil.Error, OSError):
            continue  # it has ended
        mode = next((int(line.split()[1]) for line in status.splitlines() if line.startswith("Seccomp:")), 0)
        filtered, free = filtered + (mode == _FILTERED), free + (mode != _FILTERED)
    return filtered, free


def _keep(data: bytes) -> str:
    """The page's output in a file of the working directory, which the core removes."""
    if not data:
        return ""
    handle, path = tempfile.mkstemp(suffix=".output", dir=Path.cwd())
    with os.fdopen(handle, "wb") as file:
        file.write(np.frombuffer(data, np.float32).tobytes())
    return path


def _cause(error: Error) -> str:
    """The line of playwright's long message that says why."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "sandbox" in line.lower() or "FATAL" in line]
    return (telling or lines)[0][:300]
