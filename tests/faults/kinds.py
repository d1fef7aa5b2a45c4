"""A kind of fault as data: what is done, what must hold, how many of them a campaign injects."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from uuid import uuid4

from bench.wall.artifacts import Artifact


@dataclass(frozen=True)
class Setting:
    """What faults are injected into, all of it below `folder` and the campaign's own.

    `cache` holds links to the user's environments and copies of `artifacts`, by option; `matrices` has the sweep
    `SWEEP`; `run` is a whole run; `data` is the data file of a few images; `seconds` is what a run of the sweep takes,
    None where none was made.
    """

    folder: Path
    cache: Path
    matrices: Path
    run: Path
    data: Path
    artifacts: Mapping[str, Artifact]
    seconds: float | None = None

    def scratch(self) -> Path:
        """A new folder, of a name that nothing else has."""
        path = self.folder / "scratch" / uuid4().hex
        path.mkdir(parents=True)
        return path


@dataclass(frozen=True)
class Outcome:
    """What the bench made of a fault: in a word what was `seen`, and a sentence for each thing that did not hold.

    One that came too `late`, when what it was meant for had ended, was none.
    """

    seen: str
    broken: tuple[str, ...] = ()
    late: bool = False

    def worse(self, broken: Sequence[str]) -> Outcome:
        """The same, with more that did not hold."""
        return replace(self, broken=(*self.broken, *broken))


Inject = Callable[[Setting, Random], Sequence[Outcome]]
"""Injects a fault or several into one thing that is at work, and looks at what came of it."""


def always() -> str:
    """Nothing is lacking for this kind of fault."""
    return ""


@dataclass(frozen=True)
class Kind:
    """A kind of fault.

    `what` is done and what must `hold` are said in words; `full` faults of it are part of a thousand, `short` of the
    tests.  `lacks` says why this machine cannot have such a fault, if it cannot.
    """

    name: str
    what: str
    holds: str
    inject: Inject
    full: int
    short: int = 0
    lacks: Callable[[], str] = always
