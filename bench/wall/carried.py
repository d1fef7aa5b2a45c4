"""What a cache brings that was packed on another machine: artifacts by what is asked for, and why others are not there.

An artifact's content address names the environment, the processor and the program that it was exported with, which are
others where it is only run.  There it is found by the rest: weights, exporter, precision, size, images, device.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.files import replacing
from bench.reasons import CellProblem, Reason, Status, UsageError

FILE = "carried.json"
_OF_THE_EXPORT = ("environment", "program", "calibrated")
"""Inputs of an artifact that tell what it was exported with, and not what it is."""


@dataclass(frozen=True)
class Carried:
    """Content addresses of artifacts and reasons why there is none ([code, text, status]), by `asked`."""

    artifacts: Mapping[str, str] = field(default_factory=dict)
    problems: Mapping[str, tuple[str, str, str]] = field(default_factory=dict)

    def problem(self, asked: str) -> CellProblem | None:
        """Why an artifact could not be exported where the others were; None where nothing is known of that."""
        if asked not in self.problems:
            return None
        code, text, status = self.problems[asked]
        return CellProblem(Reason(code), f"{text} (where the bundle was packed)", Status(status))


def asked(inputs: Mapping[str, Any]) -> str:
    """Hash of what is asked for by an artifact's inputs, whatever exports it."""
    kept = {name: value for name, value in inputs.items() if name not in _OF_THE_EXPORT}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def read(cache: Path) -> Carried:
    """What a cache brings; nothing where it was not packed elsewhere.  Raises UsageError for a damaged file."""
    path = cache / FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        problems = {key: (str(code), str(text), str(status)) for key, (code, text, status) in found["problems"].items()}
        return Carried({key: str(place) for key, place in found["artifacts"].items()}, problems)
    except (FileNotFoundError, NotADirectoryError):
        return Carried()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(f"{path} is damaged ({error}): unpack the bundle again, or choose another --cache") from error


def write(cache: Path, carried: Carried) -> None:
    """Have a cache bring this."""
    with replacing(cache / FILE) as sink:
        sink.write(json.dumps(asdict(carried), indent=1).encode())
