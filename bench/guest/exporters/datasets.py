"""The data files that ultralytics brings: coco8.yaml, VOC.yaml and others.  Found as files; ultralytics is not run."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any


def known(_: dict[str, Any]) -> dict[str, str]:
    """Paths of the data files by name, without their suffix."""
    spec = importlib.util.find_spec("ultralytics")
    folders = (spec.submodule_search_locations or []) if spec is not None else []
    files = (file for folder in folders for file in Path(folder, "cfg", "datasets").glob("*.yaml"))
    return {file.stem: str(file) for file in sorted(files)}
