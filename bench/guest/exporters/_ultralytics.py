"""What the exporters share: a private work directory, a calibration set of their own, and one call of ultralytics."""

from __future__ import annotations

import importlib.metadata
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ultralytics import YOLO
from ultralytics.engine.exporter import Exporter
from ultralytics.utils import YAML

from ..refusals import ExportRefused, PrecisionUnsupported, require_precision

# Precision to upstream's `quantize`. int8-s8 differs from int8 in what the ONNX exporter makes of it.
QUANTIZE = {"fp32": 32, "fp16": 16, "int8": 8, "int8-s8": 8}


class _StrictExporter(Exporter):  # type: ignore[misc]  # untyped: the core has no ultralytics
    """Upstream's exporter, which refuses to calibrate on other images than it was given."""

    def get_int8_calibration_dataloader(self, prefix: str = "") -> Any:
        """Upstream's loader, which drops unreadable images and the last incomplete batch with a warning at most."""
        loader = super().get_int8_calibration_dataloader(prefix)
        given = sorted(Path(self.args.data).with_name("images").iterdir())
        read = {Path(name).name for name in loader.dataset.im_files}
        dropped = [str(link.resolve()) for link in given if link.name not in read]
        used = len(loader) * loader.batch_size
        if used != len(given):
            why = f"their number is no multiple of the batch {self.args.batch}"
            if dropped:
                why = f"ultralytics cannot read {', '.join(dropped[:5])}; replace them or take them out of the split"
            raise ExportRefused(f"Only {used} of {len(given)} calibration images can be used: {why}.")
        return loader


def export(
    request: Mapping[str, Any], form: str, precisions: Sequence[str], *, weight_only: bool = False
) -> dict[str, Any]:
    """Export a checkpoint with ultralytics; `form` is its name of the format.

    `request` holds weights, output_dir (an empty directory), imgsz, batch, precision and calibration (image paths,
    for the int8 precisions; unused where `weight_only` says that upstream's int8 of this format quantises weights
    alone).  Returns `product`, the path of what was written in a work directory that `finish` removes, and the parts
    of the reply that do not depend on the format.  Raises PrecisionUnsupported or ExportRefused.
    """
    precision, imgsz, batch = request["precision"], int(request["imgsz"]), int(request["batch"])
    require_precision(request, form, precisions)
    work = Path(request["output_dir"]) / "work"
    work.mkdir()
    # A copy under a name of our own: ultralytics writes beside the checkpoint, under the checkpoint's name.
    weights = work / "model.pt"
    shutil.copyfile(request["weights"], weights)
    model = YOLO(str(weights)).model
    overrides: dict[str, Any] = {
        "mode": "export",
        "task": "detect",
        "format": form,
        "imgsz": imgsz,
        "batch": batch,
        "quantize": QUANTIZE[precision],
        "device": "cpu",
        "verbose": False,
    }
    calibrate = QUANTIZE[precision] == 8 and not weight_only
    if calibrate:
        overrides["data"] = str(_calibration_data(work, request["calibration"], model.names))
    reply = describe(model, Path(request["weights"]), imgsz, batch)
    try:
        product = _StrictExporter(overrides=overrides)(model=model)
    except AssertionError as error:
        # How upstream says that a format has no such precision; any other failed assertion is a defect.
        _, found, text = str(error).partition("quantize=")
        if not found:
            raise
        raise PrecisionUnsupported(f"Ultralytics refuses: {found}{text}.") from error
    told = f"yolo export model={Path(request['weights']).name} format={form} imgsz={imgsz} batch={batch}"
    told += f" quantize={QUANTIZE[precision]} device=cpu" + (" data=CALIBRATION.yaml" if calibrate else "")
    return {**reply, "product": str(product), "reproduce": told}


def finish(request: Mapping[str, Any], reply: dict[str, Any], names: Mapping[Path, str], entry: str) -> dict[str, Any]:
    """Move the products into the output directory under neutral names and remove the work directory.

    `names` maps a path of the work directory to a file name; `entry` is the one that a runtime opens.
    """
    output = Path(request["output_dir"])
    for path, name in names.items():
        path.replace(output / name)
    shutil.rmtree(output / "work")
    del reply["product"]
    return {**reply, "files": sorted(names.values()), "entry": entry}


def describe(model: Any, weights: Path, imgsz: int, batch: int) -> dict[str, Any]:
    """Input and output of an export of a detection network, and the versions at work."""
    strides = [int(stride) for stride in model.stride.tolist()]
    if imgsz % max(strides):
        raise ExportRefused(f"{weights.name}: the image size {imgsz} must be a multiple of the stride {max(strides)}.")
    anchors = sum((imgsz // stride) ** 2 for stride in strides)
    return {
        "input": {"layout": "NCHW", "range": "0..1", "dtype": "float32", "shape": [batch, 3, imgsz, imgsz]},
        "output": {"layout": "channels_first", "units": "px", "shape": [batch, 4 + len(model.names), anchors]},
        "versions": versions("torch", "ultralytics"),
    }


def versions(*names: str) -> dict[str, str]:
    """Installed versions of distributions, torch with its local label."""
    return {name: torch.__version__ if name == "torch" else importlib.metadata.version(name) for name in names}


def _calibration_data(work: Path, images: Sequence[str], names: Mapping[int, str]) -> Path:
    """A data file whose validation split is exactly `images`.

    Ultralytics calibrates on the validation split by default; the images come from the training split, as links in a
    folder of our own, so that no label can make it drop an image and no cache file is written beside the user's data.
    """
    if not images:
        raise ExportRefused("int8 needs calibration images; give the data file a train split that has some.")
    folder = work / "calibration" / "images"
    folder.mkdir(parents=True)
    for number, image in enumerate(images):
        # The end of its own name, by which upstream's errors then tell it; 60 characters fit whatever their bytes are.
        (folder / f"{number:06d}-{Path(image).name[-60:]}").symlink_to(Path(image).resolve())
    data = work / "calibration" / "data.yaml"
    YAML.save(data, {"path": str(folder.parent), "train": "images", "val": "images", "names": dict(names)})
    return data
