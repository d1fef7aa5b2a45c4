"""TF32: float32 products whose factors a GPU first rounds to a mantissa of 10 bits.  Standard library only."""

from __future__ import annotations

import ctypes
import sys

from .refusals import PrecisionUnsupported

TARGET = "cuda"
FIRST = (8, 0)
"""Compute capability of the first cards that have it; an older one computes in float32 where TF32 is allowed."""
# Numbers of CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR in cuda.h.
_MAJOR, _MINOR = 75, 76


def require_tf32(target: str) -> None:
    """Raise PrecisionUnsupported unless `target` is a GPU whose card has TF32, or cannot be asked."""
    if target != TARGET:
        raise PrecisionUnsupported(
            f"TF32 is an arithmetic of NVIDIA GPUs; on {target} float32 is multiplied as it is: that is fp32."
        )
    capability = compute_capability()
    if capability is not None and capability < FIRST:
        found, first = (".".join(map(str, one)) for one in (capability, FIRST))
        raise PrecisionUnsupported(
            f"TF32 came with compute capability {first}; this card has {found} and would compute in float32: that is "
            "fp32."
        )


def compute_capability() -> tuple[int, int] | None:
    """Compute capability of the first device as CUDA's driver tells it; None without a driver or a device."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None
    device, found = ctypes.c_int(), (ctypes.c_int(), ctypes.c_int())
    if driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(device), 0):
        return None
    for attribute, value in zip((_MAJOR, _MINOR), found, strict=True):
        if driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, device):
            return None
    return found[0].value, found[1].value
