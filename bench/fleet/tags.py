"""What a worker says of its machine, so that it is given only what it can do: Dask's resources, and its bench."""

from __future__ import annotations

import hashlib
import platform
from functools import lru_cache
from pathlib import Path

from bench.grid import machine, matrix
from bench.places import GUEST, MATRICES, PACKAGE


def offered(matrices: Path = MATRICES) -> dict[str, float]:
    """Resources that a worker on this machine has: what it is, and the targets of a matrices folder that are found.

    One of each, since a worker does one thing at a time.
    """
    found = [name for name, target in matrix.load_targets(matrices).items() if machine.detect(target).found]
    return dict.fromkeys([of_machine(), of_platform(), *map(of_target, found)], 1.0)


def of_machine() -> str:
    """The tag of this machine: what calibrates and what builds engines is the same where it is."""
    return f"machine={machine.machine_id()}"


def of_platform() -> str:
    """The tag of a system and processor whose environments take the same wheels: what exports there is the same."""
    return f"platform={platform.system()}-{platform.machine()}".lower()


def of_target(name: str) -> str:
    """The tag of a target that a worker has."""
    return f"target={name}"


@lru_cache(maxsize=1)
def harness() -> str:
    """Hash of the bench's own code; of what is behind the wall nothing, since that travels with the job."""
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        if not path.is_relative_to(GUEST):
            digest.update(path.relative_to(PACKAGE).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def other_harness(worker: str) -> str:
    """What is wrong where a worker's bench is not that of the run."""
    return (
        f"the worker at {worker} has another state of the bench than this run, and so may read and decode images "
        "otherwise; install the same there, and start the worker again"
    )


@lru_cache(maxsize=1)
def machine_name() -> str:
    """What this machine is called."""
    return machine.short_name(machine.fingerprint(matrix.load_targets().values()))
