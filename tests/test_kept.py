"""Nothing measured is lost: runs stopped or killed while they take times, tables in parts, a folder of one's own."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import psutil
import pyarrow as pa
import pytest
from processes import command_line
from report_fixture import write_run
from running import USERS_CACHE, bench
from sweeps import matrices_with
from test_sweep import NATIVE, SWEEP, cells, interruptible, tiny, variables

from bench import store
from bench.grid import matrix
from bench.grid.request import CACHE_VARIABLE
from bench.measure.prepare import _taken
from bench.places import ROOT
from bench.reasons import UsageError
from bench.stats.summary import summarise
from bench.stats.turns import Turn
from bench.store import parts
from bench.store.before import _turns
from bench.store.reading import optional
from bench.store.tables import add_part
from bench.store.writing import RunStore

pytest_plugins = ["pytester"]


@pytest.fixture(scope="module")
def matrices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return matrices_with(SWEEP, tmp_path_factory.mktemp("matrices"))


@contextmanager
def going_on(
    matrices: Path, results: Path, until: Callable[[Path], bool], *arguments: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A run of the tiny sweep in a process of its own, as soon as `until` is true of its folder."""
    with interruptible([sys.executable, "-m", "bench", *tiny(matrices, results, *arguments)]) as process:
        while process.poll() is None and not until(results / "r"):
            time.sleep(0.01)
        assert process.poll() is None, "it ended before that"
        yield process


def kill_guest(process: subprocess.Popen[bytes], adapter: str) -> None:
    """Kill the guest that an adapter runs in, as soon as there is one."""
    while process.poll() is None:
        for guest in psutil.Process(process.pid).children(recursive=True):
            if any(part.endswith(adapter) for part in command_line(guest)):
                guest.kill()
                return
        time.sleep(0.005)


def timed_once(run: Path) -> bool:
    """Whether a round of the latency is over: every cell has taken a turn."""
    return bool(list(run.glob("parts/samples-*.parquet")))


def evaluated(run: Path) -> bool:
    """Whether the images are through, and every cell has its accuracy."""
    return timed_once(run) and bool(cells(run).map_delta.notna().all())


def assert_summed_up(run: Path) -> None:
    """That the median of each cell is that of its turns on disk, less rounds in which it or PyTorch was disturbed."""
    table = cells(run).set_index("cell_id")
    turns = {name: taken for (name, _), taken in _turns(run).items()}
    assert turns.keys() == set(table.index)
    (reference,) = table.index[table.option == "pytorch"]
    for name, taken in turns.items():
        assert table.latency_p50_ms[name] == summarise(taken, turns[reference]).p50_ms, name


def test_ctrl_c_in_a_window_gives_the_summary_of_what_there_is(matrices: Path, tmp_path: Path) -> None:
    with going_on(matrices, tmp_path, timed_once) as process:
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=120)[0].decode()
        assert process.returncode == 130, said
    table = cells(tmp_path / "r").set_index("option")
    assert set(table.latency_stop) == {"interrupted"}
    assert set(table.status) == {"measured"}
    assert set(table.reason_code) == {"interrupted"}
    told = " ".join(said.split())
    assert told.count("The run was stopped while this cell was timed and evaluated.") == 1, "both share the cause"
    # What was detected on the images until then is kept; a mAP of these alone would pass for that of the whole set.
    assert table.map50_95.isna().all()
    assert table.images.isna().all(), "which would be those of the mAP"
    seen = store.read_table(tmp_path / "r", "detections")
    for name in table.cell_id:
        assert 0 < seen[seen.cell_id == name].image_id.nunique() < 24
    assert_summed_up(tmp_path / "r")
    onnx = table.loc["onnx"]
    assert onnx.latency_ratio > 0
    # Three launches are the fewest of an interval; there are as many only if the machine was far faster than this test.
    assert pd.isna(onnx.latency_ratio_low) == (onnx.latency_launches < 3)
    assert (tmp_path / "r" / "report.html").is_file()
    assert not (tmp_path / "r" / "parts").exists()


