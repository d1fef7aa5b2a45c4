"""What the processor's packages take: the files that Linux shows of them, laid out as there, and what comes of it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from report_fixture import cell_id, write_run
from test_latency import PLAN, QUIET, Guests, ignore

from bench import store
from bench.grid import matrix
from bench.measure import rapl
from bench.measure.rapl import ENERGY_S, packages
from bench.measure.timing import _energy_columns
from bench.measure.window import Window
from bench.report import tables
from bench.stats.turns import OnGpu, Turn, energies
from bench.store import reading
from bench.store.writing import RunStore
from bench.words.locale import texts

RANGE = 262_143_328_850
"""After so many microjoules the counter of a Xeon begins again."""


def zone(folder: Path, place: str, name: str, energy_uj: int) -> Path:
    """A zone as the kernel shows it."""
    found = folder / place
    found.mkdir(parents=True)
    for file, value in (("name", name), ("max_energy_range_uj", RANGE), ("energy_uj", energy_uj)):
        (found / file).write_text(f"{value}\n", encoding="ascii")
    return found


@pytest.fixture
def server(tmp_path: Path) -> Path:
    """Two packages with parts of theirs, the whole computer, and one package again by another way."""
    for place, name in (
        ("intel-rapl:0", "package-0"), ("intel-rapl:1", "package-1"), ("intel-rapl:2", "psys"),
        ("intel-rapl:0:0", "core"), ("intel-rapl:0:1", "dram"), ("intel-rapl-mmio:0", "package-0"),
    ):  # fmt: skip
        zone(tmp_path, place, name, 1_000_000)
    return tmp_path


def count(folder: Path, place: str, energy_uj: int) -> None:
    (folder / place / "energy_uj").write_text(f"{energy_uj}\n", encoding="ascii")


def test_packages_are_counted_once_and_their_parts_not(server: Path) -> None:
    """3 J of one and 5 J of the other, over 40 inferences; what other zones took is among it, or beside it."""
    found = packages(server)
    assert found is not None
    end = found.watch()
    time.sleep(ENERGY_S)
    for place, energy_uj in (("intel-rapl:0", 4_000_000), ("intel-rapl:1", 6_000_000)):
        count(server, place, energy_uj)
    for place in ("intel-rapl:2", "intel-rapl:0:0", "intel-rapl:0:1", "intel-rapl-mmio:0"):
        count(server, place, 90_000_000)
    assert end(40) == pytest.approx(8 / 40)
    assert end(None) is None, "something else took part of it"


def test_a_counter_that_begins_again_has_gone_on(server: Path) -> None:
    count(server, "intel-rapl:0", RANGE - 500_000)
    found = packages(server)
    assert found is not None
    end = found.watch()
    time.sleep(ENERGY_S)
    count(server, "intel-rapl:0", 1_500_000)
    assert end(1) == pytest.approx(2.0)


def test_a_turn_of_a_few_steps_of_the_counter_tells_nothing(server: Path) -> None:
    found = packages(server)
    assert found is not None
    end = found.watch()
    count(server, "intel-rapl:0", 4_000_000)
    assert end(40) is None


@pytest.mark.parametrize("damage", ["none", "no folder", "no counter", "no number", "parts only"])
def test_what_is_not_told_is_not_guessed(damage: str, server: Path) -> None:
    """`no counter` is what everybody but root meets, who may not read that file."""
    counter = server / "intel-rapl:1" / "energy_uj"
    if damage == "no counter":
        counter.unlink()
    if damage == "no number":
        counter.write_text("N/A\n", encoding="ascii")
    if damage == "parts only":
        for place in ("intel-rapl:0", "intel-rapl:1"):
            (server / place / "name").write_text("core\n", encoding="ascii")
    found = packages(server / "nowhere" if damage == "no folder" else server)
    assert (found is None) == (damage != "none")


def test_a_counter_that_is_taken_away_meanwhile_costs_the_figure_alone(server: Path) -> None:
    found = packages(server)
    assert found is not None
    end = found.watch()
    time.sleep(ENERGY_S)
    (server / "intel-rapl:0" / "energy_uj").unlink()
    assert end(40) is None


@pytest.mark.skipif(rapl.FOLDER.exists(), reason="this machine may have such counters")
def test_a_machine_without_them_has_none() -> None:
    assert packages() is None


# -- what is made of it ------------------------------------------------------------------------------------------------


def turn(number: int, package_j: float | None, gpu: OnGpu | None = None, steal: float = 0.0) -> Turn:
    """A turn of round `number`, two rounds a launch."""
    return Turn("c", 0, number // 2, number, 0, (5.0, 5.1), 1.0, steal, None, gpu, package_j)


def test_energy_is_the_mean_of_each_launchs_clean_turns_and_of_launches_the_median() -> None:
    turns = [turn(number, joules, steal=0.5 * (number == 3)) for number, joules in enumerate((4, 6, 8, 90, 5, None))]
    assert energies(turns) == [5.0, 8.0, 5.0]
    assert _energy_columns(turns, batch=4)["energy_image_j"] == 5 / 4


def test_of_a_cell_on_a_gpu_the_boards_energy_counts() -> None:
    assert energies([turn(0, 90.0, OnGpu(energy_j=0.8)), turn(2, 90.0, OnGpu())]) == [0.8]


def test_a_window_meters_the_cells_that_have_a_meter_and_tells_how_many_inferences_a_turn_had() -> None:
    told: list[int] = []

    def meter() -> Any:
        def end(inferences: int | None) -> float:
            assert inferences is not None
            told.append(inferences)
            return 1.0 / inferences

        return end

    guests = Guests(ref=(20, 0.001, 0), a=QUIET)
    run = Window(0, guests.launch, dict.fromkeys(guests.of, "ref"), PLAN, [0], seed=1, meters={"a": meter})
    run.run(ignore)
    assert set(told) == {PLAN.samples + PLAN.warmup}
    assert {one.package_j for one in run.turns["a"]} == {1 / 11}
    assert {one.package_j for one in run.turns["ref"]} == {None}


def test_what_the_packages_took_is_stored_with_each_sample(tmp_path: Path) -> None:
    read = matrix.load()
    cell = read.cells("m", read.sweep("smoke"))[0]
    run = RunStore(tmp_path, "r", [cell], {cell.cell_id: cell.cell_id})
    run.add_turns([turn(0, 0.75), turn(1, None)])
    run.write_turns()
    samples = store.read_table(tmp_path, "samples")
    assert samples.package_energy_j.dropna().tolist() == [0.75, 0.75]
    assert samples.package_energy_j.isna().sum() == 2


def test_the_report_shows_energy_where_a_processor_told_it_and_no_gpu(tmp_path: Path) -> None:
    directory = write_run(tmp_path / "run", problems=False)
    cells = store.read_table(directory, "cells")
    rows = cells.astype(object).where(cells.notna(), None).to_dict("records")
    one = cell_id("onnx", "fp32")
    store.write_table(
        directory, "cells", [row | ({"energy_image_j": 2.125} if row["cell_id"] == one else {}) for row in rows]
    )
    table = tables.latency_detail(reading.load(directory), texts("report", "en"))
    titles = [column.title for column in table.columns]
    assert titles[-1] == "Energy"
    assert "GPU memory" not in titles
    assert {cell.cell_id: values[-1].text for cell, values in table.rows}[one] == "2.125"
