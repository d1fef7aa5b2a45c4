"""What a GPU says while cells are timed, read at the seam of NVML from an H200's stored answers, and what comes of it.

`said/nvml-h200.json` holds what NVML answered on such a machine while other processes worked on the card.  Everything
but the library's answers is real: the processes that are ours are children of the test, under the stored numbers'
place.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import numpy as np
import pynvml
import pytest
from report_fixture import cell_id, write_run
from test_latency import PLAN, QUIET, Guests, ignore

from bench import store
from bench.environments.locked import Environments
from bench.grid import matrix
from bench.measure import gpu
from bench.measure.gpu import Gpu, first_gpu
from bench.measure.window import Window, _inferences_of, windows
from bench.places import MATRICES
from bench.report import tables
from bench.stats.turns import CLOCK_LIMIT, OTHERS_LIMIT, OnGpu, Turn, contaminated, energies
from bench.store import reading
from bench.store.writing import RunStore
from bench.wall.worker import Timing
from bench.words.locale import texts
from bench.words.numbers import MISSING

SAID = json.loads((Path(__file__).parent / "said" / "nvml-h200.json").read_text(encoding="utf-8"))
DOES_NOTHING, WORKS_LITTLE, WORKS = 432, 457, 479
"""Processes on the card, as the file calls them."""


class Stored:
    """NVML as it answered: `moment` names the answers, `renamed` gives processes of it other numbers.

    The samples of processes are as long ago as they were when the driver was asked.
    """

    def __init__(self, moment: str, renamed: Mapping[int, int] | None = None) -> None:
        self.moment = moment
        self.renamed = renamed or {}
        self.asked: list[Any] = []
        self.answers: dict[str, Callable[..., Any]] = {
            "nvmlInit": lambda: None,
            "nvmlDeviceGetHandleByIndex": lambda index: f"card {index}" if index < 2 else refuse("INVALID_ARGUMENT"),
            "nvmlDeviceGetHandleByUUID": lambda name: name if name.startswith("GPU-") else refuse("INVALID_ARGUMENT"),
            "nvmlDeviceGetClockInfo": self.clock,
            "nvmlDeviceGetTemperature": lambda _card, _sensor: self.said["temperature_c"],
            "nvmlDeviceGetPowerUsage": lambda _card: self.said["power_mw"],
            "nvmlDeviceGetTotalEnergyConsumption": lambda _card: self.said["energy_mj"],
            "nvmlDeviceGetCurrentClocksEventReasons": lambda _card: self.said["reasons"],
            "nvmlDeviceGetMemoryInfo": lambda _card: SimpleNamespace(**self.said["memory"]),
            "nvmlDeviceGetComputeRunningProcesses": self.processes,
            "nvmlDeviceGetProcessUtilization": self.samples,
        }

    def __getattr__(self, name: str) -> Any:
        return self.answers[name] if name in self.answers else getattr(pynvml, name)  # constants and errors

    @property
    def said(self) -> dict[str, Any]:
        answers: dict[str, Any] = SAID[self.moment]
        return answers

    def clock(self, card: str, kind: int) -> Any:
        self.asked.append(card)
        assert kind == pynvml.NVML_CLOCK_SM
        return self.said["sm_mhz"]

    def processes(self, _card: str) -> list[SimpleNamespace]:
        listed = self.said["processes"]
        return [SimpleNamespace(pid=self.renamed.get(pid, pid), usedGpuMemory=held) for pid, held in listed]

    def samples(self, _card: str, since: int) -> list[SimpleNamespace]:
        told = self.said["samples"] or refuse("NOT_FOUND")
        assert since <= time.time_ns() // 1000
        later = time.time_ns() // 1000 - max(stamp for _, _, stamp in told)
        return [
            SimpleNamespace(pid=self.renamed.get(pid, pid), smUtil=busy, timeStamp=stamp + later)
            for pid, busy, stamp in told
        ]


def refuse(why: str) -> NoReturn:
    """What NVML raises where it does not answer."""
    raise pynvml.NVMLError(getattr(pynvml, f"NVML_ERROR_{why}"))


def refusing() -> Stored:
    """A card that answers no question, as some do that are cut into parts."""
    nvml = Stored("idle")
    for name in nvml.answers:
        nvml.answers[name] = lambda *_arguments: refuse("NOT_SUPPORTED")
    return nvml


@pytest.fixture
def guest() -> Iterator[int]:
    """The number of a process that this one started."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        yield child.pid
        child.kill()


# -- what is asked ---------------------------------------------------------------------------------------------------


def test_a_turn_is_told_in_the_units_of_the_table(guest: int) -> None:
    """The counter grew by 99.44 J while a guest made 125 inferences."""
    nvml = Stored("little", {WORKS_LITTLE: guest})
    end = Gpu(nvml, "card 0").watch()
    time.sleep(gpu.ENERGY_S)
    nvml.moment = "little 0.73 s later"
    told = end(125)
    assert (told.sm_mhz, told.temperature_c) == (1980, 38)
    assert told.power_w == pytest.approx(124.11)
    assert told.energy_j == pytest.approx(99.44 / 125)
    assert (told.slowed, told.others) == (False, 0.0)