def test_sigkill_in_a_window_keeps_turns_and_predictions(matrices: Path, tmp_path: Path) -> None:
    """When the images are through, while the last processes are asked what they ran."""
    with going_on(matrices, tmp_path, evaluated) as process:
        process.kill()
    run = tmp_path / "r"
    names = set(cells(run).cell_id)
    assert not (run / "samples.parquet").exists()
    assert set(store.read_table(run, "samples").cell_id) == names
    assert set(store.read_table(run, "detections").cell_id) == names
    table = cells(run)
    assert table.map50_95.notna().all()
    # What the turns on disk amount to stands beside them, as after a Ctrl-C; a cell may have been through by then.
    assert "interrupted" in set(table.latency_stop)
    assert_summed_up(run)
    shown = bench("show", run)
    assert shown.code == 0, shown.said
    assert "The run was stopped while this cell was timed." in " ".join(shown.said.split())


def test_sigkill_among_the_images_keeps_the_turns(matrices: Path, tmp_path: Path) -> None:
    with going_on(matrices, tmp_path, timed_once) as process:
        process.kill()
    table = cells(tmp_path / "r")
    samples = store.read_table(tmp_path / "r", "samples")
    assert set(samples.cell_id) == set(table.cell_id)
    assert table.map50_95.isna().all()
    assert set(table.reason_code) == {"interrupted"}
    assert table.reason.str.contains("while this cell was timed and evaluated").all()
    assert table.reason.str.contains("it has no accuracy").all()
    assert table.latency_p50_ms.notna().all()


def test_a_reference_that_dies_while_it_is_timed_is_the_reason_of_the_others(matrices: Path, tmp_path: Path) -> None:
    """PyTorch's guest is killed in the latency; ONNX keeps everything else, and says why it has no ratio."""

    def started(run: Path) -> bool:
        return bool(list(run.glob("logs/*pytorch*-latency.log")))

    with going_on(matrices, tmp_path, started) as process:
        kill_guest(process, "pytorch.py")
        said = process.communicate(timeout=120)[0].decode()
        assert process.returncode == 1, said
    table = cells(tmp_path / "r").set_index("option")
    assert (table.loc["pytorch"].status, table.loc["pytorch"].reason_code) == ("failed", "crashed")
    onnx = table.loc["onnx"]
    assert (onnx.status, onnx.reason_code) == ("measured", "reference_failed")
    assert "nothing is left to interleave this cell with" in onnx.reason
    assert "SIGKILL" in onnx.reason
    assert onnx.map50_95 > 0
    assert pd.isna(onnx.latency_ratio)
    assert "nothing is left to interleave this cell with" in " ".join(said.split())


@pytest.mark.parametrize(("images", "rounds", "through"), [(24, 1, False), (6, 4, True)])
def test_a_cell_whose_guest_dies_keeps_what_it_detected(
    matrices: Path, tmp_path: Path, images: int, rounds: int, *, through: bool
) -> None:
    """Three images a round: of 24 there is no mAP yet after one; six are through after two."""

    def far_enough(run: Path) -> bool:
        return len(list(run.glob("parts/samples-*.parquet"))) >= rounds

    with going_on(matrices, tmp_path, far_enough, "--images", str(images)) as process:
        kill_guest(process, "onnx_runtime.py")
        said = process.communicate(timeout=120)[0].decode()
        assert process.returncode == 1, said
    table = cells(tmp_path / "r").set_index("option")
    onnx, pytorch = table.loc["onnx"], table.loc["pytorch"]
    assert (onnx.status, onnx.reason_code) == ("failed", "crashed")
    assert onnx.latency_stop == "failed"
    assert (pytorch.status, pytorch.reason_code) == ("measured", "")
    assert pytorch.map50_95 > 0
    seen = store.read_table(tmp_path / "r", "detections")
    found = seen[seen.cell_id == onnx.cell_id].image_id.nunique()
    assert found > 0
    if through:
        assert onnx.map_delta == pytest.approx(onnx.map50_95 - pytorch.map50_95)
        assert onnx.images == images
    else:
        assert found < images
        assert pd.isna(onnx.map50_95)


