"""What a worker says of its machine, so that it is given only what it can do: Dask's resources, and its bench."""

from __future__ import annotations

import hashlib
import platform
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

from bench.grid import machine, matrix
from bench.places import GUEST, MATRICES, PACKAGE
from bench.reasons import UsageError

_NAMED = "machine="
_ID = "machine-id="
_TAG = re.compile(r"[A-Za-z][\w-]*=[\w.:-]+")
_SHARED = ("dask", "distributed", "cloudpickle", "msgpack", "numpy", "opencv-python-headless")
_FOUND = ("target", "platform", "machine-id")
"""Tags that a worker has for what is found on its machine, and that nobody can give it."""


def offered(given: Sequence[str] = (), matrices: Path = MATRICES) -> dict[str, float]:
    """Resources that a worker on this machine has: what it is, and the targets of a matrices folder that are found.

    One of each, since a worker does one thing at a time.  `given` are tags of its user's; without a machine's name
    among them it is that of the host.  Raises UsageError for what is no tag, or one that is found and not given.
    """
    for tag in given:
        if not _TAG.fullmatch(tag) or tag.partition("=")[0] in _FOUND:
            raise UsageError(
                f"--tags {tag}: give NAME=VALUE, such as machine=epyc, of letters and digits; {', '.join(_FOUND)} are "
                "found by the worker itself"
            )
    found = [name for name, target in matrix.load_targets(matrices).items() if machine.detect(target).found]
    names = list(given)
    if not any(tag.startswith(_NAMED) for tag in given):
        names.append(f"{_NAMED}{platform.node() or 'unnamed'}")
    return dict.fromkeys([of_machine(), of_platform(), *names, *map(of_target, found)], 1.0)


def of_machine() -> str:
    """The tag of this machine: what calibrates and what builds engines is the same where it is."""
    return of_id(machine.machine_id())


def of_id(machine_id: str) -> str:
    """The tag of a machine by its id, that of machines which share times."""
    return f"{_ID}{machine_id}"


def id_of(tags: Iterable[str]) -> str:
    """The id of the machine that a worker with these tags is on."""
    return next((tag.removeprefix(_ID) for tag in tags if tag.startswith(_ID)), "")


def shown(tags: Iterable[str]) -> str:
    """The tags of a worker that a user may ask for."""
    return " ".join(sorted(tag for tag in tags if tag.startswith((_NAMED, "target=")) or not tag.startswith(_FOUND)))


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


def versions() -> dict[str, str]:
    """Versions of what jobs and answers are sent with, and of what images are read and decoded with."""
    found = {name: version for name, version in machine.core_versions().items() if name in _SHARED}
    return {"python": ".".join(platform.python_version_tuple()[:2]), **found}


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
