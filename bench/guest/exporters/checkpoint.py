"""Looks into a checkpoint before anything is made of it, so that a wrong file costs one sentence and not a sweep."""

from __future__ import annotations

import pickle
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from ultralytics.nn.modules import OBB, Detect, Pose, Segment
from ultralytics.nn.tasks import load_checkpoint, torch_safe_load
from ultralytics.utils.downloads import GITHUB_ASSETS_NAMES, attempt_download_asset

from ..refusals import CheckpointError


def inspect(request: dict[str, Any]) -> dict[str, Any]:
    """Facts about the checkpoint `weights`: task, classes, head, channels, strides in px, parameters, what wrote it.

    Whether it can be benched is not judged here.  Raises CheckpointError when it is no Ultralytics checkpoint.
    """
    path = Path(request["weights"])
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such file.")
    if path.suffix != ".pt":
        raise CheckpointError(
            f"{path}: a checkpoint ends in .pt; give the file that training wrote, not an export of it."
        )
    try:
        # First as data: a pickle can run any code, so only one that holds nothing but known classes is loaded.
        torch_safe_load(str(path), safe_only=True)
        model, checkpoint = load_checkpoint(str(path))
    except (
        pickle.UnpicklingError,
        zipfile.BadZipFile,
        EOFError,
        IndexError,
        ValueError,
        OSError,
        RuntimeError,
        TypeError,
        KeyError,
        AttributeError,
        ModuleNotFoundError,
    ) as error:
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{path} is not a checkpoint that Ultralytics can load ({cause}). Give a .pt file written by Ultralytics "
            f"training, such as best.pt; a plain state_dict or a TorchScript archive does not hold the network."
        ) from error
    head = model.model[-1]
    first = next(model.parameters())  # of the first convolution: (outputs, channels, height, width)
    return {
        "task": model.task,
        "nc": len(model.names),
        "names": {str(index): str(name) for index, name in model.names.items()},
        "strides": [int(stride) for stride in model.stride.tolist()],
        "params": sum(parameter.numel() for parameter in model.parameters()),
        "head": type(head).__name__,
        "raw": isinstance(head, Detect) and not isinstance(head, (Segment, Pose, OBB)),  # which are Detects as well
        "end2end": bool(getattr(head, "end2end", False)),
        "dual": getattr(head, "one2one_cv2", None) is not None,
        "channels": int(first.shape[1]) if first.ndim == 4 else None,
        "imgsz": model.args.get("imgsz"),
        "architecture": Path(str(model.yaml.get("yaml_file", ""))).stem,
        "ultralytics": str(checkpoint.get("version") or ""),
        "date": str(checkpoint.get("date") or ""),
    }


def fetch(request: dict[str, Any]) -> dict[str, Any]:
    """Download the published checkpoint `name`, such as yolo11n.pt, to the path `output`; whole or not at all.

    Raises CheckpointError for a name that ultralytics does not publish or a download that fails.
    """
    name, output = request["name"], Path(request["output"])
    if name not in GITHUB_ASSETS_NAMES:
        raise CheckpointError(f"{name} is not among the checkpoints that Ultralytics publishes.")
    with tempfile.TemporaryDirectory(dir=output.parent) as folder:
        try:
            path = Path(attempt_download_asset(Path(folder) / name))
            path.replace(output)
        except (OSError, RuntimeError) as error:  # requests' errors are OSErrors
            raise CheckpointError(f"{name} could not be downloaded ({_causes(error)}).") from error
    return {"path": str(output)}


def _causes(error: BaseException | None) -> str:
    """First lines of an error and of those it was raised from: upstream says that, they say why."""
    lines = []
    while error is not None:
        lines.append(str(error).splitlines()[0] if str(error) else type(error).__name__)
        error = error.__cause__
    return ": ".join(lines)
