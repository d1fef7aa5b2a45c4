"""Runs on a cluster: what they give is what one process gives, whoever is killed and whatever has to be sent."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import fleets
import numpy as np
import pytest
from fleets import a_cache, command, finished, infers, kill, process, require_same, scheduler, who_did

from bench import store
from bench.environments.locked import Environments
from bench.fleet import depot
from bench.fleet.depot import Delivery, Parcel
from bench.fleet.dispatch import SHARD_IMAGES, SHARDS, shards_of
from bench.grid import matrix
from bench.grid.matrix import Cell
from bench.grid.request import CACHE_VARIABLE
from bench.measure.evaluation import batches_of
from bench.places import MATRICES, ROOT
from bench.reasons import CellProblem, Reason, UsageError
from bench.tasks.dataset import Image
from bench.wall import moving
from bench.wall.artifacts import Artifacts, damage

matrices = fleets.matrices  # the fixtures that both files of the fleet have
own_lock = fleets.own_lock


@pytest.fixture(scope="module")
def single(matrices: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process."""
    folder = tmp_path_factory.mktemp("single")
    code, said = finished(command(matrices, folder, a_cache(folder / "cache", images=True)))
    assert code == 0, said
    return folder / "r"


def test_workers_of_this_machine_give_what_one_process_gives(matrices: Path, single: Path, tmp_path: Path) -> None:
    cache = a_cache(tmp_path / "cache", images=True)
    code, said = finished(command(matrices, tmp_path, cache, "--cluster", "local:2"))
    assert code == 0, said
    assert "Workers at local:2: 2." in said
    require_same(tmp_path / "r", single)
    assert len(who_did(tmp_path / "r", "accuracy of")) == 3
    assert len(who_did(tmp_path / "r", "parity of")) == 3


def test_a_format_that_nothing_here_makes_is_a_row_with_its_reason_there_too(matrices: Path, tmp_path: Path) -> None:
    cache = a_cache(tmp_path / "cache", images=True)
    asked = ["--options", "onnx,hailo", "--precisions", "fp32,int8", "--targets", "cpu,hailo"]
    code, said = finished(command(matrices, tmp_path, cache, *asked, "--cluster", "local:1", select="export"))
    assert code == 0, said
    rows = store.read_table(tmp_path / "r", "cells").set_index(["option", "precision"])
    assert rows.loc[("hailo", "int8"), "reason_code"] == "format_absent"
    assert set(rows.loc["onnx"].status) == {"measured"}


def can_hide() -> bool:
    done = subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True)
    return done.returncode == 0


@pytest.mark.skipif(not shutil.which("unshare") or not can_hide(), reason="hiding a folder from a worker needs root")
def test_three_hosts_one_of_which_is_lost_give_what_one_process_gives(
    matrices: Path, single: Path, tmp_path: Path
) -> None:
    """Three workers with caches of their own, from whom the run's is hidden: all that they use is sent to them."""
    cache = a_cache(tmp_path / "cache", images=True)
    with ExitStack() as stack:
        address = stack.enter_context(scheduler(tmp_path))
        hosts = []
        for number in range(3):
            own = a_cache(tmp_path / f"host-{number}", images=False)
            worker = f"exec {sys.executable} -m bench worker {address} --cache {own} --name host-{number}"
            hidden = ["unshare", "--mount", "sh", "-c", f"mount -t tmpfs none {cache} && {worker}"]
            hosts.append(stack.enter_context(process(hidden, tmp_path / f"host-{number}.log")))
        line = command(matrices, tmp_path, cache, "--cluster", address)
        with process(line, tmp_path / "run.log") as run:
            deadline = time.monotonic() + 400
            while not infers(hosts[0]):
                assert run.poll() is None, (tmp_path / "run.log").read_text(encoding="utf-8")
                assert time.monotonic() < deadline
                time.sleep(0.1)
            kill(hosts[0])
            code = run.wait(400)
    said = (tmp_path / "run.log").read_text(encoding="utf-8")
    assert code == 0, said
    require_same(tmp_path / "r", single)
    kept = [path for number in (1, 2) for path in (tmp_path / f"host-{number}" / depot.FOLDER).glob("*/*.png")]
    assert kept, "images were sent and kept"
    assert list((cache / "artifacts").glob("*/manifest.json")), "what a worker has exported came back"


