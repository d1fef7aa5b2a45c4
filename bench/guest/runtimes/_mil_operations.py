"""The operations of MIL that a YOLO11 package uses, by PyTorch; every function takes MIL's own parameter names.

Each follows its definition in coremltools' documentation of MIL.  Half-precision convolutions and matrix products add
up in float32 and round their result to half.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

CASTS = {"fp32": torch.float32, "fp16": torch.float16, "int32": torch.int32, "bool": torch.bool}


class OperationUnknown(NotImplementedError):
    """The program has an operation, or a form of one, that is not in the table below."""


def _conv(
    *,
    x: torch.Tensor,
    weight: torch.Tensor,
    pad_type: str,
    strides: list[int],
    dilations: list[int],
    groups: int,
    pad: list[int] | None = None,
    bias: torch.Tensor | None = None,
) -> torch.Tensor:
    terms = None if bias is None else bias.float()
    padded = _padded(x, pad_type, pad, 0.0)
    return functional.conv2d(padded.float(), weight.float(), terms, strides, 0, dilations, groups).to(x.dtype)


def _max_pool(
    *, x: torch.Tensor, kernel_sizes: list[int], strides: list[int], pad_type: str, pad: list[int], ceil_mode: bool
) -> torch.Tensor:
    return functional.max_pool2d(_padded(x, pad_type, pad, -float("inf")), kernel_sizes, strides, ceil_mode=ceil_mode)


def _padded(x: torch.Tensor, pad_type: str, pad: list[int] | None, value: float) -> torch.Tensor:
    """MIL gives padding as top, bottom, left, right."""
    if pad_type == "valid" or (pad_type == "custom" and not any(pad or [])):
        return x
    if pad_type != "custom" or pad is None:
        raise OperationUnknown(f"The program pads by {pad_type!r}; known are 'valid' and 'custom'.")
    top, bottom, left, right = pad
    return functional.pad(x, (left, right, top, bottom), value=value)


def _matmul(*, x: torch.Tensor, y: torch.Tensor, transpose_x: bool, transpose_y: bool) -> torch.Tensor:
    product = (x.transpose(-1, -2) if transpose_x else x).float() @ (y.transpose(-1, -2) if transpose_y else y).float()
    return product.to(x.dtype)


def _split(
    *, x: torch.Tensor, axis: int, num_splits: int | None = None, split_sizes: list[int] | None = None
) -> tuple[torch.Tensor, ...]:
    sizes = split_sizes or [x.shape[axis] // int(num_splits or 1)] * int(num_splits or 1)
    return tuple(torch.split(x, sizes, axis))


def _upsample(*, x: torch.Tensor, scale_factor_height: float, scale_factor_width: float) -> torch.Tensor:
    return functional.interpolate(
        x, scale_factor=(float(scale_factor_height), float(scale_factor_width)), mode="nearest"
    )


OPERATIONS: dict[str, Callable[..., Any]] = {
    "add": lambda *, x, y: x + y,
    "cast": lambda *, x, dtype: x.to(CASTS[dtype]),
    "concat": lambda *, values, axis, interleave=False: torch.cat(_plain(values, interleave), axis),
    "conv": _conv,
    "matmul": _matmul,
    "max_pool": _max_pool,
    "mul": lambda *, x, y: x * y,
    "real_div": lambda *, x, y: x / y,
    "reshape": lambda *, x, shape: x.reshape(shape),
    "sigmoid": lambda *, x: torch.sigmoid(x),
    "silu": lambda *, x: functional.silu(x),
    "softmax": lambda *, x, axis: torch.softmax(x, axis),
    "split": _split,
    "sub": lambda *, x, y: x - y,
    "transpose": lambda *, x, perm: x.permute(perm),
    "upsample_nearest_neighbor": _upsample,
}


def _plain(values: list[torch.Tensor], interleave: bool) -> list[torch.Tensor]:
    if interleave:
        raise OperationUnknown("The program uses an interleaving 'concat', which is not known.")
    return values
