"""The tasks there are, by the name that Ultralytics gives them."""

from __future__ import annotations

from collections.abc import Mapping

from bench.reasons import UsageError
from bench.tasks.detect.task import DETECT
from bench.tasks.task import AnyTask

TASKS: Mapping[str, AnyTask] = {DETECT.name: DETECT}


def recorded(name: str) -> AnyTask:
    """The task that a run says it was of.  Raises UsageError for one that there is none of."""
    if name not in TASKS:
        raise UsageError(f"the run is of the task {name!r}, which this bench does not know; it has {', '.join(TASKS)}")
    return TASKS[name]
