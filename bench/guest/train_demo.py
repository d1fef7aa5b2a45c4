"""Recipe of the demo checkpoint: trains YOLO11n from random weights on the demo set with Ultralytics.

Run in an environment with torch, torchvision and ultralytics, not in the harness's own:

    python -m bench.demo --cache demo-data --train 3000 --workers 8
    python bench/guest/train_demo.py --data demo-data/.../demo.yaml --out bench/demo/yolo11n-demo.pt --device 0

Nothing is downloaded.  Beside the checkpoint it writes training.csv (losses and validation mAP per epoch) and
training.json (versions, device, duration, recipe, SHA-256).  The checkpoint is that of the last epoch (the moving
average of the weights), so it is not selected on the validation split its accuracy is later measured on.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import math
import os
import platform
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

# Set before ultralytics is imported: it reads them at import.
SCRATCH = Path(tempfile.mkdtemp(prefix="demo-train-"))
os.environ.update(YOLO_OFFLINE="true", YOLO_AUTOINSTALL="false", YOLO_CONFIG_DIR=str(SCRATCH), YOLO_VERBOSE="true")

import numpy as np  # noqa: E402 - after the variables above
import torch  # noqa: E402 - likewise

MAX_BYTES = 6_000_000
PROBE_EPOCHS = 4  # epochs timed before the schedule is fitted to --max-minutes; the first one or two start slowly
CURVE = {  # column of training.csv: column of Ultralytics' results.csv
    "epoch": "epoch",
    "seconds": "time",
    "train_box_loss": "train/box_loss",
    "train_cls_loss": "train/cls_loss",
    "train_dfl_loss": "train/dfl_loss",
    "val_box_loss": "val/box_loss",
    "val_cls_loss": "val/cls_loss",
    "val_dfl_loss": "val/dfl_loss",
    "map50": "metrics/mAP50(B)",
    "map50_95": "metrics/mAP50-95(B)",
    "lr": "lr/pg0",
}
RECIPE: dict[str, Any] = {
    "pretrained": False,
    "optimizer": "AdamW",
    "lr0": 0.0015,
    "lrf": 0.01,
    "cos_lr": True,
    "weight_decay": 0.0005,
    "warmup_epochs": 3.0,
    "patience": 0,  # no early stop: it would select on the validation split
    # Objects turn freely and colours carry no class in the rendered set, so flips and hue shifts keep labels true.
    "hsv_h": 0.3,
    "hsv_s": 0.5,
    "hsv_v": 0.3,
    "fliplr": 0.5,
    "flipud": 0.5,
    "degrees": 0.0,  # a turned axis-aligned box is no longer tight
    "translate": 0.1,
    "scale": 0.4,
    "mosaic": 0.8,
    "close_mosaic": 15,
    "mixup": 0.0,
    "erasing": 0.0,
    "plots": False,
    "save": True,
    "val": True,
    "deterministic": True,
    "cache": "ram",
}


def ensure_torchvision() -> None:
    """Import torchvision; on a CPU-only torch whose torchvision build lacks its operators, define NMS first.

    Only that one failure ("operator torchvision::nms does not exist") is cured; any other import error is raised.
    """
    try:
        import torchvision
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
    else:
        return
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]  # what the failed import left half made
    signature = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
    torch.library.define("torchvision::nms", signature)
    torch.library.define("torchvision::qnms", signature)  # never called; torchvision's import looks for its schema
    torch.library.impl("torchvision::nms", "cpu", greedy_nms)
    import torchvision.extension

    torchvision.extension._has_ops = lambda: True


def greedy_nms(dets: torch.Tensor, scores: torch.Tensor, iou_threshold: float) -> torch.Tensor:
    """Indices of kept boxes, best score first; `dets` is (N, 4) corners in px, `scores` (N,)."""
    corners = dets.detach().to(torch.float64).numpy()
    area = np.prod(np.maximum(corners[:, 2:] - corners[:, :2], 0), axis=1)
    waiting = np.argsort(-scores.detach().numpy(), kind="stable")
    kept: list[int] = []
    while waiting.size:
        best, waiting = int(waiting[0]), waiting[1:]
        kept.append(best)
        low = np.maximum(corners[best, :2], corners[waiting, :2])
        high = np.minimum(corners[best, 2:], corners[waiting, 2:])
        shared = np.prod(np.maximum(high - low, 0), axis=1)
        union = area[best] + area[waiting] - shared
        waiting = waiting[shared <= iou_threshold * union]
    return torch.tensor(kept, dtype=torch.int64)


def read_curve(path: Path) -> list[dict[str, float]]:
    """Rows of Ultralytics' results.csv under our column names."""
    with path.open(newline="", encoding="utf-8") as source:
        rows = [{key.strip(): value for key, value in row.items()} for row in csv.DictReader(source)]
    return [{ours: float(row[theirs]) for ours, theirs in CURVE.items()} for row in rows]


