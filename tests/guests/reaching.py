"""An exporter whose functions reach for what a guest may not have, and say what came of it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

TOUCH = "import pathlib, sys; pathlib.Path(sys.argv[1]).touch()"


def network(request: dict[str, Any]) -> dict[str, Any]:
    """Interfaces; whether a connection to `outside` fails at once, and one over the loopback is made."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname(), timeout=5) as caller,
    ):
        caller.sendall(b"x")
        called = server.accept()[0].recv(1) == b"x"
    return {
        "interfaces": [name for _, name in socket.if_nameindex()],
        "outside": _tried(lambda: socket.create_connection((request["outside"], 9), timeout=5)),
        "loopback": called,
    }


def files(request: dict[str, Any]) -> dict[str, str]:
    """What each way to change a file of `folder` comes to; "done", or the error's name."""
    folder = Path(request["folder"])
    own = Path("mine")
    own.write_text("mine", encoding="utf-8")
    ways = {
        "make": lambda: (folder / "new").write_text("new", encoding="utf-8"),
        "change": lambda: (folder / "there").write_text("changed", encoding="utf-8"),
        "truncate": lambda: os.truncate(folder / "there", 0),
        "remove": (folder / "there").unlink,
        "move in": lambda: own.rename(folder / "moved"),
        "move out": lambda: (folder / "there").rename("taken"),
        "link": lambda: (folder / "link").symlink_to("there"),
        "make a folder": (folder / "sub").mkdir,
        "by a child": lambda: subprocess.run(
            [sys.executable, "-c", TOUCH, folder / "touched"], check=True, capture_output=True
        ),
    }
    found = {name: _tried(way) for name, way in ways.items() if name not in request["leave"]}
    return found | {"read": _tried(lambda: (folder / "kept").read_text(encoding="utf-8"))}


def usual(_request: dict[str, Any]) -> dict[str, str]:
    """What libraries do all the time."""
    ways = {
        "null": lambda: Path(os.devnull).write_text("x", encoding="ascii"),
        "temporary": tempfile.mkdtemp,
        "shared memory": lambda: tempfile.TemporaryFile(dir="/dev/shm").close(),
        "home": lambda: (Path.home() / "cache").write_text("x", encoding="ascii"),
    }
    return {name: _tried(way) for name, way in ways.items()}


def process(_request: dict[str, Any]) -> dict[str, Any]:
    """Who this is."""
    return {"pid": os.getpid(), "ids": [os.geteuid(), os.getegid()]}


def _tried(way: Any) -> str:
    try:
        way()
    except (OSError, subprocess.CalledProcessError) as error:
        return type(error).__name__
    return "done"
