"""The history: every run in it once and whole, whatever the order, the version, or when a process died."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import older
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from running import bench as command
from synthetic import Fleet, Source

from bench import store
from bench.history import arrivals, commits, layout, merging, reading
from bench.history.layout import KEPT, SCHEMAS, Partition
from bench.history.reading import Filters
from bench.places import RECORDED, ROOT
from bench.reasons import StoreError, UsageError
from bench.store import metrics, migration, parquet
from bench.store.tables import read_arrow, read_table

FIRST, SECOND = (ROOT / "tests" / "runs" / f"version-{version}" for version in (1, 2))
SCALING = RECORDED / "coco128-640-scaling"
"""Recorded runs: of both older versions, and a small one."""


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Six synthetic runs: three nights of two machines, with samples; the last of them in the next month."""
    folder = tmp_path_factory.mktemp("nights")
    fleet = Fleet(Source.of(cells=4, samples=1), machines=2, start=datetime(2026, 1, 29, 1, 17, tzinfo=UTC))
    return [fleet.write(folder, night, machine) for night in (1, 2, 4) for machine in (0, 1)]


def everything(root: Path) -> dict[str, pd.DataFrame]:
    """All tables of a history, each in an order of its own."""
    with reading.opened(root) as base:
        return {
            name: pa.Table.from_batches(reading.rows(base, name, Filters())).to_pandas()
            for name in ("runs", "cells", "metrics", "samples", "environment")
        }


def same(one: dict[str, pd.DataFrame], other: dict[str, pd.DataFrame]) -> None:
    for name, table in one.items():
        pd.testing.assert_frame_equal(table, other[name], obj=name)


def counted(root: Path) -> dict[str, int]:
    return {name: len(table) for name, table in everything(root).items()}


def test_every_row_of_every_run_is_there(tmp_path: Path, nights: list[Path]) -> None:
    root = tmp_path / "history"
    done = merging.add(root, nights)
    assert (len(done.added), done.replaced, done.known) == (6, (), ())
    found = everything(root)
    assert sorted(found["runs"].run_id) == sorted(folder.name for folder in nights)
    for name in ("cells", "samples", "environment"):
        tables = {folder.name: read_table(folder, name) for folder in nights}
        assert found[name].groupby("run_id").size().to_dict() == {run: len(table) for run, table in tables.items()}
    for folder in nights:
        own = found["samples"][found["samples"].run_id == folder.name]
        stored = read_table(folder, "samples")
        keys = ["cell_id", "window", "launch", "round", "order", "index"]
        stored = stored.astype({"cell_id": str}).sort_values(keys, ignore_index=True)
        assert own.latency_ms.to_list() == stored.latency_ms.to_list()


def test_what_is_added_twice_in_any_order_or_bit_by_bit_is_the_same_history(tmp_path: Path, nights: list[Path]) -> None:
    merging.add(tmp_path / "at once", nights)
    for folder in [*reversed(nights), *nights[::2]]:
        merging.add(tmp_path / "one by one", [folder])
    copied = tmp_path / "artifacts" / "nightly-x64"
    shutil.copytree(nights[0].parent, copied)
    done = merging.add(tmp_path / "one by one", [tmp_path / "artifacts", nights[0]])
    assert (done.added, len(done.known)) == ((), 6)
    same(everything(tmp_path / "at once"), everything(tmp_path / "one by one"))


def test_a_folder_per_machine_and_month_is_all_there_is(tmp_path: Path, nights: list[Path]) -> None:
    root = tmp_path / "history"
    merging.add(root, nights)
    machines = {arrivals.introduce(folder).machine for folder in nights}
    assert len(machines) == 2
    expected = sorted(Partition(machine, month) for machine in machines for month in ("2026-01", "2026-02"))
    assert layout.partitions(root) == expected
    assert sum(1 for path in root.rglob("*") if path.is_file()) == len(expected) * len(SCHEMAS)


def test_duckdb_reads_it_as_the_hive_partitioned_dataset_that_it_is(tmp_path: Path, nights: list[Path]) -> None:
    import duckdb

    root = tmp_path / "history"
    merging.add(root, nights)
    read = f"read_parquet('{root}/*/*/runs.parquet', hive_partitioning = true)"
    found = duckdb.sql(f"select period, count(*) from {read} group by period order by period")
    assert found is not None
    assert found.fetchall() == [("2026-01", 4), ("2026-02", 2)]


