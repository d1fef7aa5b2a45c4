"""YOLO11 deployment bench: measures every way to deploy a YOLO11 model.

From Python, as in a notebook:

    import bench

    bench.inspect("best.pt", "data.yaml").problems
    results = bench.run(options=["onnx", "openvino"], precisions=["fp32", "int8"])
    results.measured
    bench.recommend(results, max_map_loss=0.01)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"
__all__ = [
    "Inspected", "Results", "StoreError", "UsageError", "__version__", "compare_cells", "doctor", "inspect", "read",
    "recommend", "run",
]  # fmt: skip

if TYPE_CHECKING:
    from bench.api import Inspected, Results, compare_cells, doctor, inspect, read, recommend, run
    from bench.reasons import StoreError, UsageError
else:  # a type checker that saw this would let every name pass

    def __getattr__(name: str) -> Any:
        """The interface, imported when it is first used: the command line answers `--help` without pandas behind it."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from bench import api

        return getattr(api, name)


def __dir__() -> list[str]:
    """What the interface holds, for completion."""
    return sorted({*globals(), *__all__})
