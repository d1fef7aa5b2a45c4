"""Ultralytics' own benchmark of some formats, in an environment that holds it and their runtimes.

    python their_benchmark.py MODEL.pt DATA.yaml IMGSZ FORMAT...

The last line on standard output is JSON: a row per format, as `benchmark` gives it.
"""

from __future__ import annotations

import json
import sys

import torch
from ultralytics.utils.benchmarks import benchmark


def main() -> None:
    model, data, imgsz, *formats = sys.argv[1:]
    torch.set_num_threads(1)
    rows = []
    for name in formats:
        rows += benchmark(model=model, data=data, imgsz=int(imgsz), device="cpu", format=name).to_dicts()
    print(json.dumps(rows, ensure_ascii=True))


if __name__ == "__main__":
    main()