def test_runs_of_every_version_are_what_they_are_when_they_are_read_themselves(tmp_path: Path) -> None:
    root = tmp_path / "history"
    merging.add(root, [FIRST, SECOND, SCALING])
    found = everything(root)
    assert len(found["runs"]) == 3
    for folder in (FIRST, SECOND, SCALING):
        run_id = arrivals.introduce(folder).run_id
        expected = read_table(folder, "cells").sort_values("cell_id", ignore_index=True)
        own = found["cells"][found["cells"].run_id == run_id].reset_index(drop=True)
        for column in ("cell_id", "status", "latency_p90_ms", "latency_launches", "map50_95", "size_bytes"):
            assert own[column].isna().tolist() == expected[column].isna().tolist(), column
            assert own[column].dropna().tolist() == expected[column].dropna().tolist(), column
        figures = found["metrics"][found["metrics"].run_id == run_id]
        assert len(figures) == len(metrics.read(folder))


def _as_written(root: Path, folder: Path, version: int) -> Partition:
    """A folder of the history as a bench of an older version would have left it: the run's tables as they stand."""
    arrival = arrivals.introduce(folder)
    partition = Partition(arrival.machine, arrival.month)
    place = root / partition.path
    older.write_history(place, version, arrivals.read(arrival) | _stored(folder, arrival.run_id))
    return partition


def _stored(folder: Path, run_id: str) -> dict[str, pa.Table]:
    found = {}
    for name in KEPT:
        if (folder / f"{name}.parquet").is_file():
            table = parquet.read(folder / f"{name}.parquet")
            table = table.drop_columns(["run_id"]) if "run_id" in table.column_names else table
            found[name] = table.append_column("run_id", pa.array([run_id] * len(table)))
    return found


def test_a_history_of_an_older_schema_is_told_and_brought_to_the_present_one(tmp_path: Path) -> None:
    """Its runs then are what they are when they are added anew, two of them in one folder included."""
    root, fresh = tmp_path / "older", tmp_path / "fresh"
    _as_written(root, SECOND, 2)
    with pytest.raises(UsageError, match=r"older bench.*history compact"), reading.opened(root):
        pass
    merging.compact(root)
    merging.add(fresh, [SECOND])
    same(everything(fresh), everything(root))
    versions = {migration.version_of(path, pq.read_table(path)) for path in root.rglob("*.parquet")}
    assert versions == {migration.VERSION}


def test_a_history_of_a_newer_bench_is_refused(tmp_path: Path) -> None:
    _as_written(tmp_path / "newer", SECOND, migration.VERSION + 1)
    with pytest.raises(StoreError, match="newer one wrote it"), reading.opened(tmp_path / "newer"):
        pass


def test_two_runs_of_one_name_are_refused_and_nothing_is_added(tmp_path: Path, nights: list[Path]) -> None:
    root = tmp_path / "history"
    merging.add(root, nights[:1])
    other = tmp_path / "other" / "run"
    shutil.copytree(nights[1], other)
    change_cells(other, run_id=nights[0].name)
    with pytest.raises(UsageError, match="another than the one of that name in the history"):
        merging.add(root, [nights[2], other])
    with pytest.raises(UsageError, match="another than the one of that name"):
        merging.add(tmp_path / "new", [nights[0], other])
    assert counted(root)["runs"] == 1


def change_cells(folder: Path, first: int = 0, **values: str) -> None:
    """Set columns of a run's cells from the `first` on."""
    rows = read_arrow(folder, "cells").to_pylist()
    store.write_table(folder, "cells", [*rows[:first], *({**row, **values} for row in rows[first:])])


@pytest.mark.parametrize("fuller_first", [True, False])
def test_of_two_states_of_a_run_the_fuller_stays(tmp_path: Path, nights: list[Path], *, fuller_first: bool) -> None:
    """As where a run was stopped, added, and finished later."""
    stopped = tmp_path / "stopped" / nights[0].name
    shutil.copytree(nights[0], stopped)
    change_cells(stopped, 1, status="skipped")
    order = [nights[0], stopped] if fuller_first else [stopped, nights[0]]
    for folder in order:
        done = merging.add(tmp_path / "history", [folder])
    assert bool(done.replaced) is not fuller_first
    found = everything(tmp_path / "history")
    assert found["runs"].measured.tolist() == [4]
    assert found["cells"].status.tolist() == ["measured"] * 4
    merging.add(tmp_path / "both", order)
    same(everything(tmp_path / "both"), found)


class Killed(BaseException):
    """The process dies here."""


