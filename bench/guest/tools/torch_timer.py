"""PyTorch's own benchmark timer on a checkpoint or a TorchScript archive.

    python torch_timer.py {pytorch,torchscript} MODEL INPUT.npy --threads N --runs N

INPUT holds float32 (B, 3, S, S), RGB 0..1.  Prints one line of JSON: `median_ms` of the network's call on a tensor that
is on the host, and `runs`, about as many as asked: the timer is given the time for them.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np
import torch
from torch.utils.benchmark import Timer

STATEMENT = "with torch.inference_mode():\n    network(x)"
PILOT = 3


def network_of(kind: str, model: str) -> Any:
    """The network as its makers say it is run: a checkpoint fused by ultralytics, an archive as it is."""
    if kind == "torchscript":
        return torch.jit.load(model, map_location="cpu").eval()
    from ultralytics import YOLO

    return YOLO(model).model.float().fuse(verbose=False).eval()


def main() -> None:
    """Load, let the timer warm up and time, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=("pytorch", "torchscript"))
    parser.add_argument("model")
    parser.add_argument("input")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--runs", type=int, required=True)
    given = parser.parse_args()
    names = {
        "torch": torch,
        "network": network_of(given.kind, given.model),
        "x": torch.from_numpy(np.load(given.input)),
    }
    timer = Timer(STATEMENT, globals=names, num_threads=given.threads)
    pilot = timer.timeit(PILOT)
    measured = timer.blocked_autorange(min_run_time=given.runs * pilot.mean)
    runs = len(measured.raw_times) * measured.number_per_run
    print(json.dumps({"median_ms": measured.median * 1e3, "inner_ms": None, "runs": runs}))


if __name__ == "__main__":
    main()
