"""How an adapter says that a cell cannot exist, or a request not be carried out, rather than that something failed.

Standard library only: a guest imports it as `from ..refusals import TargetAbsent`, and the core keys its reason codes
by these classes (`bench/wall/process.py`).  The message is shown to people as it stands, so it says what is missing and
what to do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class TargetAbsent(RuntimeError):
    """There is no such device in this machine, or for this build of the runtime.  The cell is skipped."""


class TargetUnsupported(ValueError):
    """The runtime is not run on this target, or not as asked.  The cell is skipped."""


class PrecisionUnsupported(ValueError):
    """The exporter cannot write, or the runtime not compute in, this precision here.  The cell is skipped."""


class BatchUnsupported(ValueError):
    """The runtime or the artifact takes other batch sizes.  The cell is skipped."""


class CheckpointError(ValueError):
    """The checkpoint cannot be benched; the message says why and what to do."""


class ExportRefused(ValueError):
    """The export cannot be carried out as requested; the message says what to change."""


def require_precision(request: Mapping[str, Any], exporter: str, precisions: Sequence[str]) -> None:
    """Raise PrecisionUnsupported unless the precision of an export `request` is one of `precisions`."""
    if request["precision"] not in precisions:
        text = f"The {exporter} exporter writes {', '.join(precisions)}, not {request['precision']}."
        raise PrecisionUnsupported(text)
