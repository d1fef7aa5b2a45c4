"""What a TensorRT engine computes in, read from its inspector's JSON; standard library only, so that tests can read it.

The inspector describes an engine that was built with detailed profiling verbosity as a list of layers.  Convolutions
carry a ParameterType or LayerType that says so, the type of their weights, the tactic that was chosen, and for every
input a description of its format and type in words ("Row major linear FP32", "Thirty-two wide channel vectorized row
major Int8 format."), under "Format/Datatype" up to TensorRT 10; TensorRT 11 may give the two apart.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

# What the words of an inspector name, the narrower first: "Half" and "FP16" are the same type.
TYPES = {
    "i8": re.compile(r"\bint8\b", re.IGNORECASE),
    "f8": re.compile(r"\b(fp8|f8)", re.IGNORECASE),
    "bf16": re.compile(r"\b(bf16|bfloat16)\b", re.IGNORECASE),
    "f16": re.compile(r"\b(fp16|half|float16)\b", re.IGNORECASE),
    "f32": re.compile(r"\b(fp32|float|float32)\b", re.IGNORECASE),
}
_TYPE_KEYS = ("DataType", "Datatype", "Format/Datatype", "Format")


class InspectorUnreadable(ValueError):
    """The inspector's answer does not hold what is needed; the message says what is missing."""


def convolutions(answer: str) -> Counter[str]:
    """Convolution layers of an engine by arithmetic: "f32", "tf32", "f16", "bf16", "i8", or "a x b" where mixed.

    `answer` is the inspector's JSON of the whole engine.  Raises InspectorUnreadable where it has no such details or
    no convolution.
    """
    try:
        layers = json.loads(answer)["Layers"]
    except (ValueError, KeyError, TypeError) as error:
        raise InspectorUnreadable(f"The engine inspector's answer has no list of layers: {error!r}") from error
    if layers and all(isinstance(layer, str) for layer in layers):
        raise InspectorUnreadable("The engine holds layer names only; it was built without detailed profiling.")
    found = Counter(_arithmetic(layer) for layer in layers if isinstance(layer, dict) and _is_convolution(layer))
    if not found:
        raise InspectorUnreadable(f"None of the engine's {len(layers)} layers is a convolution.")
    return found


def layer_kinds(answer: str) -> dict[str, int]:
    """How many layers an engine has of each LayerType and the type it works on, as "CaskConvolution f16".

    Two types, as in "Reformat f32-f16", are those of its first input and its first output where they differ; "?" is one
    that no words tell.
    """
    layers = json.loads(answer)["Layers"]
    kinds = Counter(_kind(layer) for layer in layers if isinstance(layer, dict))
    return dict(sorted(kinds.items()))


def _kind(layer: dict[str, Any]) -> str:
    ends = [(layer.get(name) or [{}])[0] for name in ("Inputs", "Outputs")]
    types = dict.fromkeys(_of_tensor(tensor) or "?" for tensor in ends if tensor)
    return f"{layer.get('LayerType', '?')} {'-'.join(types)}".strip()


def _is_convolution(layer: dict[str, Any]) -> bool:
    return "conv" in f"{layer.get('ParameterType', '')} {layer.get('LayerType', '')}".lower()


def _arithmetic(layer: dict[str, Any]) -> str:
    inputs = layer.get("Inputs") or [{}]
    activations, weights = _of_tensor(inputs[0]), _named(str((layer.get("Weights") or {}).get("Type", "")))
    weights = weights or activations
    if activations != weights:
        return f"{activations} x {weights}"
    # The tensor cores' short floats: tensors stay FP32, and only the tactic's name says so.
    if activations == "f32" and "tf32" in str(layer.get("TacticName", "")).lower():
        return "tf32"
    return activations or "unknown"


def _of_tensor(tensor: dict[str, Any]) -> str:
    return next((name for key in _TYPE_KEYS if (name := _named(str(tensor.get(key, ""))))), "")


def _named(words: str) -> str:
    return next((name for name, pattern in TYPES.items() if pattern.search(words)), "")