def test_a_turn_of_a_step_of_the_counter_tells_no_energy(guest: int) -> None:
    nvml = Stored("little", {WORKS_LITTLE: guest})
    end = Gpu(nvml, "card 0").watch()
    nvml.moment = "little 0.73 s later"
    assert end(125).energy_j is None


@pytest.mark.parametrize(
    ("moment", "ours", "others"),
    [
        ("busy", DOES_NOTHING, 0.15),
        ("busy", WORKS, 0.0),  # the other's sample is eleven seconds old
        ("little", DOES_NOTHING, 0.01),
        ("after busy", DOES_NOTHING, 0.0),  # NVML: Not Found
        ("busy", 0, None),  # a container's guest, whom the driver calls by another number
    ],
)
def test_others_are_those_who_work_and_are_no_child_of_ours(
    moment: str, ours: int, others: float | None, guest: int
) -> None:
    told = Gpu(Stored(moment, {ours: guest}), "card 0").watch()(10)
    assert told.others == others


@pytest.mark.parametrize(
    ("reasons", "slowed"),
    [
        (pynvml.nvmlClocksEventReasonHwThermalSlowdown, True),
        (pynvml.nvmlClocksEventReasonSwThermalSlowdown | pynvml.nvmlClocksEventReasonSwPowerCap, True),
        (pynvml.nvmlClocksEventReasonHwPowerBrakeSlowdown, True),
        (pynvml.nvmlClocksEventReasonSwPowerCap, False),
        (pynvml.nvmlClocksEventReasonGpuIdle, False),
    ],
)
def test_heat_and_protection_hold_a_card_back_and_its_power_limit_does_not(
    reasons: int, slowed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SAID, "warm", SAID["idle"] | {"reasons": reasons})
    assert Gpu(Stored("warm"), "card 0").watch()(10).slowed is slowed


def test_memory_is_told_of_the_card_and_of_each_process(guest: int) -> None:
    card = Gpu(Stored("busy", {WORKS: guest}), "card 0")
    assert card.free_bytes() == 148_700_200_960
    assert card.held_bytes(guest) == 782_237_696
    assert card.held_bytes(1) is None


def test_what_a_card_refuses_is_left_out() -> None:
    card = Gpu(refusing(), "card 0")
    assert card.watch()(10) == OnGpu()
    assert (card.free_bytes(), card.held_bytes(1)) == (None, None)


