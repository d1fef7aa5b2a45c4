"""What counted convolutions come down to; standard library only, so that tests can read it."""

from __future__ import annotations

from collections.abc import Mapping

ROUNDED = ("tf32", "f16", "bf16")
"""Floats that round more than float32."""


def arithmetic(counted: Mapping[str, int]) -> str:
    """The arithmetic of most convolutions, empty where none was counted.

    Float32 is said only where no other float was used: a network of which a part is rounded more is not computed in
    float32, however small that part is.
    """
    most = max(counted, key=counted.__getitem__, default="")
    rounded = [name for name in ROUNDED if counted.get(name)]
    return max(rounded, key=counted.__getitem__) if most == "f32" and rounded else most


def places(counted: Mapping[str, int]) -> str:
    """Where all convolutions ran; where that is several places, all of them ("cuda + cpu"), the most used first."""
    return " + ".join(sorted(counted, key=lambda name: (-counted[name], name)))
