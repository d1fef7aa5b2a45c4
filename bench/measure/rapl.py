"""What the processor's packages take while cells are timed, by their own counters (RAPL), as Linux shows them.

A package counts the energy of its cores, caches and memory controller in microjoules, up to a number of its own and
from 0 again (Documentation/power/powercap/powercap.rst in the kernel's sources).  The counter is brought up to date a
thousand times a second.  This process reads it, and only between turns.  A virtual machine has none, and since Linux
5.10 reading is root's alone unless the administrator gives it to others: then nothing is told, never guessed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

FOLDER = Path("/sys/class/powercap")
ENERGY_S = 0.1
"""Seconds under which a turn is too short for the steps of the counters."""
_ZONES = "intel-rapl:*"
"""Zones read from the processor's registers, those of AMD too; `intel-rapl-mmio` shows the same packages again."""
_PACKAGE = "package-"
"""How the zone of a package is named; others are parts of one (`core`, `dram`) or the whole computer (`psys`)."""


class Packages:
    """The packages of this machine that tell what they take."""

    def __init__(self, ranges: Mapping[Path, int]) -> None:
        """`ranges` maps the zone of each package to the microjoules after which its counter begins again."""
        self._ranges = ranges

    def watch(self) -> Callable[[int | None], float | None]:
        """Begin to watch a turn.

        What is returned ends that: it is told how many inferences the turn had, timed and untimed, and gives what all
        packages took per inference, J; None of a turn that is too short, that was not its inferences' alone (told by
        None), or where a counter is no longer told.
        """
        before, started = _counters(self._ranges), time.monotonic()

        def end(inferences: int | None) -> float | None:
            seconds, after = time.monotonic() - started, _counters(self._ranges)
            if before is None or after is None or inferences is None or seconds < ENERGY_S:
                return None
            taken = sum((after[zone] - before[zone]) % most for zone, most in self._ranges.items())
            return taken * 1e-6 / inferences

        return end


def packages(folder: Path = FOLDER) -> Packages | None:
    """The packages of this machine; None where one of them does not tell what it takes, or there is none."""
    try:
        zones = [zone for zone in sorted(folder.glob(_ZONES)) if _text(zone / "name").startswith(_PACKAGE)]
        ranges = {zone: _number(zone / "max_energy_range_uj") for zone in zones}
    except (OSError, ValueError):
        return None
    return Packages(ranges) if zones and _counters(zones) is not None else None


def _counters(zones: Iterable[Path]) -> dict[Path, int] | None:
    """Their counters in microjoules; None where one is not told."""
    try:
        return {zone: _number(zone / "energy_uj") for zone in zones}
    except (OSError, ValueError):
        return None


def _text(path: Path) -> str:
    return path.read_text(encoding="ascii").strip()


def _number(path: Path) -> int:
    return int(_text(path))
