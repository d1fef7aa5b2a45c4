"""Why a cell has no number: the one list of statuses and reason codes.

Every row of the store, every pytest skip or failure and every line of the report takes its words from here, so
that the same cause reads the same everywhere.  A code is stable (people filter by it); the text may be improved.  The
classes at the end say what is wrong with, or must be known of, what a user gives.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import ParamSpec, TypeVar

_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")

PROBLEMS_TOLD = 10
"""How many problems one message holds."""


class Status(StrEnum):
    """What became of a cell.  The grid is always full: each cell has exactly one of these."""

    MEASURED = "measured"
    EXPORTED = "exported"
    SKIPPED = "skipped"
    FAILED = "failed"
    INVALID = "invalid"


class Reason(StrEnum):
    """Stable code beside a status; `EXPLANATIONS` says what each means and what to do about it."""

    OK = ""
    NOT_SELECTED = "not_selected"
    TARGET_ABSENT = "target_absent"
    TARGET_UNSUPPORTED = "target_unsupported"
    PRECISION_UNSUPPORTED = "precision_unsupported"
    BATCH_UNSUPPORTED = "batch_unsupported"
    ENVIRONMENT_FAILED = "environment_failed"
    ENVIRONMENT_CHANGED = "environment_changed"
    EXPORT_FAILED = "export_failed"
    LOAD_FAILED = "load_failed"
    INFERENCE_FAILED = "inference_failed"
    OUTPUT_INVALID = "output_invalid"
    CRASHED = "crashed"
    TIMED_OUT = "timed_out"
    OUT_OF_MEMORY = "out_of_memory"
    PROTOCOL = "protocol"
    ATTESTATION_MISMATCH = "attestation_mismatch"
    PARITY_EXCEEDED = "parity_exceeded"
    NO_OBJECTS = "no_objects"
    ACCURACY_COLLAPSED = "accuracy_collapsed"
    REFERENCE_FAILED = "reference_failed"
    STORE_FAILED = "store_failed"
    NOT_TIMED = "not_timed"
    INTERRUPTED = "interrupted"


EXPLANATIONS: dict[Reason, str] = {
    Reason.OK: "Measured; nothing to explain.",
    Reason.NOT_SELECTED: "Left out by -k or another selection on the command line; run without it.",
    Reason.TARGET_ABSENT: "This machine has no such device; the text names what is needed.",
    Reason.TARGET_UNSUPPORTED: "The option cannot run on this target.",
    Reason.PRECISION_UNSUPPORTED: "The exporter or runtime refuses this precision here; the text quotes it.",
    Reason.BATCH_UNSUPPORTED: "The artifact or the runtime takes other batch sizes only.",
    Reason.ENVIRONMENT_FAILED: "The locked environment could not be built; the text holds the installer's last lines.",
    Reason.ENVIRONMENT_CHANGED: "Packages changed while the guest ran: the lock no longer describes it.",
    Reason.EXPORT_FAILED: "The exporter raised or wrote no artifact; the text holds its last lines.",
    Reason.LOAD_FAILED: "The runtime could not load the artifact (corrupt or of another version).",
    Reason.INFERENCE_FAILED: "The runtime raised during inference.",
    Reason.OUTPUT_INVALID: "The output has a wrong shape, or holds NaN or infinity.",
    Reason.CRASHED: "The guest process died; the text names the signal or exit code and its last lines.",
    Reason.TIMED_OUT: "The guest did not answer before the deadline and was killed.",
    Reason.OUT_OF_MEMORY: "The guest ran out of memory, or the kernel killed it for memory.",
    Reason.PROTOCOL: "The guest answered with something that is not the worker protocol.",
    Reason.ATTESTATION_MISMATCH: "The runtime says it ran something else than was asked; both values are in the text.",
    Reason.PARITY_EXCEEDED: "Raw outputs are further from PyTorch FP32's than the arithmetic asked for allows.",
    Reason.NO_OBJECTS: "The evaluated images hold no labelled object, so there is no mAP to compute.",
    Reason.ACCURACY_COLLAPSED: "The artifact runs but its accuracy fell below the floor set in the matrix.",
    Reason.REFERENCE_FAILED: "The PyTorch FP32 reference could not be measured, so nothing can be compared with it.",
    Reason.STORE_FAILED: "A result could not be written to disk.",
    Reason.NOT_TIMED: "Results are checked on this target, no latency is taken; the text says why.",
    Reason.INTERRUPTED: "The run was stopped before this cell was reached, or before all of it was measured.",
}


@dataclass
class CellProblem(Exception):
    """A cell cannot be measured.  Costs that cell alone; the sweep goes on.

    Attributes: `reason` the stable code, `text` one paragraph a newcomer can act on, `status` what the cell becomes.
    """

    reason: Reason
    text: str
    status: Status = Status.FAILED

    def __str__(self) -> str:
        """Code and text."""
        return f"{self.reason.value}: {self.text}"


class UsageError(Exception):
    """Wrong input or a broken environment: one clear message, exit code 2, nothing lost."""


def did_you_mean(names: Iterable[str], known: Iterable[str]) -> str:
    """` (did you mean onnx?)` for names that look like known ones; empty where none does."""
    choices = list(known)
    near = [match for name in names for match in difflib.get_close_matches(name, choices, 1)]
    return f" (did you mean {', '.join(dict.fromkeys(near))}?)" if near else ""


class StoreError(Exception):
    """A table could not be written or read; the message names the file and the cause."""


@dataclass(frozen=True, slots=True)
class Remark:
    """What a reader of a score must know of the model or the data, though it stops nothing.

    Attributes: `name` stable, to filter by; `count` of how many things it holds; `text` a sentence.
    """

    name: str
    count: int
    text: str


class Problems(UsageError):
    """All that is wrong with what was given: `found` has a line for each, with the file and what to do."""

    def __init__(self, found: Iterable[str]) -> None:
        """A single problem is the message; of several, the first ones are told."""
        self.found = tuple(found)
        lines = list(self.found)
        if len(lines) > 1:
            lines = [f"{len(lines)} problems:", *(f"  {line}" for line in lines[:PROBLEMS_TOLD])]
        if len(self.found) > PROBLEMS_TOLD:
            lines.append(f"  ... and {len(self.found) - PROBLEMS_TOLD} more; `yolo11-bench inspect` lists them")
        super().__init__("\n".join(lines))


class Collector:
    """Keeps the UsageErrors of calls that do not depend on each other, so that one look tells all of them."""

    def __init__(self) -> None:
        """Nothing found yet."""
        self._found: dict[str, None] = {}

    @property
    def found(self) -> tuple[str, ...]:
        """The problems in the order they were met, each once and on one line."""
        return tuple(self._found)

    def add(self, text: str) -> None:
        """Keep a problem."""
        self._found.setdefault(" ".join(line.strip() for line in text.splitlines() if line.strip()))

    def of(self, call: Callable[_Given, _Result], *arguments: _Given.args, **named: _Given.kwargs) -> _Result | None:
        """What a call returns; None where it raises UsageError, which is kept."""
        try:
            return call(*arguments, **named)
        except Problems as several:
            for text in several.found:
                self.add(text)
        except UsageError as error:
            self.add(str(error))
        return None

    def require_none(self) -> None:
        """Raise Problems where there are any."""
        if self._found:
            raise Problems(self._found)
