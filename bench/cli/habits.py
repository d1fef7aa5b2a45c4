"""Ultralytics' way to write a command, `model=best.pt imgsz=640 device=0 half=True`, as options of ours."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from bench.reasons import UsageError

_WORD = re.compile(r"^(?P<key>[a-z0-9_]+)=(?P<value>.+)$")
_OPTION = re.compile(r"^(--[^=]+|-[a-z])$")
"""What may have its value in the next word."""
_SAME = {"model": "model", "data": "data", "imgsz": "imgsz", "batch": "batch", "format": "options"}
"""Words whose values mean the same under an option's name; options are known by what Ultralytics calls a format."""
_QUANTIZE = {
    **dict.fromkeys(("8", "int8", "w8a8"), "int8"),
    **dict.fromkeys(("16", "fp16", "w16a16"), "fp16"),
    **dict.fromkeys(("32", "fp32", "w32a32"), "fp32"),
    "w8a32": "dynamic",
}
"""What has taken the place of `half` and `int8` there."""
_PRECISIONS = {"half": "fp16", "int8": "int8"}
_TRUE, _FALSE = ("true", "1"), ("false", "0")


def translated(arguments: Sequence[str]) -> list[str]:
    """Arguments with such words replaced; whatever else there is stays as it is and where it is.

    Raises UsageError for a value that cannot be meant.
    """
    kept: list[str] = []
    precisions: list[str] = []
    follows_option = False
    for argument in arguments:
        match = None if follows_option else _WORD.match(argument)
        follows_option = bool(_OPTION.match(argument))
        if match is None:
            kept.append(argument)
        elif match["key"] in _PRECISIONS:
            precisions += [_PRECISIONS[match["key"]]] if _flag(argument, match["value"]) else []
        elif match["key"] == "quantize":
            precisions.append(_precision(match["value"]))
        else:
            kept += _option(match["key"], match["value"]) or [argument]
    return [*kept, "--precisions", ",".join(precisions)] if precisions else kept


def _option(key: str, value: str) -> list[str]:
    """The option that a word stands for; empty where it is none of Ultralytics'."""
    if key in _SAME:
        return [f"--{_SAME[key]}", value]
    if key == "device":
        return ["--targets", ",".join(dict.fromkeys(_targets(value)))]
    return []


def _precision(value: str) -> str:
    """The precision that a value of `quantize` stands for.  Raises UsageError for one that is not benched."""
    if value.lower() not in _QUANTIZE:
        raise UsageError(f"quantize={value}: give {', '.join(_QUANTIZE)}; or name --precisions")
    return _QUANTIZE[value.lower()]


def _targets(devices: str) -> Iterator[str]:
    for device in devices.strip("[]").split(","):
        name = device.strip()
        if re.fullmatch(r"(cuda(:\d+)?|\d+)", name):
            yield "cuda"
        elif name in ("cpu", "mps"):
            yield "coreml" if name == "mps" else "cpu"
        else:
            raise UsageError(f"device={devices}: give cpu, the index of a CUDA device, or mps; or name --targets")


def _flag(word: str, value: str) -> bool:
    if value.lower() not in _TRUE + _FALSE:
        raise UsageError(f"{word}: give True or False")
    return value.lower() in _TRUE