def _dying(function: Callable[..., Any], at: int) -> Callable[..., Any]:
    """The same function, but for the call at which the process dies."""
    calls = iter(range(1_000))

    def call(*given: Any) -> Any:
        if next(calls) == at:
            raise Killed
        return function(*given)

    return call


@pytest.mark.parametrize("at", [0, 1, 4, 7])
def test_whenever_a_process_dies_while_it_moves_folders_the_addition_is_finished(
    tmp_path: Path, nights: list[Path], monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """Of two months of two machines: two folders that were there are replaced, two are new."""
    root = tmp_path / "history"
    merging.add(root, nights[:2])
    with monkeypatch.context() as patched:
        patched.setattr(commits, "_move", _dying(commits._move, at))
        with pytest.raises(Killed):
            merging.add(root, nights[2:])
    merging.add(tmp_path / "whole", nights)
    same(everything(root), everything(tmp_path / "whole"))
    assert not (root / commits.STAGED).exists()


@pytest.mark.parametrize("at", [0, 11])
def test_an_addition_that_was_half_written_is_never_seen(
    tmp_path: Path, nights: list[Path], monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    root = tmp_path / "history"
    merging.add(root, nights[:2])
    before = everything(root)
    with monkeypatch.context() as patched:
        patched.setattr(layout, "write", _dying(layout.write, at))
        patched.setattr(shutil, "rmtree", lambda *_given, **_named: None)  # nobody tidies up after a kill
        with pytest.raises(Killed):
            merging.add(root, nights[2:])
    assert (root / commits.STAGED).exists() is (at > 0)
    same(everything(root), before)
    assert len(merging.add(root, nights).added) == 4


def test_two_processes_add_at_once_and_both_runs_are_there(tmp_path: Path, nights: list[Path]) -> None:
    code = (
        "import pathlib, sys\n"
        "from bench.history import merging\n"
        "root, run = map(pathlib.Path, sys.argv[1:])\n"
        "merging.add(root, [run])\n"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "history")]
    both = [subprocess.Popen([*words, str(folder)], cwd=ROOT, stdout=subprocess.PIPE) for folder in nights[:2]]
    said = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert counted(tmp_path / "history")["runs"] == 2


def test_the_months_of_years_that_are_over_become_one_folder_and_a_late_run_goes_there(
    tmp_path: Path, nights: list[Path]
) -> None:
    root, last_year = tmp_path / "history", tmp_path / "last year"
    fleet = Fleet(Source.of(cells=2), start=datetime(2025, 3, 1, tzinfo=UTC))
    early = [fleet.write(last_year, night) for night in (1, 40, 41)]
    merging.add(root, [*early[:2], *nights])
    before = everything(root)
    done = merging.compact(root)
    assert (done.before, done.after) == (6, 5)
    same(everything(root), before)
    assert merging.compact(root).after == 5
    merging.add(root, [early[2]])
    assert [one.period for one in layout.partitions(root)].count("2025") == 1
    assert len(layout.partitions(root)) == 5
    assert counted(root)["runs"] == len(before["runs"]) + 1


def test_what_lies_within_a_run_or_a_history_is_no_run(tmp_path: Path, nights: list[Path]) -> None:
    shutil.copytree(nights[0], tmp_path / "results" / "runs" / "night")
    shutil.copytree(nights[1], tmp_path / "results" / "runs" / "night" / "check" / "candidate")
    root = tmp_path / "results" / "history"
    merging.add(root, [tmp_path / "results"])
    assert counted(root)["runs"] == 1
    assert merging.add(root, [tmp_path / "results"]).known == (nights[0].name,)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="empty: no run in it"):
        merging.add(root, [tmp_path / "empty"])


def cut(path: Path) -> None:
    """A download that broke off."""
    path.write_bytes(path.read_bytes()[:-100])


def flip(path: Path) -> None:
    """A bit that fell over in the rows: the file's end, which tells what is in it, is whole."""
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 4
    path.write_bytes(bytes(data))