def test_a_cell_that_is_never_timed_does_not_pass(
    tmp_path: Path, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(USERS_CACHE))
    folder = matrices_with(SWEEP, tmp_path)
    targets = (folder / "targets.toml").read_text(encoding="utf-8")
    head, own, rest = targets.partition(f"[{NATIVE}]\n")
    assert own
    (folder / "targets.toml").write_text(f"{head}{own}timed = false\n{rest}", encoding="utf-8")
    done = pytester.runpytest_inprocess(
        ROOT / "bench", "-p", "no:cacheprovider", "-rs", "--matrices", folder, "--sweep", "tiny",
        "--results", tmp_path, "--run-id", "r", "-k", "latency",
    )  # fmt: skip
    assert done.ret == 0
    done.assert_outcomes(skipped=4)  # two on this machine's processor, two on the other
    assert done.stdout.str().count("not_timed: ") >= 1
    table = cells(tmp_path / "r")
    assert set(table.status) == {"measured"}
    assert set(table.reason_code) == {""}
    assert table.latency_stop.str.contains("no latency is taken").all()


def turn(number: int, name: str = "c", cpu_per_wall: float = 1.0) -> Turn:
    return Turn(name, 0, number // 2, number, 0, (10.0 + number, 11.0 + number), cpu_per_wall, 0.0, 1.0)


@pytest.fixture
def run(tmp_path: Path) -> RunStore:
    read = matrix.load()
    cell = read.cells("m", read.sweep("smoke"))[0]
    return RunStore(tmp_path, "r", [cell], {cell.cell_id: cell.cell_id})


def test_a_row_is_written_again_only_where_it_says_something_new(run: RunStore) -> None:
    read = matrix.load()
    cell = read.cells("m", read.sweep("smoke"))[0]
    table = run.directory / "cells.parquet"

    def written() -> int:
        return table.stat().st_ino

    run.update(cell, images=4)
    before = written()
    run.update(cell, images=4)
    assert written() == before
    run.conclude(cell, None)
    again = written()
    assert again != before
    run.conclude(cell, None)
    assert written() == again
    run.begin(cell)
    run.add_seconds(cell, 1.5)
    run.conclude(cell, None)
    assert store.read_table(run.directory, "cells").seconds[0] == 1.5, "the time spent is written with the next update"


def test_turns_are_on_disk_as_soon_as_they_are_added(run: RunStore) -> None:
    assert optional(run.directory, "samples").empty
    run.add_turns([turn(0), turn(0, "d")])
    run.add_turns([turn(1, cpu_per_wall=0.5), turn(1, "d")])
    before = store.read_table(run.directory, "samples")
    assert len(before) == 8
    # The second turn of `c` got half of the CPU that was due to it.
    assert before[before.contaminated].groupby(["cell_id", "round"], observed=True).size().to_dict() == {("c", 1): 2}
    run.write_turns()
    assert parts.files(run.directory, "samples") == [run.directory / "samples.parquet"]
    assert not (run.directory / "parts").exists()
    after = store.read_table(run.directory, "samples")
    order = ["cell_id", "round", "index"]
    texts = {"cell_id": str}
    pd.testing.assert_frame_equal(
        before.astype(texts).sort_values(order, ignore_index=True),
        after.astype(texts).sort_values(order, ignore_index=True),
    )


def boxes(cell: str, images: Sequence[int]) -> pa.Table:
    """One detection of a cell in each of some images."""
    box = {"category_id": 0, "score": 0.5, "x": 1.0, "y": 2.0, "w": 3.0, "h": 4.0, "matched": 0}
    return pa.Table.from_pylist(
        [{"cell_id": cell, "image_id": image, **box} for image in images], schema=store.TABLES["detections"]
    )


def test_a_cells_predictions_cost_no_other_cells_again(run: RunStore) -> None:
    run.add_predictions("detections", boxes("a", [0, 1]))
    (first,) = parts.files(run.directory, "detections")
    was = first.stat()
    run.add_predictions("detections", boxes("b", [0, 1, 2]))
    assert (first.stat().st_ino, first.stat().st_mtime_ns) == (was.st_ino, was.st_mtime_ns)
    run.add_predictions("detections", boxes("a", [0, 1]))  # as who is stopped in between may try again
    assert store.read_table(run.directory, "detections").cell_id.tolist() == ["a", "a", "b", "b", "b"]
    run.arrange_predictions()
    assert store.read_table(run.directory, "detections").cell_id.tolist() == ["a", "b", "a", "b", "b"], "by image"
    assert not (run.directory / "parts").exists()


def test_parts_that_outlive_their_table_are_not_read_twice(run: RunStore) -> None:
    run.add_turns([turn(0)])
    part = parts.files(run.directory, "samples")[0].read_bytes()
    run.write_turns()
    kept = run.directory / "parts" / "samples-00000.parquet"
    kept.parent.mkdir()
    kept.write_bytes(part)  # as a kill after the table was written would leave it
    assert len(store.read_table(run.directory, "samples")) == 2


def test_a_part_that_cannot_be_written_leaves_those_before(run: RunStore) -> None:
    run.add_turns([turn(0)])
    with pytest.raises(store.StoreError, match=r"cannot write .*samples-00001\.parquet"):
        add_part(run.directory, "samples", [{"cell_id": "c", "latency_ms": "long"}])
    assert len(store.read_table(run.directory, "samples")) == 2


def test_a_runs_folder_is_one_runs(tmp_path: Path) -> None:
    with _taken(tmp_path / "runs" / "r") as directory:
        assert directory.is_dir()
        with pytest.raises(UsageError, match="choose another --run-id"), _taken(directory):
            pytest.fail("another has it")
    assert directory.is_dir(), "the second did not take it away"


@pytest.mark.parametrize("left", [[], ["cells.parquet"]])
def test_a_folder_is_given_back_where_nothing_came_of_it(tmp_path: Path, left: list[str]) -> None:
    def stopped() -> None:
        with _taken(tmp_path / "r") as directory:
            for name in left:
                (directory / name).touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert (tmp_path / "r").exists() is bool(left)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"cannot make .*Not a directory"), _taken(tmp_path / "file" / "r"):
        pytest.fail("there is no such folder")


def test_a_second_run_of_a_name_is_refused_and_shows_no_table_of_the_first(tmp_path: Path) -> None:
    first = write_run(tmp_path / "r")
    before = {path.name: path.read_bytes() for path in first.iterdir()}
    done = bench("run", "--results", tmp_path, "--run-id", "r", "--options", "onnx", "-k", "fp32 and export")
    assert done.code == 2
    assert done.said.startswith("bench: ")
    assert "exists already; runs are never overwritten: choose another --run-id" in done.said
    assert len(done.said.splitlines()) == 1, done.said
    assert {path.name: path.read_bytes() for path in first.iterdir()} == before


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "gbk", "utf-8"])
def test_a_terminal_of_any_encoding_gets_its_table(tmp_path: Path, encoding: str) -> None:
    run = write_run(tmp_path / "run")
    done = subprocess.run(
        [sys.executable, "-m", "bench", "show", str(run)], cwd=ROOT, capture_output=True, check=False,
        env=variables() | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode(encoding, "replace")
    said = done.stdout.decode(encoding)
    assert "OpenVINO" in said
    assert ("Δ mAP" in said) is (encoding in ("gbk", "utf-8")), "Latin-1 and ASCII have no capital delta"
    assert f"Results  {run}" in said
