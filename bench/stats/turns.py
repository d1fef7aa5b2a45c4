"""Turns of a time window, and which of them were disturbed: pure functions over what was stored of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

STEAL_LIMIT = 0.02
"""A turn is contaminated when the hypervisor took more than this share of its CPUs' time ..."""
CPU_SHARE_LIMIT = 0.9
"""... or when the guest got less than this share of the CPU time that is due to it, or that it usually gets ..."""
OTHERS_LIMIT = 0.02
"""... or, on a GPU, when processes of others kept it busy for more than this share of the time ..."""
CLOCK_LIMIT = 0.9
"""... or when it ran at less than this share of the clock that it usually has in the turns of the cell."""


@dataclass(frozen=True)
class OnGpu:
    """What a GPU said of a turn on it; what it does not tell is None.

    `sm_mhz` is the clock of its multiprocessors and `temperature_c` its temperature at the end of the turn, `power_w`
    what the board drew at that time; `energy_j` what it took from beginning to end, over the inferences of the turn,
    untimed ones too.  `slowed` says that heat, or the hardware's own protection, held it back at the end; `others` is
    the share of the time for which processes that are no guests of the bench kept it busy.
    """

    sm_mhz: float | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    energy_j: float | None = None
    slowed: bool | None = None
    others: float | None = None


@dataclass(frozen=True)
class Turn:
    """One cell's turn in one round: `samples_ms` are its timed inferences, in order.

    `round` counts on through the launches of a window; `order` is the turn's place in its round.  A reference may have
    several turns in a round.  `cpu_due` is the CPU time over wall time that nothing but a disturbance can take from a
    guest, None where an inference may well wait for something else, and in runs from before it was stored.  `gpu` is
    None where the turn was not on a GPU that tells of itself; `package_j` is what the processor's packages took from
    beginning to end, over the inferences of the turn, untimed ones too, None where they do not tell it.
    """

    cell_id: str
    window: int
    launch: int
    round: int
    order: int
    samples_ms: tuple[float, ...]
    cpu_per_wall: float
    steal: float
    cpu_due: float | None = None
    gpu: OnGpu | None = None
    package_j: float | None = None


def contaminated(turns: Sequence[Turn]) -> list[bool]:
    """Which turns of one cell of a window were disturbed, in their order: by steal, a lack of CPU time, or on the GPU.

    A guest that lost CPU all along is seen by what is due to it; one to which nothing is due, by its own median alone.
    A GPU's clock is held against the median of the cell's turns: one that was low all along is the machine's own.
    """
    usual = float(np.median([turn.cpu_per_wall for turn in turns])) if turns else 0.0
    clocks = [turn.gpu.sm_mhz for turn in turns if turn.gpu and turn.gpu.sm_mhz is not None]
    clock = float(np.median(clocks)) if clocks else 0.0
    return [
        turn.steal > STEAL_LIMIT
        or turn.cpu_per_wall < CPU_SHARE_LIMIT * max(usual, turn.cpu_due or 0.0)
        or (turn.gpu is not None and _disturbed(turn.gpu, clock))
        for turn in turns
    ]


def clean(turns: Sequence[Turn]) -> list[Turn]:
    """Those of one cell's turns that nothing disturbed."""
    return [turn for turn, bad in zip(turns, contaminated(turns), strict=True) if not bad]


def energies(turns: Sequence[Turn]) -> list[float]:
    """What an inference of one cell took in each launch, J: the mean of its clean turns that tell it.

    That of the GPU's board where it ran on one that tells of itself, else of the processor's packages.
    """
    launches: dict[int, list[float]] = {}
    for turn in clean(turns):
        taken = turn.package_j if turn.gpu is None else turn.gpu.energy_j
        if taken is not None:
            launches.setdefault(turn.launch, []).append(taken)
    return [float(np.mean(values)) for values in launches.values()]


def _disturbed(gpu: OnGpu, usual_mhz: float) -> bool:
    """Whether others or heat disturbed a turn on a GPU, which usually has that clock."""
    slower = gpu.sm_mhz is not None and gpu.sm_mhz < CLOCK_LIMIT * usual_mhz
    return slower or bool(gpu.slowed) or (gpu.others or 0.0) > OTHERS_LIMIT