def newer(path: Path) -> None:
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({**table.schema.metadata, b"schema_version": b"99"}), path)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "cut": lambda run: cut(run / "samples.parquet"),
    "flipped": lambda run: flip(run / "samples.parquet"),
    "no environment": lambda run: (run / "environment.parquet").unlink(),
    "another table": lambda run: shutil.copy(run / "environment.parquet", run / "cells.parquet"),
    "empty": lambda run: (run / "cells.parquet").write_bytes(b""),
    "of a newer bench": lambda run: newer(run / "cells.parquet"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_run_is_named_and_all_others_are_added(tmp_path: Path, nights: list[Path], damage: str) -> None:
    root, damaged = tmp_path / "history", tmp_path / "damaged"
    shutil.copytree(nights[0], damaged)
    DAMAGES[damage](damaged)
    done = merging.add(root, [damaged, *nights[1:3]])
    assert done.added == tuple(sorted(folder.name for folder in nights[1:3]))
    ((folder, why),) = done.refused.items()
    assert folder == damaged
    assert str(damaged) in why
    assert counted(root)["runs"] == 2
    again = merging.add(root, [nights[0], *nights[1:3]])
    assert (again.added, again.refused) == ((nights[0].name,), {})
    merging.add(tmp_path / "whole", nights[:3])
    same(everything(root), everything(tmp_path / "whole"))


def test_of_two_copies_the_whole_one_is_taken_whichever_comes_first(tmp_path: Path, nights: list[Path]) -> None:
    for order in (1, -1):
        folder = tmp_path / str(order)
        copies = [folder / name for name in ("a", "b")[::order]]
        for copy in copies:
            shutil.copytree(nights[0], copy)
        flip(copies[0] / "samples.parquet")
        done = merging.add(folder / "history", copies)
        assert done.added == (nights[0].name,)
        assert set(done.refused) <= {copies[0]}, "what was not needed was perhaps not looked at"
        assert counted(folder / "history")["samples"] == len(read_table(nights[0], "samples"))


def test_a_fuller_state_that_is_damaged_does_not_replace_the_former(tmp_path: Path, nights: list[Path]) -> None:
    root, partial = tmp_path / "history", tmp_path / "partial"
    shutil.copytree(nights[0], partial)
    change_cells(partial, 1, status="failed")
    merging.add(root, [partial])
    before, fuller = everything(root), tmp_path / "fuller"
    shutil.copytree(nights[0], fuller)
    flip(fuller / "samples.parquet")
    done = merging.add(root, [fuller])
    assert (done.added, done.replaced, done.known, list(done.refused)) == ((), (), (nights[0].name,), [fuller])
    same(everything(root), before)


def test_nothing_but_damage_makes_no_history(tmp_path: Path, nights: list[Path]) -> None:
    shutil.copytree(nights[0], tmp_path / "damaged")
    flip(tmp_path / "damaged" / "samples.parquet")
    assert merging.add(tmp_path / "history", [tmp_path / "damaged"]).added == ()
    with pytest.raises(UsageError, match="no history"):
        merging.require(tmp_path / "history")
    assert not (tmp_path / "history" / commits.STAGED).exists()


@pytest.mark.parametrize(("language", "told"), [("en", "left out"), ("zh", "未加入")])
def test_the_command_names_the_damaged_run_and_ends_with_1(
    tmp_path: Path, nights: list[Path], language: str, told: str
) -> None:
    shutil.copytree(nights[0], tmp_path / "damaged")
    cut(tmp_path / "damaged" / "cells.parquet")
    words = ["history", "add", tmp_path / "damaged", nights[1], "--history", tmp_path / "history"]
    done = command(*words, "--lang", language)
    assert done.code == 1, done.said
    assert told in done.said
    assert str(tmp_path / "damaged" / "cells.parquet") in done.said
    assert nights[1].name in done.said
    assert "Traceback" not in done.said


FACTS = {
    "cpu": "Intel(R) Xeon(R) Processor @ 2.50GHz", "cpu_cores_logical": "2", "memory_bytes": str(24 * 10**9),
    "accelerators": "Tesla T4, driver 535.161.08", "system": "Linux-6.1", "machine": "x86_64",
    "cpu_flags": "avx avx2 fpu",
}  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "is_another"),
    [
        ({"accelerators": "Tesla T4, driver 570.1"}, False),
        ({"system": "Linux-6.8"}, False),
        ({"cpu_flags": "avx avx2 fpu md_clear"}, False),
        ({"cpu_flags": "avx avx2 avx512f fpu"}, True),
        ({"cpu_cores_logical": "4"}, True),
        ({"accelerators": "Tesla V100, driver 535.161.08"}, True),
        ({"name": "rack-3"}, True),
    ],
)
def test_updates_leave_a_machine_what_it_is(changed: dict[str, str], *, is_another: bool) -> None:
    assert (layout.machine_of(FACTS | changed) != layout.machine_of(FACTS)) is is_another


