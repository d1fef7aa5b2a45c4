"""Ultralytics' own benchmark of some formats, in an environment that holds it and their runtimes.

    python their_benchmark.py MODEL.pt DATA.yaml IMGSZ FORMAT...

The last line on standard output is JSON: a row per format, as `benchmark` gives it.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import torch
from ultralytics.utils.benchmarks import benchmark


def main() -> None:
    model, data, imgsz, *formats = sys.argv[1:]
    torch.set_num_threads(1)
    library = None if suppresses() else suppressing_by_opencv()  # its operators live as long as it does
    rows = []
    for name in formats:
        rows += benchmark(model=model, data=data, imgsz=int(imgsz), device="cpu", format=name).to_dicts()
    print(json.dumps(rows, ensure_ascii=True))
    del library


def suppresses() -> bool:
    """Whether torchvision's compiled part, which suppresses boxes, loads into this build of torch."""
    found = importlib.util.find_spec("torchvision")
    assert found is not None
    assert found.origin is not None
    try:
        torch.ops.load_library(Path(found.origin).parent / "_C.so")
    except OSError:
        return False
    return True


def suppressing_by_opencv() -> torch.library.Library:
    """Let OpenCV, compiled too, suppress where torchvision was built for another torch and could not be imported."""
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):  # the two that torchvision names while it is imported
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

    def nms(dets: torch.Tensor, scores: torch.Tensor, iou_threshold: float) -> torch.Tensor:
        corners = dets.numpy()
        boxes = np.hstack([corners[:, :2], corners[:, 2:] - corners[:, :2]])
        # Its annotations know sequences of boxes only; it takes arrays as well.
        kept = cv2.dnn.NMSBoxes(boxes, scores.numpy(), 0.0, iou_threshold)  # type: ignore[arg-type]
        return torch.from_numpy(np.asarray(kept, np.int64).reshape(-1))

    library.impl("nms", nms, "CPU")
    import torchvision.extension

    torchvision.extension._has_ops = lambda: True
    return library


if __name__ == "__main__":
    main()