def test_wrong_clusters_are_one_clear_error(matrices: Path, tmp_path: Path) -> None:
    cache = a_cache(tmp_path / "cache", images=False)
    for address, told in (
        ("localhost", "give local:N"),
        ("local:0", "give local:N"),
        ("tcp://127.0.0.1:9", "no scheduler answers there"),
    ):
        code, said = finished(command(matrices, tmp_path, cache, "--cluster", address))
        assert code == 2, said
        assert told in said
        assert "Traceback" not in said
    with scheduler(tmp_path) as address:
        code, said = finished(command(matrices, tmp_path, cache, "--cluster", address))
    assert code == 2, said
    assert f"start one with `yolo11-bench worker {address}`" in said
    assert not (tmp_path / "r").exists()


@pytest.fixture
def without_dask(tmp_path: Path) -> Path:
    """A folder on the path in which Dask cannot be imported."""
    folder = tmp_path / "without"
    folder.mkdir()
    for name in ("dask", "distributed"):
        (folder / f"{name}.py").write_text(f"raise ModuleNotFoundError('no module {name}')\n", encoding="utf-8")
    return folder


def test_without_dask_a_cluster_is_told_what_to_install(matrices: Path, tmp_path: Path, without_dask: Path) -> None:
    path = f"{without_dask}{os.pathsep}{ROOT}"
    code, said = finished(command(matrices, tmp_path, tmp_path, "--cluster", "local:2"), PYTHONPATH=path)
    assert code == 2, said
    assert "pip install 'yolo11-deployment-bench[fleet]'" in said
    code, said = finished([sys.executable, "-m", "bench", "worker", "tcp://127.0.0.1:9"], PYTHONPATH=path)
    assert code == 2, said
    assert "needs Dask" in said


def test_one_process_imports_nothing_of_dask(matrices: Path, tmp_path: Path, without_dask: Path) -> None:
    """A whole run where an import of it would fail."""
    cache = a_cache(tmp_path / "cache", images=True)
    line = command(matrices, tmp_path, cache, "--precisions", "fp32")
    code, said = finished(line, PYTHONPATH=f"{without_dask}{os.pathsep}{ROOT}")
    assert code == 0, said


def a_cell(batch: int) -> Cell:
    return Cell("m", matrix.load().options["onnx"], "fp32", "cpu", 160, batch, 1)


@pytest.mark.parametrize(("images", "batch"), [(1, 1), (15, 1), (72, 1), (100, 8), (5000, 1), (5000, 32)])
def test_shards_are_whole_batches_in_order(images: int, batch: int) -> None:
    """So each image is in the batch that one process puts it into: only the last batch of all is not full."""
    every = [Image(number, Path("x.png"), 20, 20) for number in range(images)]
    cell = a_cell(batch)
    shards = shards_of(every, cell)
    assert [image for shard in shards for image in shard] == every
    assert [part for shard in shards for part in batches_of(shard, cell)] == batches_of(every, cell)
    assert len(shards) <= SHARDS
    assert all(len(shard) >= SHARD_IMAGES for shard in shards[:-1])


def test_a_file_is_found_by_its_content_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    original = tmp_path / "a.png"
    original.write_bytes(b"content")
    parcel = Parcel.of(original)
    assert depot.lacking([parcel]) == ()
    original.write_bytes(b"another")
    assert depot.lacking([parcel, parcel]) == (parcel,)
    with pytest.raises(UsageError, match="changed while it was sent"):
        depot.receive(Delivery(((parcel, b"another"),)))
    depot.receive(Delivery(((parcel, b"content"),)))
    found = depot.find(parcel)
    assert found is not None
    assert found.read_bytes() == b"content"
    assert found.name == "a.png", "exporters read the ending"


def test_an_artifact_that_comes_damaged_is_not_kept(single: Path, tmp_path: Path) -> None:
    own = Artifacts(single.parent / "cache", Environments(MATRICES, single.parent / "cache"))
    key = str(store.read_table(single, "cells").artifact_key.iloc[0])
    artifact = own.find(key)
    assert artifact is not None
    whole = moving.packed(artifact)
    spoilt = bytearray(whole)
    spoilt[len(whole) // 2] ^= 1
    for wrong in (bytes(spoilt), whole[: len(whole) // 2], np.random.default_rng(0).bytes(100)):
        with pytest.raises(CellProblem) as told:
            moving.unpack(wrong, key, tmp_path)
        assert told.value.reason is Reason.EXPORT_FAILED
        assert not (tmp_path / "artifacts" / key).exists()
    moving.unpack(whole, key, tmp_path)
    assert damage(tmp_path / "artifacts" / key) is None
