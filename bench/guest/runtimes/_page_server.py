"""The server behind a page: the runtime's files, the input tensor, and the output tensor on its way back.

It listens on 127.0.0.1 only and sends the headers that make a page cross-origin isolated: only then may WebAssembly
share memory between threads, and only then does `performance.now()` tick in steps of 5 microseconds instead of 100.
"""

from __future__ import annotations

import http.server
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

TYPES = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".json": "application/json",
    ".wasm": "application/wasm",
}


class Server(http.server.ThreadingHTTPServer):
    """Serves `folders` by the first part of the path, `/input` from `sent`, and takes POSTs of `/output`."""

    daemon_threads = True

    def __init__(self, folders: Mapping[str, Path]) -> None:
        """Listen on a free port of 127.0.0.1, in a thread of its own."""
        super().__init__(("127.0.0.1", 0), Handler)
        self.folders = {name: folder.resolve() for name, folder in folders.items()}
        self.sent = b""
        self.received = b""
        self._fetched: dict[str, dict[Path, int]] = {name: {} for name in folders}
        threading.Thread(target=self.serve_forever, name="page server", daemon=True).start()

    @property
    def url(self) -> str:
        """Address of the server."""
        return f"http://127.0.0.1:{self.server_port}"

    def file(self, name: str, rest: str) -> bytes | None:
        """Content of the file `rest` of the folder `name`, or None; never of one outside it."""
        folder = self.folders.get(name)
        path = (folder / rest).resolve() if folder else None
        if folder is None or path is None or not path.is_relative_to(folder) or not path.is_file():
            return None
        content = path.read_bytes()
        self._fetched[name][path] = len(content)
        return content

    def fetched_bytes(self, name: str) -> int:
        """Size of the files of a folder that the page has asked for, each once."""
        return sum(self._fetched[name].values())


class Handler(http.server.BaseHTTPRequestHandler):
    """One request of the page."""

    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """A file of one of the folders, or the input tensor."""
        path = unquote(urlsplit(self.path).path)
        if path == "/input":
            self._reply(200, self.server.sent, "application/octet-stream")
            return
        name, _, rest = path.lstrip("/").partition("/")
        content = self.server.file(name, rest)
        if content is None:
            self._reply(404, b"", "text/plain")
        else:
            self._reply(200, content, TYPES.get(Path(rest).suffix, "application/octet-stream"))

    def do_POST(self) -> None:
        """The output tensor."""
        self.server.received = self.rfile.read(int(self.headers["Content-Length"]))
        self._reply(204, b"", "text/plain")

    def _reply(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing: the log is for what went wrong."""
