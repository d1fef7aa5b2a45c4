"""Why a cell has no number: the one list of statuses and reason codes.

Every row of the store, every pytest skip or failure and every line of the report takes its code from here, so that the
same cause reads the same everywhere.  A code is stable (people filter by it); what each means stands in
reports/locale/terminal, whose words may be improved.  The classes at the end say what is wrong with, or must be known
of, what a user gives.
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
    """Stable code beside a status; reports/locale/terminal says what each means and what to do about it."""

    OK = ""
    NOT_SELECTED = "not_selected"
    TARGET_ABSENT = "target_absent"
    FORMAT_ABSENT = "format_absent"
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
    PARITY_TOO_NEAR = "parity_too_near"
    NO_OBJECTS = "no_objects"
    ACCURACY_COLLAPSED = "accuracy_collapsed"
    REFERENCE_FAILED = "reference_failed"
    STORE_FAILED = "store_failed"
    NOT_TIMED = "not_timed"
    INTERRUPTED = "interrupted"


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