def test_two_boards_of_one_kind_are_two_machines_once_they_have_names() -> None:
    """And a name in letters that no folder should have is one all the same."""
    found = [layout.machine_of(FACTS | {"name": name}) for name in ("rack-3", "rack-4", "厨房的板子", "车库的板子")]
    assert len({one.key for one in found}) == 4
    assert found[0].key.startswith("rack-3-")
    assert found[2].key.startswith("intel-r-xeon-r-processor-2-50ghz-")
    assert found[2].name == "Intel(R) Xeon(R) Processor @ 2.50GHz, 2 CPUs, 24 GB, Tesla T4, Linux (厨房的板子)"
    strange = layout.machine_of({**FACTS, "name": "../../x\n" + 100 * "y"})
    assert set(strange.key) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory, nights: list[Path]) -> Path:
    root = tmp_path_factory.mktemp("read") / "it's [a] history"
    merging.add(root, nights, link="https://forge/o/r/actions/runs/5")
    return root


@pytest.mark.parametrize(
    ("filters", "runs", "cells"),
    [
        (Filters(), 6, 24),
        (Filters(machine="PROCESSOR 1"), 3, 12),
        (Filters(since=date(2026, 1, 30), until=date(2026, 1, 30)), 2, 8),
        (Filters(until=date(2026, 1, 29)), 2, 8),
        (Filters(sweep="smoke"), 0, 0),
        (Filters(sweep="nightly", since=date(2026, 2, 1)), 2, 8),
    ],
)
def test_filters_leave_what_they_say(history: Path, filters: Filters, runs: int, cells: int) -> None:
    with reading.opened(history) as base:
        assert sum(map(len, reading.rows(base, "runs", filters))) == runs
        assert sum(map(len, reading.rows(base, "cells", filters))) == cells


def test_filters_by_cell_hold_for_its_figures_too(history: Path) -> None:
    wanted = Filters(options=["pytorch"], precisions=["fp32"], metrics=["size_bytes", "latency_p50_ms"])
    with reading.opened(history) as base:
        found = pa.Table.from_batches(reading.rows(base, "metrics", wanted)).to_pandas()
        with pytest.raises(UsageError, match="--options: the table runs is not about cells"):
            list(reading.rows(base, "runs", Filters(options=["onnx"])))
    assert len(found) == 6 * 2
    assert found.cell_id.str.contains("/pytorch-fp32-").all()


def test_show_fits_the_terminal_newest_first(history: Path) -> None:
    wide = command("history", "show", "--history", history, columns=250)
    assert wide.code == 0, wide.said
    lines = [line for line in wide.said.splitlines() if line.startswith("2026-")]
    assert lines == sorted(lines, reverse=True)
    assert len(lines) == 6
    assert all("4 of 4" in line and "https://forge/o/r/actions/runs/5" in line for line in lines)
    for columns in (40, 60, 100):
        narrow = command("history", "show", "--history", history, "--table", "cells", "--limit", 3, columns=columns)
        assert narrow.code == 0, narrow.said
        assert "The newest 3; --limit 0 lists all." in narrow.said.replace("\n", " ")
    assert (
        "Left out at this width: run"
        in command(
            "history", "show", "--history", history, "--table", "metrics", "--metrics", "size_bytes", columns=130
        ).said
    )


def test_exports_hold_the_same_rows_in_every_form(history: Path, tmp_path: Path) -> None:
    words = ["history", "export", "--history", history, "--table", "metrics", "--metrics", "map50_95"]
    said = {form: command(*words, "--format", form).said for form in ("csv", "json", "markdown")}
    rows = list(csv.DictReader(io.StringIO(said["csv"])))
    objects = json.loads(said["json"])
    done = command(*words, "--format", "parquet", "--out", tmp_path / "rows.parquet")
    assert done.code == 0, done.said
    table = pq.read_table(tmp_path / "rows.parquet").to_pylist()
    assert len(rows) == len(objects) == len(table) == 24 == len(said["markdown"].splitlines()) - 2
    assert [float(row["value"]) for row in rows] == [row["value"] for row in objects] == [row["value"] for row in table]
    assert rows[0]["started"] == objects[0]["started"] == "2026-02-01T01:18:00+00:00"


def test_what_cannot_be_is_told(history: Path, tmp_path: Path) -> None:
    for words, told in (
        (("show", "--history", tmp_path / "none"), "no history in"),
        (("export", "--history", history, "--format", "parquet"), "name a file with --out"),
        (("show", "--history", history, "--metrics", "map50"), "ask for --table metrics"),
        (("add", tmp_path / "absent", "--history", history), "no run in it"),
    ):
        done = command("history", *words)
        assert done.code == 2
        assert told in done.said.replace("\n", " ")
