"""Which update moved a metric: a bisection of a package's versions, or of the packages in which two locks differ."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from packaging.version import InvalidVersion, Version

from bench.check.looks import Direction, Look, Looks, Method, Swept, Timed
from bench.check.states import State, States
from bench.decide.bisect import Outcome, between, smallest
from bench.environments.pinned import Unresolvable, Update
from bench.grid import machine, tolerances
from bench.grid.metrics import TIMED
from bench.grid.request import Request
from bench.measure.contestants import CURRENT, contest
from bench.probes.packages import python_releases
from bench.progress import Reporter
from bench.reasons import CellProblem, UsageError
from bench.store import pairs as stored

FOLDER, FACTS = "bisect", "bisect.json"


@dataclass(frozen=True)
class Asked:
    """How a bisection looks.

    `minutes` are those of all pairs of a look at most; `margin` what has moved beyond it, None for half of what lies
    between the ends; `inferences` those of each side in a pair, see `bench.measure.pairs.Conditions`.
    """

    metric: str
    direction: Direction
    minutes: float
    margin: float | None
    inferences: int | None
    huge: bool


@dataclass(frozen=True)
class Found:
    """What a bisection came to: its facts, ready for JSON, and the folder that keeps its looks."""

    facts: Mapping[str, Any]
    folder: Path

    @property
    def answered(self) -> bool:
        """Whether it names one version, or one smallest set of packages, and nothing of that is in doubt."""
        return bool(self.facts["answer"]["sure"])


def of_versions(
    request: Request,
    asked: Asked,
    package: str,
    good: str,
    bad: str,
    given: Sequence[str] | None,
    progress: Callable[[], Reporter],
) -> Found:
    """The step between two versions of a package, at which the metric moved.

    An end may be `current`, the present lock's.  `given` are the versions between them; None asks the index that pip is
    set to.  Each step is shown by a `progress` of its own.  Raises UsageError where an end cannot be looked at, and as
    `bench.check.states.States` does, and KeyboardInterrupt where the user stops it; every whole look is kept then.
    """
    with ExitStack() as stack:
        bench = _Bench(request, asked, progress, stack)
        states = bench.states
        good, bad = (states.version_of(package) if end == CURRENT else end for end in (good, bad))
        names = row(good, bad, releases(package) if given is None else given)
        pins = [f"{package}=={name}" for name in names]
        looks = bench.looks(states.version(package, good), states.version(package, bad))
        ends = bench.ends(looks)
        if ends.outcome is not Outcome.MOVED:
            return bench.conclude(looks, _nothing(ends))

        def look(place: int) -> Outcome:
            return bench.at(looks, pins[place], lambda: states.version(package, names[place]))

        span = between(len(pins), look)
        passed = [pins[place] for place in span.passed]
        answer = {"kind": "version", "sure": not passed, "same": pins[span.low], "moved": pins[span.high]}
        return bench.conclude(looks, answer | {"passed": passed, "versions": list(names)})


def of_locks(request: Request, asked: Asked, good: str, bad: str, progress: Callable[[], Reporter]) -> Found:
    """The smallest set of packages whose update from one lock to another moved the metric, and whether the rest did.

    `good` and `bad` are sides, see `bench.check.states.States.locks`.  Raises as `of_versions`.
    """
    with ExitStack() as stack:
        bench = _Bench(request, asked, progress, stack)
        states = bench.states
        before, after = states.locks(good), states.locks(bad)
        updates = states.differing(before, after)
        if not updates:
            families = ", ".join(states.families)
            raise UsageError(f"{good} and {bad} have the same locks of {families}: there is nothing to choose between")
        looks = bench.looks(states.state(good, before), states.state(bad, after))
        ends = bench.ends(looks)
        if ends.outcome is not Outcome.MOVED:
            return bench.conclude(looks, _nothing(ends))

        @cache
        def look(chosen: frozenset[Update]) -> Outcome:
            some = sorted(chosen)
            label = named(some, len(updates))
            return bench.at(looks, label, lambda: states.state(label, states.between(before, after, some)))

        found = smallest(updates, look)
        rest = frozenset(updates).difference(found.items)
        answer = {
            "kind": "packages",
            "sure": not found.doubtful,
            "set": [asdict(one) for one in sorted(found.items)],
            "doubtful": [asdict(one) for one in found.doubtful],
            "rest": look(rest).value if rest else None,
            "differing": len(updates),
        }
        return bench.conclude(looks, answer)


def releases(package: str) -> list[str]:
    """Releases of a package that the index has and that were not withdrawn; what precedes a release is left out.

    Raises UsageError where there are none, and where the index cannot be read.
    """
    try:
        files = list(python_releases(package))
    except UsageError as error:
        raise UsageError(f"{error} Without an index, name the versions to choose between with --versions.") from error
    return [name for name in {str(file["version"]) for file in files if not file["yanked"]} if _released(name)]


def row(good: str, bad: str, known: Sequence[str]) -> list[str]:
    """Versions from the good to the bad one, both included, in order; either may be the newer.

    Raises UsageError for what is no version, and for equal ends.
    """
    ends = _version(good), _version(bad)
    if ends[0] == ends[1]:
        raise UsageError(f"--good {good} and --bad {bad} are one version; name two")
    low, high = min(ends), max(ends)
    inside = {version: name for name in known if low < (version := _version(name)) < high}
    return [good, *(inside[version] for version in sorted(inside, reverse=ends[0] > ends[1])), bad]


def named(some: Sequence[Update], of: int, most: int = 4) -> str:
    """Updates in a few words: `onnxruntime 1.26.0, numpy 2.4.6`, with how many more there are of all."""
    shown = ", ".join(f"{one.name} {one.after}" for one in some[:most])
    return shown if len(some) <= most else f"{shown} and {len(some) - most} more of {of}"


def _version(text: str) -> Version:
    try:
        return Version(text)
    except InvalidVersion as error:
        raise UsageError(f"{text!r} is no version; give one as 1.26.0") from error


def _released(name: str) -> bool:
    """Whether a name of the index is that of a release; some are no versions at all."""
    try:
        return not Version(name).is_prerelease
    except InvalidVersion:
        return False


def _nothing(ends: Look) -> dict[str, Any]:
    """The answer where the ends do not differ, or not for sure."""
    return {"kind": "none", "sure": False, "outcome": ends.outcome.value}


class _Bench:
    """What both ways share: the cell's states, the way to compare them, and what comes of it."""

    def __init__(self, request: Request, asked: Asked, progress: Callable[[], Reporter], stack: ExitStack) -> None:
        self._request = request
        self._asked = asked
        self._reporter = progress
        self._allowed = tolerances.load(request.matrices)
        self._progress = progress()
        if asked.metric in TIMED:  # a sweep shows a progress of its own
            stack.enter_context(self._progress)
        self.states = States(request, self._progress, huge=asked.huge)

    def looks(self, good: State, bad: State) -> Looks:
        """Looks between these two, with those that an earlier bisection of the same kept."""
        contestants = self.states.contestants
        cell, data = contestants.cell, contestants.outfit.dataset
        conditions = {
            "machine": machine.machine_id(),
            "data": [data.sha256, len(data.images)],
            "metric": self._asked.metric,
            "huge": self._asked.huge,
            "inferences": self._asked.inferences,
            "ends": [good.key, bad.key],
        }
        digest = hashlib.sha256(json.dumps(conditions, sort_keys=True).encode()).hexdigest()[:12]
        folder = self._request.results.parent / FOLDER / f"{cell.id}-{self._asked.metric}-{digest}"
        return Looks(self._method(folder), self._asked.metric, good, bad, self._asked.minutes, folder)

    def ends(self, looks: Looks) -> Look:
        """The look at the bad end.  Raises UsageError where it cannot be had."""
        asked = self._asked
        allowed = self._allowed[asked.metric].margin if asked.metric in self._allowed else 0.0
        look = looks.ends(allowed if asked.margin is None else asked.margin, asked.direction, asked.margin)
        if look.outcome is Outcome.UNTESTABLE:
            raise UsageError(f"{looks.good.label} and {looks.bad.label} cannot be compared: {look.why}")
        return look

    def at(self, looks: Looks, label: str, state: Callable[[], State]) -> Outcome:
        """Look at a state made now; untestable where there is no such set of versions."""
        try:
            return looks.at(state())
        except (Unresolvable, CellProblem) as problem:
            return looks.untestable(label, str(problem))

    def conclude(self, looks: Looks, answer: Mapping[str, Any]) -> Found:
        """The facts of a bisection, written beside its looks."""
        steps = [asdict(look) | {"known": known} for look, known in looks.steps]
        facts = {
            "cell": self.states.contestants.cell.id,
            "metric": self._asked.metric,
            "direction": (self._asked.direction if answer["kind"] == "none" else looks.direction).value,
            "pages": "huge" if self._asked.huge else "ordinary",
            "good": looks.good.label,
            "bad": looks.bad.label,
            "margin": None if answer["kind"] == "none" else looks.margin,
            "steps": steps,
            "pairs": sum(look.pairs for look, known in looks.steps),
            "seconds": round(sum(look.seconds for look, _ in looks.steps), 1),
            "answer": dict(answer),
        }
        stored.write_facts(looks.folder / FACTS, facts)
        return Found(facts, looks.folder)

    def _method(self, folder: Path) -> Method:
        asked, contestants = self._asked, self.states.contestants
        cell, outfit = contestants.cell, contestants.outfit
        if asked.metric not in TIMED:
            return Swept(self._request, cell, asked.metric, self._allowed, folder / "runs", self._reporter)

        def again(base: State, candidate: State, margin: float, pairs: int | None) -> str:
            return self._request.command(
                "ab",
                base=base.side,
                candidate=candidate.side,
                minutes=asked.minutes,
                pairs=pairs,
                inferences=asked.inferences,
                margin=margin,
                pages="huge" if asked.huge else "ordinary",
            )

        return Timed(
            cell.cell_id,
            self.states.side,
            lambda sides, margin, log: contest(
                f"{cell.id}  {sides[0].label} / {sides[1].label}",
                outfit,
                cell,
                sides,
                {asked.metric: margin},
                log,
                asked.inferences,
                asked.metric,
            ),
            again,
            asked.minutes,
            self._progress,
            huge=asked.huge,
        )
