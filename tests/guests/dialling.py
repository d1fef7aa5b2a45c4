"""A runtime adapter that reaches for the network: the option `address` is connected to, `name` is looked up."""

from __future__ import annotations

import contextlib
import socket
from typing import Any

import numpy as np


def load(spec: dict[str, Any]) -> dict[str, Any]:
    options = spec["options"]
    if "name" in options:
        with contextlib.suppress(OSError):
            socket.getaddrinfo(options["name"], 443)
    if "address" in options:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as caller:  # a UDP connect sends nothing
            try:
                caller.connect((options["address"], 9))
            except OSError:
                if options.get("insist"):
                    raise
    return spec


def prepare(_model: dict[str, Any], x: np.ndarray) -> np.ndarray:
    return x


def infer(model: dict[str, Any], prepared: np.ndarray) -> np.ndarray:
    return np.full((len(prepared), *model["manifest"]["output"]["shape"][1:]), prepared.mean(), np.float32)


def attest(_model: dict[str, Any]) -> dict[str, Any]:
    return {}
