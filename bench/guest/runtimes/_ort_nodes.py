"""What ONNX Runtime's profiler says of the nodes that were executed, native and in WebAssembly alike."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

_KERNEL = "_kernel_time"
"""What the profiler puts behind the name of a node ..."""
_TOKEN = re.compile(r"_token_\d+$")
"""... and what the optimiser puts behind those of nodes that it adds, numbered in another order each time."""
# Input types of convolution nodes as the profiler names them.
COMPUTE = {"float": "f32", "float16": "f16", "bfloat16": "bf16", "uint8": "i8", "int8": "i8"}


def executed(events: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of a profile's events, those of kernels that ran: with provider and types among their `args`."""
    nodes = [event for event in events if event.get("cat") == "Node" and "op_name" in event.get("args", {})]
    return [node for node in nodes if node["args"].get("provider") and node["args"].get("input_type_shape")]


def plain(name: str) -> str:
    """A node's name, as the profiler or a session tells it, without what was put behind it."""
    return _TOKEN.sub("", name.removesuffix(_KERNEL))


def convolutions(kernels: Sequence[dict[str, Any]]) -> Counter[tuple[str, str, str]]:
    """Operator, type of the input and provider of every convolution among `args` of kernels."""
    return Counter(
        (node["op_name"], next(iter(node["input_type_shape"][0])), node["provider"])
        for node in kernels
        if "Conv" in node["op_name"]
    )


def tallied(counted: Counter[tuple[str, str, str]]) -> tuple[Counter[str], Counter[str]]:
    """How many of these convolutions were of each arithmetic, and how many each provider had."""
    by_compute: Counter[str] = Counter()
    by_provider: Counter[str] = Counter()
    for (_, kind, provider), number in counted.items():
        by_compute[COMPUTE.get(kind, kind)] += number
        by_provider[provider] += number
    return by_compute, by_provider


def named(counted: Counter[tuple[str, str, str]]) -> dict[str, int]:
    """The same as an attestation writes it."""
    return {f"{operator} {kind} on {provider}": n for (operator, kind, provider), n in sorted(counted.items())}
