"""An exporter without a framework: what it does is written in the weights file, as JSON."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any


def export(request: dict[str, Any]) -> dict[str, Any]:
    plan = json.loads(Path(request["weights"]).read_text(encoding="utf-8"))
    with Path(plan["log"]).open("a", encoding="utf-8") as log:
        log.write(f"{request['precision']} {request['imgsz']}\n")
    output = Path(request["output_dir"])
    (output / "model.bin").write_bytes(b"w" * 1000)
    (output / "model.json").write_text(json.dumps(request["calibration"]), encoding="utf-8")
    files = ["model.bin", "model.json"]
    match plan.get("behaviour"):
        case "raise":
            raise RuntimeError("operator not supported")
        case "sigkill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "sleep":
            time.sleep(600)
        case "slow":
            time.sleep(0.5)
        case "meet":
            _meet(Path(plan["log"]))
        case "unlisted":
            files = ["model.bin"]
        case "absent":
            files.append("model.xml")
    return {
        "files": files,
        "entry": "model.bin",
        "input": {"layout": "NCHW", "range": "0..1", "dtype": "float32", "shape": [1, 3, 32, 32]},
        "output": {"layout": "channels_first", "units": "px", "shape": [1, 6, 21]},
        "versions": {"exporter": "1"},
        "reproduce": "export model.bin",
    }


def _meet(log: Path, others: int = 1) -> None:
    """Wait until another export has begun, which one that comes after this never will."""
    for _ in range(600):
        if len(log.read_text(encoding="utf-8").splitlines()) > others:
            return
        time.sleep(0.1)
    raise RuntimeError("nobody else was exporting")
