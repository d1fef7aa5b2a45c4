"""The tasks there are, by the name that Ultralytics gives them."""

from __future__ import annotations

from collections.abc import Mapping

from bench.tasks.detect.task import DETECT
from bench.tasks.task import AnyTask

TASKS: Mapping[str, AnyTask] = {DETECT.name: DETECT}
