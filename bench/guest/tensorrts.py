"""Which TensorRT a guest's environment holds.

There are three, with one interface: TensorRT itself; its lean runtime, which builds nothing and runs engines that were
built to work with later releases too; and TensorRT for RTX, whose engines are built without a GPU and compiled on the
card that runs them.  Exporter and runtime are the same for all.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from typing import Any

RTX = "tensorrt_rtx_bindings"
LEAN = "tensorrt_lean_bindings"
PACKAGES = {"tensorrt": "tensorrt-cu13", RTX: "tensorrt-rtx-cu13-bindings", LEAN: "tensorrt-lean-cu13-bindings"}
"""The module of each, and the package that its version is told by."""
NAMES = {"tensorrt": "TensorRT", RTX: "TensorRT for RTX", LEAN: "TensorRT lean runtime"}


def module() -> str:
    """Name of the module of the TensorRT that is here.  Raises ModuleNotFoundError where none is."""
    here = next((name for name in PACKAGES if importlib.util.find_spec(name) is not None), None)
    if here is None:
        raise ModuleNotFoundError(f"None of {', '.join(PACKAGES)} is installed in this environment.")
    return here


def name() -> str:
    """What the TensorRT that is here is called.  Raises ModuleNotFoundError where none is."""
    return NAMES[module()]


def library() -> Any:
    """The TensorRT that is here.  Raises ModuleNotFoundError where none is."""
    return importlib.import_module(module())


def versions() -> dict[str, str]:
    """Its package, with the version of it."""
    package = PACKAGES[module()]
    return {package: importlib.metadata.version(package)}
