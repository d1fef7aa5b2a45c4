"""The checkpoint under test: found or fetched, and what it says of itself."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.environments.locked import Environments
from bench.places import EXPORTERS
from bench.reasons import CellProblem, UsageError
from bench.wall.worker import Worker

EXPORTER = EXPORTERS / "checkpoint.py"
ENVIRONMENT = "export-torch"
# What ultralytics publishes by name: yolo11n.pt, yolov8s.pt, yolov5mu.pt ...
_OFFICIAL = re.compile(r"^yolo(v\d+|\d+)[a-z]{0,2}\d*[a-z]?\.pt$")
_SECONDS = 300.0


@dataclass(frozen=True)
class Checkpoint:
    """An Ultralytics detect checkpoint.  `name` is its file stem, `names` its classes by index."""

    path: Path
    name: str
    sha256: str
    names: Mapping[int, str]

    def require_classes(self, names: Mapping[int, str], data: Path) -> None:
        """Raise UsageError unless the data file names as many classes as the model has."""
        if len(names) != len(self.names):
            raise UsageError(
                f"{self.path.name} detects {len(self.names)} classes ({_some(self.names)}), but {data} names "
                f"{len(names)} ({_some(names)}): give the data file that the model was trained with"
            )


def resolve(given: str, environments: Environments, cache: Path) -> Checkpoint:
    """The checkpoint `given` as a path or an official name; an official name is fetched by ultralytics.

    Reading a checkpoint runs Python code that is stored in it (pickle), so it happens in a guest, once per content.
    Raises UsageError when there is no such file, it cannot be fetched, or it is no detect checkpoint.
    """
    path = Path(given).expanduser()
    if not path.is_file():
        if not _OFFICIAL.match(given):
            raise UsageError(
                f"--model {given}: no such file. Give the path of an Ultralytics detect checkpoint (.pt), or leave "
                "--model and --data out to use the embedded demo model"
            )
        path = _fetch(given, environments, cache)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    facts = _inspect(path.resolve(), digest, environments, cache)
    names = {int(index): str(name) for index, name in facts["names"].items()}
    return Checkpoint(path.resolve(), path.stem, digest, names)


def _inspect(path: Path, digest: str, environments: Environments, cache: Path) -> dict[str, dict[str, str]]:
    """What the checkpoint says of itself, kept in the cache by content and by the code that asked."""
    code = hashlib.sha256(EXPORTER.read_bytes() + environments.identity(ENVIRONMENT).encode()).hexdigest()
    kept = cache / "checkpoints" / f"{digest[:24]}-{code[:12]}.json"
    if kept.is_file():
        facts: dict[str, dict[str, str]] = json.loads(kept.read_text(encoding="utf-8"))
        return facts
    try:
        facts = _call(environments, "inspect", {"weights": str(path)})
    except CellProblem as problem:
        raise UsageError(
            f"{path} cannot be used: {problem.text.splitlines()[0]}\n"
            "Give an Ultralytics detect checkpoint (.pt), or leave --model and --data out for the embedded demo model"
        ) from problem
    kept.parent.mkdir(parents=True, exist_ok=True)
    temporary = kept.with_suffix(".tmp")
    temporary.write_text(json.dumps(facts), encoding="utf-8")
    temporary.replace(kept)
    return facts


def _fetch(name: str, environments: Environments, cache: Path) -> Path:
    target = cache / "checkpoints" / name
    if target.is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        _call(environments, "fetch", {"name": name, "output": str(target)}, YOLO_OFFLINE="false")
    except CellProblem as problem:
        raise UsageError(
            f"--model {name}: no such file here, and ultralytics could not download it: "
            f"{problem.text.splitlines()[0]}\nWithout internet, copy the checkpoint here and give its path, or leave "
            "--model and --data out to use the embedded demo model"
        ) from problem
    return target


def _call(
    environments: Environments, function: str, arguments: dict[str, str], **extra: str
) -> dict[str, dict[str, str]]:
    env = environments.ensure(ENVIRONMENT)
    variables = environments.variables() | extra
    with Worker(env.python, EXPORTER, variables=variables) as guest:
        return guest.call(function, arguments, timeout=_SECONDS)


def _some(names: Mapping[int, str]) -> str:
    shown = ", ".join(list(names.values())[:4])
    return shown + (", ..." if len(names) > 4 else "")
