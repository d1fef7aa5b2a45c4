"""The page of the machines: which one last measured what, when and with which versions, and which are not heard of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.history.machines import Habit, Machine, Measured, State
from bench.words.locale import Locale
from bench.words.numbers import MISSING, gigabytes, number

LATE = (State.OVERDUE, State.DISAPPEARED)
SHOWN_FACTS = ("cpu", "cpu_cores_logical", "memory", "accelerators", "system", "python")
"""What is told of a machine, in order."""


@dataclass(frozen=True)
class Line:
    """A sweep of a machine, in words: how often it is taken, how long ago, and what its newest run measured on."""

    habit: Habit
    every: str
    silent: str
    targets: str


@dataclass(frozen=True)
class Standing:
    """A machine: its user's name for it, else its kind; that kind; facts of its newest run; sweeps; what is gone."""

    machine: Machine
    name: str
    kind: str
    facts: tuple[tuple[str, str], ...]
    lines: tuple[Line, ...]
    gone: tuple[Measured, ...]

    @property
    def late(self) -> list[Line]:
        """Sweeps that are overdue, or that disappeared."""
        return [line for line in self.lines if line.habit.state in LATE]


def values(past: Sequence[Machine], t: Locale) -> dict[str, Any]:
    """What the page shows of machines, of which there is one at least."""
    return {
        "standings": [_standing(machine, t) for machine in past],
        "now": max(machine.newest.started for machine in past).date().isoformat(),
    }


def _standing(machine: Machine, t: Locale) -> Standing:
    own = machine.facts.get("name", "")
    kind = machine.name.removesuffix(f" ({own})")
    return Standing(
        machine,
        own or kind,
        kind if own else "",
        tuple(_facts(machine)),
        tuple(_line(machine, habit, t) for habit in machine.habits),
        tuple(one for one in machine.measured if one.is_gone),
    )


def _line(machine: Machine, habit: Habit, t: Locale) -> Line:
    newest = {one.target for one in machine.measured if one.night.run_id == habit.newest.run_id}
    every = MISSING if habit.every is None else _days(habit.every, t)
    return Line(habit, every, _days(habit.silent, t), ", ".join(sorted(newest)) or MISSING)


def _days(days: float, t: Locale) -> str:
    """Days, of which a few are told with a tenth where they are not whole."""
    return t("fleet.days", n=number(days, int(days < 10 and round(days, 1) != round(days))))


def _facts(machine: Machine) -> list[tuple[str, str]]:
    """What the newest run of a machine recorded of it, by the name of its text; without what it did not record."""
    memory = gigabytes(machine.facts.get("memory_bytes", ""))
    known = {**machine.facts, "memory": f"{memory} GB" if memory else ""}
    known["commit"] = machine.newest.commit[:12]
    return [(name, known[name]) for name in (*SHOWN_FACTS, "commit") if known.get(name)]