def fit_schedule(trainer: Any, limit_seconds: float, started: float) -> None:
    """Shorten the run once, after PROBE_EPOCHS, so that it ends with its schedule complete before the limit.

    `started` is a time.monotonic() value taken at the start of the process.  An epoch costs what the last timed ones
    did, plus 10 percent.
    """
    if trainer.epoch + 1 != PROBE_EPOCHS:
        return
    remaining = limit_seconds - (time.monotonic() - started)
    affordable = PROBE_EPOCHS + int(remaining / (trainer.epoch_time * 1.1))
    print(f"epoch {PROBE_EPOCHS} took {trainer.epoch_time:.1f} s; {affordable} epochs fit the limit", flush=True)
    if affordable < trainer.epochs:
        trainer.epochs = trainer.args.epochs = max(affordable, PROBE_EPOCHS + 1)
        trainer.args.close_mosaic = min(trainer.args.close_mosaic, trainer.epochs // 3)
        trainer._setup_scheduler()
        trainer.scheduler.last_epoch = trainer.epoch


def train(given: argparse.Namespace, started: float) -> dict[str, Any]:
    """Train as asked and write the checkpoint; returns the facts for training.json."""
    ensure_torchvision()
    import ultralytics
    from ultralytics.models.yolo.detect import DetectionTrainer
    from ultralytics.utils.torch_utils import strip_optimizer

    class Trainer(DetectionTrainer):  # type: ignore[misc]  # untyped: the core has no ultralytics
        """Ultralytics' trainer; the checkpoint does not carry its own log (that needs polars), training.csv does."""

        def read_results_csv(self) -> dict[str, Any]:
            return {}

    settings = {
        **RECIPE,
        "model": "yolo11n.yaml",
        "data": str(given.data.resolve()),
        "epochs": given.epochs,
        "imgsz": given.imgsz,
        "batch": given.batch,
        "device": given.device,
        "seed": given.seed,
        "workers": given.workers,
        "project": str(SCRATCH),
        "name": "run",
        "close_mosaic": min(RECIPE["close_mosaic"], given.epochs // 3),
        # bfloat16 needs no gradient scaling, and Ultralytics' AMP self-check, which downloads a model, skips it.
        "amp": False if given.device == "cpu" else "bf16",
    }
    trainer = Trainer(overrides=settings)
    if given.max_minutes:
        trainer.add_callback("on_fit_epoch_end", lambda t: fit_schedule(t, given.max_minutes * 60, started))
    trainer.train()

    given.out.parent.mkdir(parents=True, exist_ok=True)
    staging = given.out.with_suffix(".tmp")
    strip_optimizer(trainer.last, str(staging))
    epochs_run = trainer.epoch + 1
    clean_checkpoint(staging)
    if staging.stat().st_size > MAX_BYTES:
        raise SystemExit(f"{staging} has {staging.stat().st_size} bytes, over the limit of {MAX_BYTES}")
    staging.replace(given.out)

    curve = read_curve(trainer.csv)
    write_curve(given.out.with_name("training.csv"), curve)
    device = platform.processor() or platform.machine()
    if trainer.device.type == "cuda":
        device = torch.cuda.get_device_name(trainer.device)
    return {
        "model": "yolo11n.yaml, random weights",
        "data": data_facts(given.data),
        "epochs": epochs_run,
        "epochs_asked": given.epochs,
        "imgsz": given.imgsz,
        "batch": given.batch,
        "seed": given.seed,
        "amp": str(settings["amp"]),
        "recipe": RECIPE,
        "device": device,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "ultralytics": ultralytics.__version__,
        "seconds": round(time.monotonic() - started, 1),
        "checkpoint_bytes": given.out.stat().st_size,
        "checkpoint_sha256": hashlib.sha256(given.out.read_bytes()).hexdigest(),
        "last_epoch": {"map50": curve[-1]["map50"], "map50_95": curve[-1]["map50_95"]},
    }


def clean_checkpoint(path: Path) -> None:
    """Drop from a stripped checkpoint what describes the training machine: its paths and its git checkout."""
    checkpoint = torch.load(path, map_location="cpu", weights_only=False)
    checkpoint.pop("git", None)
    keep = {name: value for name, value in checkpoint["train_args"].items() if not _is_path(value)}
    checkpoint["train_args"] = keep
    model_args = checkpoint["model"].args
    checkpoint["model"].args = {name: value for name, value in model_args.items() if not _is_path(value)}
    model_yaml = checkpoint["model"].yaml
    model_yaml["yaml_file"] = Path(str(model_yaml.get("yaml_file", "yolo11n.yaml"))).name
    torch.save(checkpoint, path)
    leaks = [text for text in (str(SCRATCH), str(Path.home()), str(Path.cwd())) if text.encode() in path.read_bytes()]
    if leaks:
        raise SystemExit(f"{path} still holds machine paths: {', '.join(leaks)}")


def _is_path(value: object) -> bool:
    return isinstance(value, (str, os.PathLike)) and os.sep in str(value)


def data_facts(data: Path) -> dict[str, Any]:
    """Name of the data set's directory (generator version, source hash, splits) and images per split."""
    root = data.resolve().parent
    return {"name": root.name, "images": {p.name: len(list(p.glob("*.png"))) for p in sorted(root.glob("images/*"))}}


def write_curve(path: Path, curve: list[dict[str, float]]) -> None:
    """Write training.csv, one row per epoch."""
    with path.open("w", newline="", encoding="utf-8") as sink:
        writer = csv.DictWriter(sink, fieldnames=list(CURVE), lineterminator="\n")
        writer.writeheader()
        for row in curve:
            writer.writerow({name: f"{value:.6g}" if math.isfinite(value) else "" for name, value in row.items()})


def main() -> int:
    """Train the demo checkpoint from the command line."""
    started = time.monotonic()
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--data", type=Path, required=True, help="demo.yaml of a data set with a train split")
    parser.add_argument("--out", type=Path, required=True, help="checkpoint; training.csv and .json go beside it")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--device", default="cpu", help="cpu, or the number of a CUDA device")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=8, help="data loading processes (CUDA only)")
    parser.add_argument("--max-minutes", type=float, default=0.0, help="shorten the schedule to end by then")
    given = parser.parse_args()
    if not given.data.is_file():
        parser.error(f"--data {given.data} does not exist; make it with: python -m bench.demo --train 3000")
    try:
        facts = train(given, started)
        path = given.out.with_name("training.json")
        path.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    finally:
        shutil.rmtree(SCRATCH, ignore_errors=True)
    print(json.dumps(facts, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