@pytest.mark.parametrize(
    ("visible", "handle"),
    [
        (None, "card 0"),
        ("1", "card 1"),
        ("1,0", "card 1"),
        ("GPU-5d3c0000-0000-0000-0000-000000000000", "GPU-5d3c0000-0000-0000-0000-000000000000"),
        ("7", None),
        ("", None),  # CUDA then sees none
    ],
)
def test_the_card_is_the_first_that_cuda_may_see(
    visible: str | None, handle: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(gpu.VISIBLE, raising=False)
    if visible is not None:
        monkeypatch.setenv(gpu.VISIBLE, visible)
    nvml = Stored("idle")
    found = first_gpu(nvml)
    assert (found is None) is (handle is None)
    if found is not None:
        found.watch()(1)
        assert nvml.asked == [handle]


def test_guests_count_cards_as_nvml_does(tmp_path: Path) -> None:
    assert Environments(MATRICES, tmp_path).variables()["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="has an NVIDIA driver")
def test_a_machine_without_the_driver_has_no_such_card() -> None:
    assert first_gpu() is None


# -- what is made of it ----------------------------------------------------------------------------------------------


def turn(number: int, told: OnGpu | None, cell: str = "c") -> Turn:
    """A turn of round `number`, two rounds a launch."""
    return Turn(cell, 0, number // 2, number, 0, (5.0, 5.1), 0.5, 0.0, None, told)


@pytest.mark.parametrize(
    ("told", "bad"),
    [
        (OnGpu(sm_mhz=1980, others=0.0, slowed=False), False),
        (OnGpu(sm_mhz=1980 * (CLOCK_LIMIT - 0.01)), True),
        (OnGpu(sm_mhz=1980 * (CLOCK_LIMIT + 0.01)), False),
        (OnGpu(sm_mhz=1980, others=OTHERS_LIMIT * 2), True),
        (OnGpu(sm_mhz=1980, others=OTHERS_LIMIT / 2), False),  # as little as an idle process has, rounded up
        (OnGpu(sm_mhz=1980, slowed=True), True),
        (OnGpu(temperature_c=90.0, power_w=700.0), False),  # figures, not disturbances
        (None, False),
    ],
)
def test_a_turn_on_a_gpu_is_contaminated_by_others_by_heat_and_by_a_lower_clock(told: OnGpu | None, bad: bool) -> None:
    usual = OnGpu(sm_mhz=1980, slowed=False, others=0.0)
    turns = [turn(number, told if number == 3 else usual) for number in range(6)]
    assert contaminated(turns) == [number == 3 and bad for number in range(6)]


def test_a_clock_that_is_low_all_along_is_the_machines_own() -> None:
    assert contaminated([turn(number, OnGpu(sm_mhz=345)) for number in range(6)]) == [False] * 6


def test_energy_is_the_mean_of_each_launchs_clean_turns() -> None:
    joules: list[float | None] = [0.5, 0.7, 0.9, None, 9.0, 0.6]
    turns = [turn(number, OnGpu(energy_j=value, slowed=number == 4)) for number, value in enumerate(joules)]
    assert energies(turns) == pytest.approx([0.6, 0.9, 0.6])
    assert energies([turn(0, None), turn(1, OnGpu())]) == []


def test_a_window_watches_the_cells_that_have_a_gpu_and_tells_how_many_inferences_a_turn_had() -> None:
    told: list[int] = []

    def watch() -> Any:
        def end(inferences: int | None) -> OnGpu:
            assert inferences is not None
            told.append(inferences)
            return OnGpu(sm_mhz=1980, energy_j=1.0 / inferences)

        return end

    guests = Guests(ref=(20, 0.001, 0), a=QUIET)
    run = Window(0, guests.launch, dict.fromkeys(guests.of, "ref"), PLAN, [0], seed=1, watches={"a": watch})
    run.run(ignore)
    assert set(told) == {PLAN.samples + PLAN.warmup}
    assert len(told) == len(run.turns["a"])
    assert {one.gpu for one in run.turns["a"]} == {OnGpu(sm_mhz=1980, energy_j=1 / 11)}
    assert {one.gpu for one in run.turns["ref"]} == {None}


def test_a_turn_that_did_more_than_infer_tells_no_energy(guest: int) -> None:
    """As TorchScript's first turn of a launch on an H200: 0.42 s of inferences, and a second of compiling kernels."""
    timing = Timing(np.full(120, 3.5), 0.42, 0.42, 1)
    assert _inferences_of(timing, 5, 0.45) == 125
    assert _inferences_of(timing, 5, 1.0) is None
    nvml = Stored("little", {WORKS_LITTLE: guest})
    end = Gpu(nvml, "card 0").watch()
    time.sleep(gpu.ENERGY_S)
    nvml.moment = "little 0.73 s later"
    told = end(None)
    assert told.energy_j is None
    assert told.power_w == pytest.approx(124.11)


def test_windows_fit_the_memory_of_the_gpu_as_well() -> None:
    references = dict.fromkeys(("ref", "a", "b", "c"), "ref")
    rss = dict.fromkeys(references, 10)
    held = {"ref": 1, "a": 3, "b": 3, "c": 1}
    assert windows(references, (rss, 100)) == [["ref", "a", "b", "c"]]
    assert windows(references, (rss, 100), (held, 5)) == [["ref", "a"], ["ref", "b", "c"]]
    assert windows(references, (rss, 20), (held, 5)) == [["ref", "a"], ["ref", "b"], ["ref", "c"]]


def test_what_a_gpu_told_is_stored_with_each_sample(tmp_path: Path) -> None:
    read = matrix.load()
    cell = read.cells("m", read.sweep("smoke"))[0]
    run = RunStore(tmp_path, "r", [cell], {cell.cell_id: cell.cell_id})
    run.add_turns([turn(0, OnGpu(1980, 38, 124.11, 0.795, False, 0.15)), turn(0, None, "d")])
    run.write_turns()
    samples = store.read_table(tmp_path, "samples").astype({"cell_id": str})
    columns = ["gpu_sm_mhz", "gpu_temperature_c", "gpu_power_w", "gpu_energy_j", "gpu_slowed", "gpu_others"]
    ours, theirs = (samples[samples.cell_id == name] for name in "cd")
    assert ours[columns].values.tolist() == [pytest.approx([1980, 38, 124.11, 0.795, False, 0.15])] * 2
    assert ours.contaminated.all(), "others had 15 % of the time"
    assert theirs[columns].isna().to_numpy().all()
    assert not theirs.contaminated.any()


def test_the_report_shows_energy_and_memory_where_a_gpu_told_them(tmp_path: Path) -> None:
    directory = write_run(tmp_path / "run", problems=False)
    before = [column.title for column in tables.latency_detail(reading.load(directory), texts("report", "en")).columns]
    assert not {"Energy", "GPU memory"} & set(before)
    cells = store.read_table(directory, "cells")
    rows = cells.astype(object).where(cells.notna(), None).to_dict("records")
    told = {"gpu_bytes": 612_368_384, "energy_image_j": 0.795}
    one = cell_id("onnx", "fp32")
    store.write_table(directory, "cells", [row | (told if row["cell_id"] == one else {}) for row in rows])
    table = tables.latency_detail(reading.load(directory), texts("report", "en"))
    assert [column.title for column in table.columns] == [*before, "GPU memory", "Energy"]
    shown = {cell.cell_id: [value.text for value in values[-2:]] for cell, values in table.rows}
    assert shown[cell_id("onnx", "fp32")] == ["612", "0.795"]
    assert shown[cell_id("pytorch", "fp32")] == [MISSING, MISSING]
