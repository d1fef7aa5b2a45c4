"""What an NVIDIA GPU says of itself while cells are timed on it, and how much of its memory they hold.

NVML, the library behind nvidia-smi, is asked through nvidia-ml-py: by this process, and only between turns, so that no
question falls into an inference.  A card or its driver answers some questions and refuses others; what is refused is
None, never guessed.

Energy is read from the board's counter, which grows in steps (of 0.1 s on an H200): a turn of a few of them is known to
one, and a shorter one tells none.  Who computes on the card is told by the driver's samples of each process, which it
takes five times a second there.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import psutil
import pynvml

from bench.stats.turns import OnGpu

ENERGY_S = 0.3
"""Seconds under which a turn is too short for the steps of the energy counter."""
VISIBLE = "CUDA_VISIBLE_DEVICES"
"""The variable that says which GPUs CUDA may see, and so which of them a guest takes for the first."""
_SAMPLE_US = 200_000
"""Time between two of the driver's samples of what processes do, in microseconds."""


class Gpu:
    """The GPU that the guests of a target `cuda` run on."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        """`nvml` is the library, initialised, and `handle` what it calls the card; `first_gpu` gives one."""
        self._nvml = nvml
        self._handle = handle
        # Heat, and what the hardware does to protect itself. At its power limit a card does what it is built to do.
        self._slow = (
            nvml.nvmlClocksEventReasonHwSlowdown
            | nvml.nvmlClocksEventReasonHwThermalSlowdown
            | nvml.nvmlClocksEventReasonHwPowerBrakeSlowdown
            | nvml.nvmlClocksEventReasonSwThermalSlowdown
        )

    def total_bytes(self) -> int | None:
        """Memory that the card has."""
        memory = self._ask("nvmlDeviceGetMemoryInfo")
        return None if memory is None else int(memory.total)

    def free_bytes(self) -> int | None:
        """Memory of the card that nobody holds."""
        memory = self._ask("nvmlDeviceGetMemoryInfo")
        return None if memory is None else int(memory.free)

    def held_bytes(self, pid: int) -> int | None:
        """Memory of the card that a process holds; None where the driver tells of no such process."""
        return self._processes().get(pid)

    def watch(self) -> Callable[[int | None], OnGpu]:
        """Begin to watch a turn.

        What is returned ends that: it is told how many inferences the turn had, timed and untimed, and gives what the
        card tells of it; None says that something else took part of the turn, and so of its energy.
        """
        before, started, since = self._energy_j(), time.monotonic(), time.time_ns() // 1000 - _SAMPLE_US

        def end(inferences: int | None) -> OnGpu:
            seconds, after = time.monotonic() - started, self._energy_j()
            energy = None
            if before is not None and after is not None and inferences is not None and seconds >= ENERGY_S:
                energy = (after - before) / inferences
            reasons = self._ask("nvmlDeviceGetCurrentClocksEventReasons")
            return OnGpu(
                self._number("nvmlDeviceGetClockInfo", self._nvml.NVML_CLOCK_SM),
                self._number("nvmlDeviceGetTemperature", self._nvml.NVML_TEMPERATURE_GPU),
                self._number("nvmlDeviceGetPowerUsage", unit=1e-3),
                energy,
                None if reasons is None else bool(reasons & self._slow),
                self._others(since),
            )

        return end

    def _energy_j(self) -> float | None:
        """What the board has taken since its driver was loaded, J."""
        return self._number("nvmlDeviceGetTotalEnergyConsumption", unit=1e-3)

    def _processes(self) -> dict[int, int | None]:
        """Processes that compute on the card, with the memory that each holds."""
        listed = self._ask("nvmlDeviceGetComputeRunningProcesses") or []
        return {int(process.pid): process.usedGpuMemory for process in listed}

    def _others(self, since_us: int) -> float | None:
        """Share of the time for which processes that are none of ours kept the card busy since a moment.

        `since_us` is that moment by the system's clock, in microseconds.  None where the driver does not tell, and
        where none of the processes that it lists is ours, although one of ours runs there: it then calls them by the
        numbers of another system (as in a container), by which ours cannot be told from others.
        """
        ours = {child.pid for child in psutil.Process().children(recursive=True)}
        if not ours & self._processes().keys():
            return None
        try:
            samples = self._nvml.nvmlDeviceGetProcessUtilization(self._handle, since_us)
        except self._nvml.NVMLError_NotFound:  # nobody has done anything since
            return 0.0
        except self._nvml.NVMLError:
            return None
        return float(sum(one.smUtil for one in samples if one.pid not in ours and one.timeStamp >= since_us)) / 100

    def _number(self, question: str, *more: Any, unit: float = 1.0) -> float | None:
        """The answer to a question that has a number for an answer, in units of `unit`."""
        answer = self._ask(question, *more)
        return None if answer is None else float(answer) * unit

    def _ask(self, question: str, *more: Any) -> Any:
        """What a function of NVML answers of the card; None where card or driver refuse it."""
        try:
            return getattr(self._nvml, question)(self._handle, *more)
        except self._nvml.NVMLError:
            return None


def first_gpu(nvml: Any = pynvml) -> Gpu | None:
    """The GPU that guests take for the first; None where NVML knows no such card.

    Guests count cards as NVML does (CUDA_DEVICE_ORDER), beginning with the first that the user lets CUDA see.
    """
    first = os.environ.get(VISIBLE, "0").partition(",")[0].strip()
    try:
        nvml.nvmlInit()
        by_number = nvml.nvmlDeviceGetHandleByIndex
        return Gpu(nvml, by_number(int(first)) if first.isdecimal() else nvml.nvmlDeviceGetHandleByUUID(first))
    except nvml.NVMLError:
        return None
